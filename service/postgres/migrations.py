"""The migrations: plain SQL files, applied in order, once, by whichever process comes first."""

import logging
from pathlib import Path

import asyncpg
from pogo_core.util import migrate as pogo_migrate
from pogo_core.util import sql as pogo_sql

from service.errors import ServiceError
from service.postgres.pools import Connection, connect

OLDEST_SERVER = 15

_MIGRATION_LOCK = 0x636F6E666F776E  # “confown”

# The migrations' own account of themselves is not worth a line each at every start.
_migration_log = logging.getLogger("service.migrations")
_migration_log.setLevel(logging.ERROR)


class UnsupportedServer(ServiceError):
    """The server is older than the schema can do with."""


async def migrate(url: str) -> None:
    """Bring the schema up to date. Safe to be called by several processes at once.

    Raises `UnsupportedServer` or `Unavailable`.
    """
    async with connect(url) as connection:
        if connection.get_server_version().major < OLDEST_SERVER:
            raise UnsupportedServer(
                f"the database is PostgreSQL {connection.get_server_version().major}; "
                f"{OLDEST_SERVER} or newer is needed"
            )
        await connection.execute("SET lock_timeout = '60s'")
        await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
        # A migration that can't have its locks soon gives up rather than queue every caller behind it.
        await connection.execute("SET lock_timeout = '5s'; SET statement_timeout = '10min'")
        await pogo_migrate.apply(
            connection, migrations_dir(), schema_name="public", logger=_migration_log
        )


async def is_migrated(connection: Connection) -> bool:
    """Whether every migration this release knows has been applied."""
    try:
        migrations = await pogo_sql.read_migrations(
            migrations_dir(), connection, schema_name="public"
        )
    except asyncpg.UndefinedTableError:
        return False
    return all(migration.applied for migration in migrations)


def migrations_dir() -> Path:
    """Where the migrations are: inside the package once installed, beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "sql"
    return (installed if installed.exists() else package.parent / "sql") / "migrations"
