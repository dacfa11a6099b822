"""The files in which this machine's processes keep their metrics, to be read together.

Prometheus' client maps one file per process and kind of metric into memory. It looks for the
directory when it is imported, so nothing here imports it before it must.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

if TYPE_CHECKING:
    from prometheus_client import Metric

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


class Process(msgspec.Struct, frozen=True):
    """A running process of the service: what it does, and seconds since it was last heard of."""

    pid: int
    role: str
    silent_for: float


class Told(msgspec.Struct, frozen=True):
    """What the running processes tell together.

    `samples` are the values of all metrics by name; each has its labels.
    """

    processes: Sequence[Process]
    samples: Mapping[str, Sequence[tuple[Mapping[str, str], float]]]

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the sums of a metric's values by these labels."""
        sums: dict[tuple[str, ...], float] = {}
        for found, value in self.samples.get(name, ()):
            key = tuple(found[label] for label in labels)
            sums[key] = sums.get(key, 0) + value
        return sums


def directory_of(state_dir: Path) -> Path:
    """Return the directory of the files."""
    return state_dir / "metrics"


def share_metrics(state_dir: Path) -> None:
    """From now on, keep the metrics of this process and its forks with those of the others.

    Removes the files of processes that have ended. Raises `OSError`.
    """
    directory = directory_of(state_dir)
    for each in (state_dir, directory):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in directory.glob("*.db"):
        if not psutil.pid_exists(_pid_of(file)):
            file.unlink(missing_ok=True)
    os.environ[_DIRECTORY] = str(directory)


def read_told(state_dir: Path) -> Told:
    """Return what the processes that run on this `state_dir` tell. Needs neither them nor a database."""
    directory = directory_of(state_dir)
    processes = _running(directory)
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for metric in _merged(directory, processes):
        for sample in metric.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Told(processes, samples)


def exposition(more: Iterable["Metric"]) -> bytes:
    """Return the metrics of all processes that share them, or else of this one, and some more.

    They are in Prometheus' text format.
    """
    from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

    directory = os.environ.get(_DIRECTORY)
    own = (
        REGISTRY.collect()
        if directory is None
        else _merged(Path(directory), _running(Path(directory)))
    )

    class Collected:
        def collect(self) -> Iterable["Metric"]:
            yield from own
            yield from more

    registry = CollectorRegistry()
    registry.register(Collected())
    return generate_latest(registry)


def _running(directory: Path) -> list[Process]:
    """Return the processes that still run of those that were heard of, by what they do."""
    now = time.time()
    return sorted(
        (
            Process(int(sample.labels["pid"]), sample.labels["role"], max(0.0, now - sample.value))
            for metric in _merge(directory.glob("gauge_liveall_*.db"))
            for sample in metric.samples
            if _runs_since(int(sample.labels["pid"]), sample.value)
        ),
        key=lambda process: (process.role != "serving", process.pid),
    )


def _runs_since(pid: int, heard_at: float) -> bool:
    """Whether the process heard of then still runs. Its id may be another's by now."""
    try:
        # The two clocks differ by less than a second.
        return psutil.Process(pid).create_time() < heard_at + 1
    except psutil.NoSuchProcess:
        return False


def _merged(directory: Path, processes: Sequence[Process]) -> Iterable["Metric"]:
    """Return the metrics of all processes; of those that have ended, only what they counted."""
    running = {process.pid for process in processes}
    return _merge(
        file
        for file in directory.glob("*.db")
        if not file.name.startswith("gauge_live") or _pid_of(file) in running
    )


def _merge(files: Iterable[Path]) -> Iterable["Metric"]:
    from prometheus_client.multiprocess import MultiProcessCollector

    merge: Any = MultiProcessCollector.merge
    merged: Iterable[Metric] = merge([str(file) for file in files])
    return merged


def _pid_of(file: Path) -> int:
    return int(file.stem.rpartition("_")[2])
