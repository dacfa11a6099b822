"""Connections to PostgreSQL.

Every wait has a deadline: connecting, taking a connection from a pool, and each statement on it.
Anything that shows that the database is unreachable or too slow is raised as `Unavailable`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from service.errors import TooManyCalls, Unavailable
from service.postgres import shares
from service.postgres.health import OUT_OF_REACH, SILENT_FOR, Health, unavailable_when_out_of_reach
from service.postgres.hosts import connect_to_primary
from service.postgres.keepalive import SERVER_SIDE, KeptAlive
from service.postgres.pooler import by_transaction
from service.postgres.shares import Shares

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

ACQUIRE_DEADLINE = 2.0
CONNECT_DEADLINE = 2.0
STATEMENT_DEADLINE = 2.0
# Shorter, because many calls share the statement, and share it again without the one that is slow.
ANSWER_DEADLINE = 0.5

# Two, so that this process can prepare and read one batch while the server runs the other. And one
# for accounts whose questions take long.
FOR_ANSWERS = 2
FOR_SLOW_ANSWERS = 1

# One for readiness, and one for the numbers in the metrics, which must not hold it up.
FOR_PROBES = 2

_NAMED = {"application_name": "confirmed-owner"}

# Every session's settings. JIT compilation would take longer than our statements run.
_SESSION = {
    **_NAMED,
    "jit": "off",
    "timezone": "UTC",
}

# What else a session has that is ours alone. By the last one we can tell that none was ignored.
_DIRECT = {**SERVER_SIDE, "confirmed_owner.settings": "kept"}
_ARE_SETTINGS_KEPT = "SELECT current_setting('confirmed_owner.settings', true)"

# Replicas that commits wait for show a change before its own request returns. Without any, this is
# as fast as the default. Answers don't wait for it: nobody reads them there at once.
_CHANGING = {"synchronous_commit": "remote_apply"}

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

_TRY_TURN = "SELECT pg_try_advisory_xact_lock(hashtextextended('turn of ' || $1, 0))"


# Writes something to wait for, where nothing else was written.
_CONFIRM = """
SELECT pg_logical_emit_message(true, 'confirmed-owner', '')
WHERE pg_current_xact_id_if_assigned() IS NULL
"""


class PoolUse(NamedTuple):
    """How many of a pool's at most `most` connections are lent, and how many wait for one."""

    in_use: int
    waiting: int
    most: int


class Pool:
    """A bounded set of connections, opened on first use and reopened after the server was gone."""

    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", health: Health, shares: Shares | None = None
    ) -> None:
        self._pool = pool
        self._health = health
        self._shares = shares
        self._waiting = 0

    @property
    def use(self) -> PoolUse:
        """How busy this pool is at this moment."""
        in_use = self._pool.get_size() - self._pool.get_idle_size()
        return PoolUse(in_use, self._waiting, self._pool.get_max_size())

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection that commits each statement by itself.

        Raises `Unavailable`, or `TooManyCalls` if the caller's share is used up.
        """
        async with AsyncExitStack() as stack:
            if self._shares is not None:
                await stack.enter_async_context(self._shares.place())
            stack.enter_context(self._health.watched())
            self._waiting += 1
            try:
                connection = await stack.enter_async_context(
                    self._pool.acquire(timeout=ACQUIRE_DEADLINE)
                )
            finally:
                self._waiting -= 1
            try:
                yield connection
            except asyncpg.ReadOnlySQLTransactionError:
                # Its server is a standby now. Another takes writes, or will.
                await self._pool.expire_connections()
                raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection in a transaction that commits at the end.

        Of the requests of one caller, one at a time has its turn, in all processes together. Those
        that wait for it hold no connection.

        Raises `Unavailable`, or `TooManyCalls` if the caller's share is used up.
        """
        caller = shares.current()
        if self._shares is None or not caller:
            async with self.connection() as connection, connection.transaction():
                yield connection
                await confirm(connection)
            return
        deadline = time.monotonic() + shares.DEADLINE
        async with self._shares.turn(caller):
            while True:
                async with self.connection() as connection, connection.transaction():
                    if await connection.fetchval(_TRY_TURN, caller):
                        yield connection
                        await confirm(connection)
                        return
                if time.monotonic() > deadline:
                    raise TooManyCalls("too many of your calls are waiting")
                # Another process has the turn.
                await asyncio.sleep(0.02)


class Database:
    """The pools of one process.

    What answers, what identifies callers, and what checks that the service is ready have their own
    connections, so that nothing else holds them up.
    """

    def __init__(
        self, answering: Pool, identifying: Pool, general: Pool, probing: Pool, health: Health
    ) -> None:
        self.answering = answering
        self.identifying = identifying
        self.general = general
        self.probing = probing
        self.health = health

    @property
    def uses(self) -> Mapping[str, PoolUse]:
        """How busy each pool is, by its name."""
        names = ("answering", "identifying", "general", "probing")
        return {name: getattr(self, name).use for name in names}


@asynccontextmanager
async def open_database(
    url: str, *, general: int = 8, is_pooler: bool = False
) -> AsyncIterator[Database]:
    """Open the pools, with at most that many connections for general use; close them at the end.

    Nothing connects yet: a process starts, and recovers, whether or not the server is up.

    With `is_pooler`, the URL is that of a pooler that lends its sessions by transaction.
    """
    async with AsyncExitStack() as stack:

        async def pool(size: int, **options: Any) -> "asyncpg.Pool[asyncpg.Record]":
            return await stack.enter_async_context(_pool(url, size, is_pooler=is_pooler, **options))

        health = await stack.enter_async_context(_health(url))
        yield Database(
            # Answers leave nothing in their session that would need a reset.
            Pool(
                await pool(
                    FOR_ANSWERS + FOR_SLOW_ANSWERS,
                    deadline=ANSWER_DEADLINE,
                    settings=_ANSWERING,
                    needs_reset=False,
                ),
                health,
            ),
            Pool(await pool(2), health),
            Pool(await pool(general, settings=_CHANGING), health, Shares()),
            Pool(await pool(FOR_PROBES, deadline=ANSWER_DEADLINE), health),
            health,
        )


async def confirm(connection: Connection) -> None:
    """Let the commit wait for replicas even if this transaction found its change already made.

    Who made it may have given up waiting. PostgreSQL shows such a change to everybody, but a replica
    that becomes the primary need not have it.
    """
    await connection.execute(_CONFIRM)


@asynccontextmanager
async def connect(
    url: str, *, statement_deadline: float | None = None
) -> AsyncIterator[Connection]:
    """Open a single connection. Raises `Unavailable`.

    Once a statement has missed its deadline and the server doesn't confirm in as much time again
    that it has ended, the connection closes.
    """
    settings = {**_SESSION, **_DIRECT, **_CHANGING}
    if statement_deadline is not None:
        settings["statement_timeout"] = f"{statement_deadline * 1000:.0f}"
    with unavailable_when_out_of_reach():
        try:
            connection = await connect_to_primary(
                url,
                timeout=CONNECT_DEADLINE,
                command_timeout=statement_deadline,
                server_settings=settings,
                connection_class=KeptAlive,
            )
        except (asyncpg.PostgresError, asyncpg.InternalClientError, OSError, ValueError) as error:
            # An operator reads this, and has to know which of many causes it was.
            raise Unavailable(f"can't connect to the database: {error}") from error
        try:
            await _check_settings(connection)
            yield connection
        finally:
            await connection.close(timeout=CONNECT_DEADLINE)


@asynccontextmanager
async def _pool(
    url: str,
    size: int,
    *,
    is_pooler: bool,
    deadline: float = STATEMENT_DEADLINE,
    settings: Mapping[str, str] | None = None,
    needs_reset: bool = True,
) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    ours = {
        **_SESSION,
        **_IDLE_DEADLINE,
        **(settings or {}),
        "statement_timeout": f"{deadline * 1000:.0f}",
    }
    options = by_transaction(ours) if is_pooler else _direct(ours)
    if is_pooler or not needs_reset:
        options["reset"] = _no_reset
    pool: Any = asyncpg.create_pool(
        url,
        min_size=0,
        max_size=size,
        timeout=CONNECT_DEADLINE,
        # A server that is there stops the statement first.
        command_timeout=deadline + SILENT_FOR,
        connect=connect_to_primary,
        **options,
    )
    await pool
    try:
        yield pool
    finally:
        # A server that doesn't answer doesn't say goodbye either. The connections are closed anyway.
        with suppress(*OUT_OF_REACH):
            await pool.close()


def _direct(settings: Mapping[str, str]) -> dict[str, Any]:
    return {
        "connection_class": KeptAlive,
        "server_settings": {**settings, **_DIRECT},
        "init": _check_settings,
    }


async def _check_settings(connection: Connection) -> None:
    """Make sure that the session has our settings, without which statements have no deadline.

    Raises `Unavailable`.
    """
    if await connection.fetchval(_ARE_SETTINGS_KEPT) != "kept":
        raise Unavailable(
            "something before the database drops the settings of its sessions: a pooler's URL "
            "belongs in POOLER_URL, and the database's own in DATABASE_URL"
        )


async def _no_reset(connection: object) -> None:
    pass


@asynccontextmanager
async def _health(url: str) -> AsyncIterator[Health]:
    async def probe() -> None:
        connection = await connect_to_primary(url, timeout=SILENT_FOR, server_settings=_NAMED)
        try:
            await connection.execute("SELECT 1", timeout=SILENT_FOR)
        finally:
            connection.terminate()

    health = Health(probe)
    try:
        yield health
    finally:
        health.close()
