"""What parts measure: figures, in rounds in which all that is compared takes turns.

Machines have better and worse minutes. So a ratio is one of a round, and the table shows the median
of the rounds, and the least and the most.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import psutil

ROUNDS = 5

Measure: TypeAlias = Literal["answers", "rate", "row_us", "server_us", "postgres_us", "p99_ms"]


@dataclass(frozen=True)
class Figure:
    """A line of the table: the value of each round, and the bar that their median has to meet."""

    key: str
    case: str
    says: str
    values: Sequence[float]
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def part(self) -> str:
        """The part that measured it."""
        return self.key.partition(".")[0]

    @property
    def median(self) -> float:
        """The value that counts, in four digits."""
        return float(f"{statistics.median(self.values):.4g}")

    @property
    def meets_bar(self) -> bool:
        """Whether there is no bar, or the median meets it."""
        return (self.at_least is None or self.median >= self.at_least) and (
            self.at_most is None or self.median <= self.at_most
        )


@dataclass(frozen=True)
class Turn:
    """What was answered in one turn, and the CPU seconds that took, by the kernel's counters."""

    answers: int
    seconds: float
    server_cpu: float
    postgres_cpu: float
    p99_ms: float = 0.0

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answers / self.seconds

    @property
    def row_us(self) -> float:
        """Microseconds for each answer."""
        return self.seconds / self.answers * 1e6

    @property
    def server_us(self) -> float:
        """Microseconds of the serving process's CPU for each answer."""
        return self.server_cpu / self.answers * 1e6

    @property
    def postgres_us(self) -> float:
        """Microseconds of PostgreSQL's CPU for each answer."""
        return self.postgres_cpu / self.answers * 1e6


class Rounds:
    """The turns of all targets, round by round."""

    def __init__(self, rounds: Sequence[Mapping[str, Turn]]) -> None:
        self._rounds = rounds

    def values(self, measure: Measure, target: str) -> list[float]:
        """What a target did in each round."""
        return [getattr(each[target], measure) for each in self._rounds]

    def ratios(self, measure: Measure, target: str, to: str) -> list[float]:
        """The same in each round, as a share of what another did."""
        pairs = zip(self.values(measure, target), self.values(measure, to), strict=True)
        return [one / other for one, other in pairs]


def in_turns(targets: Mapping[str, Callable[[], Turn]], rounds: int = ROUNDS) -> Rounds:
    """Give every target a turn in each round, and another one the first. A turn before warms up."""
    names = list(targets)
    for name in names:
        targets[name]()
    done = []
    for number in range(rounds):
        first = number % len(names)
        done.append({name: targets[name]() for name in (*names[first:], *names[:first])})
    return Rounds(done)


def cpu_figures(key: str, case: str, rounds: Rounds, target: str) -> Iterator[Figure]:
    """What a call costs, apart from how long it takes: the steadier figure on a shared machine."""
    says = "CPU of the serving process for a call"
    yield Figure(f"{key}.cpu_us", case, says, rounds.values("server_us", target), "µs")
    says = "CPU of PostgreSQL for a call"
    yield Figure(f"{key}.postgres_cpu_us", case, says, rounds.values("postgres_us", target), "µs")


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """How much CPU time running processes have had."""
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def cpu_seconds_of_tree(root: psutil.Process) -> float:
    """How much CPU time a process and its children have had, also those that have ended."""
    running = 0.0
    for child in root.children():
        try:
            running += cpu_seconds([child])
        except psutil.NoSuchProcess:
            continue  # Ended since, so it counts among its parent's.
    own = root.cpu_times()
    return running + own.user + own.system + own.children_user + own.children_system
