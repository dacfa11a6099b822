"""Grants: an owner lets one viewer see its name while they are connected."""

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from service import allowance, audit
from service.accounts.accounts import name_of
from service.accounts.members import mail_admins
from service.audit import Actor
from service.connections import queries
from service.connections.connections import find_partner
from service.connections.records import Outcome
from service.errors import Conflict, LimitReached, NotFound
from service.postgres.pools import Connection

DECLINED_FOR = timedelta(days=30)
"""How long a declined request can't be repeated."""
REQUESTS_A_DAY = 3
"""Grant requests per day from one account to another."""


async def grant(
    connection: Connection,
    *,
    owner_id: UUID,
    viewer_id: UUID,
    actor: Actor = audit.OPERATOR,
    invitation_id: UUID | None = None,
) -> UUID:
    """Let a viewer see an owner's name. Return the grant's id. Needs a transaction.

    Returns the live grant if there is one. Fulfills an open request by the viewer. Emails the
    viewer, unless the operator does it or an accepted invitation causes it.

    Raises `Conflict` if the two are not connected.
    """
    now = await queries.lock_pair(connection, owner_id, viewer_id)
    connection_id = await queries.select_live_connection_between(connection, owner_id, viewer_id)
    if connection_id is None:
        raise Conflict("the two accounts must be connected first")
    await queries.end_grant_request(connection, owner_id, viewer_id, now, "granted")
    live = await queries.select_live_grant(connection, owner_id, viewer_id)
    if live is not None:
        return live
    grant_id = uuid7()
    await queries.insert_grant(connection, grant_id, connection_id, owner_id, viewer_id, now)
    await audit.record_between(
        connection,
        "grant.started",
        owner_id,
        viewer_id,
        actor=actor,
        connection_id=connection_id,
        owner_id=owner_id,
        viewer_id=viewer_id,
        invitation_id=invitation_id,
    )
    if actor.account_id is not None and invitation_id is None:
        await _tell(connection, viewer_id, owner_id, "grant_given", connection_id)
    return grant_id


async def revoke(
    connection: Connection, *, owner_id: UUID, viewer_id: UUID, actor: Actor = audit.OPERATOR
) -> None:
    """Hide an owner's name from a viewer again. Needs a transaction.

    Emails the viewer, unless the operator does it. Raises `NotFound` if there is no live grant.
    """
    now = await queries.lock_pair(connection, owner_id, viewer_id)
    if not await queries.end_grant(connection, owner_id, viewer_id, now):
        raise NotFound("grant of", f"{owner_id} to {viewer_id}")
    connection_id = await queries.select_live_connection_between(connection, owner_id, viewer_id)
    await audit.record_between(
        connection,
        "grant.ended",
        owner_id,
        viewer_id,
        actor=actor,
        connection_id=connection_id,
        owner_id=owner_id,
        viewer_id=viewer_id,
    )
    if actor.account_id is not None and connection_id is not None:
        await _tell(connection, viewer_id, owner_id, "grant_withdrawn", connection_id)


async def request_grant(
    connection: Connection, *, owner_id: UUID, viewer_id: UUID, actor: Actor
) -> bool:
    """Ask an owner to let a viewer see its name, unless a request is open. Needs a transaction.

    Returns whether the request is new. Raises `LimitReached`, also for a month after the owner
    declined, or `Conflict` if the two are not connected or the viewer already sees the name.
    """
    now = await queries.lock_pair(connection, owner_id, viewer_id)
    connection_id = await queries.select_live_connection_between(connection, owner_id, viewer_id)
    if connection_id is None:
        raise Conflict("the two accounts must be connected first")
    if await queries.select_live_grant(connection, owner_id, viewer_id) is not None:
        raise Conflict("your partner already shows you its name")
    declined_at = await queries.select_declined(connection, owner_id, viewer_id)
    if declined_at is not None and now < declined_at + DECLINED_FOR:
        raise LimitReached(
            int((declined_at + DECLINED_FOR - now).total_seconds()),
            f"the limit of one request in {DECLINED_FOR.days} days after your partner declined",
        )
    if not await queries.insert_grant_request(
        connection, uuid7(), connection_id, owner_id, viewer_id, now
    ):
        return False
    await allowance.take(
        connection, "requests for this name", f"{viewer_id} {owner_id}", REQUESTS_A_DAY
    )
    await audit.record_between(
        connection,
        "grant.requested",
        owner_id,
        viewer_id,
        actor=actor,
        connection_id=connection_id,
        owner_id=owner_id,
        viewer_id=viewer_id,
    )
    await _tell(connection, owner_id, viewer_id, "grant_requested", connection_id)
    return True


async def end_request(
    connection: Connection, *, owner_id: UUID, viewer_id: UUID, actor: Actor
) -> bool:
    """Decline a grant request as the owner, or withdraw it as the viewer. Needs a transaction.

    Returns whether there was an open request.
    """
    now = await queries.lock_pair(connection, owner_id, viewer_id)
    outcome: Outcome = "declined" if actor.account_id == owner_id else "withdrawn"
    if not await queries.end_grant_request(connection, owner_id, viewer_id, now, outcome):
        return False
    await audit.record_between(
        connection,
        f"grant.request_{outcome}",
        owner_id,
        viewer_id,
        actor=actor,
        owner_id=owner_id,
        viewer_id=viewer_id,
    )
    return True


async def show(connection: Connection, account_id: UUID, connection_id: UUID, actor: Actor) -> None:
    """Show an account's name to a partner. Needs a transaction. Raises `NotFound` or `Conflict`."""
    partner = await find_partner(connection, account_id, connection_id)
    await grant(connection, owner_id=account_id, viewer_id=partner.partner_id, actor=actor)


async def hide(connection: Connection, account_id: UUID, connection_id: UUID, actor: Actor) -> None:
    """Hide an account's name from a partner if it is shown. Needs a transaction.

    Raises `NotFound`.
    """
    partner = await find_partner(connection, account_id, connection_id)
    if partner.name_shown_since is None:
        return
    # Another transaction may have hidden it meanwhile.
    with suppress(NotFound):
        await revoke(connection, owner_id=account_id, viewer_id=partner.partner_id, actor=actor)


async def end_requests(
    connection: Connection, account_id: UUID, connection_id: UUID, actor: Actor
) -> None:
    """Decline a partner's request, and withdraw the account's own. Needs a transaction.

    Raises `NotFound`.
    """
    partner = await find_partner(connection, account_id, connection_id)
    for owner_id, viewer_id in (
        (account_id, partner.partner_id),
        (partner.partner_id, account_id),
    ):
        await end_request(connection, owner_id=owner_id, viewer_id=viewer_id, actor=actor)


async def _tell(
    connection: Connection, account_id: UUID, partner_id: UUID, kind: str, connection_id: UUID
) -> None:
    await mail_admins(
        connection,
        account_id,
        kind,
        partner_id,
        partner=await name_of(connection, partner_id),
        connection_id=connection_id,
    )
