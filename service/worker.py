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

        async def stop() -> None:
            await stopped.wait()
            jobs.shutdown.set()

        stopping = asyncio.create_task(stop())
        try:
            await jobs.run(dequeue_timeout=LOOKS_EVERY, shutdown_on_listener_failure=True)
        finally:
            stopping.cancel()
        if not stopped.is_set():
            raise Unavailable("the database no longer tells of new jobs")
