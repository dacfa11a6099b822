"""Migrations: plain SQL files, applied once and in order, by whichever process comes first."""

import logging
from pathlib import Path

import asyncpg
from pogo_core.util import migrate as pogo_migrate
from pogo_core.util import sql as pogo_sql

from service.errors import ServiceError
from service.postgres.pools import Connection, connect

OLDEST_SERVER = 15

_MIGRATION_LOCK = 0x636F6E666F776E  # “confown”

# A log line for every migration at every start would be noise.
_migration_log = logging.getLogger("service.postgres.migrations")
_migration_log.setLevel(logging.ERROR)


class UnsupportedServer(ServiceError):
    """The server is older than the schema allows."""


async def migrate(url: str) -> None:
    """Bring the schema up to date. Several processes may call it at once.

    Raises `UnsupportedServer` or `Unavailable`.
    """
    async with connect(url) as connection:
        if connection.get_server_version().major < OLDEST_SERVER:
            raise UnsupportedServer(
                f"the database is PostgreSQL {connection.get_server_version().major}; "
                f"{OLDEST_SERVER} or newer is needed"
            )
        # Most starts find nothing to do, and reading all the files takes long.
        if await is_migrated(connection):
            return
        await connection.execute("SET lock_timeout = '60s'")
        await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
        # A migration that can't get its locks soon gives up, so that callers don't queue behind it.
        await connection.execute("SET lock_timeout = '5s'; SET statement_timeout = '10min'")
        await pogo_migrate.apply(
            connection, migrations_dir(), schema_name="public", logger=_migration_log
        )


async def is_migrated(connection: Connection) -> bool:
    """Whether every migration in this release has been applied."""
    try:
        migrations = await pogo_sql.read_migrations(
            migrations_dir(), connection, schema_name="public"
        )
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        # No process has migrated yet, or one has just begun to.
        return False
    return all(migration.applied for migration in migrations)


def migrations_dir() -> Path:
    """Return the migrations' folder: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "sql"
    return (installed if installed.exists() else package.parent / "sql") / "migrations"
