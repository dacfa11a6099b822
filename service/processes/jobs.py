"""Run background jobs: those put into the queue, and those due by the clock.

PgQueuer keeps the queue and the schedules in the database, and makes sure that one worker at a time
takes each job. A worker that loses the database keeps trying until it is back.

A worker that is killed leaves what it did as “picked”. Another takes over once its heartbeats are
30 seconds old: jobs within `LOOKS_EVERY`, schedules when it looks at them after the next full minute.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TypeAlias

import stamina
import structlog
from pgqueuer import PgQueuer, models
from pgqueuer.executors import DatabaseRetryEntrypointExecutor

from service.errors import ServiceError, Unavailable
from service.postgres.pools import Connection, Database, connect, open_database

EVERY_MINUTE = "* * * * *"
EVERY_FIVE_MINUTES = "*/5 * * * *"

# Workers are notified of new jobs. This is how often they look in case notifications fail. They
# send nothing else while there is nothing to do, so it is also how they find out that the database
# no longer answers.
LOOKS_EVERY = timedelta(seconds=5)

# How many seconds the queue's statements have. Over a long backlog, they take longer than ours.
_STATEMENT_DEADLINE = 3.0

# After as many seconds of work, the next loss of the database has nothing to do with the last one.
_STEADY = 10.0

# How many seconds jobs have to finish when the worker stops. It has some more to end; see `forks`.
_PATIENCE = 6.0

_log = structlog.get_logger("service.worker")


@dataclass(frozen=True)
class Retry:
    """How often a job is tried, and how long it waits: `first`, doubled each time, up to `last`."""

    attempts: int
    first: timedelta
    last: timedelta


@dataclass(frozen=True)
class Entrypoint:
    """Handles the jobs queued under a name, at most `at_once` at a time."""

    name: str
    work: Callable[[models.Job], Awaitable[None]]
    at_once: int
    retry: Retry | None = None


@dataclass(frozen=True)
class Schedule:
    """Work to do when it is due, by one worker at a time; `when` is a cron expression in UTC."""

    name: str
    when: str
    work: Callable[[], Awaitable[object]]


Jobs: TypeAlias = Iterable[Entrypoint | Schedule]


async def do_jobs(
    database_url: str, jobs_of: Callable[[Database], Jobs], stopped: asyncio.Event
) -> None:
    """Run background jobs until told to stop, then finish those in progress."""
    while not stopped.is_set():
        # Whoever stops a worker that waits for the database waits as long.
        async for attempt in stamina.retry_context(
            on=Unavailable, attempts=None, timeout=None, wait_initial=0.5, wait_max=2.0
        ):
            with attempt:
                if not stopped.is_set():
                    await _do_jobs_until(stopped, database_url, jobs_of)


async def in_transaction(
    database: Database, work: Callable[[Connection], Awaitable[object]]
) -> None:
    """Run `work` in its own transaction. Raises `Unavailable`."""
    async with database.general.transaction() as connection:
        await work(connection)


async def _do_jobs_until(
    stopped: asyncio.Event, database_url: str, jobs_of: Callable[[Database], Jobs]
) -> None:
    """Do jobs until told to stop or, after steady work, the database is lost.

    Raises `Unavailable` if it is lost before.
    """
    async with (
        open_database(database_url) as database,
        connect(database_url, statement_deadline=_STATEMENT_DEADLINE) as connection,
    ):
        began = time.monotonic()
        queue = PgQueuer.from_asyncpg_connection(connection)
        for job in jobs_of(database):
            match job:
                case Entrypoint():
                    _register_entrypoint(queue, job)
                case Schedule():
                    queue.schedule(job.name, job.when)(partial(_on_schedule, job))
        # Whatever PgQueuer does about a lost connection, it can't continue without it.
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        running = asyncio.create_task(queue.run(dequeue_timeout=LOOKS_EVERY))
        ended = [running, *(asyncio.create_task(event.wait()) for event in (stopped, lost))]
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        if stopped.is_set():
            queue.shutdown.set()
        elif not running.done():
            running.cancel()
        await asyncio.wait([running], timeout=_PATIENCE)
        if not running.done() or not stopped.is_set():
            # PgQueuer would record jobs that are cancelled now as done with, and would wait for a
            # server that doesn't answer. Without a connection, another worker does them again.
            connection.terminate()
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        if stopped.is_set():
            return
        why = None if running.cancelled() else running.exception()
        if time.monotonic() - began < _STEADY:
            raise Unavailable("the jobs stopped") from why
        _log.warning("the jobs stopped and start again", why=str(why or "the connection was lost"))


def _register_entrypoint(queue: PgQueuer, job: Entrypoint) -> None:
    retry = job.retry
    if retry is None:
        queue.entrypoint(job.name, concurrency_limit=job.at_once)(job.work)
        return
    queue.entrypoint(
        job.name,
        concurrency_limit=job.at_once,
        executor_factory=lambda parameters: DatabaseRetryEntrypointExecutor(
            parameters=parameters,
            max_attempts=retry.attempts,
            initial_delay=retry.first,
            max_delay=retry.last,
        ),
    )(job.work)


async def _on_schedule(job: Schedule, due: models.Schedule) -> None:
    del due
    try:
        await job.work()
    except ServiceError as error:
        # It will be due again.
        _log.warning("scheduled job failed", job=job.name, why=str(error))
