"""Measure how much time the vendor adds to a call, and how many vendor calls we save.

The load imitates real leads. One or two buyers ask about each certificate, first on ping and then
on post, sometimes both at once, and for slightly different properties each time.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx

from service.accounts.keys import new_key
from service.postgres.embedded import embedded_postgres
from service.postgres.pools import connect
from service.tokens import digest_of
from tests.bench import stub
from tests.bench.cluster import Bench
from tests.bench.measuring import Figure
from tests.bench.processes import serving
from tests.builders import basic
from tests.running import environment, running

CERTIFICATES = 300
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


def measure(bench: Bench) -> Iterator[Figure]:
    key = new_key()
    with ExitStack() as stack:
        vendor = stack.enter_context(serving("tests.bench.stub", bench.directory / "stub.log")).url
        state = bench.directory / "upstream"
        env = environment(state, TRUSTEDFORM_API_KEY="bench", TRUSTEDFORM_URL=vendor)
        service = stack.enter_context(running(env, bench.directory / "upstream.log"))
        with embedded_postgres(state) as url:
            asyncio.run(prepare(url, key))
        first, again = asyncio.run(measured(service.url, key))
        bought = int(httpx.get(f"{vendor}/calls").text)
    made = len(first) + len(again)
    from_record = statistics.median(again)
    added = statistics.median(first) - stub.SECONDS - from_record
    case = f"{made:,} calls about {CERTIFICATES} certificates of a vendor that takes 50 ms"
    for key, says, value, unit in (
        ("added_ms_p50", "time added to a call that needs the vendor", added * 1000, "ms"),
        ("from_record_ms_p50", "time for a call that doesn't", from_record * 1000, "ms"),
        ("calls_saved_ratio", "share of calls that didn't need the vendor", 1 - bought / made, ""),
    ):
        yield Figure(f"upstream.{key}", case, says, [value], unit)
