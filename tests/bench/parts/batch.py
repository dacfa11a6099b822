"""A batch, from the upload to the downloaded results, against psql.

psql does what is nearest to it on the same server: COPY in, the same decision for each row, and COPY
out. It keeps no record of answers, which a batch does.
"""

import asyncio
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.bench.cluster import CALLER, Bench, Filled, cert_id, program
from tests.bench.measuring import Figure
from tests.builders import basic
from tests.running import Running
from tests.siege.attacks import confirmed_owner
from tests.siege.bystander import watch

ROWS = 200_000
LOOKS_EVERY = 0.2
LIVE_SECONDS = 3.0
LIVE_ROUNDS = 3

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


def write_file(path: Path, certificates: int) -> None:
    """A file of leads, each with another certificate, in no order."""
    numbers = random.Random(1).sample(range(1, certificates + 1), ROWS)
    with path.open("w") as file:
        file.write("lead_id,cert_url,vendor,received\n")
        for lead, number in enumerate(numbers):
            file.write(
                f"{lead},https://cert.trustedform.com/{cert_id(number)},Vendor {number % 20},"
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


def with_psql(filled: Filled, source: Path, target: Path) -> float:
    statements = COPIED.format(source=source, target=target, account=CALLER)
    started = time.monotonic()
    subprocess.run(
        [program("psql"), filled.url, "-X", "-q", "-v", "ON_ERROR_STOP=1"],
        input=statements,
        text=True,
        check=True,
        capture_output=True,
    )
    return time.monotonic() - started


def measure(bench: Bench) -> Iterator[Figure]:
    filled = bench.database()
    source = bench.directory / "leads.csv"
    write_file(source, filled.certificates)
    headers = basic(filled.key)
    call = confirmed_owner(cert_id(1), headers["Authorization"])

    def p99(service: Running) -> float:
        seen = asyncio.run(watch(service.port, call, headers["Authorization"], LIVE_SECONDS))
        return seen.percentile(0.99)

    alone, beside = [], []
    with (
        bench.service(filled) as service,
        httpx.Client(base_url=service.url, headers=headers, timeout=60) as client,
    ):
        for _ in range(LIVE_ROUNDS):
            # In turns, since these machines have better and worse minutes.
            alone.append(p99(service))
            batch_id = upload(client, source)
            wait_for(client, batch_id, "answering")
            beside.append(p99(service))
            assert client.get(f"/v1/batches/{batch_id}").json()["state"] == "answering"
            client.post(f"/v1/batches/{batch_id}/cancel").raise_for_status()
            # Its jobs notice within a second.
            time.sleep(1)
        peaks = Peaks({"server": service.workers()[0], "worker": service.job_workers()[0]})
        with peaks.watched():
            ours = end_to_end(client, source, bench.directory / "checked.csv")
    psql = with_psql(filled, source, bench.directory / "told.csv")
    case = f"a file of {ROWS:,} rows, from the upload to the results"
    yield Figure("batch.rows_per_s", case, "rows", [ROWS / ours], "/s")
    yield Figure("batch.ratio_to_psql", case, "rows, as a share of psql's", [psql / ours])
    yield Figure("batch.rss_mb", case, "most memory of a process", [max(peaks.most.values())], "MB")
    case = "others' calls"
    for key, says, values in (
        ("alone", "99 % take at most, alone", alone),
        ("beside", "99 % take at most, beside a batch", beside),
    ):
        yield Figure(f"batch.live_p99_{key}_ms", case, says, values, "ms")
    yield Figure(
        "batch.live_p99_rise",
        case,
        "by how much of it the batch makes them slower",
        [with_batch / without - 1 for with_batch, without in zip(beside, alone, strict=True)],
    )
