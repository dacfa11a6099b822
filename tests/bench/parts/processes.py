"""One server process against two, and the memory that one takes."""

from collections.abc import Iterator
from functools import partial

from tests.bench.cluster import Bench
from tests.bench.load import Load
from tests.bench.measuring import Figure, cpu_figures, in_turns
from tests.bench.processes import Target, target_of

_CONNECTIONS = 64
_SECONDS = 2


def measure(bench: Bench) -> Iterator[Figure]:
    filled = bench.database()
    load = Load(filled)
    with bench.service(filled, WORKERS="1") as one, bench.service(filled, WORKERS="2") as two:
        targets = {"one": target_of(one), "two": target_of(two)}
        at_start = _megabytes(targets["one"])
        rounds = in_turns(
            {
                name: partial(load.turn, target, _CONNECTIONS, _SECONDS)
                for name, target in targets.items()
            }
        )
        after = _megabytes(targets["one"])
    case = f"2 server processes, {_CONNECTIONS} connections"
    yield Figure(
        "processes.ratio_2_to_1",
        case,
        "calls, as a multiple of what 1 process answers",
        rounds.ratios("rate", "two", "one"),
    )
    yield Figure("processes.two.rps", case, "calls", rounds.values("rate", "two"), "/s")
    yield from cpu_figures("processes.two", case, rounds, "two")
    case = "memory of a server process"
    yield Figure("processes.rss_start_mb", case, "at its start", [at_start], "MB")
    calls = sum(rounds.values("answers", "one"))
    yield Figure("processes.rss_after_mb", case, f"after {calls:,.0f} calls", [after], "MB")


def _megabytes(target: Target) -> float:
    return sum(process.memory_info().rss for process in target.processes) / 1e6
