"""When API keys were last used: noted in memory, and written once a minute.

A call costs no write of its own. A process that is killed loses what it noted in the last minute.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from service.accounts import queries
from service.errors import Unavailable
from service.postgres.pools import Database

_EVERY = 60.0


class UsedKeys:
    """The keys that were used since the last write, with the last time of each."""

    def __init__(self) -> None:
        self._used: dict[bytes, datetime] = {}

    def note(self, digest: bytes) -> None:
        """Note that the active key with this digest was used now."""
        self._used[digest] = datetime.now(UTC)

    async def write(self, database: Database) -> None:
        """Write what was noted. If the database is gone, it is written the next time."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            async with database.general.connection() as connection:
                await queries.update_keys_used(connection, list(used), list(used.values()))
        except Unavailable:
            self._used = used | self._used


@asynccontextmanager
async def writing(used_keys: UsedKeys, database: Database) -> AsyncIterator[None]:
    """Write what is noted once a minute, and at the end."""

    async def repeat() -> None:
        while True:
            await asyncio.sleep(_EVERY)
            await used_keys.write(database)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await used_keys.write(database)
