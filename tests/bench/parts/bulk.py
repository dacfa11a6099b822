"""Bulk calls about a thousand certificates each, one after the other."""

import random
import time
from collections.abc import Iterator

import httpx

from tests.bench.cluster import Bench, cert_id
from tests.bench.measuring import Figure
from tests.builders import basic

CALLS = 20
ITEMS = 1000


def measure(bench: Bench) -> Iterator[Figure]:
    filled = bench.database()
    some = random.Random(2)
    rates = []
    with (
        bench.service(filled) as service,
        httpx.Client(base_url=service.url, headers=basic(filled.key), timeout=60) as client,
    ):
        for _ in range(CALLS):
            numbers = some.choices(range(1, filled.certificates + 1), k=ITEMS)
            items = [{"cert_id": cert_id(number)} for number in numbers]
            started = time.monotonic()
            client.post("/v1/insights", json={"items": items}).raise_for_status()
            rates.append(ITEMS / (time.monotonic() - started))
    yield Figure("bulk.items_per_s", f"calls about {ITEMS:,} certificates", "items", rates, "/s")
