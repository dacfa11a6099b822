"""Ownerships: periods in which an account owns a domain.

At most one is live per domain. A fresh proof by another account supersedes it. A change ends one
period and starts another, so the past stays as it was.
"""

from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7

from service import audit
from service.accounts.accounts import name_of
from service.accounts.members import mail_admins
from service.audit import Actor
from service.errors import Conflict
from service.ownership import queries
from service.ownership.dns_txt import new_code
from service.ownership.hostname import claimable_name
from service.ownership.records import Claim, Method, Ownership
from service.ownership.verification import SUPERSEDED
from service.postgres.pools import Connection

owned_by = queries.select_live_ownerships_of
all_owned = queries.select_all_owned


async def attest(
    connection: Connection,
    account_id: UUID,
    domain: str,
    *,
    covers_subdomains: bool,
    replace: bool = False,
) -> Ownership:
    """Let an account own a domain because an operator vouches for it. Needs a transaction.

    With `replace`, another account's attested ownership ends as superseded, and its admins get an
    email. Attesting the same again changes nothing, and a change of coverage keeps the verification
    time. An ownership proven by DNS stays as it is.

    Raises `InvalidHostname`, or `Conflict` if another account owns the domain: the message names it,
    for only operators attest.
    """
    name = claimable_name(domain, covers_subdomains=covers_subdomains)
    now = await queries.lock_domain(connection, name)
    live = await queries.select_live_ownership(connection, name)
    if live is not None and live.account_id != account_id:
        owner = await name_of(connection, live.account_id)
        if live.method == "dns":
            raise Conflict(f"{owner} verified {name} by DNS, which an attestation can't override")
        if not replace:
            raise Conflict(f"{name} is attested to {owner}; use --replace to take it from there")
    if live is not None and live.method == "dns":
        return live
    # It is listed with the account's other domains, and can still be proven by DNS.
    await queries.lock_claim(connection, account_id, name)
    if await queries.select_claim(connection, account_id, name) is None:
        await queries.insert_claim(
            connection, uuid7(), account_id, name, covers_subdomains, new_code()
        )
    owned, former = await _own(
        connection, account_id, name, now, "attested", covers_subdomains=covers_subdomains
    )
    if former is not None:
        await mail_admins(connection, former, "domain_reassigned", name, domain=name)
    return owned


async def prove(
    connection: Connection, claim: Claim, now: datetime, *, covers_subdomains: bool
) -> UUID | None:
    """Let a claim's account own its domain, as found in DNS. Needs the domain's lock.

    Return the account whose ownership this supersedes, if any.
    """
    _, former = await _own(
        connection,
        claim.account_id,
        claim.name,
        now,
        "dns",
        covers_subdomains=covers_subdomains,
        claim_id=claim.id,
        actor=audit.SERVICE,
    )
    return former


async def narrow(connection: Connection, claim: Claim, now: datetime, actor: Actor) -> None:
    """Stop an attested ownership from covering subdomains. Needs the domain's lock."""
    await _own(
        connection,
        claim.account_id,
        claim.name,
        now,
        "attested",
        covers_subdomains=False,
        actor=actor,
    )


async def end_owned(
    connection: Connection,
    account_id: UUID,
    name: str,
    now: datetime,
    reason: str,
    actor: Actor,
) -> None:
    """End an account's ownership of exactly that domain, if any. Needs the domain's lock."""
    live = await queries.select_live_ownership(connection, name)
    if live is not None and live.account_id == account_id:
        await _end(connection, live, now, reason, actor)


async def end_proven(connection: Connection, claim: Claim, now: datetime, reason: str) -> None:
    """End the live ownership that a claim has proven, if any. Needs the domain's lock."""
    live = await queries.select_live_ownership(connection, claim.name)
    if live is not None and live.claim_id == claim.id:
        await _end(connection, live, now, reason, audit.SERVICE)


async def _own(
    connection: Connection,
    account_id: UUID,
    name: str,
    now: datetime,
    method: Method,
    *,
    covers_subdomains: bool,
    claim_id: UUID | None = None,
    actor: Actor = audit.OPERATOR,
) -> tuple[Ownership, UUID | None]:
    """Return the ownership now live, and the account whose ownership it supersedes, if any."""
    live = await queries.select_live_ownership(connection, name)
    verified_at, former = now, None
    if live is not None:
        if live.account_id != account_id:
            reason, former = SUPERSEDED, live.account_id
        elif (live.method, live.claim_id) != (method, claim_id):
            reason = "Proven by DNS"
        elif live.covers_subdomains != covers_subdomains:
            reason, verified_at = "Coverage changed", live.verified_at
        else:
            return live, None
        await _end(connection, live, now, reason, actor)
    ownership = Ownership(
        id=uuid7(),
        account_id=account_id,
        domain=name,
        covers_subdomains=covers_subdomains,
        verified_at=verified_at,
        method=method,
        claim_id=claim_id,
    )
    await queries.insert_ownership(connection, ownership, now)
    await audit.record(
        connection,
        "ownership.started",
        account_id,
        actor=actor,
        domain=name,
        covers_subdomains=covers_subdomains,
        method=method,
    )
    return ownership, former


async def _end(
    connection: Connection, live: Ownership, now: datetime, reason: str, actor: Actor
) -> None:
    await queries.end_ownership(connection, live.id, now, reason)
    await audit.record(
        connection,
        "ownership.ended",
        live.account_id,
        actor=actor,
        domain=live.domain,
        reason=reason,
    )
