"""Run the real command in separate processes."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
from click.testing import CliRunner, Result

from service.cli import main

COMMAND = [sys.executable, "-m", "service"]
ROOT = Path(__file__).parent.parent

# Systems give outgoing connections ports from 32768 (Linux) or 49152 (RFC 6335) on.
_BELOW_OUTGOING = (20_000, 32_000)


def environment(state_dir: Path, **settings: str) -> dict[str, str]:
    """The environment of a process with these settings and no others."""
    ours = (
        "ACCESS_LOG", "ANSWERS_RETENTION_MONTHS", "CONFIRMED_OWNER_API_KEY", "CONFIRMED_OWNER_URL",
        "DATABASE_URL", "DNS_RESOLVERS", "FACTS_RETENTION_DAYS", "HOST", "LOCAL_RETAIN",
        "LOG_FORMAT", "LOG_SIGNING_KEY", "MAIL_FROM", "POOLER_URL", "PORT", "PUBLIC_URL",
        "SECRET_KEY", "SMTP_URL", "TRUSTEDFORM_API_KEY", "TRUSTEDFORM_URL", "WORKERS",
    )  # fmt: skip
    rest = {name: value for name, value in os.environ.items() if name not in ours}
    return {**rest, "STATE_DIR": str(state_dir), "PYTHONPATH": str(ROOT), **settings}


def free_port() -> int:
    """A port that nobody listens on. No outgoing connection gets one of these by chance meanwhile."""
    while True:
        port = random.randrange(*_BELOW_OUTGOING)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def confirmed_owner(
    *arguments: str, env: Mapping[str, str], stdin: bytes = b"", expect: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run the command until it exits, and check its exit status."""
    done = subprocess.run(
        [*COMMAND, *arguments], env=env, input=stdin, capture_output=True, check=False, timeout=120
    )
    assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
    return done


def invoked(*arguments: str, env: Mapping[str, str], stdin: bytes = b"", expect: int = 0) -> Result:
    """Run the command in this process, ten times as fast, and check its exit status."""
    runner = CliRunner(env=env)
    # In a thread, because each command runs its own event loop and this thread already has one.
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(runner.invoke, main, arguments, input=stdin).result(120)
    assert done.exit_code == expect, (done.exit_code, done.stdout, done.stderr, done.exception)
    return done


def as_json(*arguments: str, env: Mapping[str, str], stdin: bytes = b"", expect: int = 0) -> Any:
    """The command's parsed `--json` output."""
    return msgspec.json.decode(
        invoked(*arguments, "--json", env=env, stdin=stdin, expect=expect).stdout
    )


class Running:
    """A running service."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self, by: signal.Signals = signal.SIGINT) -> int:
        """Stop the service, and return its exit status."""
        self.process.send_signal(by)
        return self.process.wait(15)

    def workers(self) -> list[psutil.Process]:
        """The processes that serve requests."""
        return [child for child in self._children() if _listens(child)]

    def job_workers(self) -> list[psutil.Process]:
        """The processes that run background jobs."""
        return [child for child in self._children() if not _listens(child)]

    def _children(self) -> list[psutil.Process]:
        return [
            child
            for child in psutil.Process(self.process.pid).children()
            # A database server that was killed stays a zombie, which has no command line.
            if child.status() != psutil.STATUS_ZOMBIE
            and "postgres" not in " ".join(child.cmdline())
        ]


@contextmanager
def running(
    env: Mapping[str, str], log: Path, *, most_files: int | None = None
) -> Iterator[Running]:
    """Serve until the end of the block, on the environment's port or a free one.

    `most_files` is how many file descriptors each process may have.
    """
    port = env.get("PORT") or str(free_port())
    command = [*COMMAND, "run"]
    if most_files is not None:
        command = ["sh", "-c", f'ulimit -n {most_files} && exec "$@"', "sh", *command]
    with log.open("ab") as output:
        process = subprocess.Popen(command, env={**env, "PORT": port}, stdout=output, stderr=output)
    service = Running(process, f"http://127.0.0.1:{port}", log)
    try:
        deadline = time.monotonic() + 60
        with httpx.Client(base_url=service.url, timeout=5) as client:
            while not _answers(client):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield service
    finally:
        if process.poll() is None:
            service.stop()


def _listens(process: psutil.Process) -> bool:
    return any(each.status == psutil.CONN_LISTEN for each in process.net_connections("tcp"))


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/ready").status_code == 200
    except httpx.TransportError:
        return False
