"""Processes that are killed and started again while something goes on."""

import asyncio
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from tests.postgres.test_embedded import servers
from tests.running import COMMAND, Running


class Processes:
    """`confirmed-owner run` and some workers, each started again when it has ended."""

    def __init__(self, env: dict[str, str], log: Path, service: Running, workers: int) -> None:
        self._env = env
        self._log = log
        self._state = Path(env["STATE_DIR"])
        self._commands = ["run", *["worker"] * workers]
        self._all = [service.process]
        self._all += [self._start(command) for command in self._commands[1:]]
        self.url = service.url

    def _start(self, command: str) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as output:
            return subprocess.Popen(
                [*COMMAND, command], env=self._env, stdout=output, stderr=output
            )

    async def keep(self) -> None:
        """Start again what has ended, for as long as this runs."""
        while True:
            for position, command in enumerate(self._commands):
                if self._all[position].poll() is not None:
                    self._all[position] = self._start(command)
            await asyncio.sleep(0.1)

    def stop(self) -> None:
        """End all in the way they have been ended all the time, which takes the least."""
        forks = list(self._forks())
        for process in self._all:
            process.kill()
            process.wait()
        with suppress(psutil.Error):
            for server in servers(self._state):
                forks += [server, *server.children()]
                server.kill()
        # They hold on to files until they have noticed.
        psutil.wait_procs(forks, timeout=10)

    def _forks(self) -> Iterator[psutil.Process]:
        for process in self._all:
            with suppress(psutil.Error):
                for child in psutil.Process(process.pid).children():
                    if "postgres" not in child.name():
                        yield child

    def kill(self, victim: str, choice: random.Random) -> bool:
        """Kill a process of a kind; return whether there was one."""
        with suppress(psutil.Error):
            found = self._found(victim)
            if found:
                choice.choice(found).kill()
                return True
        return False

    def _found(self, victim: str) -> list[psutil.Process]:
        service = Running(self._all[0], self.url, self._log)
        match victim:
            case "server":
                return service.workers()
            case "job worker":
                return service.job_workers()
            case "run" | "worker":
                return [
                    psutil.Process(process.pid)
                    for process, command in zip(self._all, self._commands, strict=True)
                    if command == victim and process.poll() is None
                ]
            case "postmaster":
                return servers(self._state)
            case _:
                return [
                    child
                    for server in servers(self._state)
                    for child in server.children()
                    if "confirmed_owner" in " ".join(child.cmdline())
                ]


async def fetch_again(url: str, statement: str, *arguments: Any) -> list[Any]:
    """Ask a database, again while it is away."""
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = await asyncpg.connect(url, timeout=5)
            try:
                return await connection.fetch(statement, *arguments)
            finally:
                connection.terminate()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            assert time.monotonic() < deadline, "the database is away for a minute"
            await asyncio.sleep(0.05)
