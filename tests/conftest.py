"""Give every test a real PostgreSQL: the embedded server, or the one at DATABASE_URL.

Each run creates its own databases there and drops them at the end. Tests share one database,
start with empty tables, and run in one event loop, as the service does.
"""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from litestar import Litestar

from service.app import create_app
from service.postgres.embedded import embedded_postgres
from service.postgres.migrations import migrate
from service.postgres.pools import Database, open_database
from service.settings import Settings
from tests.builders import SECRET, World
from tests.running import environment

# Shells make background processes ignore SIGINT. The processes that tests start must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Every run generates new examples. A slow example isn't a wrong one.
hypothesis_settings.register_profile("here", deadline=None, max_examples=100)
hypothesis_settings.load_profile("here")


SETTINGS = Settings(
    public_url="http://service",
    secret_key=SECRET,
    mail_from="us@service.example",
    local_retain=True,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests with a browser first, then those that start processes: they are the slowest."""

    def turn(item: pytest.Item) -> int:
        fixtures = getattr(item, "fixturenames", ())
        return 0 if "browser" in fixtures else 1 if "state_dir" in fixtures else 2

    items.sort(key=turn)


@pytest.fixture(scope="session")
async def server_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URL of a database on the PostgreSQL server. Don't change that database."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
    else:
        with embedded_postgres(tmp_path_factory.mktemp("state")) as url:
            # Tests create databases, which the service's own role may not do.
            as_superuser = url.replace("confirmed_owner@/confirmed_owner", "postgres@/postgres")
            await forgo_durability(as_superuser)
            yield as_superuser


async def forgo_durability(url: str) -> None:
    """Don't let the server wait for the disk: test data need not survive a power cut."""
    connection = await asyncpg.connect(url)
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        await connection.execute(f"ALTER SYSTEM SET {setting} = off")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


@asynccontextmanager
async def fresh_database(server_url: str) -> AsyncIterator[str]:
    """Create an empty database, and drop it at the end."""
    name = f"confirmed_owner_test_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(server_url)
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


@pytest.fixture
async def empty_database_url(server_url: str) -> AsyncIterator[str]:
    """A database without a schema."""
    async with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
async def migrated_url(server_url: str) -> AsyncIterator[str]:
    async with fresh_database(server_url) as url:
        await migrate(url)
        yield url


@pytest.fixture(scope="session")
async def shared_database(migrated_url: str) -> AsyncIterator[Database]:
    async with open_database(migrated_url) as database:
        yield database


@asynccontextmanager
async def living(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Start and stop an application, with a client that calls it without a network."""
    started, finished = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        # In its own task: the task that opens a lifespan must also close it.
        async with app.lifespan():
            started.set()
            await finished.wait()

    life = asyncio.create_task(live())
    await started.wait()
    # Litestar and httpx type the same protocol differently.
    transport = httpx.ASGITransport(app=cast("Any", app), raise_app_exceptions=False)
    headers = {"X-Request-Id": "test"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://service", headers=headers
    ) as client:
        yield client
    finished.set()
    await life


@pytest.fixture(scope="session")
async def client(migrated_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service, which uses the pooler at POOLER_URL, if there is one."""
    settings = SETTINGS
    if pooler := os.environ.get("POOLER_URL"):
        pooled = urlunsplit(urlsplit(pooler)._replace(path=urlsplit(migrated_url).path))
        settings = msgspec.structs.replace(SETTINGS, pooler_url=pooled)
    async with living(create_app(migrated_url, settings)) as client:
        yield client


@pytest.fixture
async def world(shared_database: Database, client: httpx.AsyncClient) -> World:
    """Companies, domains, and certificates under a test's control, and the endpoint."""
    world = World(shared_database, client)
    await world.reset()
    return world


@pytest.fixture
def env(empty_database_url: str, state_dir: Path) -> dict[str, str]:
    """The environment for a command, with its own database on the test server."""
    return environment(state_dir, DATABASE_URL=empty_database_url)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"
