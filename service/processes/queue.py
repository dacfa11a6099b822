"""Putting jobs into the queue, in the transaction that decides that they are to be done."""

from typing import Any, cast

from pgqueuer import Queries

from service.postgres.pools import Connection


async def enqueue(
    connection: Connection, entrypoint: str, *payloads: bytes, priority: int = 0
) -> None:
    """Have a worker do something, once for each payload, when this transaction has committed.

    Of what waits, that of the highest `priority` is done first.
    """
    # A pooled connection is one by all but its type.
    queries = Queries.from_asyncpg_connection(cast("Any", connection))
    if not payloads:
        return
    count = len(payloads)
    await queries.enqueue([entrypoint] * count, list(payloads), [priority] * count)


async def waiting(connection: Connection, entrypoint: str) -> int:
    """How many jobs of that kind wait for a worker."""
    return await connection.fetchval(
        "SELECT count(*) FROM pgqueuer WHERE entrypoint = $1 AND status = 'queued'", entrypoint
    )
