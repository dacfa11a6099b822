"""Background jobs run in one worker, whatever happens to workers and the database."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
from pgqueuer import PgQueuer
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment

from service.certificates.certificates import purge
from service.postgres.pools import connect
from service.settings import Settings
from service.worker import work
from tests.builders import World, until
from tests.conftest import fresh_database
from tests.running import environment, running
from tests.schema import dump

SETTINGS = Settings(public_url="http://service", facts_retention_days=30)


async def test_job_queues_tables_are_those_its_library_would_install(
    server_url: str, migrated_url: str
) -> None:
    async with fresh_database(server_url) as by_library, connect(by_library) as connection:
        await connection.execute(QueryBuilderEnvironment().build_install_query())
        installed = await asyncio.to_thread(dump, by_library)
    ours = await asyncio.to_thread(dump, migrated_url)
    for statement in installed.split(";\n"):
        assert statement in ours


async def test_job_queue_finds_its_tables_in_order(migrated_url: str) -> None:
    async with connect(migrated_url) as connection:
        await PgQueuer.from_asyncpg_connection(connection).qm.verify_structure()


async def aged(world: World, cert_id: str, days: float) -> str:
    await world.fetch(
        "UPDATE certificate SET recorded_at = now() - $2::interval WHERE cert_id = $1",
        cert_id,
        timedelta(days=days),
    )
    return cert_id


async def recorded(world: World) -> set[str]:
    return {row["cert_id"] for row in await world.fetch("SELECT cert_id FROM certificate")}


async def test_purge_deletes_facts_that_are_too_old_and_nothing_else(world: World) -> None:
    owner, viewer = await world.company(), await world.company()
    await world.own(owner, "example.com")
    await world.permit(owner, viewer)
    old = await world.certificate(domain="example.com")
    new = await world.certificate(domain="example.com")
    await world.client.post(
        f"/{old}",
        headers=viewer.headers,
        json={
            "match_lead": {"email": "jo@example.com"},
            "retain": {"reference": "lead 1"},
            "insights": {"properties": ["confirmed_owner"]},
        },
    )
    await aged(world, old, 30.1)
    await aged(world, new, 29.9)
    assert await purge(world.database, timedelta(days=30)) == 1
    assert await recorded(world) == {new}
    assert (await world.ask(viewer, old)).status_code == 404
    assert await world.confirmed_owner(viewer, new) == owner.name
    (told,) = await world.fetch("SELECT owner_name FROM answer WHERE cert_id = $1", old)
    assert told["owner_name"] == owner.name
    (kept,) = await world.fetch("SELECT cert_id, reference FROM retained_certificate")
    assert tuple(kept) == (old, "lead 1")
    (event,) = await world.fetch("SELECT detail FROM event WHERE action = 'facts.purged'")
    assert event["detail"] == '{"certificates": 1}'


async def test_purge_goes_on_until_nothing_is_too_old(world: World) -> None:
    await world.import_lines(*({"cert_id": f"{n:040x}", "page_text": "x"} for n in range(2500)))
    await world.fetch("UPDATE certificate SET recorded_at = now() - interval '31 days'")
    deleted = await asyncio.gather(*(purge(world.database, timedelta(days=30)) for _ in range(3)))
    assert sum(deleted) == 2500
    assert await purge(world.database, timedelta(days=30)) == 0


@asynccontextmanager
async def worker(url: str, settings: Settings = SETTINGS) -> AsyncIterator[None]:
    stopped = asyncio.Event()
    life = asyncio.create_task(work(url, settings, stopped))
    try:
        yield
    finally:
        stopped.set()
        await asyncio.wait_for(life, 10)


async def make_due(world: World) -> None:
    await world.fetch(
        """
        UPDATE pgqueuer_schedules SET next_run = now() - interval '1 second'
        WHERE entrypoint = 'purge_facts'
        """
    )


async def test_worker_purges_on_schedule(world: World, migrated_url: str) -> None:
    old = await aged(world, await world.certificate(), 31)
    async with worker(migrated_url):
        await until(lambda: world.fetch("SELECT FROM pgqueuer_schedules"))
        assert await recorded(world) == {old}
    await make_due(world)
    async with worker(migrated_url):

        async def is_purged() -> bool:
            return not await recorded(world)

        await until(is_purged)


async def test_worker_keeps_facts_where_no_end_is_set(world: World, migrated_url: str) -> None:
    await aged(world, await world.certificate(), 9999)
    async with worker(migrated_url):
        await until(lambda: world.fetch("SELECT FROM pgqueuer_schedules"))
    await make_due(world)
    async with worker(migrated_url, Settings(public_url="http://service")):
        await asyncio.sleep(1)
    assert len(await recorded(world)) == 1


async def test_worker_that_loses_the_database_finds_it_again(
    world: World, migrated_url: str
) -> None:
    async with worker(migrated_url):
        await until(lambda: world.fetch("SELECT FROM pgqueuer_schedules"))
        await world.fetch(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
            """
        )
        await aged(world, await world.certificate(), 31)

        async def is_purged() -> bool:
            await make_due(world)
            return not await recorded(world)

        await until(is_purged, 60)


def test_killed_job_worker_is_replaced_and_a_killed_service_leaves_none(
    state_dir: Path, tmp_path: Path
) -> None:
    env = environment(state_dir)
    with running(env, tmp_path / "log") as service:
        (first,) = service.job_workers()
        first.kill()
        psutil.wait_procs([first], timeout=10)
        deadline = time.monotonic() + 20
        while not service.job_workers():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (second,) = service.job_workers()
        assert httpx.get(f"{service.url}/health").status_code == 200
        service.stop(signal.SIGKILL)
        _, alive = psutil.wait_procs([second], timeout=10)
        assert alive == []
    # The killed service left its database server running; the last user stops it.
    with running(env, tmp_path / "log"):
        pass
