"""Fixtures: the service, which all tests of the package share, since each lets it recover."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.faults.stage import MOST_FILES, Stage, set_up


@pytest.fixture(scope="package")
async def shared_stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    directory = tmp_path_factory.mktemp("faults")
    stage = await set_up(directory / "state", most_files=MOST_FILES)
    yield stage
    await stage.close()


@pytest.fixture
async def stage(shared_stage: Stage) -> Stage:
    """A service that runs, even if another test has ended it."""
    await asyncio.to_thread(shared_stage.start)
    await shared_stage.check_recovers()
    return shared_stage
