"""A real PostgreSQL for every test: the embedded one, or the server that DATABASE_URL names.

Each run makes databases of its own there and drops them again. Tests share one database and find
its tables empty; they run in one event loop, as the service does.
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

# A shell has what it starts in the background pass over interrupts. What tests start must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples are found anew in each run; how long one takes says nothing about it being right.
hypothesis_settings.register_profile("here", deadline=None, max_examples=100)
hypothesis_settings.load_profile("here")


SETTINGS = Settings(public_url="http://service", secret_key=SECRET, mail_from="us@service.example")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the tests that start processes first, so that none of the slowest is left for the end."""
    items.sort(key=lambda item: "state_dir" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
async def server_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A PostgreSQL server, by the URL of a database on it that is not ours to change."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
    else:
        with embedded_postgres(tmp_path_factory.mktemp("state")) as url:
            # Tests make databases, which the service's own role may not.
            as_superuser = url.replace("confirmed_owner@/confirmed_owner", "postgres@/postgres")
            await forgo_durability(as_superuser)
            yield as_superuser


async def forgo_durability(url: str) -> None:
    """Have a server wait for no disk: what tests write need not outlive a power cut."""
    connection = await asyncpg.connect(url)
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        await connection.execute(f"ALTER SYSTEM SET {setting} = off")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


@asynccontextmanager
async def fresh_database(server_url: str) -> AsyncIterator[str]:
    """An empty database of its own, dropped at the end."""
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
    """A database without any schema."""
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
    """An application between its start and its end, and a client without a network between."""
    started, finished = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        # In a task of its own: what a lifespan opens must be closed by the task that opened it.
        async with app.lifespan():
            started.set()
            await finished.wait()

    life = asyncio.create_task(live())
    await started.wait()
    # Litestar and httpx type the same protocol in their own words.
    transport = httpx.ASGITransport(app=cast("Any", app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client
    finished.set()
    await life


@pytest.fixture(scope="session")
async def client(migrated_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with living(create_app(migrated_url, SETTINGS)) as client:
        yield client


@pytest.fixture
async def world(shared_database: Database, client: httpx.AsyncClient) -> World:
    """Companies, domains and certificates at a test's command, and the endpoint to ask about them."""
    world = World(shared_database, client)
    await world.reset()
    return world


@pytest.fixture
def env(empty_database_url: str, state_dir: Path) -> dict[str, str]:
    """The environment of a command with a database to itself, on the server that the tests use."""
    return environment(state_dir, DATABASE_URL=empty_database_url)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"
