"""Measure a batch of a million rows against psql, and bulk calls of a thousand items.

psql does what is nearest to it on the same server: COPY in, the same decision for each row, and COPY
out. It keeps no record of answers, which a batch does.
"""

import asyncio
import random
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from service.postgres.place import package
from tests.builders import basic
from tests.running import Running
from tests.siege.attacks import confirmed_owner
from tests.siege.bystander import watch

ROWS = 1_000_000
LOOKS_EVERY = 0.5
LIVE_SECONDS = 10.0
LIVE_ROUNDS = 5
BULK_CALLS = 30
ITEMS = 1000

COPIED = """
CREATE TEMP TABLE asked (lead_id text, cert_url text, vendor text, received text);
\\copy asked FROM '{source}' CSV HEADER
CREATE TEMP TABLE told AS
SELECT asked.*, owner.status, owner.owner_name, record.host
FROM asked
LEFT JOIN LATERAL (
    SELECT * FROM certificate
    WHERE cert_id = substr(asked.cert_url, 30) AND (imported_by IS NULL OR imported_by = '{account}')
    ORDER BY imported_by NULLS FIRST LIMIT 1
) AS record ON true
LEFT JOIN LATERAL confirmed_owner(
    '{account}', record.host, record.covering_names,
    CASE WHEN record.kind <> 'web' OR record.facts -> 'is_masked' = 'true' THEN record.account_id END,
    now()
) AS owner ON record.cert_id IS NOT NULL;
\\copy told TO '{target}' CSV HEADER
"""


def write_file(path: Path, rows: int, certificates: int) -> None:
    """A file of leads, each with another certificate, in no order."""
    numbers = random.Random(1).sample(range(1, certificates + 1), rows)
    with path.open("w") as file:
        file.write("lead_id,cert_url,vendor,received\n")
        for lead, number in enumerate(numbers):
            file.write(
                f"{lead},https://cert.trustedform.com/{number:040x},Vendor {number % 20},"
                f"2026-03-{number % 28 + 1:02d}\n"
            )


class Peaks:
    """The most memory that processes had, in megabytes."""

    def __init__(self, processes: dict[str, psutil.Process]) -> None:
        self.processes = processes
        self.most = dict.fromkeys(processes, 0)

    @contextmanager
    def watched(self) -> Iterator[None]:
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(0.2):
                for name, process in self.processes.items():
                    size = process.memory_info().rss // 2**20
                    self.most[name] = max(self.most[name], size)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def wait_for(client: httpx.Client, batch_id: str, *states: str) -> dict[str, Any]:
    while True:
        batch: dict[str, Any] = client.get(f"/v1/batches/{batch_id}").json()
        if batch["state"] in states:
            return batch
        assert batch["ended_at"] is None, batch
        time.sleep(LOOKS_EVERY)


def upload(client: httpx.Client, path: Path) -> str:
    def blocks() -> Iterator[bytes]:
        with path.open("rb") as file:
            while block := file.read(256 * 1024):
                yield block

    created = client.post(
        "/v1/batches", content=blocks(), headers={"Content-Type": "text/csv"}, timeout=300
    )
    assert created.status_code == 201, created.text
    batch_id: str = created.json()["id"]
    return batch_id


def end_to_end(client: httpx.Client, path: Path, target: Path) -> float:
    """Upload a file, have it answered, download the results; return how many seconds it took."""
    started = time.monotonic()
    batch_id = upload(client, path)
    wait_for(client, batch_id, "finished")
    with (
        client.stream("GET", f"/v1/batches/{batch_id}/results") as response,
        target.open("wb") as file,
    ):
        for block in response.iter_bytes(256 * 1024):
            file.write(block)
    return time.monotonic() - started


def with_psql(url: str, account: str, source: Path, target: Path) -> float:
    program = package() / "pginstall18" / "bin" / "psql"
    statements = COPIED.format(source=source, target=target, account=account)
    started = time.monotonic()
    subprocess.run(
        [program, url, "-X", "-q", "-v", "ON_ERROR_STOP=1"],
        input=statements,
        text=True,
        check=True,
        capture_output=True,
    )
    return time.monotonic() - started


def measure_batch(
    service: Running, url: str, account: str, key: str, directory: Path, certificates: int
) -> dict[str, float]:
    source = directory / "leads.csv"
    rows = min(ROWS, certificates)
    write_file(source, rows, certificates)
    headers = basic(key)
    call = confirmed_owner(f"{1:040x}", headers["Authorization"])

    def p99() -> float:
        seen = asyncio.run(watch(service.port, call, headers["Authorization"], LIVE_SECONDS))
        return seen.percentile(0.99)

    alone, beside = [], []
    with httpx.Client(base_url=service.url, headers=headers, timeout=60) as client:
        for _ in range(LIVE_ROUNDS):
            # In turns, since these machines have better and worse minutes.
            alone.append(p99())
            batch_id = upload(client, source)
            wait_for(client, batch_id, "answering")
            beside.append(p99())
            assert client.get(f"/v1/batches/{batch_id}").json()["state"] == "answering"
            client.post(f"/v1/batches/{batch_id}/cancel").raise_for_status()
            time.sleep(5)
        peaks = Peaks({"server": service.workers()[0], "worker": service.job_workers()[0]})
        with peaks.watched():
            ours = end_to_end(client, source, directory / "checked.csv")
    psql = with_psql(url, account, source, directory / "told.csv")
    return {
        "rows_per_s": round(rows / ours),
        "psql_rows_per_s": round(rows / psql),
        "ratio_to_psql": round(psql / ours, 3),
        "rss_mb": max(peaks.most.values()),
        "live_p99_alone_ms": round(statistics.median(alone), 2),
        "live_p99_beside_ms": round(statistics.median(beside), 2),
        "live_p99_rise": round(statistics.median(beside) / statistics.median(alone) - 1, 3),
    }


def measure_bulk(service: Running, key: str, certificates: int) -> dict[str, float]:
    some = random.Random(2)
    with httpx.Client(base_url=service.url, headers=basic(key), timeout=60) as client:
        took = []
        for _ in range(BULK_CALLS):
            items = [{"cert_id": f"{some.randint(1, certificates):040x}"} for _ in range(ITEMS)]
            started = time.monotonic()
            client.post("/v1/insights", json={"items": items}).raise_for_status()
            took.append(time.monotonic() - started)
    return {"items_per_s": round(ITEMS / statistics.median(took))}
