"""Load by wrk: calls about one certificate each, and none twice before all have been asked about."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from service.insights.contract import PROPERTIES
from tests.bench.cluster import Filled
from tests.bench.measuring import Turn, cpu_seconds
from tests.bench.processes import Target
from tests.builders import basic

ALL = tuple(sorted(PROPERTIES))
OWNER = ("confirmed_owner",)

_SCRIPT = Path(__file__).with_name("load.lua")


class _Result(msgspec.Struct):
    requests: int
    seconds: float
    p99_ms: float
    errors: int


class Load:
    """Calls of one account. Each turn goes on where the last one stopped."""

    def __init__(self, filled: Filled) -> None:
        self._filled = filled
        self._asked = 0

    def turn(
        self, target: Target, connections: int, seconds: int, properties: Sequence[str] = ALL
    ) -> Turn:
        """Put load on a server that answers everything with 200."""
        filled = self._filled
        body = msgspec.json.encode(asking(properties)).decode()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"-s{_SCRIPT}", target.url]
        numbers = (str(self._asked), str(filled.certificates))
        server, postgres = cpu_seconds(target.processes), filled.cpu_seconds()
        done = subprocess.run(
            [*command, "--", basic(filled.key)["Authorization"], body, *numbers],
            check=True,
            capture_output=True,
            text=True,
        )
        server, postgres = cpu_seconds(target.processes) - server, filled.cpu_seconds() - postgres
        line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
        result = msgspec.json.decode(line.removeprefix("RESULT "), type=_Result)
        assert result.errors == 0, done.stdout
        self._asked = (self._asked + result.requests) % filled.certificates
        return Turn(result.requests, result.seconds, server, postgres, result.p99_ms)


def asking(properties: Sequence[str]) -> dict[str, object]:
    """The body of a call for these properties."""
    return {"insights": {"properties": properties}}
