"""A clock that is set fails no call, changes no answer, and keeps nothing from ending.

Times on record are the database's. The service has its own clock for ids and log lines, and another
one for deadlines. What counts is that the two clocks differ, and that the database's is set while the
service works with it.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from unittest.mock import patch
from uuid import uuid4

import httpx
import pytest

from service.postgres.embedded import embedded_postgres
from service.postgres.pools import open_database
from tests.builders import NO_VERIFIED, VERIFIED, World, until
from tests.faults.clocks import Clock
from tests.faults.load import load
from tests.faults.stage import AT_MOST, Stage, set_up
from tests.insights.vendor import OWNER, check_error


@pytest.fixture(scope="module")
def of_database(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock") / "clock")


@pytest.fixture
def clock(of_database: Clock) -> Iterator[Clock]:
    """The database's clock, which is right in the end."""
    yield of_database
    of_database.set(timedelta())


@pytest.fixture(scope="module")
async def clocked(
    tmp_path_factory: pytest.TempPathFactory, of_database: Clock
) -> AsyncIterator[Stage]:
    """A service with a database whose clock can be set."""
    state = tmp_path_factory.mktemp("clocked") / "state"
    with ExitStack() as stack:
        with patch.dict(os.environ, of_database.env):
            stack.enter_context(embedded_postgres(state))
        stage = await set_up(state)
        yield stage
        await stage.close()


async def set_to(stage: Stage, clock: Clock, ahead: timedelta) -> datetime:
    """Set the database's clock, and return its time."""
    clock.set(ahead)
    (row,) = await stage.fetch("SELECT clock_timestamp()")
    now: datetime = row[0]
    assert abs(now - datetime.now(UTC) - ahead) < timedelta(minutes=5)
    return now


@pytest.mark.parametrize("ahead", [timedelta(days=1), timedelta(days=-1)], ids=str)
async def test_clock_that_is_set_under_load_fails_no_call_and_dates_what_comes_after(
    clocked: Stage, clock: Clock, ahead: timedelta
) -> None:
    async with load(clocked, 4) as calls:
        await calls.go_on()
        began = await set_to(clocked, clock, ahead)
        before = calls.answered.total()
        await calls.go_on()
        address = f"{uuid4().hex}@seller.example"
        body = {"emails": [address], "reason": "receive_leads"}
        response = await clocked.call("POST", "/v1/invitations", clocked.buyer, body)
        assert response.status_code == 201
        # A job sends it.
        is_sent = "SELECT FROM mail WHERE recipient = $1 AND state = 'written'"
        await until(lambda: clocked.fetch(is_sent, address))
        meanwhile = calls.answered.total() - before
        (dated,) = await clocked.fetch(
            "SELECT count(*) FROM answer WHERE answered_at BETWEEN $1 AND clock_timestamp()", began
        )
        # But for those that were on their way.
        assert dated["count"] >= meanwhile - 4
        await set_to(clocked, clock, timedelta())
        await calls.go_on()
    assert not calls.failed


async def test_wait_for_the_database_ends_although_its_clock_was_set_back_meanwhile(
    clocked: Stage, clock: Clock
) -> None:
    async with clocked.locked("ownership"):
        asking = asyncio.create_task(clocked.ask(next(iter(clocked.told))))
        waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        await until(lambda: clocked.fetch(waits))
        await set_to(clocked, clock, timedelta(days=-1))
        began = time.monotonic()
        check_error(await asking, 503)
        assert time.monotonic() - began < AT_MOST
    await set_to(clocked, clock, timedelta())
    await clocked.check_recovers()


async def test_what_began_before_the_databases_clock_was_set_back_can_be_ended(
    clocked: Stage, clock: Clock
) -> None:
    seller, buyer, named = clocked.seller, clocked.buyer, next(iter(clocked.told))

    async def told() -> str:
        response = await clocked.ask(named)
        assert response.status_code == 200, response.text
        owner: str = response.json()["insights"]["properties"]["confirmed_owner"]
        return owner

    url = clocked.database.replace("postgres@/", "confirmed_owner@/")
    async with open_database(url) as database, httpx.AsyncClient() as client:
        world = World(database, client)
        await set_to(clocked, clock, timedelta(hours=1))
        await world.disconnect(buyer, seller)
        await world.permit(seller, buyer)
        await world.disown("named.example")
        await world.own(seller, "named.example")
        await world.rename(seller, "Shady Roofs Incorporated")
        await world.suspend(seller)
        assert await told() == NO_VERIFIED
        await set_to(clocked, clock, timedelta())
        await world.reinstate(seller)
        assert await told() == "Shady Roofs Incorporated"
        await world.rename(seller, OWNER)
        assert await told() == OWNER
        await world.revoke(seller, buyer)
        assert await told() == VERIFIED
        await world.grant(seller, buyer)
        assert await told() == OWNER
        await world.disconnect(buyer, seller)
        assert await told() == VERIFIED
        await world.disown("named.example")
        assert await told() == NO_VERIFIED
        await world.own(seller, "named.example")
        await world.permit(seller, buyer)
    await clocked.check_recovers()
