"""Fixtures: a service that verifies domains with its own DNS."""

from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from service.app import create_app
from service.postgres.pools import Database
from tests.builders import World
from tests.conftest import SETTINGS, living
from tests.ownership.authority import Authority, authority


@pytest.fixture(scope="module")
def zone() -> Iterator[Authority]:
    with authority() as zone:
        yield zone


@pytest.fixture(scope="module")
async def resolving(
    migrated_url: str, shared_database: Database, zone: Authority
) -> AsyncIterator[World]:
    """A service that asks only this DNS server."""
    settings = msgspec.structs.replace(SETTINGS, dns_resolvers=(zone.server,))
    async with living(create_app(migrated_url, settings)) as client:
        yield World(shared_database, client)


@pytest.fixture
async def stage(resolving: World, zone: Authority) -> World:
    for kept in (zone.txt, zone.cname, zone.ns, zone.behaves):
        kept.clear()
    zone.addresses.clear()
    zone.asked.clear()
    await resolving.reset()
    return resolving
