"""Upload files, do the jobs, and read the results."""

import asyncio
import csv
import io
from typing import Any

import httpx
from pgqueuer.models import Job

from service.batches import batches, jobs
from service.processes.jobs import Entrypoint
from tests.builders import Company, World
from tests.conftest import SETTINGS


async def upload(
    world: World, caller: Company, content: bytes, **parameters: Any
) -> httpx.Response:
    """Upload a file, and return the response."""
    return await world.client.post(
        "/v1/batches",
        params=parameters,
        headers={**caller.headers, "Content-Type": "application/octet-stream"},
        content=content,
    )


async def do_jobs(world: World) -> None:
    """Do the jobs of batches until none is left, as a worker does."""
    (entrypoint,) = [
        job for job in jobs.jobs(world.database, SETTINGS) if isinstance(job, Entrypoint)
    ]
    while True:
        rows = await world.fetch(
            "DELETE FROM pgqueuer WHERE entrypoint = $1 RETURNING *", batches.JOB
        )
        if not rows:
            return
        await asyncio.gather(*(entrypoint.work(Job(**row)) for row in rows))


async def answered(world: World, caller: Company, content: bytes, **parameters: Any) -> Any:
    """Upload a file, have it answered, and return the batch."""
    response = await upload(world, caller, content, **parameters)
    assert response.status_code == 201, response.text
    await do_jobs(world)
    return (await get(world, caller, response.json()["id"])).json()


async def get(world: World, caller: Company, path: str, **parameters: Any) -> httpx.Response:
    """Get something of a batch."""
    return await world.client.get(f"/v1/batches/{path}", params=parameters, headers=caller.headers)


async def results(world: World, caller: Company, batch: Any, **parameters: Any) -> bytes:
    """Download results, having them made if they aren't yet."""
    response = await get(world, caller, f"{batch['id']}/results", **parameters)
    if response.status_code == 202:
        await do_jobs(world)
        response = await get(world, caller, f"{batch['id']}/results", **parameters)
    assert response.status_code == 200, response.text
    return response.content


async def rows(world: World, caller: Company, batch: Any) -> list[dict[str, str]]:
    """The results as CSV, by column."""
    text = (await results(world, caller, batch, format="csv")).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))
