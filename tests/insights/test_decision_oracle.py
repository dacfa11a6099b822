"""Compare the endpoint with an oracle: a small plain-Python model, changed and queried at random.

The oracle knows the decision table, but nothing about the service. Hypothesis looks for a sequence
of changes after which the two differ for some viewer and certificate.
"""

import asyncio
import copy
import itertools
import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from service.accounts.names import told_of_owner
from service.accounts.records import Caller
from service.insights import bulk
from service.insights.asked import asked_of
from service.insights.confirmed_owner import confirmed_owner
from service.insights.operations import question_of
from service.tokens import digest_of
from tests.builders import NO_VERIFIED, VERIFIED, Company, World

# Each host and its ancestors, written by hand. The last one is the registrable domain.
HOSTS = {
    "alpha.example": ["alpha.example"],
    "shop.alpha.example": ["shop.alpha.example", "alpha.example"],
    "eu.shop.alpha.example": ["eu.shop.alpha.example", "shop.alpha.example", "alpha.example"],
    "beta.co.uk": ["beta.co.uk"],
    "one.github.io": ["one.github.io"],
    "github.io": ["github.io"],
}
CLAIMABLE_WITH_SUBDOMAINS = sorted(set(HOSTS) - {"github.io"})
COMPANIES = range(3)

EXAMPLES = int(os.environ.get("EXAMPLES", "20"))

Tell: TypeAlias = Callable[[Sequence[tuple[Company, str]]], Awaitable[list[str | None]]]

companies = st.sampled_from(COMPANIES)
pairs = st.sampled_from(list(itertools.permutations(COMPANIES, 2)))
hosts = st.sampled_from(sorted(HOSTS))


@dataclass
class Oracle:
    """Each company's name, what it owns, and who may see whom."""

    names: dict[int, str]
    suspended: set[int] = field(default_factory=set)
    owners: dict[str, tuple[int, bool]] = field(default_factory=dict)
    connections: set[tuple[int, int]] = field(default_factory=set)
    grants: set[tuple[int, int]] = field(default_factory=set)

    def connected(self, one: int, other: int) -> bool:
        return (one, other) in self.connections or (other, one) in self.connections

    def owner_of(self, host: str) -> int | None:
        for name in HOSTS[host]:
            owner, covers_subdomains = self.owners.get(name, (None, False))
            if owner is None or owner in self.suspended:
                continue
            if name == host or covers_subdomains:
                return owner
        return None

    def told(self, viewer: int, owner: int | None, without_owner: str | None) -> str | None:
        if owner is None:
            return without_owner
        if owner == viewer or ((owner, viewer) in self.grants and self.connected(owner, viewer)):
            return self.names[owner]
        return VERIFIED


class Decision(RuleBasedStateMachine):
    """Make each change in both the world and the oracle, then compare all answers."""

    world: World
    loop: asyncio.AbstractEventLoop

    def do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    @initialize(
        owned=st.lists(st.tuples(companies, hosts, st.booleans()), min_size=4, max_size=8),
        connected=st.lists(pairs, min_size=2, max_size=6),
        granted=st.lists(pairs, min_size=1, max_size=4),
        suspended=st.sets(companies, max_size=1),
    )
    def begin(
        self,
        owned: list[tuple[int, str, bool]],
        connected: list[tuple[int, int]],
        granted: list[tuple[int, int]],
        suspended: set[int],
    ) -> None:
        async def build() -> None:
            self.companies = [await self.world.company() for _ in COMPANIES]
            self.with_domain = {host: await self.world.certificate(domain=host) for host in HOSTS}
            self.accounted = {
                company: await self.world.certificate(
                    is_masked=True, domain="token", account=self.companies[company]
                )
                for company in COMPANIES
            }

        self.do(self.world.reset())
        self.do(build())
        self.renames = 0
        self.past: list[tuple[datetime, Oracle]] = []
        self.oracle = Oracle({i: company.name for i, company in enumerate(self.companies)})
        # Start with a busy world: in an empty one, most changes have no effect.
        for owner, host, covers_subdomains in owned:
            if covers_subdomains and host in CLAIMABLE_WITH_SUBDOMAINS:
                self.verify_with_subdomains(owner, host)
            else:
                self.verify(owner, host)
        for pair in connected:
            self.connect(pair)
        for pair in granted:
            self.grant(pair)
        for company in suspended:
            self.suspend_or_reinstate(company)

    @rule(owner=companies, host=hosts)
    def verify(self, owner: int, host: str) -> None:
        self.do(self.world.own(self.companies[owner], host))
        self.oracle.owners[host] = (owner, False)

    @rule(owner=companies, host=st.sampled_from(CLAIMABLE_WITH_SUBDOMAINS))
    def verify_with_subdomains(self, owner: int, host: str) -> None:
        self.do(self.world.own(self.companies[owner], host, covers_subdomains=True))
        self.oracle.owners[host] = (owner, True)

    @rule(data=st.data())
    def toggle_subdomains(self, data: st.DataObject) -> None:
        owned = sorted(set(self.oracle.owners) & set(CLAIMABLE_WITH_SUBDOMAINS))
        if owned:
            host = data.draw(st.sampled_from(owned))
            owner, covers_subdomains = self.oracle.owners[host]
            company = self.companies[owner]
            self.do(self.world.own(company, host, covers_subdomains=not covers_subdomains))
            self.oracle.owners[host] = (owner, not covers_subdomains)

    @rule(data=st.data())
    def lapse(self, data: st.DataObject) -> None:
        if self.oracle.owners:
            host = data.draw(st.sampled_from(sorted(self.oracle.owners)))
            self.do(self.world.disown(host))
            del self.oracle.owners[host]

    @rule(pair=pairs)
    def connect(self, pair: tuple[int, int]) -> None:
        buyer, seller = pair
        self.do(self.world.connect(self.companies[buyer], self.companies[seller]))
        self.oracle.connections.add(pair)

    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        if self.oracle.connections:
            buyer, seller = data.draw(st.sampled_from(sorted(self.oracle.connections)))
            self.do(self.world.disconnect(self.companies[buyer], self.companies[seller]))
            self.oracle.connections.remove((buyer, seller))
            self.oracle.grants -= {(buyer, seller), (seller, buyer)}

    @rule(pair=pairs)
    def grant(self, pair: tuple[int, int]) -> None:
        owner, viewer = pair
        if self.oracle.connected(owner, viewer):
            self.do(self.world.grant(self.companies[owner], self.companies[viewer]))
            self.oracle.grants.add((owner, viewer))

    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        if self.oracle.grants:
            owner, viewer = data.draw(st.sampled_from(sorted(self.oracle.grants)))
            self.do(self.world.revoke(self.companies[owner], self.companies[viewer]))
            self.oracle.grants.remove((owner, viewer))

    @rule(company=companies)
    def rename(self, company: int) -> None:
        self.renames += 1
        name = f"{self.companies[company].name}, renamed for the {self.renames}. time"
        self.do(self.world.rename(self.companies[company], name))
        self.oracle.names[company] = name

    @rule(company=companies)
    def suspend_or_reinstate(self, company: int) -> None:
        if company in self.oracle.suspended:
            self.do(self.world.reinstate(self.companies[company]))
        else:
            self.do(self.world.suspend(self.companies[company]))
        self.oracle.suspended ^= {company}

    @invariant()
    def decision_and_oracle_agree(self) -> None:
        if hasattr(self, "oracle"):
            self.do(self.compare(self.decided))
            self.past.append((self.do(self.world.instant()), copy.deepcopy(self.oracle)))

    def teardown(self) -> None:
        if hasattr(self, "oracle"):
            # Compare over HTTP only once per example: it's ten times slower and decides nothing.
            self.do(self.compare(self.answered))
            self.do(self.compare(self.decided_in_bulk))
            # Each instant is told as it was then, whatever has happened since.
            suspended = self.oracle.suspended
            for at, then in self.past[:: 1 + len(self.past) // 6]:
                self.do(self.compare(partial(self.decided_in_bulk, as_of=at), then, suspended))

    async def decided(self, asked: Sequence[tuple[Company, str]]) -> list[str | None]:
        """The database's decision for each viewer and certificate, in one statement."""
        body = b'{"insights": {"properties": ["confirmed_owner"]}}'
        questions = [
            question_of(digest_of(viewer.key), cert_id, asked_of(cert_id, body, has_vendor=False))
            for viewer, cert_id in asked
        ]
        answers = await confirmed_owner(self.world.database.answering, questions)
        return [told_of_owner(answer.status, answer.owner_name) for answer in answers]

    async def decided_in_bulk(
        self, asked: Sequence[tuple[Company, str]], as_of: datetime | None = None
    ) -> list[str | None]:
        """The decision as one call about many makes it, for each viewer."""
        told: list[str | None] = []
        for viewer, of_viewer in itertools.groupby(asked, key=lambda each: each[0]):
            items = [bulk.Item(cert_id=cert_id) for _, cert_id in of_viewer]
            _, results = await bulk.answer_many(
                self.world.database,
                Caller(viewer.id, viewer.name, viewer.key_id, None),
                digest_of(viewer.key),
                items,
                ["confirmed_owner"],
                as_of=as_of,
            )
            for result in results:
                assert isinstance(result, bulk.Told)
                owner = result.properties["confirmed_owner"]
                assert owner is None or isinstance(owner, str)
                told.append(owner)
        return told

    async def answered(self, asked: Sequence[tuple[Company, str]]) -> list[str | None]:
        """The endpoint's answers, requested concurrently."""
        return await asyncio.gather(*itertools.starmap(self.world.confirmed_owner, asked))

    async def compare(
        self, tell: Tell, oracle: Oracle | None = None, silent: Collection[int] | None = None
    ) -> None:
        """Compare what each viewer is told with the oracle's, by default of now.

        The suspended ones are not asked, or else those in `silent`.
        """
        oracle = oracle or self.oracle
        asked: list[tuple[Company, str, str | None]] = []
        for viewer in set(COMPANIES).difference(oracle.suspended if silent is None else silent):
            for host, cert_id in self.with_domain.items():
                owner = oracle.owner_of(host)
                asked.append(
                    (self.companies[viewer], cert_id, oracle.told(viewer, owner, NO_VERIFIED))
                )
            for account, cert_id in self.accounted.items():
                holder = None if account in oracle.suspended else account
                asked.append((self.companies[viewer], cert_id, oracle.told(viewer, holder, None)))
        told = await tell([(viewer, cert_id) for viewer, cert_id, _ in asked])
        assert told == [expected for _, _, expected in asked]


async def test_endpoint_decides_as_the_oracle_does(world: World) -> None:
    machine = type("Here", (Decision,), {"world": world, "loop": asyncio.get_running_loop()})
    # Hypothesis isn't asynchronous. It runs in a thread, while the world stays in this loop.
    await asyncio.to_thread(
        run_state_machine_as_test,
        machine,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=20, deadline=None),
    )
