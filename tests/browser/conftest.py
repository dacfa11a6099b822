"""A real browser, Debian's Chromium, which `make test` installs, and a real service for it."""

import shutil
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from playwright.async_api import Browser, async_playwright

from service.postgres.migrations import migrate
from service.postgres.pools import open_database
from tests.builders import SECRET, World
from tests.conftest import fresh_database
from tests.mailbox import Mailbox, mailbox
from tests.ownership.authority import Authority, authority
from tests.running import environment, running


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "Chromium is not there: apt-get install chromium"
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-software-rasterizer",
                "--disable-extensions",
                "--disable-lcd-text",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-quic",
                "--no-first-run",
            ],
        )
        yield started
        await started.close()


@pytest.fixture(scope="module")
def box() -> Iterator[Mailbox]:
    with mailbox() as box:
        yield box


@pytest.fixture(scope="module")
def zone() -> Iterator[Authority]:
    with authority() as zone:
        yield zone


@pytest.fixture(scope="module")
async def stage(
    server_url: str, box: Mailbox, zone: Authority, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """The real service, with its own database, sending mail to the box."""
    directory = tmp_path_factory.mktemp("stage")
    async with fresh_database(server_url) as url:
        await migrate(url)
        env = environment(
            directory,
            DATABASE_URL=url,
            SECRET_KEY=SECRET,
            DNS_RESOLVERS=str(zone.server),
            SMTP_URL=box.url,
            MAIL_FROM="Owners <us@service.example>",
        )
        with running(env, directory / "log") as service:
            async with (
                open_database(url) as database,
                httpx.AsyncClient(base_url=service.url, timeout=20) as client,
            ):
                yield World(database, client)
