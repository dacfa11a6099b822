"""Let companies change while others ask and processes fail, and check every answer.

Four processes of `confirmed-owner run` answer from one database. What happens to them:

- a process that serves is stopped for a while (SIGSTOP, SIGCONT), or killed (`kill -9`),
- connections to the database are cut (`pg_terminate_backend`), or all wait for a lock,
- the database server is killed, and `run` starts it again.
"""

import asyncio
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg
import msgspec
import psutil

from service.postgres.embedded import embedded_postgres
from service.postgres.pools import open_database
from tests.builders import World
from tests.freshness.histories import Violation
from tests.freshness.town import Town
from tests.kept import Processes
from tests.running import environment, free_port, running

PROCESSES = 4
FAULTS = ("stopped", "killed", "cut off", "locked", "database killed")

Say = Callable[[str], None]


class Scale(msgspec.Struct, frozen=True):
    """How many answers there are at least, about how many domains, for whom, and which faults."""

    answers: int
    owners: int = 12
    viewers: int = 8
    clients: int = 2
    """Of each viewer."""
    many: float = 0.3
    """How large a part of the calls is about all domains."""
    faults: Sequence[str] = FAULTS
    most_seconds: float = 3600


class Proof(msgspec.Struct, frozen=True):
    """What came of it: what nothing explains, what failed responses gave away, and how much there was.

    Each violation has the viewer's and the owner's names. `failures` are of calls and changes.
    """

    violations: Sequence[tuple[str, str, Violation]]
    leaks: Sequence[str]
    answers: int
    seconds: float
    changes: Mapping[str, int]
    faults: Mapping[str, int]
    failures: Mapping[str, int]


async def prove(scale: Scale, choice: random.Random, say: Say = lambda text: None) -> Proof:
    """Run it until there are enough answers, and check them."""
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory) / "state"
        env = environment(state, WORKERS=str(PROCESSES), PORT=str(free_port()), ACCESS_LOG="false")
        with running(env, Path(directory) / "log") as service, embedded_postgres(state) as url:
            processes = Processes(env, Path(directory) / "log", service, 0)
            async with open_database(url, general=20) as database:
                town = Town(World(database, None), service.port, choice)  # type: ignore[arg-type]
                await town.settle(scale.owners, scale.viewers)
                started = time.monotonic()
                faults = _Faults(processes, url, scale.faults, choice)
                async with asyncio.TaskGroup() as group:
                    keeping = group.create_task(processes.keep())
                    failing = group.create_task(faults.strike())
                    for owner in town.owners:
                        group.create_task(town.change(owner))
                    for viewer in range(scale.viewers):
                        for _ in range(scale.clients):
                            group.create_task(town.ask(viewer, scale.many))
                    told = 0
                    while town.given < scale.answers:
                        await asyncio.sleep(0.1)
                        assert time.monotonic() < started + scale.most_seconds, town.failures
                        if town.given // 100_000 > told:
                            told = town.given // 100_000
                            say(f"{town.given:,} answers")
                    failing.cancel()
                    town.is_over = True
                    with suppress(asyncio.CancelledError):
                        await failing
                    keeping.cancel()
                seconds = time.monotonic() - started
                found = [
                    (viewer.name, owner.company.name, violation)
                    for owner, viewer, violation in town.violations()
                ]
            processes.stop()
    return Proof(found, town.leaks, town.given, seconds, town.changes, faults.struck, town.failures)


class _Faults:
    """What fails, one after the other."""

    def __init__(
        self,
        processes: Processes,
        url: str,
        kinds: Sequence[str],
        choice: random.Random,
    ) -> None:
        self._processes = processes
        self._url = url
        self._kinds = kinds
        self._random = choice
        self.struck: Counter[str] = Counter()

    async def strike(self) -> None:
        """Let something fail every second or two, each kind in turn, until this is canceled."""
        faults: Mapping[str, Callable[[], Awaitable[None]]] = {
            "stopped": self._stop_a_process,
            "killed": self._kill_a_process,
            "cut off": self._cut_off,
            "locked": self._lock,
            "database killed": self._kill_the_database,
        }
        while self._kinds:
            for kind in self._random.sample(self._kinds, len(self._kinds)):
                await asyncio.sleep(self._random.uniform(0.5, 2))
                with suppress(psutil.Error, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await faults[kind]()
                    self.struck[kind] += 1

    async def _stop_a_process(self) -> None:
        process = self._random.choice(self._processes.found("server"))
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self._random.uniform(0.2, 1.5))
        finally:
            process.send_signal(signal.SIGCONT)

    async def _kill_a_process(self) -> None:
        self._processes.kill("server", self._random)

    async def _kill_the_database(self) -> None:
        self._processes.kill("postmaster", self._random)

    async def _cut_off(self) -> None:
        await self._execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE usename = current_user AND pid <> pg_backend_pid() AND random() < 0.5"
        )

    async def _lock(self) -> None:
        # Longer than a statement may take, so that all connections for answers are taken.
        await self._execute("BEGIN; LOCK TABLE visibility_grant; SELECT pg_sleep(0.8); COMMIT")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._url, timeout=5)
        try:
            await connection.execute(statement, timeout=5)
        finally:
            connection.terminate()
