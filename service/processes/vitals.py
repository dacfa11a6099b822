"""What a process tells about itself once a second: that it lives, and what it has in use.

It is looked up, and not counted as it changes, so that calls pay nothing for it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal, TypeAlias

from service.postgres.pools import Database
from service.processes import metrics

TOLD_EVERY = 1.0

Role: TypeAlias = Literal["serving", "jobs"]


@asynccontextmanager
async def told_of(role: Role, tell: Callable[[], None]) -> AsyncIterator[None]:
    """Call `tell`, which sets gauges, and then note that this process lives; every second."""

    async def repeat() -> None:
        while True:
            tell()
            metrics.HEARTBEAT.labels(role).set(time.time())
            await asyncio.sleep(TOLD_EVERY)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def tell_of_database(role: Role, database: Database) -> None:
    """Set the gauges of this process's pools, and of whether it holds the database to be down."""
    for name, use in database.uses.items():
        metrics.CONNECTIONS.labels(role, name).set(use.in_use)
        metrics.CONNECTIONS_MOST.labels(role, name).set(use.most)
        metrics.CONNECTIONS_AWAITED.labels(role, name).set(use.waiting)
    metrics.DATABASE_DOWN.labels(role).set(database.health.is_down)
