"""What the database and the disk know, for `confirmed-owner status`, and the same as metrics.

Each subject is asked for its part. What only a process knows, it tells in metrics of its own; see
`processes/vitals.py`.
"""

import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from service.accounts.accounts import bought_out
from service.errors import Unavailable
from service.mail.mails import unsent
from service.mail.records import Unsent
from service.ownership.claims import due_checks
from service.ownership.records import DueChecks
from service.postgres.batching import NaturalBatcher
from service.postgres.load import Load, load_of
from service.postgres.migrations import is_migrated
from service.postgres.pools import Connection, Pool
from service.processes.queue import Depth, depths

if TYPE_CHECKING:
    from prometheus_client import Metric

# How many seconds the metrics keep what the database knows, and how long a reader waits for it.
KEPT_FOR = 10.0
DEADLINE = 1.0

_log = structlog.get_logger("service")


class Known(msgspec.Struct, frozen=True):
    """What the database knows. `bought_out` has the names of accounts."""

    load: Load
    queues: Sequence[Depth]
    mails: Unsent
    checks: DueChecks
    bought_out: Sequence[str]


class Disk(msgspec.Struct, frozen=True):
    """The bytes of a file system, and how many of them we may still use."""

    bytes: int
    free: int


async def read_known(connection: Connection) -> Known:
    """Ask the database. Raises `Unavailable` if its schema is not this version's."""
    if not await is_migrated(connection):
        raise Unavailable("its schema is out of date: run “confirmed-owner migrate”")
    return Known(
        await load_of(connection),
        await depths(connection),
        await unsent(connection),
        await due_checks(connection),
        await bought_out(connection),
    )


def disk_of(state_dir: Path) -> Disk:
    """Return how full the disk is that `state_dir` is on, or would be."""
    found = next(each for each in (state_dir, *state_dir.parents) if each.exists())
    total, _, free = shutil.disk_usage(found)
    return Disk(total, free)


class Readings:
    """What the database knew a moment ago, for the metrics of one process.

    However often they are read, and by however many, the database is asked once in `KEPT_FOR`
    seconds. While it doesn't answer, they are without its numbers.
    """

    def __init__(self, pool: Pool, state_dir: Path) -> None:
        self._pool = pool
        self._state_dir = state_dir
        self._known: Known | None = None
        self._tried_at = -KEPT_FOR
        self._reader = NaturalBatcher(self._read, in_flight=1, deadline=DEADLINE)

    async def metrics(self) -> list["Metric"]:
        """Return the numbers as metrics. Waits for at most `DEADLINE` seconds, and never fails."""
        try:
            known = await self._reader.ask(None, None)
        except Unavailable:
            known = None
        return list(metrics_of(known, disk_of(self._state_dir)))

    async def _read(self, asked: Sequence[None]) -> Sequence[Known | None]:
        if time.monotonic() - self._tried_at >= KEPT_FOR:
            self._tried_at = time.monotonic()
            self._known = None
            try:
                async with self._pool.connection() as connection:
                    self._known = await read_known(connection)
            except Exception as error:  # noqa: BLE001 - the other metrics matter all the more now
                _log.warning("metrics without the database", why=str(error))
        return [self._known] * len(asked)


def metrics_of(known: Known | None, disk: Disk) -> Iterable["Metric"]:
    """Return the numbers as metrics; without the database's if those aren't known."""
    from prometheus_client.core import GaugeMetricFamily

    def gauge(
        name: str, about: str, values: Iterable[tuple[Sequence[str], float]], *labels: str
    ) -> "Metric":
        family = GaugeMetricFamily(f"confirmed_owner_{name}", about, labels=labels)
        for of, value in values:
            family.add_metric(of, value)
        return family

    yield gauge("disk_bytes", "The disk that STATE_DIR is on.", [((), disk.bytes)])
    yield gauge("disk_free_bytes", "What is free of it.", [((), disk.free)])
    yield gauge(
        "database_read",
        "Whether the metrics have what the database knows: 1 or 0.",
        [((), known is not None)],
    )
    if known is None:
        return
    load, mails, checks = known.load, known.mails, known.checks
    yield gauge("database_bytes", "The database.", [((), load.bytes)])
    yield gauge(
        "server_connections",
        "Connections that the database server has, whoever's they are.",
        [((), load.connections)],
    )
    yield gauge("server_connections_most", "How many it can have.", [((), load.most_connections)])
    yield gauge(
        "jobs",
        "Background jobs: waiting, to be tried later, picked by a worker, or by one that died.",
        [
            ((each.entrypoint, state), getattr(each, state))
            for each in known.queues
            for state in ("waiting", "later", "picked", "abandoned")
        ],
        "job",
        "state",
    )
    yield gauge(
        "job_oldest_seconds",
        "How long the oldest job has waited that could start.",
        [((each.entrypoint,), each.oldest) for each in known.queues],
        "job",
    )
    yield gauge(
        "mails_unsent",
        "Emails to send, to send again, or of the last day that failed for good.",
        [((state,), getattr(mails, state)) for state in ("queued", "retrying", "failed")],
        "state",
    )
    yield gauge("checks_due", "Checks of domains that are due.", [((), checks.due)])
    yield gauge("checks_overdue", "Those due for over 5 minutes.", [((), checks.overdue)])
    yield gauge(
        "accounts_bought_out",
        "Accounts whose calls to the vendor are used up for today.",
        [((), len(known.bought_out))],
    )
