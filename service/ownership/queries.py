"""The SQL statements about claims and ownerships."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from service.ownership.records import Claim, DueChecks, Evidence, Ownership
from service.ownership.verification import Standing
from service.postgres.pools import Connection


async def lock_domain(connection: Connection, domain: str) -> datetime:
    """Wait until no other transaction changes the domain's owner; return the time from then on."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('ownership of ' || $1, 0))", domain
    )
    return await connection.fetchval("SELECT clock_timestamp()")


async def select_live_ownership(connection: Connection, domain: str) -> Ownership | None:
    row = await connection.fetchrow(
        """
        SELECT id, account_id, domain, covers_subdomains, verified_at, method, claim_id
        FROM ownership WHERE domain = $1 AND ended_at IS NULL
        """,
        domain,
    )
    return None if row is None else Ownership(*row)


async def select_live_ownerships_of(
    connection: Connection, account_id: UUID, *, limit: int
) -> list[Ownership]:
    """Return what an account owns, by domain, up to `limit` of them."""
    rows = await connection.fetch(
        """
        SELECT id, account_id, domain, covers_subdomains, verified_at, method, claim_id
        FROM ownership WHERE account_id = $1 AND ended_at IS NULL
        ORDER BY domain
        LIMIT $2
        """,
        account_id,
        limit,
    )
    return [Ownership(*row) for row in rows]


async def insert_ownership(
    connection: Connection, ownership: Ownership, started_at: datetime
) -> None:
    await connection.execute(
        """
        INSERT INTO ownership (
            id, account_id, domain, covers_subdomains, verified_at, method, claim_id, started_at
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        *msgspec.structs.astuple(ownership),
        started_at,
    )


async def end_ownership(
    connection: Connection, ownership_id: UUID, ended_at: datetime, reason: str
) -> None:
    await connection.execute(
        # The clock may have been set back since it began.
        """
        UPDATE ownership SET ended_at = greatest($2, started_at), end_reason = $3
        WHERE id = $1 AND ended_at IS NULL
        """,
        ownership_id,
        ended_at,
        reason,
    )


_CLAIMS = """
SELECT
    claim.id,
    claim.account_id,
    claim.name,
    claim.covers_subdomains,
    claim.code,
    claim.added_at,
    claim.begun_at,
    claim.is_verified,
    claim.reason,
    claim.negatives,
    claim.failing_since,
    claim.warned_at,
    claim.failures,
    claim.last_checked_at,
    claim.last_verified_at,
    claim.next_check_at,
    claim.proves_subdomains,
    claim.nameservers,
    claim.at_risk,
    claim.hint,
    owned.method,
    coalesce(owned.covers_subdomains, false)
FROM domain_claim AS claim
LEFT JOIN ownership AS owned
    ON owned.domain = claim.name AND owned.account_id = claim.account_id AND owned.ended_at IS NULL
WHERE claim.removed_at IS NULL
"""


def _claim(row: Any) -> Claim:
    before, standing, after = row[:6], row[6:15], row[15:]
    return Claim(*(*before, Standing(*standing), *after))


async def lock_claim(connection: Connection, account_id: UUID, name: str) -> None:
    """Wait until no other transaction adds this claim."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('claim of ' || $1 || ' to ' || $2, 0))",
        str(account_id),
        name,
    )


async def select_claim(connection: Connection, account_id: UUID, name: str) -> Claim | None:
    row = await connection.fetchrow(
        _CLAIMS + "AND claim.account_id = $1 AND claim.name = $2", account_id, name
    )
    return None if row is None else _claim(row)


async def select_claims_to(
    connection: Connection, account_id: UUID, names: Sequence[str]
) -> list[Claim]:
    """Return an account's claims to these domains."""
    rows = await connection.fetch(
        _CLAIMS + "AND claim.account_id = $1 AND claim.name = ANY ($2)", account_id, names
    )
    return [_claim(row) for row in rows]


async def select_claim_by_id(connection: Connection, claim_id: UUID) -> Claim | None:
    row = await connection.fetchrow(_CLAIMS + "AND claim.id = $1", claim_id)
    return None if row is None else _claim(row)


async def lock_active_account(connection: Connection, account_id: UUID) -> bool:
    """Return whether an account is active, and keep it so until the transaction ends."""
    is_active = await connection.fetchval(
        "SELECT true FROM account WHERE id = $1 AND suspended_at IS NULL FOR SHARE", account_id
    )
    return is_active is not None


async def select_claims(
    connection: Connection,
    account_id: UUID,
    *,
    after: str | None,
    is_verified: bool | None,
    limit: int,
) -> list[Claim]:
    """Return an account's claims by name, starting after `after`; verified, unverified, or all."""
    rows = await connection.fetch(
        _CLAIMS
        + """
        AND claim.account_id = $1
        AND ($2::text IS NULL OR claim.name > $2)
        AND ($3::boolean IS NULL OR (owned.id IS NOT NULL) = $3)
        ORDER BY claim.name
        LIMIT $4
        """,
        account_id,
        after,
        is_verified,
        limit,
    )
    return [_claim(row) for row in rows]


async def select_unproven(connection: Connection, account_id: UUID, limit: int) -> list[Claim]:
    """Return an account's claims that aren't verified, whose latest check failed, or at risk."""
    rows = await connection.fetch(
        _CLAIMS
        + """
        AND claim.account_id = $1
        -- All others are owned. Most are, so this is quicker than to look.
        AND (NOT claim.is_verified OR claim.reason IS NOT NULL OR claim.at_risk)
        AND (
            owned.id IS NULL
            OR claim.at_risk
            OR owned.method = 'dns' AND claim.reason IS NOT NULL
        )
        ORDER BY claim.name
        LIMIT $2
        """,
        account_id,
        limit,
    )
    return [_claim(row) for row in rows]


async def select_codes(
    connection: Connection, account_id: UUID, values: Collection[str]
) -> list[str]:
    """Return which of these values are codes of the account's claims."""
    rows = await connection.fetch(
        """
        SELECT code FROM domain_claim
        WHERE code = ANY ($2) AND account_id = $1 AND removed_at IS NULL
        """,
        account_id,
        values,
    )
    return [row["code"] for row in rows]


async def insert_claim(
    connection: Connection,
    claim_id: UUID,
    account_id: UUID,
    name: str,
    covers_subdomains: bool,
    code: str,
) -> None:
    await connection.execute(
        """
        INSERT INTO domain_claim (id, account_id, name, covers_subdomains, code, added_at)
        VALUES ($1, $2, $3, $4, $5, now())
        """,
        claim_id,
        account_id,
        name,
        covers_subdomains,
        code,
    )


async def update_claim(connection: Connection, claim: Claim) -> None:
    """Save a claim's standing and coverage."""
    standing = claim.standing
    await connection.execute(
        """
        UPDATE domain_claim SET covers_subdomains = $2, begun_at = $3, is_verified = $4, reason = $5,
            negatives = $6, failing_since = $7, warned_at = $8, failures = $9,
            last_checked_at = $10, last_verified_at = $11, next_check_at = $12,
            proves_subdomains = $13, nameservers = $14, at_risk = $15, hint = $16
        WHERE id = $1 AND removed_at IS NULL
        """,
        claim.id,
        claim.covers_subdomains,
        standing.begun_at,
        standing.is_verified,
        standing.reason,
        standing.negatives,
        standing.failing_since,
        standing.warned_at,
        standing.failures,
        standing.last_checked_at,
        standing.last_verified_at,
        claim.next_check_at,
        claim.proves_subdomains,
        claim.nameservers,
        claim.at_risk,
        claim.hint,
    )


async def update_claim_removed(
    connection: Connection, claim_id: UUID, removed_at: datetime
) -> None:
    await connection.execute(
        """
        UPDATE domain_claim SET removed_at = $2, is_verified = false, next_check_at = NULL
        WHERE id = $1 AND removed_at IS NULL
        """,
        claim_id,
        removed_at,
    )


async def update_claim_superseded(
    connection: Connection, claim_id: UUID, code: str, reason: str
) -> None:
    """Restart a claim with another code, because its account lost the domain."""
    await connection.execute(
        """
        UPDATE domain_claim SET code = $2, reason = $3, begun_at = NULL, is_verified = false,
            negatives = 0, failing_since = NULL, warned_at = NULL, failures = 0, next_check_at = NULL,
            proves_subdomains = false, nameservers = NULL, at_risk = false, hint = NULL
        WHERE id = $1 AND removed_at IS NULL
        """,
        claim_id,
        code,
        reason,
    )


async def take_due_claims(connection: Connection, limit: int, lease: timedelta) -> list[UUID]:
    """Return claims that are due for a check; they come due again after `lease` if it fails.

    What a suspended account hasn't proven stays due until the account is reinstated.
    """
    rows = await connection.fetch(
        """
        UPDATE domain_claim SET next_check_at = now() + $2
        -- An array, so that the limit is applied once, whatever the plan.
        WHERE id = ANY (ARRAY(
            SELECT claim.id FROM domain_claim AS claim
            JOIN account ON account.id = claim.account_id
            WHERE claim.removed_at IS NULL AND claim.next_check_at <= now()
                AND (claim.is_verified OR account.suspended_at IS NULL)
            ORDER BY claim.next_check_at
            LIMIT $1
            FOR UPDATE OF claim SKIP LOCKED
        ))
        RETURNING id
        """,
        limit,
        lease,
    )
    return [row["id"] for row in rows]


async def select_due(connection: Connection, overdue: timedelta) -> DueChecks:
    """Count the claims that `take_due_claims` would return, and those due for longer than that."""
    row = await connection.fetchrow(
        """
        SELECT
            count(*),
            count(*) FILTER (WHERE claim.next_check_at < now() - $1::interval),
            coalesce(extract(epoch FROM now() - min(claim.next_check_at)), 0)::double precision
        FROM domain_claim AS claim
        JOIN account ON account.id = claim.account_id
        WHERE now() >= claim.next_check_at AND claim.removed_at IS NULL
            AND (account.suspended_at IS NULL OR claim.is_verified)
        """,
        overdue,
    )
    assert row is not None
    return DueChecks(*row)


async def insert_evidence(
    connection: Connection, claim_id: UUID, at: datetime, change: str, evidence: str | None
) -> None:
    await connection.execute(
        "INSERT INTO domain_evidence (claim_id, at, change, evidence) VALUES ($1, $2, $3, $4)",
        claim_id,
        at,
        change,
        evidence,
    )


async def select_evidence(
    connection: Connection, claim_id: UUID, *, before: UUID | None, limit: int
) -> list[Evidence]:
    """Return a claim's evidence, latest first, starting before `before`."""
    rows = await connection.fetch(
        """
        SELECT public_id, at, change, evidence FROM domain_evidence
        WHERE claim_id = $1 AND ($2::uuid IS NULL OR id < (
            SELECT former.id FROM domain_evidence AS former
            WHERE former.public_id = $2 AND former.claim_id = $1
        ))
        ORDER BY id DESC
        LIMIT $3
        """,
        claim_id,
        before,
        limit,
    )
    return [
        Evidence(id_, at, change, None if found is None else msgspec.Raw(found.encode()))
        for id_, at, change, found in rows
    ]


async def select_all_owned(
    connection: Connection, account_id: UUID | None
) -> list[dict[str, object]]:
    """Return what one account owns, or all do, for the operator, by domain."""
    rows = await connection.fetch(
        """
        SELECT ownership.domain, account.name AS account, ownership.covers_subdomains,
            ownership.method, ownership.verified_at
        FROM ownership JOIN account ON account.id = ownership.account_id
        WHERE ownership.ended_at IS NULL AND ($1::uuid IS NULL OR account.id = $1)
        ORDER BY ownership.domain
        """,
        account_id,
    )
    return [dict(row) for row in rows]
