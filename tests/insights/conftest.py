"""Fixtures: a service with a vendor behind it."""

from collections.abc import AsyncIterator

import pytest
import respx

from service.postgres.pools import Database
from tests.builders import World
from tests.insights.vendor import URL, Stage, Vendor, service, set_up


@pytest.fixture(scope="module")
async def with_vendor(migrated_url: str, shared_database: Database) -> AsyncIterator[World]:
    async with service(migrated_url, shared_database) as world:
        yield world


@pytest.fixture
async def stage(with_vendor: World) -> AsyncIterator[Stage]:
    stage = Stage(with_vendor, await set_up(with_vendor))
    with respx.mock(base_url=URL, assert_all_called=False) as router:
        router.post(path__regex="^/.").mock(side_effect=stage.vendor.answer)
        router.get(path__regex="/validate$").mock(side_effect=stage.vendor.answer)
        await stage.calm()
        yield stage


@pytest.fixture
async def fresh(stage: Stage, migrated_url: str) -> AsyncIterator[Stage]:
    """The stage with a new service, whose circuit breaker and retry budget are unused."""
    async with service(migrated_url, stage.world.database) as world:
        yield Stage(world, stage.viewer, stage.vendor)


@pytest.fixture
def vendor(stage: Stage) -> Vendor:
    return stage.vendor
