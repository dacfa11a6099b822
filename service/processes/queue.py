"""Put jobs into the queue, in the transaction that decides to do them."""

from typing import Any, cast

import msgspec
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


class Depth(msgspec.Struct, frozen=True):
    """How many jobs of a kind there are.

    `waiting` ones could start now, the oldest of them for `oldest` seconds. `later` ones are tried
    again after a failure. A worker does the `picked` ones; of the `abandoned` ones, it has died.
    """

    entrypoint: str
    waiting: int
    later: int
    picked: int
    abandoned: int
    oldest: float


async def depths(connection: Connection) -> list[Depth]:
    """Return how many jobs there are of each kind that has any."""
    rows = await connection.fetch(
        """
        SELECT
            entrypoint,
            count(*) FILTER (WHERE is_due),
            count(*) FILTER (WHERE status = 'queued' AND NOT is_due),
            count(*) FILTER (WHERE status = 'picked' AND NOT is_abandoned),
            count(*) FILTER (WHERE is_abandoned),
            coalesce(
                extract(epoch FROM now() - min(execute_after) FILTER (WHERE is_due)), 0
            )::double precision
        FROM pgqueuer
        CROSS JOIN LATERAL (
            SELECT
                status = 'queued' AND execute_after <= now(),
                -- Others take such a job over soon, if there are any.
                status = 'picked' AND heartbeat < now() - interval '30 seconds'
        ) AS job (is_due, is_abandoned)
        WHERE status IN ('queued', 'picked')
        GROUP BY entrypoint
        ORDER BY entrypoint
        """
    )
    return [Depth(*row) for row in rows]
