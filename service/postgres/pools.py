"""Connections to PostgreSQL.

Every wait has a deadline: connecting, taking a connection from a pool, and each statement on it.
Anything that shows that the database is unreachable or too slow is raised as `Unavailable`.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from service.errors import Unavailable

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

ACQUIRE_DEADLINE = 2.0
CONNECT_DEADLINE = 2.0
STATEMENT_DEADLINE = 2.0

# Two, so that this process can prepare and read one batch while the server runs the other.
FOR_ANSWERS = 2

# Every session's settings. JIT compilation would take longer than our statements run.
_SESSION = {"application_name": "confirmed-owner", "jit": "off", "timezone": "UTC"}

# Our code never waits inside a transaction. If it did, it would keep its locks.
_IDLE_DEADLINE = {"idle_in_transaction_session_timeout": "10s"}

# The statement that answers reads a handful of rows by index, however large the tables are. It is
# planned once and never with scans, so a plan made while the tables are small stays right.
_ANSWERING = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}

# Errors that say nothing about the statement, only that the server could not run it now.
_OUT_OF_REACH = (
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


class Pool:
    """A bounded set of connections, opened on first use and reopened after the server was gone."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection that commits each statement by itself. Raises `Unavailable`."""
        with _unavailable_when_out_of_reach():
            async with self._pool.acquire(timeout=ACQUIRE_DEADLINE) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection in a transaction that commits at the end. Raises `Unavailable`."""
        async with self.connection() as connection, connection.transaction():
            yield connection


class Database:
    """The pools of one process. Answers have their own, so nothing else holds them up."""

    def __init__(self, answering: Pool, general: Pool) -> None:
        self.answering = answering
        self.general = general


@asynccontextmanager
async def open_database(
    url: str, *, answering: int = FOR_ANSWERS, general: int = 8
) -> AsyncIterator[Database]:
    """Open pools of at most this many connections each, and close them at the end.

    Nothing connects yet: a process starts, and recovers, whether or not the server is up.
    """
    async with (
        # Answers leave nothing in their session that would need a reset.
        _pool(url, answering, _ANSWERING, reset=_no_reset) as for_answers,
        _pool(url, general, {}) as for_the_rest,
    ):
        yield Database(Pool(for_answers), Pool(for_the_rest))


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Connection]:
    """Open a single connection without a statement deadline. Raises `Unavailable`."""
    with _unavailable_when_out_of_reach():
        try:
            connection = await asyncpg.connect(
                url, timeout=CONNECT_DEADLINE, server_settings=_SESSION
            )
        except (asyncpg.PostgresError, OSError, ValueError) as error:
            # An operator reads this, and has to know which of many causes it was.
            raise Unavailable(f"can't connect to the database: {error}") from error
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_DEADLINE)


@asynccontextmanager
async def _pool(
    url: str, size: int, settings: Mapping[str, str], **options: Any
) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    pool: Any = asyncpg.create_pool(
        url,
        min_size=0,
        max_size=size,
        timeout=CONNECT_DEADLINE,
        command_timeout=STATEMENT_DEADLINE,
        server_settings={
            **_SESSION,
            **_IDLE_DEADLINE,
            **settings,
            "statement_timeout": f"{STATEMENT_DEADLINE * 1000:.0f}",
        },
        **options,
    )
    async with pool:
        yield pool


async def _no_reset(connection: object) -> None:
    pass


@contextmanager
def _unavailable_when_out_of_reach() -> Iterator[None]:
    try:
        yield
    except _OUT_OF_REACH as error:
        # asyncpg reports a parameter it can't encode as an InterfaceError and ValueError in one.
        if isinstance(error, ValueError):
            raise
        raise Unavailable("the database can't be reached, or is too busy") from error
