"""The statements about connections and grants."""

from datetime import datetime
from uuid import UUID

from service.database import Connection


async def lock_pair(connection: Connection, one: UUID, other: UUID) -> datetime:
    """Wait until no other transaction changes what is between two accounts. The time from then on."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('between ' || $1 || ' and ' || $2, 0))",
        *sorted((str(one), str(other))),
    )
    return await connection.fetchval("SELECT clock_timestamp()")


async def select_live_connection(
    connection: Connection, buyer_id: UUID, seller_id: UUID
) -> UUID | None:
    return await connection.fetchval(
        "SELECT id FROM connection WHERE buyer_id = $1 AND seller_id = $2 AND ended_at IS NULL",
        buyer_id,
        seller_id,
    )


async def select_live_connection_between(
    connection: Connection, one: UUID, other: UUID
) -> UUID | None:
    """The longest-standing live connection of two accounts, whoever of them buys."""
    return await connection.fetchval(
        """
        SELECT id FROM connection
        WHERE ended_at IS NULL
          AND (buyer_id, seller_id) IN (($1::uuid, $2::uuid), ($2::uuid, $1::uuid))
        ORDER BY started_at LIMIT 1
        """,
        one,
        other,
    )


async def insert_connection(
    connection: Connection,
    connection_id: UUID,
    buyer_id: UUID,
    seller_id: UUID,
    started_at: datetime,
) -> None:
    await connection.execute(
        "INSERT INTO connection (id, buyer_id, seller_id, started_at) VALUES ($1, $2, $3, $4)",
        connection_id,
        buyer_id,
        seller_id,
        started_at,
    )


async def end_connection(connection: Connection, connection_id: UUID, ended_at: datetime) -> None:
    await connection.execute(
        "UPDATE connection SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL",
        connection_id,
        ended_at,
    )


async def select_live_grant(connection: Connection, owner_id: UUID, viewer_id: UUID) -> UUID | None:
    return await connection.fetchval(
        "SELECT id FROM visibility_grant WHERE owner_id = $1 AND viewer_id = $2 AND ended_at IS NULL",
        owner_id,
        viewer_id,
    )


async def insert_grant(
    connection: Connection,
    grant_id: UUID,
    connection_id: UUID,
    owner_id: UUID,
    viewer_id: UUID,
    started_at: datetime,
) -> None:
    await connection.execute(
        """
        INSERT INTO visibility_grant (id, connection_id, owner_id, viewer_id, started_at)
        VALUES ($1, $2, $3, $4, $5)
        """,
        grant_id,
        connection_id,
        owner_id,
        viewer_id,
        started_at,
    )


async def end_grant(
    connection: Connection, owner_id: UUID, viewer_id: UUID, ended_at: datetime
) -> bool:
    """Whether there was a live one."""
    ended = await connection.fetchval(
        """
        UPDATE visibility_grant SET ended_at = $3
        WHERE owner_id = $1 AND viewer_id = $2 AND ended_at IS NULL
        RETURNING id
        """,
        owner_id,
        viewer_id,
        ended_at,
    )
    return ended is not None
