"""Shutdown finishes calls in progress."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.postgres.pools import FOR_ANSWERS, Database
from tests.builders import NO_VERIFIED, World, web_id
from tests.insights.vendor import MATCH, RETAIN, Json, Stage, Vendor, ask, service


@asynccontextmanager
async def stopping(
    migrated_url: str, database: Database
) -> AsyncIterator[tuple[World, asyncio.Event, asyncio.Task[None]]]:
    """A service, the event that tells it to stop, and the task that ends once it has stopped."""
    started, told_to_stop = asyncio.Event(), asyncio.Event()
    worlds = []

    async def live() -> None:
        # One task starts and stops the service, as in a real server.
        async with service(migrated_url, database) as world:
            worlds.append(world)
            started.set()
            await told_to_stop.wait()

    life = asyncio.create_task(live())
    await started.wait()
    yield worlds[0], told_to_stop, life
    await asyncio.wait_for(life, 5)


@pytest.mark.parametrize("has_left", [False, True], ids=["caller waits", "caller has left"])
@pytest.mark.parametrize("operations", [{}, {"match_lead": MATCH, "retain": RETAIN}])
async def test_service_stops_once_what_is_bought_is_on_record(
    stage: Stage,
    vendor: Vendor,
    migrated_url: str,
    shared_database: Database,
    operations: Json,
    has_left: bool,
) -> None:
    cert_id = web_id()
    vendor.gate.clear()
    async with stopping(migrated_url, shared_database) as (world, told_to_stop, life):
        calling = asyncio.create_task(
            Stage(world, stage.viewer, vendor).call(cert_id, ask("ip", **operations))
        )
        await vendor.called()
        if has_left:
            calling.cancel()
        told_to_stop.set()
        done, _ = await asyncio.wait({life}, timeout=0.1)
        assert not done
        vendor.gate.set()
    (row,) = await stage.world.fetch("SELECT known FROM certificate WHERE cert_id = $1", cert_id)
    assert "ip" in row["known"]
    retained = await stage.world.fetch("SELECT FROM retained_certificate")
    assert len(retained) == bool(operations)
    if not has_left:
        assert (await calling).status_code == 200


async def test_service_stops_once_every_answer_is_given(
    stage: Stage, migrated_url: str, shared_database: Database
) -> None:
    cert_id = await stage.world.certificate(domain="nobodys.example")
    async with stopping(migrated_url, shared_database) as (world, told_to_stop, life):
        async with shared_database.general.transaction() as connection:
            # The lock blocks owner look-ups, until no connections are left for further calls.
            await connection.execute("LOCK TABLE ownership IN ACCESS EXCLUSIVE MODE")
            calls = set()
            for _ in range(FOR_ANSWERS + 2):
                calls.add(asyncio.create_task(world.ask(stage.viewer, cert_id)))
                await asyncio.wait(calls, timeout=0.03)
            told_to_stop.set()
            done, _ = await asyncio.wait({life}, timeout=0.1)
            assert not done
        responses = await asyncio.gather(*calls)
    told = [response.json()["insights"]["properties"] for response in responses]
    assert told == [{"confirmed_owner": NO_VERIFIED}] * len(calls)
