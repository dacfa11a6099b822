"""The background jobs, which any number of workers do between them.

PgQueuer keeps the queue and the schedules in the database, and sees to it that each is taken by one
worker at a time. A worker that loses the database goes on trying until it is back.
"""

import asyncio
from datetime import timedelta

import stamina
from pgqueuer import PgQueuer
from pgqueuer.models import Schedule

from service.database import connect, open_database
from service.errors import Unavailable
from service.insights.certificates import purge
from service.settings import Settings

PURGES = "17 * * * *"

# New jobs are told of as they come; this is how soon it is noticed that nothing tells of them.
LOOKS_EVERY = timedelta(seconds=5)

# How many seconds jobs have to end when the worker is to.
_PATIENCE = 8.0


async def work(database_url: str, settings: Settings, stopped: asyncio.Event) -> None:
    """Do background jobs until told to stop; then end what is begun."""
    async for attempt in stamina.retry_context(
        on=Unavailable, attempts=None, timeout=None, wait_initial=0.5, wait_max=10.0
    ):
        with attempt:
            if not stopped.is_set():
                await _work_until(stopped, database_url, settings)


async def _work_until(stopped: asyncio.Event, database_url: str, settings: Settings) -> None:
    async with open_database(database_url) as database, connect(database_url) as connection:
        jobs = PgQueuer.from_asyncpg_connection(connection)
        days = settings.facts_retention_days
        if days is not None:

            @jobs.schedule("purge_facts", PURGES)
            async def purge_facts(schedule: Schedule) -> None:
                await purge(database, timedelta(days=days))

        # Whatever PgQueuer makes of a connection that is gone, there is no going on with it.
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        running = asyncio.create_task(jobs.run(dequeue_timeout=LOOKS_EVERY))
        ended = [running, *(asyncio.create_task(event.wait()) for event in (stopped, lost))]
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        if stopped.is_set():
            jobs.shutdown.set()
        elif not running.done():
            running.cancel()
        await asyncio.wait([running], timeout=_PATIENCE)
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        if not stopped.is_set():
            raise Unavailable("the jobs came to a stop") from (
                None if running.cancelled() else running.exception()
            )
