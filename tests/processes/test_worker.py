"""Background jobs run in one worker, whatever happens to workers and the database."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pgqueuer import PgQueuer
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment
from pgqueuer.models import Job

from service.certificates.certificates import purge
from service.certificates.jobs import PURGES
from service.mail.mails import queue_mail
from service.postgres.pools import Database, connect, open_database
from service.processes.jobs import EVERY_FIVE_MINUTES, Entrypoint, Jobs, Schedule, do_jobs
from service.processes.queue import enqueue
from service.settings import Settings
from service.worker import work
from tests.builders import World, until
from tests.conftest import fresh_database
from tests.relay import relay
from tests.running import COMMAND, environment, running
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
    async with stopped_at_the_end(lambda stopped: work(url, settings, stopped)):
        yield


@asynccontextmanager
async def noting(url: str, *, seconds: float = 0) -> AsyncIterator[list[Job]]:
    """Run a worker whose jobs take so long and use the database, and yield those that are done."""
    done: list[Job] = []

    def jobs_of(database: Database) -> Jobs:
        async def note(job: Job) -> None:
            await asyncio.sleep(seconds)
            async with database.general.connection() as connection:
                await connection.execute("SELECT")
            done.append(job)

        async def rest() -> None:
            pass

        # Without any schedule, PgQueuer would look for one each second.
        return [Entrypoint("note", note, at_once=8), Schedule("rest", EVERY_FIVE_MINUTES, rest)]

    async with stopped_at_the_end(lambda stopped: do_jobs(url, jobs_of, stopped)):
        yield done


@asynccontextmanager
async def stopped_at_the_end(
    life_until: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
) -> AsyncIterator[None]:
    stopped = asyncio.Event()
    life = asyncio.create_task(life_until(stopped))
    try:
        yield
    finally:
        stopped.set()
        await asyncio.wait_for(life, 10)


async def make_due(world: World) -> None:
    await world.fetch(
        """
        INSERT INTO pgqueuer_schedules (entrypoint, expression, next_run)
        VALUES ('purge_facts', $1, now() - interval '1 second')
        ON CONFLICT (entrypoint, expression) DO UPDATE SET next_run = excluded.next_run
        """,
        PURGES,
    )


async def is_at_rest(world: World) -> bool:
    """Whether nothing is left to purge, and no schedule is being run."""
    picked = await world.fetch("SELECT FROM pgqueuer_schedules WHERE status = 'picked'")
    return not picked and not await recorded(world)


async def queue_note(world: World) -> None:
    async with world.database.general.transaction() as connection:
        await enqueue(connection, "note", b"")


async def is_queue_empty(world: World) -> bool:
    return not await world.fetch("SELECT FROM pgqueuer")


async def lose_connections(world: World) -> None:
    await world.fetch(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
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
    await aged(world, await world.certificate(), 31)
    await make_due(world)
    async with worker(migrated_url):
        await until(lambda: is_at_rest(world))
        # Workers look at schedules when they start, and after each full minute. So this is due
        # before the new start, and the old one has already looked.
        await aged(world, await world.certificate(), 31)
        await make_due(world)
        await lose_connections(world)
        await until(lambda: is_at_rest(world))


async def test_worker_that_worked_steadily_starts_again_at_once_however_often_it_was_lost(
    world: World, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.processes.jobs._STEADY", 0)
    began = time.monotonic()
    async with noting(migrated_url) as done:
        for _ in range(5):
            await queue_note(world)
            await until(lambda: is_queue_empty(world))
            await lose_connections(world)
    assert len(done) == 5
    assert time.monotonic() - began < 5


async def test_worker_whose_connections_fall_silent_goes_on_with_new_ones(
    world: World, migrated_url: str
) -> None:
    async with relay(migrated_url) as line, noting(line.url) as done:
        await queue_note(world)
        await until(lambda: is_queue_empty(world))
        line.fall_silent()
        await queue_note(world)
        await until(lambda: is_queue_empty(world), 15)
    assert len(done) == 2


async def test_connections_are_given_up_when_packets_are_lost(migrated_url: str) -> None:
    async with (
        relay(migrated_url) as line,
        connect(line.url) as alone,
        open_database(line.url) as database,
        database.general.connection() as pooled,
    ):
        for connection in (alone, pooled):
            connected = connection._transport.get_extra_info("socket")
            assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 3
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_000
            # What a setting is, only a server on TCP knows; this is whether we set it.
            ours = await connection.fetch(
                "SELECT FROM pg_settings WHERE name LIKE 'tcp_%' AND source = 'client'"
            )
            assert len(ours) == 4


async def test_job_that_outlasts_its_workers_stop_is_done_by_another(
    world: World, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.processes.jobs._PATIENCE", 0.2)
    async with noting(migrated_url, seconds=60) as done:
        await queue_note(world)
        await until(lambda: world.fetch("SELECT FROM pgqueuer WHERE status = 'picked'"))
    assert done == []
    await forget_heartbeats(world)
    async with noting(migrated_url) as done:
        await until(lambda: is_queue_empty(world))
    assert len(done) == 1


async def forget_heartbeats(world: World) -> None:
    """Let as much time pass for what workers have picked as shows that they are dead."""
    for table in ("pgqueuer", "pgqueuer_schedules"):
        await world.fetch(f"UPDATE {table} SET heartbeat = heartbeat - interval '31 seconds'")


async def test_another_worker_does_what_a_worker_was_doing_when_it_was_killed(
    world: World, migrated_url: str, state_dir: Path, tmp_path: Path
) -> None:
    await aged(world, await world.certificate(), 31)
    await make_due(world)
    async with world.database.general.transaction() as connection:
        mail_id = await queue_mail(
            connection, "declined", "jo@seller.example", params={"own": "A", "email": "b"}
        )
    # It accepts connections and never answers.
    with socket.create_server(("127.0.0.1", 0)) as mail_server:
        env = environment(
            state_dir,
            DATABASE_URL=migrated_url,
            FACTS_RETENTION_DAYS="30",
            MAIL_FROM="us@service.example",
            SMTP_URL=f"smtp://127.0.0.1:{mail_server.getsockname()[1]}",
        )

        async def has_picked_both() -> bool:
            rows = await world.fetch(
                """
                SELECT FROM pgqueuer WHERE status = 'picked'
                UNION ALL SELECT FROM pgqueuer_schedules
                WHERE status = 'picked' AND entrypoint = 'purge_facts'
                """
            )
            return len(rows) == 2

        async with world.database.general.transaction() as connection:
            # Purging waits for this, and so it is still at it.
            await connection.execute("LOCK TABLE certificate IN SHARE MODE")
            process = await asyncio.create_subprocess_exec(*COMMAND, "worker", env=env)
            await until(has_picked_both)
            process.kill()
            await process.wait()
    assert await has_picked_both()
    assert len(await recorded(world)) == 1
    await forget_heartbeats(world)
    settings = Settings(
        public_url="http://service",
        facts_retention_days=30,
        mail_from="us@service.example",
        state_dir=tmp_path / "other",
    )
    async with worker(migrated_url, settings):

        async def is_written() -> bool:
            (mail,) = await world.fetch("SELECT state FROM mail WHERE id = $1", mail_id)
            return mail["state"] == "written"

        await until(is_written)
        await until(lambda: is_at_rest(world))


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
