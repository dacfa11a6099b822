"""Claims: accounts say that they own domains, and prove it by DNS.

A claim reserves nothing and hides from everyone but its account. Fresh proof wins: whoever proves a
domain that another account owns supersedes it, and to win it back the other needs a new code. Whoever
wins or loses learns nothing of the other.
"""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from service import allowance, audit
from service.accounts.members import mail_admins
from service.audit import Actor
from service.errors import Conflict, NotFound
from service.ownership import ownerships, queries
from service.ownership.dns_txt import Finding, hint_of, kept_evidence, look_up, new_code, places_of
from service.ownership.hostname import canonical_host, claimable_name
from service.ownership.records import Claim
from service.ownership.verification import (
    CONNECTION_ERROR,
    SUPERSEDED,
    Change,
    Outcome,
    Step,
    advanced,
    begun,
)
from service.postgres.pools import Connection, Database
from service.settings import DnsServer

NEW_NAMES_AN_HOUR = 20
CHECKS_AN_HOUR = 50

# Whoever has taken a claim to check it has this long, before another does.
LEASE = timedelta(minutes=30)
# When a domain has other name servers than before, it is soon looked at again.
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
    """A claim of an account to a domain, and whether it is new. Needs a transaction.

    Raises `InvalidHostname`, `LimitReached`, and `Conflict` for one it has with another coverage.
    """
    name = claimable_name(text, covers_subdomains=covers_subdomains)
    await queries.lock_claim(connection, account_id, name)
    existing = await queries.select_claim(connection, account_id, name)
    if existing is not None:
        if existing.covers_subdomains != covers_subdomains:
            raise Conflict(f"you already added {name}; change its coverage instead")
        return existing, False
    await allowance.take(
        connection, "domains added", str(account_id), NEW_NAMES_AN_HOUR, per="hour"
    )
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


async def find(connection: Connection, account_id: UUID, text: str) -> Claim:
    """An account's claim to a domain. Raises `InvalidHostname` or `NotFound`."""
    # A name that another release of the suffix list forbids to be claimed is there all the same.
    name = canonical_host(text)
    claim = await queries.select_claim(connection, account_id, name)
    if claim is None:
        raise NotFound("domain", name)
    return claim


async def begin(connection: Connection, account_id: UUID, text: str, actor: Actor) -> Claim:
    """Have a claim's checks begin, if they have not. Needs a transaction.

    Raises `InvalidHostname`, `NotFound` or `LimitReached`.
    """
    claim = await find(connection, account_id, text)
    await allowance.take(connection, "domains checked", str(account_id), CHECKS_AN_HOUR, per="hour")
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
    """Look for a claim's code, and let what is found take effect with the next call anywhere.

    A claim that is removed, or has another code, meanwhile is left alone; so is one that was checked
    since a time that may be given. Raises `Unavailable`.
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
    """Let what was found for a claim, as it was then, take effect. Needs a transaction."""
    now = await queries.lock_domain(connection, asked.name)
    claim = await queries.select_claim_by_id(connection, asked.id)
    if claim is None or claim.code != asked.code or claim.standing.begun_at is None:
        return
    if (
        finding.outcome != "found"
        and claim.standing.last_checked_at != asked.standing.last_checked_at
    ):
        # A look-up that began later has come to its end before.
        return
    step, proves = _stepped(claim, finding, now)
    values = {value for reply in finding.replies for value in reply.values} - {claim.code}
    own_codes = await queries.select_codes(connection, claim.account_id, values)
    hint = hint_of(finding, claim.name, claim.code, own_codes)
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
    """What a check makes of a claim, and whether all subdomains are proven then.

    Where a verified claim's domain is found, and what proved its subdomains is missing, they are lost
    as a domain is: in three days, with mails.
    """
    spread = random.random()  # noqa: S311 - nothing depends on nobody knowing it
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
    """Let a claim cover all subdomains, or not any more. Needs a transaction.

    Less is in force at once; more once the code is found where it proves that, which is looked for now.

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
    """Give up a claim, and the ownership with it; added again, it has another code. Needs a transaction.

    Raises `InvalidHostname` or `NotFound`.
    """
    claim = await find(connection, account_id, text)
    now = await queries.lock_domain(connection, claim.name)
    claim = await find(connection, account_id, text)
    await ownerships.end_owned(connection, account_id, claim.name, now, "Removed", actor)
    await queries.update_claim_removed(connection, claim.id, now)
    await queries.insert_evidence(connection, claim.id, now, "removed", None)
    await audit.record(connection, "domain.removed", account_id, actor=actor, domain=claim.name)


async def take_due(connection: Connection, limit: int) -> list[UUID]:
    """Claims whose check is due, each for one taker, who has a while for it. Needs a transaction."""
    return await queries.take_due_claims(connection, limit, LEASE)


async def supersede(connection: Connection, account_id: UUID, name: str, now: datetime) -> None:
    """Tell an account that another has proven its domain; the code it had proves it no more."""
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
    """A verified claim, and whether its domain has other name servers than when it was proven."""
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
    """Keep the evidence of what is otherwise than before, and tell the account of what matters to it."""
    what: str | None = change
    if what is None and after.at_risk != before.at_risk:
        what = "nameservers_changed" if after.at_risk else "nameservers_proven"
    elif what is None and after.proves_subdomains != before.proves_subdomains:
        what = "coverage_proven" if after.proves_subdomains else "coverage_lost"
    elif what is None and after.standing.reason != before.standing.reason:
        # Of one that was never verified, not each time that the DNS lookup failed.
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
        )
