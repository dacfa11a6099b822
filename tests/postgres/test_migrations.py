"""Migrations create the committed schema, once, whether one process runs them or several."""

import asyncio
import runpy

import asyncpg
import pytest

from service.accounts.accounts import names_alike
from service.errors import Unavailable
from service.postgres.migrations import is_migrated, migrate, migrations_dir
from service.postgres.pools import connect, open_database
from tests.conftest import fresh_database
from tests.running import ROOT
from tests.schema import dump

SCHEMA = ROOT / "sql" / "schema.sql"


async def test_committed_schema_is_what_the_migrations_make(server_url: str) -> None:
    async with fresh_database(server_url) as by_schema, fresh_database(server_url) as by_migrations:
        connection = await asyncpg.connect(by_schema)
        await connection.execute(SCHEMA.read_text())
        await connection.close()
        await migrate(by_migrations)
        assert await asyncio.to_thread(dump, by_schema) == await asyncio.to_thread(
            dump, by_migrations
        )


async def test_processes_that_start_at_once_migrate_once(empty_database_url: str) -> None:
    await asyncio.gather(*(migrate(empty_database_url) for _ in range(8)))
    async with (
        open_database(empty_database_url) as database,
        database.general.connection() as connection,
    ):
        assert await is_migrated(connection)
        applied = await connection.fetch("SELECT migration_id FROM _pogo_migration")
        assert len(applied) == len({row["migration_id"] for row in applied}) > 0


async def test_database_without_schema_is_not_migrated(empty_database_url: str) -> None:
    async with (
        open_database(empty_database_url) as database,
        database.general.connection() as connection,
    ):
        assert not await is_migrated(connection)


async def test_database_that_is_not_there_is_unavailable(server_url: str) -> None:
    del server_url
    with pytest.raises(Unavailable):
        await migrate("postgresql://nobody@127.0.0.1:1/nothing")


async def test_names_from_before_that_read_alike_stay_and_are_reported(
    empty_database_url: str,
) -> None:
    await migrate(empty_database_url)
    migration = runpy.run_path(str(migrations_dir() / "0007_readings.py"))
    async with connect(empty_database_url) as connection:
        await migration["rollback"](connection)
        for number, name in enumerate(("Acme Leads", "ACME Leads, Inc.", "Other Leads")):
            await connection.execute(
                "INSERT INTO account (id, name, name_skeleton, created_at)"
                " VALUES (gen_random_uuid(), $1, $1, now() - interval '1 day' * $2)",
                name,
                number,
            )
        await migration["apply"](connection)
        assert await names_alike(connection) == [("Acme Leads", "ACME Leads, Inc.")]
        names = await connection.fetch("SELECT name FROM account ORDER BY name")
        assert [row["name"] for row in names] == ["ACME Leads, Inc.", "Acme Leads", "Other Leads"]


async def test_certificate_that_was_recorded_under_several_forms_of_its_id_is_one(
    empty_database_url: str,
) -> None:
    await migrate(empty_database_url)
    text = (migrations_dir() / "0009_one_id.sql").read_text()
    apply = text.split("-- migrate: apply")[1].split("-- migrate: rollback")[0]
    upper, mixed, both, page = "AB" * 20, "aB" * 20, "CD" * 20, "EF" * 20
    async with connect(empty_database_url) as connection:
        for cert_id, facts in (
            (upper, "{}"),
            (mixed, "{}"),
            (both, "{}"),
            (both.lower(), "{}"),
            (page, '{"domain": "a.example"}'),
            ("Mobile_" + "Z" * 33, "{}"),
        ):
            await connection.execute(
                "INSERT INTO certificate (cert_id, kind, facts) VALUES ($1, 'mobile', $2)",
                cert_id,
                facts,
            )
        for _ in range(2):
            await connection.execute(apply)
        rows = await connection.fetch("SELECT cert_id, kind FROM certificate")
    kinds = {row["cert_id"]: row["kind"] for row in rows}
    assert kinds[upper.lower()] == "web"
    assert kinds[both.lower()] == "mobile"
    assert kinds[page.lower()] == "mobile"
    assert kinds["Mobile_" + "Z" * 33] == "mobile"
    assert len(kinds) == 6
