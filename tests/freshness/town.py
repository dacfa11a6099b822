"""Companies whose domains, names, and permissions change while others ask about them.

Each owner has a domain, and a rival that may take it over. Changes to one owner come one after the
other, and are made as the service makes them: what a seller does, over HTTP; what an operator, a
check of DNS, or an accepted invitation does, by the same functions in another process. Viewers ask
about all domains over HTTP, in single calls and many at once.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import asyncpg
import msgspec

from service.accounts.names import NO_VERIFIED_ACCOUNT, VERIFIED_ACCOUNT
from service.audit import OPERATOR
from service.connections import connections
from service.errors import Conflict, NotFound, ServiceError, Unavailable
from service.ownership import claims
from tests.builders import Company, World
from tests.freshness.histories import Answer, Change, Violation, violations
from tests.siege.connection import FAILURES, Connection, request

# So many certificates has each domain. A call about many asks about all of all domains.
CERTIFICATES = 8

# How long a client waits for a response: longer than any fault lasts.
PATIENCE = 30.0

_Asks = Callable[[], Awaitable[None]]


_ABOUT_ONE = b'{"insights": {"properties": ["confirmed_owner"]}}'


class _Insights(msgspec.Struct):
    properties: dict[str, str | None]


class _One(msgspec.Struct):
    insights: _Insights


class _Many(msgspec.Struct):
    results: list[_One]


_one, _many = msgspec.json.Decoder(_One), msgspec.json.Decoder(_Many)


@dataclass
class Owner:
    """A company with a domain, and what is so about it."""

    company: Company
    rival: Company
    domain: str
    certificates: list[str] = field(default_factory=list)
    owned_by: str | None = None
    name: str = ""
    is_suspended: bool = False
    connections: dict[int, str] = field(default_factory=dict)
    """The ids of the connections, by viewer."""
    shown_to: set[int] = field(default_factory=set)
    renamed: int = 0
    history: list[tuple[float, float, tuple[str, ...]]] = field(default_factory=list)
    """When each change was sent and acknowledged, and what each viewer is told after it."""
    first: tuple[str, ...] = ()

    def told(self, viewers: int) -> tuple[str, ...]:
        """What each viewer is told about the domain."""
        if self.owned_by is None or (self.owned_by == "owner" and self.is_suspended):
            return (NO_VERIFIED_ACCOUNT,) * viewers
        if self.owned_by == "rival":
            return (VERIFIED_ACCOUNT,) * viewers
        return tuple(
            self.name if viewer in self.shown_to else VERIFIED_ACCOUNT for viewer in range(viewers)
        )


class Town:
    """The companies, the clients, and what they have seen."""

    def __init__(self, world: World, port: int, choice: random.Random) -> None:
        self.world = world
        self._port = port
        self._random = choice
        self.owners: list[Owner] = []
        self.viewers: list[Company] = []
        self.answers: dict[tuple[int, int], list[Answer]] = {}
        """By viewer and owner."""
        self.given = 0
        self.changes: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        """What was sent again, and the calls without an answer, by what came instead."""
        self.leaks: list[str] = []
        self.is_over = False

    async def settle(self, owners: int, viewers: int) -> None:
        """Found the companies, and put certificates of their sites on record."""
        self.viewers = [await self.world.company() for _ in range(viewers)]
        for number in range(owners):
            company, rival = await self.world.company(), await self.world.company()
            domain = f"owner{number}.example"
            owner = Owner(company, rival, domain, name=company.name)
            for site in range(CERTIFICATES):
                owner.certificates.append(await self.world.certificate(domain=f"s{site}.{domain}"))
            await self._verify(owner)
            for viewer in range(viewers):
                await self._connect(owner, viewer)
            owner.first = owner.told(viewers)
            self.owners.append(owner)
        self.answers = {
            (viewer, number): [] for viewer in range(viewers) for number in range(owners)
        }

    def violations(self) -> list[tuple[Owner, Company, Violation]]:
        """The answers that nothing explains."""
        return [
            (owner, self.viewers[viewer], violation)
            for (viewer, number), answers in self.answers.items()
            for owner in [self.owners[number]]
            for violation in violations(
                owner.first[viewer],
                [Change(began, ended, told[viewer]) for began, ended, told in owner.history],
                answers,
            )
        ]

    async def change(self, owner: Owner) -> None:
        """Change something about an owner, again and again, until it is over."""
        connection = Connection(self._port)
        while not self.is_over:
            await asyncio.sleep(self._random.uniform(0, 0.1))
            name, change = self._random.choice(self._possible(owner, connection))
            began = time.monotonic()
            await self._until_acknowledged(change)
            owner.history.append((began, time.monotonic(), owner.told(len(self.viewers))))
            self.changes[name] += 1
        connection.close()

    def _possible(self, owner: Owner, connection: Connection) -> Sequence[tuple[str, _Asks]]:
        """The changes that make a difference now, the likelier ones several times."""
        viewer = self._random.randrange(len(self.viewers))
        possible: list[tuple[str, _Asks]] = [("rename", lambda: self._rename(owner))]
        if owner.owned_by == "owner":
            possible.append(("supersede", lambda: self._supersede(owner)))
        else:
            possible += [("verify", lambda: self._verify(owner))] * 3
        if owner.owned_by is not None:
            possible.append(("lapse", lambda: self._lapse(owner)))
        if owner.is_suspended:
            # Its key is refused, so nothing else can be done with it.
            return [*possible, *[("reinstate", lambda: self._reinstate(owner))] * 3]
        possible.append(("suspend", lambda: self._suspend(owner)))
        if viewer not in owner.connections:
            return [*possible, *[("connect", lambda: self._connect(owner, viewer))] * 5]
        path = f"/v1/connections/{owner.connections[viewer]}"
        disconnects = ("disconnect", lambda: self._disconnect(owner, viewer, connection, path))
        if viewer in owner.shown_to:
            revokes = ("revoke", lambda: self._revoke(owner, viewer, connection, path))
            return [*possible, disconnects, *[revokes] * 8]
        grants = ("grant", lambda: self._grant(owner, viewer, connection, path))
        return [*possible, disconnects, *[grants] * 8]

    async def _verify(self, owner: Owner) -> None:
        await self.world.own(owner.company, owner.domain, covers_subdomains=True)
        owner.owned_by = "owner"

    async def _supersede(self, owner: Owner) -> None:
        await self.world.own(owner.rival, owner.domain, covers_subdomains=True)
        owner.owned_by = "rival"

    async def _lapse(self, owner: Owner) -> None:
        holder = owner.company if owner.owned_by == "owner" else owner.rival
        with suppress(NotFound):  # An earlier try has done it.
            async with self.world.database.general.transaction() as connection:
                await claims.remove(connection, holder.id, owner.domain, OPERATOR)
        owner.owned_by = None

    async def _rename(self, owner: Owner) -> None:
        name = f"{owner.company.name}, renamed {owner.renamed + 1} times"
        await self.world.rename(owner.company, name)
        owner.renamed += 1
        owner.name = name

    async def _suspend(self, owner: Owner) -> None:
        with suppress(Conflict):  # An earlier try has done it.
            await self.world.suspend(owner.company)
        owner.is_suspended = True

    async def _reinstate(self, owner: Owner) -> None:
        with suppress(Conflict):  # An earlier try has done it.
            await self.world.reinstate(owner.company)
        owner.is_suspended = False

    async def _connect(self, owner: Owner, viewer: int) -> None:
        async with self.world.database.general.transaction() as connection:
            connection_id = await connections.connect(
                connection, buyer_id=self.viewers[viewer].id, seller_id=owner.company.id
            )
        owner.connections[viewer] = str(connection_id)

    async def _disconnect(
        self, owner: Owner, viewer: int, connection: Connection, path: str
    ) -> None:
        # Once it has ended, there is no such connection.
        await self._call(owner, connection, "DELETE", path, done=404)
        del owner.connections[viewer]
        owner.shown_to.discard(viewer)

    async def _grant(self, owner: Owner, viewer: int, connection: Connection, path: str) -> None:
        await self._call(owner, connection, "PUT", f"{path}/grant")
        owner.shown_to.add(viewer)

    async def _revoke(self, owner: Owner, viewer: int, connection: Connection, path: str) -> None:
        await self._call(owner, connection, "DELETE", f"{path}/grant")
        owner.shown_to.remove(viewer)

    async def _call(
        self, owner: Owner, connection: Connection, method: str, path: str, *, done: int = 200
    ) -> None:
        """Make a change over HTTP. Raises `Unavailable` unless it is acknowledged."""
        sent = request(method, path, Authorization=owner.company.headers["Authorization"])
        status, _, body = await self._asked(connection, sent)
        if status not in (200, 201, 204, done):
            raise Unavailable(f"{method} {path}: {status} {body[:200]!r}")

    async def _until_acknowledged(self, change: _Asks) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return await change()
            except (ServiceError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                if time.monotonic() > deadline:
                    raise
                self.failures[f"change: {type(error).__name__}"] += 1
            await asyncio.sleep(0.05)

    async def _asked(self, connection: Connection, sent: bytes) -> tuple[int, bytes, bytes]:
        try:
            async with asyncio.timeout(PATIENCE):
                return await connection.ask(sent)
        except (TimeoutError, *FAILURES) as error:
            connection.close()
            raise Unavailable(type(error).__name__) from error

    async def ask(self, viewer: int, many: float) -> None:
        """Ask as a viewer, again and again, until it is over; so large a part of calls about many."""
        connection = Connection(self._port)
        authorization = self.viewers[viewer].headers["Authorization"]
        everything = [cert_id for owner in self.owners for cert_id in owner.certificates]
        about_all = request(
            "POST",
            "/v1/insights",
            msgspec.json.encode(
                {
                    "items": [{"cert_id": cert_id} for cert_id in everything],
                    "properties": ["confirmed_owner"],
                }
            ),
            Authorization=authorization,
        )
        while not self.is_over:
            if self._random.random() < many:
                asked, sent = range(len(self.owners)), about_all
            else:
                number = self._random.randrange(len(self.owners))
                cert_id = self._random.choice(self.owners[number].certificates)
                asked, sent = (
                    range(number, number + 1),
                    request("POST", f"/{cert_id}", _ABOUT_ONE, Authorization=authorization),
                )
            began = time.monotonic()
            try:
                status, _, body = await self._asked(connection, sent)
            except Unavailable as error:
                self.failures[str(error)] += 1
                continue
            ended = time.monotonic()
            if status == 200:
                self._note(viewer, asked, began, ended, body)
            else:
                self.failures[str(status)] += 1
                self._check_that_it_tells_nothing(body)
                await asyncio.sleep(0.01)
        connection.close()

    def _note(self, viewer: int, asked: range, began: float, ended: float, body: bytes) -> None:
        results = [_one.decode(body)] if len(asked) == 1 else _many.decode(body).results
        told = [each.insights.properties["confirmed_owner"] for each in results]
        copies = len(told) // len(asked)
        for position, number in enumerate(asked):
            of_owner = told[position * copies : (position + 1) * copies]
            self.given += len(of_owner)
            # All of them see one instant, so they tell the same.
            for each in set(of_owner):
                self.answers[viewer, number].append(Answer(began, ended, each))

    def _check_that_it_tells_nothing(self, body: bytes) -> None:
        for owner in self.owners:
            for text in (owner.company.name, VERIFIED_ACCOUNT, NO_VERIFIED_ACCOUNT):
                if text.encode() in body:
                    self.leaks.append(body.decode(errors="replace"))
