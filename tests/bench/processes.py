"""The benchmark's own servers, each in its own process."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.running import ROOT, Running, free_port


@dataclass(frozen=True)
class Target:
    """Something to put load on: where it listens, and the processes that serve there."""

    url: str
    processes: list[psutil.Process]


def target_of(service: Running) -> Target:
    return Target(service.url, service.workers())


@contextmanager
def serving(name: str, log: Path, *arguments: str) -> Iterator[Target]:
    """Run a server module until the end of the block."""
    port = free_port()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", name, str(port), *arguments],
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 20
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        server = psutil.Process(process.pid)
        yield Target(f"http://127.0.0.1:{port}", server.children() or [server])
    finally:
        process.terminate()
        process.wait(15)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
