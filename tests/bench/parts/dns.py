"""Measure how many due domain checks a worker does per second, even with a huge backlog."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from service.ownership.jobs import enqueue_due_checks
from service.postgres.embedded import embedded_postgres
from service.postgres.migrations import migrate
from service.postgres.pools import connect, open_database
from tests.bench.cluster import Bench
from tests.bench.measuring import Figure
from tests.bench.processes import serving
from tests.builders import until
from tests.running import COMMAND, environment

FEW, MANY = 1_000, 100_000
SECONDS = 8
START_DEADLINE = 60

FILL = """
INSERT INTO account (id, name)
    SELECT md5('account ' || n)::uuid, 'Seller number ' || n
    FROM generate_series(0, 999) AS n;
INSERT INTO domain_claim
    (id, account_id, name, covers_subdomains, code, added_at, begun_at, next_check_at, reason)
    SELECT md5('claim ' || n)::uuid, md5('account ' || n % 1000)::uuid, 'domain' || n || '.example',
        true,
        'activeprospect-domain-verification=domain' || n || '.example', now(), now(), now(),
        'Verification pending'
    FROM generate_series(1, {due}) AS n;
"""


async def begin(url: str, due: int) -> float:
    """Make this many claims due, and return how many seconds it takes to queue their checks."""
    await migrate(url)
    async with connect(url) as connection:
        await connection.execute(FILL.format(due=due))
        await connection.execute("VACUUM ANALYZE")
    async with open_database(url) as database:
        started = time.monotonic()
        await enqueue_due_checks(database)
        return time.monotonic() - started


async def done_within(url: str, due: int) -> float:
    """Checks per second, measured from the worker's first one."""
    async with connect(url) as connection:
        count = "SELECT count(*) FROM domain_claim WHERE is_verified"
        await until(lambda: connection.fetchval(count), START_DEADLINE)
        first, started = await connection.fetchval(count), time.monotonic()
        done = first
        while done < due and time.monotonic() - started < SECONDS:
            await asyncio.sleep(0.1)
            done = await connection.fetchval(count)
        return (done - first) / (time.monotonic() - started)


def run(directory: Path, due: int, server: str) -> tuple[float, float]:
    """Seconds to queue this many checks, and one worker's checks per second with this backlog."""
    with ExitStack() as stack:
        state = directory / f"dns-{due}"
        url = stack.enter_context(embedded_postgres(state))
        queued = asyncio.run(begin(url, due))
        address = urlsplit(server)
        env = environment(state, DNS_RESOLVERS=f"127.0.0.1:{address.port}")
        log = stack.enter_context((directory / "dns.log").open("ab"))
        worker = subprocess.Popen([*COMMAND, "worker"], env=env, stdout=log, stderr=log)
        try:
            rate = asyncio.run(done_within(url, due))
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(30)
    return queued, rate


def measure(bench: Bench) -> Iterator[Figure]:
    with serving("tests.bench.nameserver", bench.directory / "nameserver.log") as server:
        _, few = run(bench.directory, FEW, server.url)
        queued, many = run(bench.directory, MANY, server.url)
    case = "checks of domains by one worker"
    for key, says, value, unit in (
        ("checks_per_second", f"checks, {FEW:,} due", few, "/s"),
        ("checks_per_second_100k_due", f"checks, {MANY:,} due", many, "/s"),
        ("ratio_100k_to_1k", "the second as a share of the first", many / few, ""),
        ("queued_per_second", f"queued of {MANY:,}", MANY / queued, "/s"),
    ):
        yield Figure(f"dns.{key}", case, says, [value], unit)
