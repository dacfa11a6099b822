"""The SQL statements about connections, grants, and grant requests."""

from datetime import datetime
from uuid import UUID

from service.accounts.names import Status
from service.connections.records import Outcome, Partner, Side
from service.postgres.pools import Connection


async def lock_pair(connection: Connection, one: UUID, other: UUID) -> datetime:
    """Lock everything between two accounts. Return the time once the lock is held."""
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
    """Return the oldest live connection of two accounts, no matter which one is the buyer."""
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
        # The clock may have been set back since it began, here and below.
        "UPDATE connection SET ended_at = greatest($2, started_at) WHERE id = $1 AND ended_at IS NULL",
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
    """End a live grant. Returns whether there was one."""
    ended = await connection.fetchval(
        """
        UPDATE visibility_grant SET ended_at = greatest($3, started_at)
        WHERE owner_id = $1 AND viewer_id = $2 AND ended_at IS NULL
        RETURNING id
        """,
        owner_id,
        viewer_id,
        ended_at,
    )
    return ended is not None


_PARTNERS = """
SELECT
    connection.id,
    CASE WHEN connection.buyer_id = $1 THEN 'buyer' ELSE 'seller' END,
    partner.id,
    partner.name,
    connection.started_at,
    shown.started_at,
    seen.started_at,
    asked_by_partner.requested_at,
    asked.requested_at
FROM connection
JOIN account AS partner
    ON partner.id = CASE WHEN connection.buyer_id = $1 THEN connection.seller_id
        ELSE connection.buyer_id END
LEFT JOIN live_grant AS shown ON shown.owner_id = $1 AND shown.viewer_id = partner.id
LEFT JOIN live_grant AS seen ON seen.owner_id = partner.id AND seen.viewer_id = $1
LEFT JOIN grant_request AS asked_by_partner
    ON asked_by_partner.owner_id = $1 AND asked_by_partner.viewer_id = partner.id
    AND asked_by_partner.ended_at IS NULL
LEFT JOIN grant_request AS asked
    ON asked.owner_id = partner.id AND asked.viewer_id = $1 AND asked.ended_at IS NULL
WHERE $1 IN (connection.buyer_id, connection.seller_id)
  AND connection.ended_at IS NULL
"""


async def select_partner(
    connection: Connection, account_id: UUID, connection_id: UUID
) -> Partner | None:
    row = await connection.fetchrow(_PARTNERS + "AND connection.id = $2", account_id, connection_id)
    return None if row is None else Partner(*row)


# First which ones: to look up all that is told about each takes too long if there are thousands.
_PAGE = """
AND connection.id = ANY (ARRAY(
    SELECT wanted.id
    FROM (
        SELECT
            id, buyer_id,
            CASE WHEN buyer_id = $1 THEN seller_id ELSE buyer_id END AS partner_id
        FROM connection
        WHERE $1 IN (buyer_id, seller_id) AND ended_at IS NULL
    ) AS wanted
    WHERE ($2::uuid IS NULL OR wanted.id < $2)
      AND ($3::text IS NULL OR ($3 = 'buyer') = (wanted.buyer_id = $1))
      AND (
          NOT $4::boolean
          OR wanted.partner_id IN (SELECT viewer_id FROM live_grant WHERE owner_id = $1)
      )
      AND ($6::text = '' OR EXISTS (
          SELECT FROM account
          WHERE account.id = wanted.partner_id
            AND strpos(lower(account.name), lower($6)) > 0
      ))
    ORDER BY wanted.id DESC
    LIMIT $5
))
ORDER BY connection.id DESC
"""


async def select_partners(
    connection: Connection,
    account_id: UUID,
    *,
    before: UUID | None = None,
    role: Side | None = None,
    shown_to: bool = False,
    named: str = "",
    limit: int | None = None,
) -> list[Partner]:
    """Return an account's live connections, newest first.

    `before` is an id, `role` the account's own, `shown_to` keeps only partners that see its name,
    and `named` those whose name has this in it, in any case. Filters combine.
    """
    rows = await connection.fetch(
        _PARTNERS + _PAGE,
        account_id,
        before,
        role,
        shown_to,
        limit,
        named,
    )
    return [Partner(*row) for row in rows]


_ASKING = """
AND connection.id IN (
    SELECT connection_id FROM grant_request WHERE owner_id = $1 AND ended_at IS NULL
)
ORDER BY connection.id DESC
LIMIT $2
"""


async def select_partners_asking(
    connection: Connection, account_id: UUID, limit: int
) -> list[Partner]:
    """Return partners that asked to see an account's name, the newest connections first."""
    rows = await connection.fetch(_PARTNERS + _ASKING, account_id, limit)
    return [Partner(*row) for row in rows]


_SPEAKING_FOR_EMAIL = """
  AND partner.id IN (SELECT account_id FROM account_address WHERE email = $2)
ORDER BY connection.id
"""


async def select_partners_of_email(
    connection: Connection, account_id: UUID, email: str
) -> list[Partner]:
    """Return an account's live connections to accounts that speak for an address."""
    rows = await connection.fetch(
        _PARTNERS + _SPEAKING_FOR_EMAIL,
        account_id,
        email,
    )
    return [Partner(*row) for row in rows]


async def insert_grant_request(
    connection: Connection,
    request_id: UUID,
    connection_id: UUID,
    owner_id: UUID,
    viewer_id: UUID,
    requested_at: datetime,
) -> bool:
    """Open a grant request. Returns False if one is already open."""
    inserted = await connection.fetchval(
        """
        INSERT INTO grant_request (id, connection_id, owner_id, viewer_id, requested_at)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (owner_id, viewer_id) WHERE ended_at IS NULL DO NOTHING
        RETURNING id
        """,
        request_id,
        connection_id,
        owner_id,
        viewer_id,
        requested_at,
    )
    return inserted is not None


async def select_declined(
    connection: Connection, owner_id: UUID, viewer_id: UUID
) -> datetime | None:
    """Return when an owner last declined a viewer's request, or None."""
    return await connection.fetchval(
        """
        SELECT max(ended_at) FROM grant_request
        WHERE owner_id = $1 AND viewer_id = $2 AND outcome = 'declined'
        """,
        owner_id,
        viewer_id,
    )


async def end_grant_request(
    connection: Connection, owner_id: UUID, viewer_id: UUID, ended_at: datetime, outcome: Outcome
) -> bool:
    """End an open grant request. Returns whether there was one."""
    ended = await connection.fetchval(
        """
        UPDATE grant_request SET ended_at = greatest($3, requested_at), outcome = $4
        WHERE owner_id = $1 AND viewer_id = $2 AND ended_at IS NULL
        RETURNING id
        """,
        owner_id,
        viewer_id,
        ended_at,
        outcome,
    )
    return ended is not None


async def select_told(
    connection: Connection, owner_id: UUID, viewer_id: UUID
) -> list[tuple[str, bool, Status, str | None]]:
    """Return what a viewer is told about each domain of an owner.

    Each row is the domain, whether its subdomains are covered, the status, and the name.
    """
    rows = await connection.fetch(
        """
        SELECT owned.domain, owned.covers_subdomains, told.status, told.owner_name
        FROM live_ownership AS owned
        CROSS JOIN LATERAL confirmed_owner($2, owned.domain, ARRAY[owned.domain], NULL) AS told
        WHERE owned.owner_id = $1
        ORDER BY owned.domain
        """,
        owner_id,
        viewer_id,
    )
    return [tuple(row) for row in rows]
