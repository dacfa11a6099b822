"""The statements about ownerships."""

from datetime import datetime
from uuid import UUID

import msgspec

from service.database import Connection


class Ownership(msgspec.Struct, frozen=True):
    """A period during which an account's claim to a domain is verified."""

    id: UUID
    account_id: UUID
    domain: str
    covers_subdomains: bool
    verified_at: datetime


async def lock_domain(connection: Connection, domain: str) -> datetime:
    """Wait until no other transaction changes who owns the domain. The time from then on."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('ownership of ' || $1, 0))", domain
    )
    return await connection.fetchval("SELECT clock_timestamp()")


async def select_live_ownership(connection: Connection, domain: str) -> Ownership | None:
    row = await connection.fetchrow(
        """
        SELECT id, account_id, domain, covers_subdomains, verified_at
        FROM ownership WHERE domain = $1 AND ended_at IS NULL
        """,
        domain,
    )
    return None if row is None else Ownership(*row)


async def select_live_ownerships_of(connection: Connection, account_id: UUID) -> list[Ownership]:
    """What an account owns, by domain."""
    rows = await connection.fetch(
        """
        SELECT id, account_id, domain, covers_subdomains, verified_at
        FROM ownership WHERE account_id = $1 AND ended_at IS NULL
        ORDER BY domain
        """,
        account_id,
    )
    return [Ownership(*row) for row in rows]


async def insert_ownership(
    connection: Connection, ownership: Ownership, method: str, started_at: datetime
) -> None:
    await connection.execute(
        """
        INSERT INTO ownership
            (id, account_id, domain, covers_subdomains, method, verified_at, started_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        ownership.id,
        ownership.account_id,
        ownership.domain,
        ownership.covers_subdomains,
        method,
        ownership.verified_at,
        started_at,
    )


async def end_ownership(
    connection: Connection, ownership_id: UUID, ended_at: datetime, reason: str
) -> None:
    await connection.execute(
        "UPDATE ownership SET ended_at = $2, end_reason = $3 WHERE id = $1 AND ended_at IS NULL",
        ownership_id,
        ended_at,
        reason,
    )
