"""What a row costs with ten thousand, a million, and ten million owned domains.

Each size has a database of its own, on the same server, and they take turns. Every question is about
another certificate, whose domain is any of all: nothing is asked about twice while it is warm.
"""

from collections.abc import Iterator
from functools import partial

from tests.bench.cluster import Bench, Filled
from tests.bench.load import Load
from tests.bench.measuring import Figure, in_turns
from tests.bench.processes import target_of
from tests.bench.statement import answered_for

SIZES = {"10k": 10_000, "1m": 1_000_000, "10m": 10_000_000}

_CERTIFICATES = 100_000
_SECONDS = 2


def measure(bench: Bench) -> Iterator[Figure]:
    sizes = {
        name: bench.database(f"domains_{name}", owned=owned, certificates=_CERTIFICATES)
        for name, owned in SIZES.items()
    }
    rounds = in_turns(
        {name: partial(answered_for, filled, _SECONDS) for name, filled in sizes.items()}
    )
    for name in ("1m", "10m"):
        case = f"{SIZES[name]:,} owned domains, as a multiple of {SIZES['10k']:,}"
        yield Figure(
            f"growth.ratio_{name}_to_10k",
            case,
            "CPU of PostgreSQL for a row",
            rounds.ratios("postgres_us", name, "10k"),
            at_most=1.2,
        )
        yield Figure(
            f"growth.time_{name}_to_10k",
            case,
            "time for a row",
            rounds.ratios("row_us", name, "10k"),
        )
    for name, filled in sizes.items():
        case = f"{SIZES[name]:,} owned domains"
        yield Figure(
            f"growth.{name}.postgres_cpu_us",
            case,
            "CPU of PostgreSQL for a row",
            rounds.values("postgres_us", name),
            "µs",
        )
        yield Figure(
            f"growth.{name}.rss_mb",
            case,
            "memory of the serving process",
            [_rss(bench, filled)],
            "MB",
        )


def _rss(bench: Bench, filled: Filled) -> float:
    """How much memory the serving process has after a while under load."""
    with bench.service(filled) as service:
        target = target_of(service)
        Load(filled).turn(target, 64, _SECONDS)
        return sum(process.memory_info().rss for process in target.processes) / 1e6
