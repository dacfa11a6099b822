"""Who asks a replica is told the truth: a change is there before its own request returns."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import asyncpg
import httpx
import msgspec
import pytest

from service.app import create_app
from service.ownership.hostname import covering_names
from service.postgres import pools
from service.postgres.migrations import migrate
from service.postgres.pools import open_database
from tests.builders import NO_VERIFIED, VERIFIED, World
from tests.conftest import SETTINGS, living
from tests.freshness.asking import Asker
from tests.freshness.changes import Changer
from tests.freshness.histories import Answer
from tests.freshness.proof import more_answers
from tests.freshness.town import Town, now
from tests.growing.cluster import Cluster, cluster
from tests.ownership.authority import Authority, authority
from tests.ownership.domains import add
from tests.parties import ACCOUNT, CONNECTIONS, Party, party
from tests.running import environment, running

Told: TypeAlias = tuple[str, str | None]
NONE, HIDDEN = ("none", None), ("verified", None)

REPLICAS_ANSWERS = 5_000

# What every replica is asked, as anyone may from `psql`.
_ASK = "SELECT status, owner_name FROM confirmed_owner($1, $2, $3, NULL)"


@pytest.fixture(scope="module")
async def replicated(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A primary that waits for both of its replicas, with a current schema."""
    async with cluster(tmp_path_factory.mktemp("replicated")) as servers:
        await servers.wait_for("FIRST 2 (two, three)")
        await migrate(servers.url)
        yield servers


@asynccontextmanager
async def serving(url: str, zone: Authority | None = None) -> AsyncIterator[World]:
    """The service on a database."""
    resolvers = () if zone is None else (zone.server,)
    app = create_app(url, msgspec.structs.replace(SETTINGS, dns_resolvers=resolvers))
    async with open_database(url) as database, living(app) as client:
        yield World(database, client)


async def changes(
    world: World, zone: Authority, buyer: Party, number: int, check: Callable[..., Awaitable[None]]
) -> None:
    """Let a seller do all that changes what a buyer is told, and check each change."""
    domain = f"seller{number}.example"
    seller = await party(world, f"Seller Number {number}")
    await world.connect(buyer, seller)
    connection = f"{CONNECTIONS}/{(await seller.connection())['id']}"

    async def do(method: str, path: str, told: Told, body: object = None) -> None:
        response = await seller.do(method, path, body)
        assert response.status_code in (200, 201, 204), response.text
        await check(buyer, domain, told)

    record = (await add(world, seller, domain))["records"][0]
    zone.txt[record["host"]] = [record["value"]]
    named = ("named", seller.name)
    renamed = f"Renamed Number {number}"
    await do("POST", f"/v1/domains/{domain}/verification", HIDDEN)
    await do("PUT", f"{connection}/grant", named)
    await do("PATCH", ACCOUNT, ("named", renamed), {"name": renamed})
    await do("DELETE", f"{connection}/grant", HIDDEN)
    await do("PUT", f"{connection}/grant", ("named", renamed))
    await world.suspend(seller)
    await check(buyer, domain, NONE)
    await world.reinstate(seller)
    await check(buyer, domain, ("named", renamed))
    await do("DELETE", connection, HIDDEN)
    await do("DELETE", f"/v1/domains/{domain}", NONE)


async def stale_reads(servers: Cluster, sellers: int) -> tuple[int, int]:
    """Make changes, ask both replicas right after each, and count how often they were late."""
    reads = stale = 0
    async with AsyncExitStack() as stack:
        zone = stack.enter_context(authority())
        world = await stack.enter_async_context(serving(servers.url, zone))
        await world.reset()
        replicas = [await asyncpg.connect(each.url()) for each in servers.replicas]
        for replica in replicas:
            stack.push_async_callback(replica.close)

        async def check(buyer: Party, domain: str, told: Told) -> None:
            nonlocal reads, stale
            for replica in replicas:
                row = await replica.fetchrow(_ASK, buyer.id, domain, covering_names(domain))
                reads += 1
                stale += tuple(row) != told

        buyer = await party(world)
        for number in range(sellers):
            await changes(world, zone, buyer, number, check)
    return reads, stale


async def test_every_replica_shows_a_change_before_its_own_request_returns(
    replicated: Cluster,
) -> None:
    await replicated.replicas[1].set(recovery_min_apply_delay="10ms")
    reads, stale = await stale_reads(replicated, sellers=24)
    assert (reads, stale) == (24 * 9 * 2, 0)


class ReplicaAsker(Asker):
    """A client of one viewer that asks one replica.

    Let no viewer ask two servers: each shows a change as soon as it has it, so until the change is
    acknowledged, the one may tell of it and the other not yet.
    """

    def __init__(self, town: Town, viewer: int, replica: asyncpg.Pool) -> None:
        super().__init__(town, viewer)
        self._replica = replica

    async def ask_about_certificate(self, number: int, cert_id: str) -> None:
        """Ask about an owner's site. A replica isn't asked about certificates."""
        town, host = self._town, f"shop.{self._town.owners[number].domain}"
        began = now()
        status, name = await self._replica.fetchrow(
            _ASK, town.viewers[self._viewer].id, host, covering_names(host)
        )
        told = {"none": NO_VERIFIED, "verified": VERIFIED, "named": name}[status]
        town.given["by a replica"] += 1
        town.answers[self._viewer, number].append(Answer(began, now(), told))


async def test_nothing_that_a_replica_tells_contradicts_a_change_acknowledged_before(
    replicated: Cluster, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    sys.stderr.write(f"{seed=}\n")
    await replicated.replicas[1].set(recovery_min_apply_delay="10ms")
    async with AsyncExitStack() as stack:
        zone = stack.enter_context(authority())
        settings = {"DATABASE_URL": replicated.url, "DNS_RESOLVERS": str(zone.server)}
        service = stack.enter_context(
            running(environment(tmp_path / "state", WORKERS="2", **settings), tmp_path / "log")
        )
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=service.url))
        database = await stack.enter_async_context(open_database(replicated.url, general=20))
        town = Town(World(database, client), service.port, zone, random.Random(seed))
        await town.world.reset()
        await town.settle(owners=10, viewers=1 + len(replicated.replicas), certificates=1)
        pools = [
            await stack.enter_async_context(asyncpg.create_pool(each.url(), min_size=0))
            for each in replicated.replicas
        ]

        def askers() -> list[Asker]:
            return [
                Asker(town, 0),
                *(ReplicaAsker(town, viewer, pool) for viewer, pool in enumerate(pools, start=1)),
            ]

        async with asyncio.TaskGroup() as group:
            for number in range(len(town.owners)):
                group.create_task(Changer(town, number, askers()).run(0.5))
            for asker in askers():
                group.create_task(asker.ask_one_by_one())
            while town.given["by a replica"] < REPLICAS_ANSWERS:
                await more_answers(town)
            town.is_over = True
    assert not town.wrong
    assert [town.excerpt(*each) for each in town.violations()] == []


async def test_replicas_that_are_not_waited_for_show_changes_late(
    replicated: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pools._CHANGING, "synchronous_commit", "on")
    await replicated.replicas[1].set(recovery_min_apply_delay="100ms")
    _, stale = await stale_reads(replicated, sellers=1)
    assert stale > 0


async def test_answers_need_no_replica_to_show_them_but_one_to_have_them(
    replicated: Cluster,
) -> None:
    async with serving(replicated.url) as world:
        await world.reset()
        buyer, seller = await party(world), await party(world)
        await world.own(seller, "seller.example")
        await world.connect(buyer, seller)
        connection = f"{CONNECTIONS}/{(await seller.connection())['id']}"
        cert_ids = [await world.certificate(domain="seller.example") for _ in range(3)]
        for replica in replicated.replicas:
            await replica.fetch("SELECT pg_wal_replay_pause()")
        try:
            assert await world.confirmed_owner(buyer, cert_ids[0]) == VERIFIED
            assert (await seller.do("PUT", f"{connection}/grant")).status_code == 503
        finally:
            for replica in replicated.replicas:
                await replica.fetch("SELECT pg_wal_replay_resume()")
        assert (await seller.do("PUT", f"{connection}/grant")).status_code == 200
        await replicated.wait_for("FIRST 1 (nobody)")
        try:
            assert (await world.ask(buyer, cert_ids[1])).status_code == 503
        finally:
            await replicated.wait_for("FIRST 2 (two, three)")
        assert await world.confirmed_owner(buyer, cert_ids[2]) == seller.name


async def test_repeated_change_is_acknowledged_only_once_replicas_have_it(
    replicated: Cluster,
) -> None:
    async with serving(replicated.url) as world:
        await world.reset()
        buyer, seller, other = [await party(world) for _ in range(3)]
        await world.connect(buyer, seller)
        grant = f"{CONNECTIONS}/{(await seller.connection())['id']}/grant"

        async def make_changes() -> list[int]:
            responses = await asyncio.gather(
                seller.do("PUT", grant),
                buyer.invite("jo@seller.example"),
                other.invite("jo@another.example", key="once"),
            )
            return [response.status_code for response in responses]

        await replicated.wait_for("FIRST 1 (nobody)")
        try:
            assert await make_changes() == [503, 503, 503]
            # They gave up waiting, and left the changes where everybody sees them.
            assert (await buyer.connection())["partner_name_shown_since"] is not None
            assert await make_changes() == [503, 503, 503]
        finally:
            await replicated.wait_for("FIRST 2 (two, three)")
        assert await make_changes() == [200, 200, 201]
