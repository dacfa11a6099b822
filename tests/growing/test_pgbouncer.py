"""Calls by way of PgBouncer in transaction mode are as safe as without it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import msgspec
import pytest

from service.answers.queries import select_horizon
from service.app import create_app
from service.errors import TookTooLong, Unavailable
from service.postgres import pools
from service.postgres.pools import Database, connect, open_database
from tests.builders import NO_VERIFIED, World, until
from tests.conftest import SETTINGS, living
from tests.growing.bouncer import SESSIONS, Bouncer, pgbouncer
from tests.running import ROOT

# What calls and changes do: 228 tests.
CORE = (
    "tests/accounts/test_api.py",
    "tests/connections/test_api.py",
    "tests/insights/test_certificate_api.py",
    "tests/insights/test_confirmed_owner.py",
    "tests/invitations/test_acceptance.py",
    "tests/web/test_idempotency.py",
)

# All that we set when we connect and PgBouncer doesn't know.
_OURS = {
    **pools._SESSION, **pools._DIRECT, **pools._IDLE_DEADLINE, **pools._ANSWERING, **pools._CHANGING,
    "statement_timeout": "",
}  # fmt: skip


@pytest.fixture(scope="module")
async def bouncer(
    server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bouncer]:
    directory = tmp_path_factory.mktemp("bouncer")
    # Its names for our sessions would hide them from those who wait for us.
    async with pgbouncer(server_url, directory, application_name_add_host="1") as bouncer:
        yield bouncer


@pytest.fixture
async def pooled(bouncer: Bouncer, migrated_url: str) -> AsyncIterator[Database]:
    async with open_database(bouncer.url_of(migrated_url), is_pooler=True) as database:
        yield database


async def test_core_of_the_suite_passes_by_way_of_pgbouncer(
    bouncer: Bouncer, server_url: str
) -> None:
    # Without what the run that this is part of was told.
    rest = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *CORE,
        cwd=ROOT, env={**rest, "DATABASE_URL": server_url, "POOLER_URL": bouncer.url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 300)
    assert process.returncode == 0, output.decode()
    assert "login attempt: db=confirmed_owner_test_" in bouncer.place.log.read_text()


async def test_every_transaction_may_have_another_session(pooled: Database) -> None:
    async def session() -> int:
        async with pooled.answering.connection() as connection:
            return int(await connection.fetchval("SELECT pg_backend_pid()"))

    sessions = set()

    async def has_changed() -> bool:
        sessions.add(await session())
        return len(sessions) == SESSIONS

    await until(has_changed)


async def test_every_transaction_has_the_settings_of_its_pool_and_leaves_none_behind(
    pooled: Database,
) -> None:
    names = ("statement_timeout", "synchronous_commit", "plan_cache_mode", "jit")
    shown = ", ".join(f"current_setting('{name}')" for name in names)

    async def ask(pool: pools.Pool) -> tuple[object, ...]:
        async with pool.connection() as connection:
            row = await connection.fetchrow(f"SELECT {shown}, $1::text[]", ["a"])
        assert row is not None
        return tuple(row)[:-1]

    every = [pooled.answering, pooled.general] * 50
    told = await asyncio.gather(*(ask(pool) for pool in every))
    _, own, *_ = await ask(pooled.identifying)
    assert set(told[::2]) == {("500ms", own, "force_generic_plan", "off")}
    assert set(told[1::2]) == {("2s", "remote_apply", "auto", "off")}


async def test_statement_misses_its_deadline_and_holds_up_no_other(pooled: Database) -> None:
    async def sleep() -> None:
        async with pooled.answering.connection() as connection:
            await connection.fetchval("SELECT pg_sleep(10)")

    for _ in range(SESSIONS):
        with pytest.raises(TookTooLong):
            await sleep()
    async with pooled.answering.connection() as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_each_statement_commits_by_itself_unless_in_a_transaction(pooled: Database) -> None:
    async with pooled.general.connection() as connection:
        first, second = [await connection.fetchval("SELECT txid_current()") for _ in range(2)]
        async with connection.transaction():
            third, fourth = [await connection.fetchval("SELECT txid_current()") for _ in range(2)]
    assert first < second < third == fourth


async def test_transaction_in_progress_is_seen_by_those_who_wait_for_it(
    pooled: Database, migrated_url: str
) -> None:
    async with connect(migrated_url) as direct, pooled.general.transaction() as connection:
        began = await connection.fetchval("SELECT now()")
        await asyncio.sleep(1.1)
        assert await select_horizon(direct) <= began


async def test_service_waits_for_nobody_while_pgbouncer_is_away_and_recovers(
    world: World, bouncer: Bouncer, migrated_url: str
) -> None:
    viewer, cert_id = await world.company(), await world.certificate(domain="nobody.example")
    settings = msgspec.structs.replace(SETTINGS, pooler_url=bouncer.url_of(migrated_url))
    async with living(create_app(migrated_url, settings)) as client:
        by_pooler = World(world.database, client)
        assert await by_pooler.confirmed_owner(viewer, cert_id) == NO_VERIFIED
        bouncer.stop()
        for path in ("/ready", "/ready"):
            assert (await client.get(path)).status_code == 503
        assert (await by_pooler.ask(viewer, cert_id)).status_code == 503
        await bouncer.start()

        async def answers() -> bool:
            return (await by_pooler.ask(viewer, cert_id)).status_code == 200

        await until(answers)


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_pgbouncer_that_ignores_our_settings_is_refused_as_the_database(
    server_url: str, migrated_url: str, tmp_path_factory: pytest.TempPathFactory, mode: str
) -> None:
    ignored = ",".join(_OURS.keys() - {"application_name", "timezone"})
    directory = tmp_path_factory.mktemp("ignoring")
    async with pgbouncer(
        server_url, directory, pool_mode=mode, ignore_startup_parameters=ignored
    ) as ignoring:
        url = ignoring.url_of(migrated_url)
        with pytest.raises(Unavailable, match="POOLER_URL"):
            async with connect(url):
                pass
        async with open_database(url) as database:
            for pool in (database.answering, database.general):
                with pytest.raises(Unavailable, match="POOLER_URL"):
                    async with pool.connection():
                        pass
