"""What fails while companies change and clients ask."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import asyncpg
import psutil

from tests.freshness.town import PATIENCE, now
from tests.postgres.test_embedded import servers
from tests.running import Running

# How many seconds a stopped process stays so. A server process may miss any of its deadlines. Backends
# stop one after the other, long enough for changes elsewhere, and briefly enough to answer after that.
_SERVER_STOPS, _BACKEND_STOPS = (0.2, 1.5), (0.1, 0.4)
_BACKENDS_STOPPED = 4

# Longer than a statement of an answer may take, so that all connections for answers wait for the lock,
# and more calls for them.
_LOCKED = 0.8


# A process that is none, no process at all, or a server that doesn't listen.
_NOT_THERE = (
    psutil.Error, IndexError, ValueError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError
)  # fmt: skip


class Faults:
    """Lets one thing after the other fail, on the machine that everything runs on."""

    def __init__(self, service: Running, state_dir: Path, url: str, choice: random.Random) -> None:
        self._service = service
        self._state = state_dir
        self._url = url
        self._random = choice
        self.struck: Counter[str] = Counter()

    async def strike(self, kind: str) -> None:
        """Let something of a kind fail, once what failed last is there again."""
        deadline = now() + PATIENCE
        while True:
            try:
                await _FAULTS[kind](self)
                break
            except _NOT_THERE:
                if now() > deadline:
                    raise
            await asyncio.sleep(0.1)
        self.struck[kind] += 1

    async def _stop_server(self) -> None:
        await _stop(self._random.choice(self._service.workers()), *_SERVER_STOPS, self._random)

    async def _kill_server(self) -> None:
        self._random.choice(self._service.workers()).kill()

    async def _stop_backend(self) -> None:
        for _ in range(_BACKENDS_STOPPED):
            await _stop(self._random.choice(self._busy_backends()), *_BACKEND_STOPS, self._random)

    async def _kill_backend(self) -> None:
        """The server ends all others, too, and recovers as after a crash."""
        self._random.choice(self._backends()).kill()

    async def _cut_off(self) -> None:
        await self._execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE usename = current_user AND pid <> pg_backend_pid() AND random() < 0.5"
        )

    async def _fill_pools(self) -> None:
        await self._execute(
            f"BEGIN; LOCK TABLE visibility_grant; SELECT pg_sleep({_LOCKED}); COMMIT"
        )

    async def _restart_database(self) -> None:
        """`run` starts it again."""
        (server,) = servers(self._state)
        server.send_signal(self._random.choice((signal.SIGINT, signal.SIGKILL)))

    def _backends(self) -> list[psutil.Process]:
        return [
            child
            for server in servers(self._state)
            for child in server.children()
            if " confirmed_owner " in " ".join(child.cmdline())
        ]

    def _busy_backends(self) -> list[psutil.Process]:
        return [each for each in self._backends() if not each.cmdline()[0].endswith("idle")]

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._url, timeout=5)
        try:
            await connection.execute(statement, timeout=10)
        finally:
            connection.terminate()


async def _stop(process: psutil.Process, least: float, most: float, choice: random.Random) -> None:
    process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(choice.uniform(least, most))
    finally:
        process.send_signal(signal.SIGCONT)


_FAULTS: Mapping[str, Callable[[Faults], Awaitable[None]]] = {
    "server process stopped": Faults._stop_server,
    "server process killed": Faults._kill_server,
    "backend stopped": Faults._stop_backend,
    "backend killed": Faults._kill_backend,
    "connections cut": Faults._cut_off,
    "pools full": Faults._fill_pools,
    "database restarted": Faults._restart_database,
}

KINDS = tuple(_FAULTS)
