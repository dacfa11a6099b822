"""Make changes to an owner, one after the other, in the ways that people make them.

What a company does itself goes over HTTP: it verifies its domain by DNS, removes it, renames itself,
invites, accepts, shows and hides its name, and disconnects. What an operator does goes through the
functions behind the command line: to vouch for a domain, and to suspend, reinstate, and rename an
account, which may rename itself only once a week.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Literal

import asyncpg
import msgspec

from service.audit import OPERATOR
from service.errors import Conflict, NotFound, ServiceError, Unavailable
from service.ownership import claims
from tests.builders import Company
from tests.freshness.asking import Asker
from tests.freshness.town import PATIENCE, Owner, State, Step, Town, now
from tests.siege.connection import Connection, request

KINDS = {
    "verify", "supersede", "lapse", "rename", "suspend", "reinstate", "connect", "disconnect",
    "grant", "revoke",
}  # fmt: skip

# A kind of change, what is so after it, and what makes it. What may be tried again is made again until
# it is acknowledged.
_Possible = tuple[str, State, Callable[[], Awaitable[None]]]

_Holder = Literal["owner", "rival"]


class Changer:
    """Changes one owner."""

    def __init__(self, town: Town, number: int, askers: Sequence[Asker]) -> None:
        self._town = town
        self._number = number
        self._askers = askers
        self._owner: Owner = town.owners[number]
        self._random = town.random
        self._connection = Connection(town.port)
        self._invitation: str | None = None
        self._connections: dict[int, str] = {}
        """Their ids, by viewer."""
        self._renamed = 0

    async def run(self, rest: float) -> None:
        """Change something, again and again, resting so many seconds in between, on average.

        While it is watched, an owner hardly rests. Once a change is acknowledged, all askers ask.
        """
        while not self._town.is_over:
            is_watched = self._town.watched == self._number
            await asyncio.sleep(self._random.uniform(0, 0.1 if is_watched else 2 * rest))
            kind, state, make = self._random.choice(self._possible())
            step = Step(kind, now(), state)
            self._owner.steps.append(step)
            await self._until_acknowledged(make)
            step.ended = now()
            # When an answer that is only a little too old is the likeliest.
            await asyncio.gather(*(asker.ask_about(self._number) for asker in self._askers))
        self._connection.close()
        for asker in self._askers:
            asker.close()

    async def _until_acknowledged(self, make: Callable[[], Awaitable[None]]) -> None:
        deadline = now() + PATIENCE
        while True:
            try:
                return await make()
            except (ServiceError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                if now() > deadline:
                    raise
                self._town.failures[f"change: {type(error).__name__}"] += 1
            await asyncio.sleep(0.2)

    def _possible(self) -> Sequence[_Possible]:
        """The changes that make a difference now, the likelier ones several times."""
        state = self._owner.state
        possible: list[_Possible] = [self._rename(state)]
        if state.held_by != "owner":
            possible += [self._hold(state, "verify", "owner")] * 4
        if state.held_by != "rival":
            possible += [self._hold(state, "supersede", "rival")]
        if state.held_by is not None:
            possible += [self._lapse(state, state.held_by)]
        viewer = self._random.randrange(len(self._town.viewers))
        if state.is_suspended:
            possible += [self._reinstate(state)] * 6
        else:
            possible += [self._suspend(state)]
            if viewer not in state.connected:
                possible += [self._connect(state, viewer)] * 6
            elif viewer in state.shown_to:
                possible += [self._revoke(state, viewer)] * 6
            else:
                possible += [self._grant(state, viewer)] * 6
        if viewer in state.connected:
            possible += [self._disconnect(state, viewer)]
        return possible

    def _hold(self, state: State, kind: str, holder: _Holder) -> _Possible:
        company = self._company(holder)
        may_prove = holder == "rival" or not state.is_suspended
        # An operator's word counts less than the DNS.
        must_prove = state.is_proven and state.held_by is not None
        is_proven = may_prove and (must_prove or self._random.random() < 0.5)
        if must_prove and not is_proven:
            return self._lapse(state, "rival")

        async def make() -> None:
            if is_proven:
                await self._prove(company)
            else:
                await self._town.world.own(company, self._owner.domain, covers_subdomains=True)

        return kind, msgspec.structs.replace(state, held_by=holder, is_proven=is_proven), make

    async def _prove(self, company: Company) -> None:
        wanted = {"names": [self._owner.domain], "covers_subdomains": True}
        added = await self._call(company, "POST", "/v1/domains", wanted, expect=(200, 201))
        record = added["items"][0]["records"][0]
        # The code that another company had there is gone.
        self._town.zone.txt[record["host"]] = [record["value"]]
        path = f"/v1/domains/{self._owner.domain}/verification"
        verified = await self._call(company, "POST", path)
        if verified["status"] != "verified":
            raise Unavailable(f"not verified: {verified['reason']}")

    def _lapse(self, state: State, holder: _Holder) -> _Possible:
        company, domain = self._company(holder), self._owner.domain

        async def make() -> None:
            if holder == "rival" or not state.is_suspended:
                # Once it is removed, there is no such domain.
                await self._call(company, "DELETE", f"/v1/domains/{domain}", expect=(204, 404))
                return
            with suppress(NotFound):
                async with self._town.world.database.general.transaction() as connection:
                    await claims.remove(connection, company.id, domain, OPERATOR)

        return "lapse", msgspec.structs.replace(state, held_by=None, is_proven=False), make

    def _rename(self, state: State) -> _Possible:
        company = self._owner.company
        name = f"{company.name}, renamed {self._renamed + 1} times"

        async def make() -> None:
            if self._renamed == 0 and not state.is_suspended:
                await self._call(company, "PATCH", "/v1/account", {"name": name})
            else:
                await self._town.world.rename(company, name)
            self._renamed += 1

        return "rename", msgspec.structs.replace(state, name=name), make

    def _suspend(self, state: State) -> _Possible:
        async def make() -> None:
            with suppress(Conflict):  # It is so already.
                await self._town.world.suspend(self._owner.company)

        return "suspend", msgspec.structs.replace(state, is_suspended=True), make

    def _reinstate(self, state: State) -> _Possible:
        async def make() -> None:
            with suppress(Conflict):  # It is so already.
                await self._town.world.reinstate(self._owner.company)

        return "reinstate", msgspec.structs.replace(state, is_suspended=False), make

    def _connect(self, state: State, viewer: int) -> _Possible:
        owner, asks_for_name = self._owner.company, self._random.random() < 0.5
        invitation = {
            "emails": [owner.email],
            "reason": "domain_ownership_visibility" if asks_for_name else "receive_leads",
        }

        async def make() -> None:
            if self._invitation is None:
                sent = await self._call(
                    self._town.viewers[viewer], "POST", "/v1/invitations", invitation, (200, 201)
                )
                self._invitation = sent["items"][0]["id"]
            path = f"/v1/invitations/{self._invitation}/accept"
            accepted = await self._call(owner, "POST", path)
            self._connections[viewer] = accepted["connection_id"]
            self._invitation = None

        after = msgspec.structs.replace(
            state,
            connected=state.connected | {viewer},
            shown_to=state.shown_to | {viewer} if asks_for_name else state.shown_to,
        )
        return "connect", after, make

    def _disconnect(self, state: State, viewer: int) -> _Possible:
        company = self._owner.company
        if state.is_suspended or self._random.random() < 0.5:
            company = self._town.viewers[viewer]

        async def make() -> None:
            path = f"/v1/connections/{self._connections[viewer]}"
            # Once it has ended, there is no such connection.
            await self._call(company, "DELETE", path, expect=(204, 404))

        after = msgspec.structs.replace(
            state, connected=state.connected - {viewer}, shown_to=state.shown_to - {viewer}
        )
        return "disconnect", after, make

    def _grant(self, state: State, viewer: int) -> _Possible:
        async def make() -> None:
            path = f"/v1/connections/{self._connections[viewer]}/grant"
            await self._call(self._owner.company, "PUT", path)

        return "grant", msgspec.structs.replace(state, shown_to=state.shown_to | {viewer}), make

    def _revoke(self, state: State, viewer: int) -> _Possible:
        async def make() -> None:
            path = f"/v1/connections/{self._connections[viewer]}/grant"
            await self._call(self._owner.company, "DELETE", path, expect=(204,))

        return "revoke", msgspec.structs.replace(state, shown_to=state.shown_to - {viewer}), make

    def _company(self, holder: _Holder) -> Company:
        return self._owner.company if holder == "owner" else self._owner.rival

    async def _call(
        self,
        company: Company,
        method: str,
        path: str,
        body: object = None,
        expect: Sequence[int] = (200,),
    ) -> Any:
        """Return what is told. Raises `Unavailable` if it is to be asked again."""
        sent = b"" if body is None else msgspec.json.encode(body)
        asked = request(method, path, sent, Authorization=company.headers["Authorization"])
        try:
            status, told = await self._town.asked(self._connection, asked)
        except Unavailable as error:
            if "limit of" in str(error):
                # Nobody does so much in one day.
                await self._town.world.fetch("DELETE FROM allowance")
            raise
        assert status in expect, (method, path, status, told)
        return msgspec.json.decode(told) if told else None
