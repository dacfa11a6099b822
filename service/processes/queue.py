"""Put jobs into the queue, in the transaction that decides to do them."""

from typing import Any, cast

from pgqueuer import Queries

from service.postgres.pools import Connection


async def enqueue(
    connection: Connection, entrypoint: str, *payloads: bytes, priority: int = 0
) -> None:
    """Queue one job per payload for a worker, once this transaction has committed.

    Waiting jobs with the highest `priority` run first.
    """
    # A pooled connection works the same; only its type differs.
    queries = Queries.from_asyncpg_connection(cast("Any", connection))
    if not payloads:
        return
    count = len(payloads)
    await queries.enqueue([entrypoint] * count, list(payloads), [priority] * count)


async def waiting(connection: Connection, entrypoint: str) -> int:
    """Return how many jobs of that kind wait for a worker."""
    return await connection.fetchval(
        "SELECT count(*) FROM pgqueuer WHERE entrypoint = $1 AND status = 'queued'", entrypoint
    )
