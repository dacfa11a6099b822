"""Ownerships: periods during which an account owns a domain.

At most one is live for a domain. A fresh proof by another account supersedes the live one; what
changes ends a period and starts another, so the past stays as it was.
"""

from uuid import UUID

from uuid_utils.compat import uuid7

from service import audit
from service.database import Connection
from service.errors import NotFound
from service.ownership import queries
from service.ownership.hostname import claimable_name
from service.ownership.queries import Ownership


async def attest(
    connection: Connection, account_id: UUID, domain: str, *, covers_subdomains: bool
) -> Ownership:
    """Let an account own a domain because an operator vouches for it. Needs a transaction.

    Another account's ownership ends as superseded. Attesting what stands changes nothing, and
    another coverage keeps the time of verification.

    Raises `InvalidHostname`.
    """
    name = claimable_name(domain, covers_subdomains=covers_subdomains)
    now = await queries.lock_domain(connection, name)
    live = await queries.select_live_ownership(connection, name)
    verified_at = now
    if live is not None:
        if live.account_id == account_id:
            if live.covers_subdomains == covers_subdomains:
                return live
            verified_at = live.verified_at
            reason = "Coverage changed"
        else:
            reason = "Superseded"
        await queries.end_ownership(connection, live.id, now, reason)
        await audit.record(
            connection, "ownership.ended", live.account_id, domain=name, reason=reason
        )
    ownership = Ownership(
        id=uuid7(),
        account_id=account_id,
        domain=name,
        covers_subdomains=covers_subdomains,
        verified_at=verified_at,
    )
    await queries.insert_ownership(connection, ownership, "attested", now)
    await audit.record(
        connection,
        "ownership.started",
        account_id,
        domain=name,
        covers_subdomains=covers_subdomains,
        method="attested",
    )
    return ownership


async def lapse(connection: Connection, domain: str, *, reason: str) -> Ownership:
    """End the live ownership of a domain. Needs a transaction.

    Raises `InvalidHostname`, or `NotFound` where nobody owns exactly that domain.
    """
    name = claimable_name(domain)
    now = await queries.lock_domain(connection, name)
    live = await queries.select_live_ownership(connection, name)
    if live is None:
        raise NotFound("live ownership of", name)
    await queries.end_ownership(connection, live.id, now, reason)
    await audit.record(connection, "ownership.ended", live.account_id, domain=name, reason=reason)
    return live
