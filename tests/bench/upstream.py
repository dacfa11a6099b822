"""Measure how much time the vendor adds to a call, and how many vendor calls we save.

The load imitates real leads. One or two buyers ask about each certificate, first on ping and then
on post, sometimes both at once, and for slightly different properties each time.
"""

import asyncio
import random
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from service.accounts.keys import new_key
from service.postgres.embedded import embedded_postgres
from service.postgres.pools import connect
from service.tokens import digest_of
from tests.bench import stub
from tests.bench.processes import serving
from tests.builders import basic
from tests.running import environment, running

CERTIFICATES = 600
AT_ONCE = 4

PING = ("confirmed_owner", "domain")
POST = ("confirmed_owner", "domain", "ip")


async def ask(client: httpx.AsyncClient, number: int, properties: tuple[str, ...]) -> float:
    """Make one call, and return how many seconds it took."""
    started = time.perf_counter()
    response = await client.post(f"/{number:040x}", json={"insights": {"properties": properties}})
    assert response.status_code == 200, response.text
    return time.perf_counter() - started


async def leads(client: httpx.AsyncClient) -> tuple[list[float], list[float]]:
    """The seconds for each call that needed the vendor, and for each that didn't."""
    first: list[float] = []
    again: list[float] = []
    chance = random.Random(1)
    limit = asyncio.Semaphore(AT_ONCE)

    async def lead(number: int) -> None:
        async with limit:
            buyers = chance.choice((1, 1, 2))
            first.extend(await asyncio.gather(*(ask(client, number, PING) for _ in range(buyers))))
            first.append(await ask(client, number, POST))
            again.append(await ask(client, number, POST))

    await asyncio.gather(*(lead(number) for number in range(1, CERTIFICATES + 1)))
    return first, again


async def prepare(url: str, key: str) -> None:
    async with connect(url) as connection:
        await connection.execute("INSERT INTO account (id, name) VALUES (md5('a')::uuid, 'Buyer')")
        await connection.execute(
            "INSERT INTO api_key (id, account_id, digest) VALUES (md5('k')::uuid, md5('a')::uuid, $1)",
            digest_of(key),
        )


async def measured(service: str, key: str) -> tuple[list[float], list[float]]:
    async with httpx.AsyncClient(base_url=service, headers=basic(key), timeout=30) as client:
        return await leads(client)


def measure() -> dict[str, float]:
    """`added_ms_p50`: our overhead for a vendor call, without the vendor's own time.

    `calls_saved_ratio`: the share of calls that didn't need the vendor.
    """
    key = new_key()
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        state = Path(directory) / "state"
        vendor = stack.enter_context(serving("tests.bench.stub", Path(directory) / "stub.log"))
        env = environment(state, TRUSTEDFORM_API_KEY="bench", TRUSTEDFORM_URL=vendor)
        service = stack.enter_context(running(env, Path(directory) / "log"))
        with embedded_postgres(state) as url:
            asyncio.run(prepare(url, key))
        first, again = asyncio.run(measured(service.url, key))
        bought = int(httpx.get(f"{vendor}/calls").text)
    made = len(first) + len(again)
    added = statistics.median(first) - stub.SECONDS - statistics.median(again)
    return {
        "calls": made,
        "calls_to_the_vendor": bought,
        "added_ms_p50": round(added * 1000, 2),
        "from_record_ms_p50": round(statistics.median(again) * 1000, 2),
        "calls_saved_ratio": round(1 - bought / made, 3),
    }
