"""The primary dies under load: the service goes on with another, and nothing acknowledged is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from service.postgres.migrations import migrate
from service.postgres.pools import open_database
from tests.builders import NO_VERIFIED, VERIFIED, World, until, web_id
from tests.growing.cluster import Cluster, Server, cluster
from tests.growing.test_replicas import serving
from tests.parties import CONNECTIONS, Party, party
from tests.relay import relay
from tests.running import environment, running


@pytest.fixture
async def replicated(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A primary that waits for one of its replicas, whichever comes first."""
    async with cluster(tmp_path / "cluster") as servers:
        await servers.wait_for("ANY 1 (one, two, three)")
        await migrate(servers.url)
        yield servers


class Load:
    """Calls that go on whatever happens, and what of them was acknowledged."""

    def __init__(self, world: World, buyer: Party, seller: Party, cert_ids: list[str]) -> None:
        self.world = world
        self.buyer, self.seller = buyer, seller
        self.cert_ids = cert_ids
        self.is_over = False
        self.answered: list[str] = []
        self.invited: list[str] = []
        self.grants = self.revocations = 0

    async def run(self) -> None:
        path = f"{CONNECTIONS}/{(await self.seller.connection())['id']}/grant"
        await asyncio.gather(self._invite(), self._grant(path), *(self._ask() for _ in range(4)))

    async def goes_on(self) -> None:
        """Wait until more of each kind was acknowledged."""
        before = self._counts()

        async def has_more() -> bool:
            return all(now >= then + 10 for now, then in zip(self._counts(), before, strict=True))

        await until(has_more, 30)

    def _counts(self) -> tuple[int, int, int]:
        return len(self.answered), len(self.invited), self.revocations

    async def _ask(self) -> None:
        while not self.is_over:
            cert_id = self.cert_ids.pop()
            response = await self._done(partial(self.world.ask, self.buyer, cert_id))
            told = response.json()["insights"]["properties"]["confirmed_owner"]
            assert told == VERIFIED
            self.answered.append(cert_id)

    async def _invite(self) -> None:
        while not self.is_over:
            email = f"someone{len(self.invited)}@invited.example"
            await self._done(partial(self.buyer.invite, email))
            self.invited.append(email)

    async def _grant(self, path: str) -> None:
        while not self.is_over:
            await self._done(partial(self.seller.do, "PUT", path))
            self.grants += 1
            await self._done(partial(self.seller.do, "DELETE", path))
            self.revocations += 1

    async def _done(self, call: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        """Repeat a call until it is acknowledged."""
        while True:
            await asyncio.sleep(0.02)
            response = await call()
            if response.is_success:
                return response
            assert response.status_code == 503, response.text


async def test_failover_needs_no_restart_and_loses_nothing_acknowledged(
    replicated: Cluster, state_dir: Path, tmp_path: Path
) -> None:
    env = environment(state_dir, DATABASE_URL=replicated.url, ACCESS_LOG="false")
    with running(env, tmp_path / "log") as service:
        async with (
            open_database(replicated.url) as database,
            httpx.AsyncClient(base_url=service.url, timeout=10) as client,
            asyncio.timeout(60),
            asyncio.TaskGroup() as tasks,
        ):
            load = await prepare(World(database, client))
            tasks.create_task(load.run())
            await load.goes_on()
            replicated.primary.kill()
            lost = await replicated.fail_over()
            await load.goes_on()

            # It comes back and believes that it is the primary. No replica follows it.
            await lost.start()
            await disconnect(replicated.primary)
            await until(partial(has_session, lost, "wait_event = 'SyncRep'"))
            lost.kill()
            await load.goes_on()

            # It comes back as a replica, and is the first that the service tries.
            await replicated.follow(lost)
            await disconnect(replicated.primary)
            await load.goes_on()
            load.is_over = True
            await until(partial(has_session, replicated.primary, "query LIKE '%pgqueuer%'"))
        await assert_kept(load, replicated.primary)


async def prepare(world: World) -> Load:
    buyer, seller, other = [await party(world) for _ in range(3)]
    await world.connect(buyer, seller)
    await world.own(other, "other.example")
    cert_ids = [web_id() for _ in range(2000)]
    properties = {"domain": "other.example"}
    lines = [{"cert_id": each, "insights": {"properties": properties}} for each in cert_ids]
    for start in range(0, len(lines), 500):
        await world.import_lines(*lines[start : start + 500])
    return Load(world, buyer, seller, cert_ids)


async def has_session(server: Server, where: str) -> bool:
    """Whether the service has such a session there."""
    return bool(
        await server.fetch(
            f"SELECT FROM pg_stat_activity WHERE application_name = 'confirmed-owner' AND {where}"
        )
    )


async def disconnect(server: Server) -> None:
    """End the sessions of the service, so that it looks for a server again."""
    await server.fetch(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'confirmed-owner'
        """
    )


async def assert_kept(load: Load, server: Server) -> None:
    """Everything acknowledged is on record."""
    answered = {row[0] for row in await server.fetch("SELECT cert_id FROM answer")}
    assert set(load.answered) <= answered
    invited = {row[0] for row in await server.fetch("SELECT email FROM invitation")}
    assert set(load.invited) <= invited
    (grants,) = await server.fetch("SELECT count(*), count(ended_at) FROM visibility_grant")
    assert tuple(grants) == (load.grants, load.revocations)


async def test_standby_takes_no_answers_and_the_service_moves_on_to_the_primary(
    replicated: Cluster,
) -> None:
    (standby, _) = replicated.replicas
    async with relay(standby.url()) as way, serving(replicated.url) as world:
        cert_id = await world.certificate(domain="nobody.example")
        viewer = await party(world)
        async with serving(way.url) as misled:
            for _ in range(5):
                assert (await misled.ask(viewer, cert_id)).status_code == 503
                assert (await misled.client.get("/ready")).status_code == 503
            (row,) = await standby.fetch("SELECT count(*) FROM answer")
            assert row[0] == 0
            way.database_url = replicated.primary.url()
            await misled.ask(viewer, cert_id)
            assert await misled.confirmed_owner(viewer, cert_id) == NO_VERIFIED
