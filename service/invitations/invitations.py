"""Invitations: an account asks whoever reads a mailbox to connect, or to join the account.

pending → accepted | declined | cancelled | expired. Resending: expired → pending. Each change holds
the lock on the invitation's row, and commits together with its effect, its events, and its emails.

| reason                      | inviter is the | effect of accepting                               |
|-----------------------------|----------------|---------------------------------------------------|
| receive_leads               | buyer          | connection                                        |
| send_leads                  | seller         | connection                                        |
| domain_ownership_visibility | buyer          | connection, and a grant: acceptor → inviter       |
| confirm_domain_ownership    | buyer          | connection, and that grant unless it is unchecked |
| share_lead_quality_reports  | buyer          | connection                                        |
| join_account                | –              | the user becomes a member of the inviting account |
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from service import allowance, audit
from service.accounts import members
from service.accounts.accounts import checked_email, name_of
from service.accounts.names import has_link, has_unseen
from service.accounts.records import Role
from service.audit import Actor
from service.connections import grants
from service.connections.connections import find_partner, partners_of_email
from service.connections.records import Partner
from service.errors import Conflict, InvalidInput, InvalidLink, NoLongerOpen, NotFound
from service.invitations import queries
from service.invitations.records import Invitation, InvitationState, Link, Reason
from service.mail.mails import cancel_mails, queue_mail
from service.postgres.pools import Connection
from service.tokens import digest_of, link_token, stop_token

LASTS = timedelta(days=30)

# Invitations per day: by one account, by one account to one address, to one address by anyone, and
# to one mail domain. High enough that one account alone can't keep the others from inviting.
PER_INVITER = 200
PER_INVITER_AND_RECIPIENT = 5
PER_RECIPIENT = 20
PER_DOMAIN = 2000


# How many addresses one request invites at most.
MAX_EMAILS = 50

MAX_NOTE = 500
MAX_LABEL = 1000

# Reasons that ask to see the acceptor's name, and whether it may accept without showing it.
ASK_FOR_NAME: dict[Reason, bool] = {
    "domain_ownership_visibility": False,
    "confirm_domain_ownership": True,
}

_ENDED = {
    "accepted": "this invitation was already accepted",
    "declined": "this invitation was already declined",
    "cancelled": "the inviter canceled this invitation",
    "expired": "this invitation expired",
}


class Sent(msgspec.Struct, frozen=True):
    """A pending invitation, and whether it is new."""

    invitation: Invitation
    is_new: bool


class GrantRequested(msgspec.Struct, frozen=True):
    """A partner that was asked for a grant instead of invited, and whether that is new."""

    partner: Partner
    is_new: bool


Invited: TypeAlias = Sent | GrantRequested


async def invite(
    connection: Connection,
    secret: bytes,
    inviter_id: UUID,
    actor: Actor,
    email: str,
    reason: Reason,
    *,
    role: Role | None = None,
    note: str | None = None,
    vendor_label: str | None = None,
) -> Invited:
    """Invite an address. Needs a transaction.

    Returns the pending invitation if there is one for the same reason. If the two are already
    connected, a reason that asks for a name becomes a request for a grant. A recipient who opted
    out gets no email.

    Raises `InvalidInput`, `LimitReached`, or `Conflict` if the address is already invited in
    another role, a member, or connected, or its account already shows its name.
    """
    email = checked_email(email)
    note, vendor_label = checked_note(note), _checked_label(vendor_label)
    # One at a time per inviter, so that only one invitation is pending and a repeat finds it.
    await queries.lock_inviter(connection, inviter_id)
    pending = await _pending(connection, inviter_id, email, reason, role)
    if pending is not None:
        return Sent(pending, is_new=False)
    if reason == "join_account":
        if await members.is_member(connection, inviter_id, email):
            raise Conflict("this person is already a member of your account")
    else:
        requested = await _ask_partner(connection, inviter_id, actor, email, reason)
        if requested is not None:
            return requested
    await _spend(connection, inviter_id, email)
    invitation_id, mail_id = uuid7(), uuid7()
    expires_at = await _send(
        connection,
        inviter_id,
        mail_id,
        invitation_id,
        email=email,
        reason=reason,
        note=note,
        is_reminder=False,
    )
    await queries.insert_invitation(
        connection,
        invitation_id,
        inviter_id,
        email,
        reason,
        role,
        note,
        vendor_label,
        expires_at,
        mail_id,
    )
    await _link(connection, secret, invitation_id, mail_id)
    await audit.record(
        connection,
        "invitation.created",
        inviter_id,
        actor=actor,
        invitation_id=invitation_id,
        email=email,
        reason=reason,
    )
    return Sent(await existing(connection, invitation_id), is_new=True)


def turn_of(email: str) -> tuple[str, str]:
    """Return a sort key of an address. In its order, concurrent transactions don't deadlock."""
    name, _, domain = email.strip().lower().rpartition("@")
    return domain, name


async def resend(
    connection: Connection, secret: bytes, inviter_id: UUID, invitation_id: UUID, actor: Actor
) -> Invitation:
    """Resend a pending or expired invitation, and restart its lifetime. Needs a transaction.

    The links in earlier emails stop working, except for opting out.

    Raises `NotFound`, `LimitReached`, or `Conflict` if it was answered, canceled, or replaced by a
    newer one.
    """
    await queries.lock_inviter(connection, inviter_id)
    invitation = await _locked_of(connection, inviter_id, invitation_id)
    if invitation.state not in ("pending", "expired"):
        raise NoLongerOpen(_ENDED[invitation.state])
    await _spend(connection, inviter_id, invitation.email)
    await cancel_mails(connection, invitation_id)
    mail_id = uuid7()
    expires_at = await _send(
        connection,
        inviter_id,
        mail_id,
        invitation_id,
        email=invitation.email,
        reason=invitation.reason,
        note=invitation.note,
        is_reminder=True,
    )
    await queries.update_invitation_resent(connection, invitation_id, expires_at, mail_id)
    await _link(connection, secret, invitation_id, mail_id)
    await audit.record(
        connection,
        "invitation.resent",
        inviter_id,
        actor=actor,
        invitation_id=invitation_id,
        email=invitation.email,
    )
    return await existing(connection, invitation_id)


async def cancel(
    connection: Connection, inviter_id: UUID, invitation_id: UUID, actor: Actor
) -> Invitation:
    """Cancel an invitation, and its email if that is still unsent. Needs a transaction.

    Canceling again changes nothing. Raises `NotFound` or `NoLongerOpen`.
    """
    invitation = await _locked_of(connection, inviter_id, invitation_id)
    if invitation.state == "cancelled":
        return invitation
    require_pending(invitation)
    await _end(connection, invitation, "cancelled", actor)
    return await existing(connection, invitation_id)


async def decline(connection: Connection, invitation_id: UUID) -> None:
    """Decline an invitation, and email the inviter's admins. Needs a transaction.

    Declining again changes nothing. Raises `NotFound` or `NoLongerOpen`.
    """
    invitation = await locked(connection, invitation_id)
    if invitation.state == "declined":
        return
    require_pending(invitation)
    await _decline(connection, invitation)


async def decline_all(connection: Connection, ids: Sequence[UUID], action: str) -> None:
    """Decline those of the locked invitations that are pending. `action` goes on record."""
    for invitation_id in ids:
        invitation = await existing(connection, invitation_id)
        if invitation.state == "pending":
            await _decline(connection, invitation, action)


async def expire_due(connection: Connection) -> int:
    """Mark a batch of overdue invitations as expired. Return how many. Needs a transaction.

    Their emails that have not been sent yet are not sent any more.
    """
    expired = await queries.expire_invitations(connection)
    for invitation_id, inviter_id, email in expired:
        await cancel_mails(connection, invitation_id)
        await audit.record(
            connection,
            "invitation.expired",
            inviter_id,
            actor=audit.SERVICE,
            invitation_id=invitation_id,
            email=email,
        )
    return len(expired)


async def find_by_token(connection: Connection, token: str, *, stops: bool = False) -> Link:
    """Return the invitation that an emailed link leads to, open or not. Raises `NotFound`.

    To stop invitations (`stops`), the email's link for just that does, too.
    """
    link = await queries.select_link(connection, digest_of(token), stops=stops)
    if link is None:
        raise InvalidLink("this invitation link isn't valid; look for a newer email")
    return link


async def received_by(
    connection: Connection, account_id: UUID, email: str, *, limit: int
) -> list[Invitation]:
    """Return the invitations to one of an account's people that wait for an answer."""
    return await queries.select_received_invitations(
        connection, account_id, state="pending", email=email, limit=limit
    )


def checked_note(note: str | None) -> str | None:
    """Return a personal note as we store it, or None if it is blank. Raises `InvalidInput`."""
    if note is None or not note.strip():
        return None
    lines = note.replace("\r\n", "\n").strip().split("\n")
    if len(note) > MAX_NOTE or has_unseen("".join(lines)):
        raise InvalidInput("note", note, f"at most {MAX_NOTE} visible characters")
    if has_link(note):
        raise InvalidInput("note", note, "text without web addresses")
    return "\n".join(lines)


async def pending_to(
    connection: Connection,
    inviter_id: UUID,
    emails: Sequence[str],
    reason: Reason,
    role: Role | None,
) -> list[tuple[str, Invitation]]:
    """Return addresses, as given, for which `invite` would return a pending invitation.

    Of one that is given in another form than we keep, apart from its case, only `invite` knows.
    """
    # Not checked like new ones, which takes longer than all the rest.
    kept = {
        email: as_kept
        for email in emails
        if (as_kept := email.strip().lower()).isascii() and as_kept.isprintable()
    }
    found = await queries.select_pending_invitations(
        connection, inviter_id, list(kept.values()), reason
    )
    pending = {each.email: each for each in found if each.state == "pending" and each.role == role}
    return [(email, pending[as_kept]) for email, as_kept in kept.items() if as_kept in pending]


def _checked_label(label: str | None) -> str | None:
    if label is None or not label.strip():
        return None
    if len(label) > MAX_LABEL or "\0" in label:
        raise InvalidInput("vendor_label", label, f"at most {MAX_LABEL} characters")
    return label.strip()


def require_pending(invitation: Invitation) -> None:
    if invitation.state != "pending":
        raise NoLongerOpen(_ENDED[invitation.state])


async def existing(connection: Connection, invitation_id: UUID) -> Invitation:
    invitation = await queries.select_invitation(connection, invitation_id)
    if invitation is None:
        raise NotFound("invitation", str(invitation_id))
    return invitation


async def locked(connection: Connection, invitation_id: UUID) -> Invitation:
    """Return the invitation, locked until the transaction ends."""
    await queries.lock_invitation(connection, invitation_id)
    return await existing(connection, invitation_id)


async def _locked_of(connection: Connection, inviter_id: UUID, invitation_id: UUID) -> Invitation:
    invitation = await locked(connection, invitation_id)
    if invitation.inviter_id != inviter_id:
        raise NotFound("invitation", str(invitation_id))
    return invitation


async def _pending(
    connection: Connection, inviter_id: UUID, email: str, reason: Reason, role: Role | None
) -> Invitation | None:
    """Return the pending invitation like this one, if any. One past its end becomes expired."""
    found = await queries.select_pending_invitations(connection, inviter_id, [email], reason)
    if not found:
        return None
    (pending,) = found
    if pending.state != "pending":
        await queries.lock_invitation(connection, pending.id)
        await _end(connection, pending, "expired", audit.SERVICE)
        return None
    if pending.role != role:
        raise Conflict(f"this address is invited as {pending.role}; cancel that invitation first")
    return pending


async def _ask_partner(
    connection: Connection, inviter_id: UUID, actor: Actor, email: str, reason: Reason
) -> GrantRequested | None:
    """Ask an already connected account for a grant, if the reason asks for a name.

    Returns None if the address is to be invited instead. Raises `Conflict` if neither makes sense.
    """
    partners = await partners_of_email(connection, inviter_id, email)
    if reason not in ASK_FOR_NAME:
        own_side = "seller" if reason == "send_leads" else "buyer"
        if any(partner.role == own_side for partner in partners):
            raise Conflict("you are already connected to this address's account")
        return None
    if not partners:
        return None
    unseen = [partner for partner in partners if partner.partner_name_shown_since is None]
    if not unseen:
        raise Conflict("this address's account already shows you its name")
    is_new = await grants.request_grant(
        connection, owner_id=unseen[0].partner_id, viewer_id=inviter_id, actor=actor
    )
    partner = await find_partner(connection, inviter_id, unseen[0].connection_id)
    return GrantRequested(partner, is_new)


async def _link(connection: Connection, secret: bytes, invitation_id: UUID, mail_id: UUID) -> None:
    await queries.insert_link(
        connection,
        invitation_id,
        mail_id,
        digest_of(link_token(secret, mail_id)),
        digest_of(stop_token(secret, mail_id)),
    )


async def _spend(connection: Connection, inviter_id: UUID, email: str) -> None:
    """Count an invitation to that mailbox. Raises `LimitReached`.

    The limits that others use up, too, are not named.
    """
    domain = email.rpartition("@")[2]
    mailbox = await queries.select_mailbox(connection, email)
    await allowance.take(connection, "invitations", str(inviter_id), PER_INVITER)
    await allowance.take(
        connection,
        "invitations to this address",
        f"{inviter_id} {mailbox}",
        PER_INVITER_AND_RECIPIENT,
    )
    for what, whose, limit in (("to domain", domain, PER_DOMAIN), ("to", mailbox, PER_RECIPIENT)):
        await allowance.take(connection, f"invitations {what}", whose, limit, is_told=False)


async def _send(
    connection: Connection,
    inviter_id: UUID,
    mail_id: UUID,
    invitation_id: UUID,
    *,
    email: str,
    reason: Reason,
    note: str | None,
    is_reminder: bool,
) -> datetime:
    """Queue the email, unless the recipient opted out. Return when the invitation expires."""
    inviter = await name_of(connection, inviter_id)
    expires_at = await queries.select_end(connection, LASTS)
    await queue_mail(
        connection,
        "invitation",
        email,
        mail_id=mail_id,
        subject_id=invitation_id,
        not_after=expires_at,
        suppressed=await queries.has_opted_out(connection, email, inviter_id, reason),
        params={
            "inviter": inviter,
            "reason": reason,
            "note": note,
            "expires_at": expires_at,
            "is_reminder": is_reminder,
        },
    )
    return expires_at


async def _end(
    connection: Connection,
    invitation: Invitation,
    state: InvitationState,
    actor: Actor,
    action: str | None = None,
) -> None:
    await queries.end_invitation(connection, invitation.id, state)
    await cancel_mails(connection, invitation.id)
    await audit.record(
        connection,
        action or f"invitation.{state}",
        invitation.inviter_id,
        actor=actor,
        invitation_id=invitation.id,
        email=invitation.email,
    )


async def _decline(
    connection: Connection, invitation: Invitation, action: str | None = None
) -> None:
    """Record the recipient as the one who declined: the inviter must not learn of an account."""
    await _end(connection, invitation, "declined", audit.RECIPIENT, action)
    await members.mail_admins(
        connection,
        invitation.inviter_id,
        "declined",
        invitation.email,
        email=invitation.email,
    )
