"""`make bench`: compare the endpoint with bare handlers on the same server, in one run.

Each measurement runs wrk for a few seconds with 1, 16, and 64 connections. The endpoint and the
bare handlers take turns for several rounds, and the medians are compared. Every request asks about
a new certificate. The results go to STATE_DIR/bench.json. Arguments name parts: upstream, dns,
single, bulk, batch.
"""

import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from service.accounts.keys import new_key
from service.ownership.hostname import SUFFIX_LIST_VERSION
from service.postgres.embedded import embedded_postgres
from service.settings import load_settings
from service.tokens import digest_of
from tests.bench import batch, dns, upstream
from tests.bench.processes import serving
from tests.builders import basic
from tests.running import environment, running

CONNECTIONS = (1, 16, 64)
ROUNDS = 3
SECONDS = 4
CERTIFICATES = 1_000_000
DOMAINS = 200_000
COMPANIES = 2_000

FILL = f"""
INSERT INTO account (id, name)
    SELECT md5('account ' || n)::uuid, 'Company number ' || n
    FROM generate_series(0, {COMPANIES}) AS n;
INSERT INTO ownership (id, account_id, domain, covers_subdomains, method, verified_at, started_at)
    SELECT md5('ownership ' || n)::uuid, md5('account ' || n % {COMPANIES} + 1)::uuid,
        'domain' || n || '.example', true, 'attested', now(), now()
    FROM generate_series(1, {DOMAINS}) AS n;
INSERT INTO certificate (cert_id, kind, host, covering_names, suffix_list, created_at, facts)
    SELECT lpad(to_hex(n), 40, '0'), 'web', 'shop.' || domain, ARRAY['shop.' || domain, domain],
        '{SUFFIX_LIST_VERSION}', now(),
        jsonb_build_object('domain', 'shop.' || domain, 'ip', '192.0.2.1', 'is_framed', false,
            'is_masked', false, 'page_url', 'https://shop.' || domain || '/a/page')
    FROM generate_series(1, {CERTIFICATES}) AS n,
        LATERAL (SELECT 'domain' || n % {DOMAINS} * 2 || '.example' AS domain) AS named;
INSERT INTO connection (id, buyer_id, seller_id, started_at)
    SELECT md5('connection ' || n)::uuid, md5('account 0')::uuid, md5('account ' || n)::uuid, now()
    FROM generate_series(1, {COMPANIES}, 2) AS n;
INSERT INTO visibility_grant (id, connection_id, owner_id, viewer_id, started_at)
    SELECT md5('grant ' || n)::uuid, md5('connection ' || n)::uuid,
        md5('account ' || n)::uuid, md5('account 0')::uuid, now()
    FROM generate_series(1, {COMPANIES}, 4) AS n;
"""


# What to measure: all of it, or what the command names.
PARTS = set(sys.argv[1:]) or {"upstream", "dns", "single", "bulk", "batch"}


async def account_of(url: str, key: str) -> str:
    connection = await asyncpg.connect(url)
    account = await connection.fetchval(
        "SELECT account_id::text FROM api_key WHERE digest = $1", digest_of(key)
    )
    await connection.close()
    assert isinstance(account, str)
    return account


async def fill(url: str, key: str) -> None:
    """Half of the domains are owned, half of the owners are connected, half of those are named."""
    connection = await asyncpg.connect(url)
    await connection.execute(FILL)
    await connection.execute(
        """
        INSERT INTO api_key (id, account_id, digest)
        VALUES (gen_random_uuid(), md5('account 0')::uuid, $1)
        """,
        digest_of(key),
    )
    # As if all of it had been there for a while: the record begins with the first event.
    await connection.execute(
        "INSERT INTO event (at, actor, action, detail) VALUES (now(), 'operator', 'filled', '{}')"
    )
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


class Load:
    """Runs wrk. Each run starts after the last certificate the previous run asked about."""

    def __init__(self, key: str) -> None:
        self.authorization = basic(key)["Authorization"]
        self.asked = 0

    def run(self, url: str, prefix: str, connections: int) -> dict[str, float]:
        script = Path(__file__).with_name("load.lua")
        command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "-s", str(script), url, "--"]
        done = subprocess.run(
            [*command, prefix, self.authorization, str(self.asked)],
            check=True,
            capture_output=True,
            text=True,
        )
        result = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
        measured: dict[str, float] = msgspec.json.decode(result.removeprefix("RESULT "))
        assert measured["errors"] == 0, done.stdout
        if prefix == "/":
            self.asked = (self.asked + int(measured["requests"])) % (CERTIFICATES // 2)
        return measured


def compare(service: str, bare: str, load: Load, console: Console) -> dict[str, dict[str, float]]:
    """The median results for each number of connections."""
    targets = {"": (service, "/"), "bare_": (bare, "/"), "bare_unread_": (bare, "/unread/")}
    figures: dict[str, dict[str, float]] = {}
    for connections in CONNECTIONS:
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in targets}
        for turn in range(ROUNDS):
            console.log(f"{connections} connections, round {turn + 1} of {ROUNDS}")
            for name, (url, prefix) in targets.items():
                measured[name].append(load.run(url, prefix, connections))
        row: dict[str, float] = {}
        for name, runs in measured.items():
            row[f"{name}rps"] = round(statistics.median(r["requests"] / r["seconds"] for r in runs))
            row[f"{name}p99_ms"] = round(statistics.median(r["p99_ms"] for r in runs), 2)
        row["ratio_to_bare"] = round(row["rps"] / row["bare_rps"], 3)
        row["ratio_to_bare_unread"] = round(row["rps"] / row["bare_unread_rps"], 3)
        row["p99_to_bare"] = round(row["p99_ms"] / row["bare_p99_ms"], 2)
        figures[f"c{connections}"] = row
    return figures


def filled(console: Console) -> dict[str, Any]:
    """Measure calls about one certificate, about many, and batches, with many on record."""
    key = new_key()
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        state = Path(directory) / "state"
        env = environment(state)
        service = stack.enter_context(running(env, Path(directory) / "log"))
        console.log(f"filling: {CERTIFICATES:,} certificates, {DOMAINS:,} owned domains")
        with embedded_postgres(state) as url:
            asyncio.run(fill(url, key))
        sample = httpx.post(
            f"{service.url}/{1:040x}",
            headers=basic(key),
            json={"insights": {"properties": ["confirmed_owner", "domain"]}},
        )
        assert sample.status_code == 200, sample.text
        bare = stack.enter_context(
            serving("tests.bench.bare", Path(directory) / "bare.log", sample.content.decode())
        )
        figures: dict[str, Any] = {}
        if "single" in PARTS:
            figures["single"] = compare(service.url, bare, Load(key), console)
            report(figures["single"], console)
        if "bulk" in PARTS:
            console.log("bulk calls")
            figures["bulk"] = batch.measure_bulk(service, key, CERTIFICATES)
            console.print(figures["bulk"])
        if "batch" in PARTS:
            console.log("a batch, and the same with psql")
            with embedded_postgres(state) as url:
                account = asyncio.run(account_of(url, key))
                figures["batch"] = batch.measure_batch(
                    service, url, account, key, Path(directory), CERTIFICATES
                )
            console.print(figures["batch"])
        return figures


def main() -> None:
    console = Console(stderr=True)
    if shutil.which("wrk") is None:
        sys.exit("make bench needs wrk: apt-get install wrk")
    output = load_settings().state_dir / "bench.json"
    figures: dict[str, Any] = {}
    if "upstream" in PARTS:
        console.log("calls to a vendor that takes 50 ms")
        figures["upstream"] = upstream.measure()
        console.print(figures["upstream"])
    if "dns" in PARTS:
        console.log("checks of domains against a local DNS server")
        figures["dns"] = dns.measure()
        console.print(figures["dns"])
    if not PARTS.isdisjoint(("single", "bulk", "batch")):
        figures |= filled(console)
    everything: dict[str, Any] = msgspec.json.decode(output.read_bytes()) if output.exists() else {}
    everything |= figures
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(msgspec.json.format(msgspec.json.encode(everything)))
    console.log(f"written to {output}")


def report(figures: dict[str, dict[str, float]], console: Console) -> None:
    table = Table(title="POST /{cert_id}, unique certificates")
    for column in ("", *next(iter(figures.values()))):
        table.add_column(column, justify="right")
    for connections, row in figures.items():
        table.add_row(connections, *(f"{value:,}" for value in row.values()))
    console.print(table)


main()
