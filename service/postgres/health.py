"""Whether the database server responds. While it doesn't, calls are refused at once.

A failure that may be the server's starts a probe on a connection of its own. If that fails, too,
nobody waits for the server until a probe succeeds, a few times a second.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import asyncpg

from service.errors import TookTooLong, Unavailable

# How many seconds a server that is there may say nothing, and how often one that isn't is probed.
SILENT_FOR = 0.5
PROBED_EVERY = 0.2

# Errors that say nothing about the statement, only that the server could not run it now.
OUT_OF_REACH = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    asyncpg.exceptions.TransactionRollbackError,
)

# A probe that fails in another way has been answered.
_NO_ANSWER = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
)

_WHY = "the database can't be reached, or is too busy"


class Health:
    """Knows whether the server responds; `probe` raises if it doesn't, and has a deadline."""

    def __init__(self, probe: Callable[[], Awaitable[object]]) -> None:
        self._probe = probe
        self._probing: asyncio.Task[None] | None = None
        self.is_down = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Run what needs the server. Raises `Unavailable`, at once while the server is down."""
        if self.is_down:
            raise Unavailable(_WHY)
        try:
            with unavailable_when_out_of_reach():
                yield
        except TookTooLong:
            # It answered.
            raise
        except Unavailable:
            if self._probing is None:
                self._probing = asyncio.create_task(self._probe_until_it_answers())
            raise

    def close(self) -> None:
        """Stop probing."""
        if self._probing is not None:
            self._probing.cancel()

    async def _probe_until_it_answers(self) -> None:
        while not await self._answers():
            self.is_down = True
            await asyncio.sleep(PROBED_EVERY)
        self.is_down = False
        self._probing = None

    async def _answers(self) -> bool:
        try:
            await self._probe()
        except _NO_ANSWER:
            return False
        except asyncpg.PostgresError:
            return True
        return True


@contextmanager
def unavailable_when_out_of_reach() -> Iterator[None]:
    """Raise `Unavailable`, or its `TookTooLong`, for errors that say nothing about a statement."""
    try:
        yield
    except asyncpg.exceptions.QueryCanceledError as error:
        raise TookTooLong("the database took too long") from error
    except OUT_OF_REACH as error:
        # asyncpg reports a parameter it can't encode as an InterfaceError and ValueError in one.
        if isinstance(error, ValueError):
            raise
        raise Unavailable(_WHY) from error
