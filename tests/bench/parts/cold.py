"""From `confirmed-owner run` to the first answer, with an empty STATE_DIR and with an existing one."""

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx

from service.accounts.keys import new_key
from tests.bench.cluster import Bench, cert_id
from tests.bench.load import OWNER, asking
from tests.bench.measuring import Figure
from tests.builders import basic
from tests.running import COMMAND, environment, free_port

_ROUNDS = 3
_DEADLINE = 60.0


def measure(bench: Bench) -> Iterator[Figure]:
    fresh, existing = [], []
    for number in range(_ROUNDS):
        state = bench.directory / f"cold-{number}"
        env = environment(state, PORT=str(free_port()))
        fresh.append(seconds_to_answer(env, bench.directory / "cold.log"))
        existing.append(seconds_to_answer(env, bench.directory / "cold.log"))
    case = "confirmed-owner run, to its first answer"
    yield Figure("cold.fresh_s", case, "with an empty STATE_DIR", fresh, "s")
    yield Figure("cold.existing_s", case, "with an existing one", existing, "s")


def seconds_to_answer(env: Mapping[str, str], log: Path) -> float:
    """Start the service, ask it until it answers, and stop it.

    The answer is that it doesn't know the key, which takes the database as any other does.
    """
    url = f"http://127.0.0.1:{env['PORT']}/{cert_id(1)}"
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(headers=basic(new_key()), timeout=5))
        output = stack.enter_context(log.open("ab"))
        started = time.monotonic()
        process = subprocess.Popen([*COMMAND, "run"], env=env, stdout=output, stderr=output)
        stack.callback(process.wait, 15)
        stack.callback(process.terminate)
        while _status(client, url) != 401:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < started + _DEADLINE, log.read_text()
            time.sleep(0.01)
        return time.monotonic() - started


def _status(client: httpx.Client, url: str) -> int | None:
    try:
        return client.post(url, json=asking(OWNER)).status_code
    except httpx.TransportError:
        return None
