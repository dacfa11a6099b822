"""Ask as a viewer about all owners, one certificate at a time or a thousand at once."""

import asyncio

import msgspec
from msgspec import UNSET, UnsetType

from service.errors import Unavailable
from tests.freshness.histories import Answer
from tests.freshness.town import Town, now
from tests.siege.connection import Connection, request

# So many of the questions are about the owner that is watched, and all of those about one certificate,
# so that several clients ask the same at the same time.
_ABOUT_WATCHED = 0.7

# After as many calls or so, a client opens another connection, maybe to another process.
_CALLS_A_CONNECTION = 50

# The second takes another statement, since it needs facts about the certificate.
_BODIES = (
    b'{"insights": {"properties": ["confirmed_owner"]}}',
    b'{"insights": {"properties": ["confirmed_owner", "domain"]}}',
)


class _Properties(msgspec.Struct):
    confirmed_owner: str | None


class _Insights(msgspec.Struct):
    properties: _Properties


class _One(msgspec.Struct):
    insights: _Insights


class _Item(msgspec.Struct):
    insights: _Insights | UnsetType = UNSET


class _Many(msgspec.Struct):
    results: list[_Item]


_one, _many = msgspec.json.Decoder(_One), msgspec.json.Decoder(_Many)


class Asker:
    """A client of one viewer."""

    def __init__(self, town: Town, viewer: int) -> None:
        self._town = town
        self._viewer = viewer
        self._authorization = town.viewers[viewer].headers["Authorization"]
        self._connection = Connection(town.port)

    async def ask_one_by_one(self) -> None:
        """Ask about one certificate after the other, until it is over."""
        town = self._town
        while not town.is_over:
            if town.random.random() < _ABOUT_WATCHED:
                await self.ask_about(town.watched)
            else:
                number = town.random.randrange(len(town.owners))
                await self.ask_about_certificate(
                    number, town.random.choice(town.owners[number].certificates)
                )
        self.close()

    async def ask_about(self, number: int) -> None:
        """Ask about the certificate of an owner that most is asked about."""
        await self.ask_about_certificate(number, self._town.owners[number].certificates[0])

    async def ask_about_certificate(self, number: int, cert_id: str) -> None:
        """Ask about a certificate of an owner, and note what is told."""
        await self._ask(f"/{cert_id}", self._town.random.choice(_BODIES), number)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    async def ask_about_all(self, pause: float) -> None:
        """Ask about all certificates of all owners, and about their sites, until it is over.

        Rest so many seconds in between, on average.
        """
        items = [
            item
            for owner in self._town.owners
            for item in (
                *({"cert_id": cert_id} for cert_id in owner.certificates[1:]),
                {"host": f"www.{owner.domain}"},
            )
        ]
        about_all = msgspec.json.encode({"items": items, "properties": ["confirmed_owner"]})
        while not self._town.is_over:
            await asyncio.sleep(self._town.random.uniform(0, 2 * pause))
            await self._ask("/v1/insights", about_all, None)
        self.close()

    async def _ask(self, path: str, body: bytes, number: int | None) -> None:
        """Ask about an owner, or about all, and note what is told and when."""
        sent = request("POST", path, body, Authorization=self._authorization)
        began = now()
        try:
            status, told = await self._town.asked(self._connection, sent)
        except Unavailable:
            await asyncio.sleep(0.2)
            return
        ended = now()
        if status != 200:
            self._town.wrong.append(f"{path} got {status}: {told!r}")
        elif number is None:
            self._note_all(told, began, ended)
        else:
            owner = _one.decode(told).insights.properties.confirmed_owner
            self._town.given["one by one"] += 1
            self._town.answers[self._viewer, number].append(Answer(began, ended, owner))
        if self._town.random.random() < 1 / _CALLS_A_CONNECTION:
            self.close()

    def _note_all(self, told: bytes, began: float, ended: float) -> None:
        results = _many.decode(told).results
        self._town.given["many at once"] += len(results)
        of_each = len(results) // len(self._town.owners)
        for number, owner in enumerate(self._town.owners):
            values = {
                None if each.insights is UNSET else each.insights.properties.confirmed_owner
                for each in results[number * of_each : (number + 1) * of_each]
            }
            if len(values) > 1:
                # All of them see one instant.
                self._town.wrong.append(f"one call was told {values} about {owner.domain}")
            self._town.answers[self._viewer, number] += [
                Answer(began, ended, value) for value in values
            ]
