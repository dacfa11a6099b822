"""Doing background jobs: those that subjects put into the queue, and those that fall due by the clock.

PgQueuer keeps the queue and the schedules in the database, and sees to it that each is taken by one
worker at a time. A worker that loses the database goes on trying until it is back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TypeAlias

import stamina
import structlog
from pgqueuer import PgQueuer, models
from pgqueuer.executors import DatabaseRetryEntrypointExecutor

from service.errors import Unavailable
from service.postgres.pools import Connection, Database, connect, open_database

EVERY_MINUTE = "* * * * *"
EVERY_FIVE_MINUTES = "*/5 * * * *"

# New jobs are told of as they come; this is how soon it is noticed that nothing tells of them.
LOOKS_EVERY = timedelta(seconds=5)

# How many seconds jobs have to end when the worker is to.
_PATIENCE = 8.0

_log = structlog.get_logger("service.worker")


@dataclass(frozen=True)
class Retry:
    """How often a job is tried, and how long it waits: at first, then twice as long, up to the last."""

    attempts: int
    first: timedelta
    last: timedelta


@dataclass(frozen=True)
class Entrypoint:
    """What is done with jobs that are put into the queue under a name, at most so many at once."""

    name: str
    work: Callable[[models.Job], Awaitable[None]]
    at_once: int
    retry: Retry | None = None


@dataclass(frozen=True)
class Schedule:
    """What is done whenever it is due, by one worker at a time; `when` is a cron expression in UTC."""

    name: str
    when: str
    work: Callable[[], Awaitable[object]]


Jobs: TypeAlias = Iterable[Entrypoint | Schedule]


async def do_jobs(
    database_url: str, jobs_of: Callable[[Database], Jobs], stopped: asyncio.Event
) -> None:
    """Do background jobs until told to stop; then end what is begun."""
    async for attempt in stamina.retry_context(
        on=Unavailable, attempts=None, timeout=None, wait_initial=0.5, wait_max=10.0
    ):
        with attempt:
            if not stopped.is_set():
                await _do_jobs_until(stopped, database_url, jobs_of)


async def in_transaction(
    database: Database, work: Callable[[Connection], Awaitable[object]]
) -> None:
    """Do that in a transaction of its own. Raises `Unavailable`."""
    async with database.general.transaction() as connection:
        await work(connection)


async def _do_jobs_until(
    stopped: asyncio.Event, database_url: str, jobs_of: Callable[[Database], Jobs]
) -> None:
    async with open_database(database_url) as database, connect(database_url) as connection:
        queue = PgQueuer.from_asyncpg_connection(connection)
        for job in jobs_of(database):
            match job:
                case Entrypoint():
                    _register_entrypoint(queue, job)
                case Schedule():
                    queue.schedule(job.name, job.when)(partial(_on_schedule, job))
        # Whatever PgQueuer makes of a connection that is gone, there is no going on with it.
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
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        if not stopped.is_set():
            raise Unavailable("the jobs stopped") from (
                None if running.cancelled() else running.exception()
            )


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
    except Unavailable as error:
        # Its turn comes again.
        _log.warning("not done", what=job.name, why=str(error))
