"""Claims: accounts say that they own domains, and prove it by DNS.

A claim reserves nothing, and only its account sees it. Fresh proof wins: an account that proves a
domain supersedes its owner, who needs a new code to win it back. Neither learns anything about the
other.
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from service import allowance, audit
from service.accounts.members import mail_admins
from service.audit import Actor
from service.errors import Conflict, InvalidHostname, NotFound
from service.ownership import ownerships, queries
from service.ownership.dns_txt import Finding, kept_evidence, look_up, new_code, places_of
from service.ownership.hints import hint_of
from service.ownership.hostname import canonical_host, claimable_name
from service.ownership.records import Claim, DueChecks
from service.ownership.verification import (
    CONNECTION_ERROR,
    SUPERSEDED,
    Change,
    Outcome,
    Step,
    advanced,
    begun,
    keeps_until,
)
from service.postgres.pools import Connection, Database
from service.settings import DnsServer

NEW_NAMES_AN_HOUR = 20
CHECKS_AN_HOUR = 50

# How long a worker that takes a claim has to check it, before another may take it.
LEASE = timedelta(minutes=30)
# Workers look for due claims every minute. One that none has taken for so long is overdue.
OVERDUE = timedelta(minutes=5)
# How soon to check a domain again when its name servers change.
SOON = timedelta(minutes=1)

_MAILS: dict[Change, str] = {
    "verified": "domain_verified",
    "failing": "domain_failing",
    "about_to_lapse": "domain_about_to_lapse",
    "lapsed": "domain_lapsed",
}


async def add(
    connection: Connection, account_id: UUID, text: str, actor: Actor, *, covers_subdomains: bool
) -> tuple[Claim, bool]:
    """Return an account's claim to a domain, and whether it is new. Needs a transaction.

    Raises `InvalidHostname`, `LimitReached`, or `Conflict` if it exists with another coverage.
    """
    name = claimable_name(text, covers_subdomains=covers_subdomains)
    await queries.lock_claim(connection, account_id, name)
    existing = await queries.select_claim(connection, account_id, name)
    if existing is not None:
        if existing.covers_subdomains != covers_subdomains:
            raise Conflict(f"you already added {name}; change its coverage instead")
        return existing, False
    await allowance.take(connection, "new domains", str(account_id), NEW_NAMES_AN_HOUR, per="hour")
    await queries.insert_claim(connection, uuid7(), account_id, name, covers_subdomains, new_code())
    await audit.record(
        connection,
        "domain.added",
        account_id,
        actor=actor,
        domain=name,
        covers_subdomains=covers_subdomains,
    )
    return await find(connection, account_id, name), True


async def added(
    connection: Connection, account_id: UUID, names: Sequence[str], *, covers_subdomains: bool
) -> list[tuple[str, Claim]]:
    """Return the names, as given, for which `add` would return an existing claim."""
    claimable: dict[str, str] = {}
    for name in names:
        with suppress(InvalidHostname):
            claimable[name] = claimable_name(name, covers_subdomains=covers_subdomains)
    found = await queries.select_claims_to(connection, account_id, list(claimable.values()))
    claims = {each.name: each for each in found if each.covers_subdomains == covers_subdomains}
    return [(name, claims[known]) for name, known in claimable.items() if known in claims]


async def find(connection: Connection, account_id: UUID, text: str) -> Claim:
    """Return an account's claim to a domain. Raises `InvalidHostname` or `NotFound`."""
    # A claim stays findable even if a newer suffix list no longer allows its name.
    name = canonical_host(text)
    claim = await queries.select_claim(connection, account_id, name)
    if claim is None:
        raise NotFound("domain", name)
    return claim


async def begin(connection: Connection, account_id: UUID, text: str, actor: Actor) -> Claim:
    """Begin a claim's checks, if they have not begun yet. Needs a transaction.

    Raises `InvalidHostname`, `NotFound`, or `LimitReached`.
    """
    claim = await find(connection, account_id, text)
    await allowance.take(connection, "domain checks", str(account_id), CHECKS_AN_HOUR, per="hour")
    now = await queries.lock_domain(connection, claim.name)
    claim = await find(connection, account_id, text)
    if claim.standing.begun_at is None:
        await queries.update_claim(
            connection,
            msgspec.structs.replace(
                claim, standing=begun(claim.standing, now), next_check_at=now + LEASE
            ),
        )
        await audit.record(
            connection, "domain.verification_begun", account_id, actor=actor, domain=claim.name
        )
    return await find(connection, account_id, text)


async def check(
    database: Database,
    resolvers: Sequence[DnsServer],
    claim_id: UUID,
    unless_since: datetime | None = None,
) -> None:
    """Look for a claim's code, and apply what is found, effective with the next call anywhere.

    Skips a claim that is removed or gets another code in the meantime, or that was checked since
    `unless_since`. Raises `Unavailable`.
    """
    async with database.general.connection() as connection:
        claim = await queries.select_claim_by_id(connection, claim_id)
        if claim is None or claim.standing.begun_at is None:
            return
        checked_at = claim.standing.last_checked_at
        if unless_since is not None and checked_at is not None and checked_at >= unless_since:
            return
    finding = await look_up(resolvers, claim.name, claim.code)
    async with database.general.transaction() as connection:
        await apply(connection, claim, finding)


async def apply(connection: Connection, asked: Claim, finding: Finding) -> None:
    """Apply what was found for a claim as it was when asked. Needs a transaction.

    A suspended account gains no domain and takes none from others. What it has proven is checked as
    before, so that it is true should the account be reinstated.
    """
    now = await queries.lock_domain(connection, asked.name)
    claim = await queries.select_claim_by_id(connection, asked.id)
    if claim is None or claim.code != asked.code or claim.standing.begun_at is None:
        return
    if not claim.standing.is_verified and not await queries.lock_active_account(
        connection, claim.account_id
    ):
        return
    if (
        finding.outcome != "found"
        and claim.standing.last_checked_at != asked.standing.last_checked_at
    ):
        # Another check of this claim finished in the meantime, so this finding may be older.
        return
    step, proves = _stepped(claim, finding, now)
    values = {value for reply in finding.replies for value in reply.values} - {claim.code}
    own_codes = await queries.select_codes(connection, claim.account_id, values)
    hint = hint_of(
        finding,
        claim.name,
        claim.code,
        own_codes,
        covers_subdomains=claim.covers_subdomains,
    )
    if finding.outcome == "found" and step.standing.reason is not None:
        zone = places_of(claim.name).registrable
        hint = f"the TXT record at {zone}, which covers the subdomains, is missing"
    changed = _with_nameservers(
        msgspec.structs.replace(
            claim,
            standing=step.standing,
            next_check_at=step.next_check_at,
            hint=hint,
            proves_subdomains=proves,
        ),
        finding,
        step.change,
        now,
    )
    await queries.update_claim(connection, changed)
    if finding.outcome == "found":
        await _own(connection, changed, now)
    elif step.change == "lapsed":
        assert step.standing.reason is not None
        await ownerships.end_proven(connection, changed, now, step.standing.reason)
    await _note(connection, claim, changed, step.change, finding, now)


def _stepped(claim: Claim, finding: Finding, now: datetime) -> tuple[Step, bool]:
    """Return what a check makes of a claim, and whether all subdomains are then proven.

    If a verified claim's domain is found but the proof of its subdomains is missing, the subdomains
    lapse as a domain does: in three days, with emails.
    """
    spread = random.random()  # noqa: S311 - it need not be secret
    is_missing = (
        finding.proves_subdomains is False
        and claim.standing.is_verified
        and claim.covers_subdomains
        and claim.proves_subdomains
    )
    outcome: Outcome = "absent" if is_missing else finding.outcome
    step = advanced(claim.standing, outcome, now, reason=finding.reason, spread=spread)
    if not is_missing:
        is_told = finding.proves_subdomains is not None
        return step, bool(finding.proves_subdomains) if is_told else claim.proves_subdomains
    if step.change != "lapsed":
        return step, True
    step = advanced(claim.standing, "found", now, spread=spread)
    return msgspec.structs.replace(step, change=None), False


async def change_coverage(
    connection: Connection, account_id: UUID, text: str, actor: Actor, *, covers_subdomains: bool
) -> Claim:
    """Change whether a claim covers all subdomains. Needs a transaction.

    Narrowing takes effect at once. Widening takes effect once the code is found where it proves
    that; a check for it is due now.

    Raises `InvalidHostname` or `NotFound`.
    """
    claim = await find(connection, account_id, text)
    claimable_name(claim.name, covers_subdomains=covers_subdomains)
    now = await queries.lock_domain(connection, claim.name)
    claim = await find(connection, account_id, text)
    if claim.covers_subdomains == covers_subdomains:
        return claim
    changed = msgspec.structs.replace(claim, covers_subdomains=covers_subdomains)
    is_proven = claim.proves_subdomains and claim.standing.failing_since is None
    if covers_subdomains and claim.standing.is_verified and not is_proven:
        changed = msgspec.structs.replace(changed, next_check_at=now)
    await queries.update_claim(connection, changed)
    await audit.record(
        connection,
        "domain.coverage_changed",
        account_id,
        actor=actor,
        domain=claim.name,
        covers_subdomains=covers_subdomains,
    )
    if claim.method == "dns" and (is_proven or not covers_subdomains):
        await _own(connection, changed, now)
    elif claim.method == "attested" and claim.owns_subdomains:
        await ownerships.narrow(connection, claim, now, actor)
    return await find(connection, account_id, text)


async def remove(connection: Connection, account_id: UUID, text: str, actor: Actor) -> None:
    """Remove a claim and its ownership. Needs a transaction.

    If added again, it has another code.

    Raises `InvalidHostname` or `NotFound`.
    """
    claim = await find(connection, account_id, text)
    now = await queries.lock_domain(connection, claim.name)
    claim = await find(connection, account_id, text)
    await ownerships.end_owned(connection, account_id, claim.name, now, "Removed", actor)
    await queries.update_claim_removed(connection, claim.id, now)
    await queries.insert_evidence(connection, claim.id, now, "removed", None)
    await audit.record(connection, "domain.removed", account_id, actor=actor, domain=claim.name)


async def unproven(connection: Connection, account_id: UUID, *, limit: int) -> list[Claim]:
    """Return claims that need attention: not verified, failing, or at risk."""
    return await queries.select_unproven(connection, account_id, limit)


async def owned_names(connection: Connection, account_id: UUID, *, limit: int) -> list[str]:
    """Return domains that an account owns, by name."""
    claims = await queries.select_claims(
        connection, account_id, after=None, is_verified=True, limit=limit
    )
    return [claim.name for claim in claims]


async def take_due(connection: Connection, limit: int) -> list[UUID]:
    """Return claims due for a check, each to one worker for a while. Needs a transaction."""
    return await queries.take_due_claims(connection, limit, LEASE)


async def due_checks(connection: Connection) -> DueChecks:
    """Return how many checks are due and no worker has taken."""
    return await queries.select_due(connection, OVERDUE)


async def supersede(connection: Connection, account_id: UUID, name: str, now: datetime) -> None:
    """Tell an account that another proved its domain, and give its claim a new code.

    The old code no longer proves the domain.
    """
    claim = await queries.select_claim(connection, account_id, name)
    if claim is not None:
        await queries.update_claim_superseded(connection, claim.id, new_code(), SUPERSEDED)
        await queries.insert_evidence(connection, claim.id, now, "superseded", None)
    await mail_admins(connection, account_id, "domain_superseded", name, domain=name)


async def _own(connection: Connection, claim: Claim, now: datetime) -> None:
    """Let a proven claim's account own the domain, as far as it is proven."""
    former = await ownerships.prove(
        connection,
        claim,
        now,
        covers_subdomains=claim.covers_subdomains and claim.proves_subdomains,
    )
    if former is not None:
        await supersede(connection, former, claim.name, now)


def _with_nameservers(
    claim: Claim, finding: Finding, change: Change | None, now: datetime
) -> Claim:
    """Return a claim, at risk if its name servers are not those from when it was proven."""
    seen = finding.nameservers
    if seen is None or not claim.standing.is_verified:
        return claim
    is_proof = finding.outcome == "found"
    if is_proof and (change == "verified" or claim.nameservers is None or claim.at_risk):
        return msgspec.structs.replace(claim, nameservers=seen, at_risk=False)
    if seen == claim.nameservers or claim.nameservers is None or claim.at_risk:
        return claim
    return msgspec.structs.replace(claim, at_risk=True, next_check_at=now + SOON)


async def _note(
    connection: Connection,
    before: Claim,
    after: Claim,
    change: Change | None,
    finding: Finding,
    now: datetime,
) -> None:
    """Save evidence of what changed, and tell the account what matters to it."""
    what: str | None = change
    if what is None and after.at_risk != before.at_risk:
        what = "nameservers_changed" if after.at_risk else "nameservers_proven"
    elif what is None and after.proves_subdomains != before.proves_subdomains:
        what = "coverage_proven" if after.proves_subdomains else "coverage_lost"
    elif what is None and after.standing.reason != before.standing.reason:
        # For an unverified claim, don't record every failed DNS lookup.
        is_telling = CONNECTION_ERROR not in (before.standing.reason, after.standing.reason)
        what = finding.outcome if is_telling or after.standing.is_verified else None
    if what is None:
        return
    await queries.insert_evidence(
        connection, after.id, now, what, msgspec.json.encode(kept_evidence(finding)).decode()
    )
    if change is None:
        return
    await audit.record(
        connection,
        f"domain.{change}",
        after.account_id,
        actor=audit.SERVICE,
        domain=after.name,
        reason=after.standing.reason,
    )
    if change in _MAILS:
        await mail_admins(
            connection,
            after.account_id,
            _MAILS[change],
            after.name,
            domain=after.name,
            hint=f"{after.hint[0].upper()}{after.hint[1:]}." if after.hint else "",
            code=after.code,
            host=places_of(after.name).registrable,
            until=keeps_until(after.standing, now),
        )
