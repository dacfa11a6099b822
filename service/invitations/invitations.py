"""Invitations: one account asks whoever reads a mailbox to connect, or to join it.

pending → accepted | declined | cancelled | expired, and by being sent again expired → pending. Each
change is made under the lock of the invitation's row, with its effect, its events and its mails.

| reason                      | inviter is the | effect of accepting                               |
|-----------------------------|----------------|---------------------------------------------------|
| receive_leads               | buyer          | connection                                        |
| send_leads                  | seller         | connection                                        |
| domain_ownership_visibility | buyer          | connection, and a grant: acceptor → inviter       |
| confirm_domain_ownership    | buyer          | connection, and that grant unless it is unticked  |
| share_lead_quality_reports  | buyer          | connection                                        |
| join_account                | –              | the user becomes a member of the inviting account |
"""

import hashlib
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from service import allowance, audit
from service.accounts import members
from service.accounts.accounts import checked_email, create_account, name_of
from service.accounts.names import has_link, has_unseen
from service.accounts.records import Account, Role, User
from service.audit import Actor
from service.connections import grants
from service.connections.connections import connect, find_partner, partners_of_email
from service.connections.records import Partner
from service.errors import Conflict, Forbidden, InvalidInput, NoLongerOpen, NotFound
from service.invitations import queries
from service.invitations.records import Invitation, InvitationState, Reason
from service.mail.mails import cancel_mails, queue_mail
from service.postgres.pools import Connection
from service.tokens import digest_of, link_token

LASTS = timedelta(days=30)

# How many invitations a day may be sent by one account, by it to one address, to one address at all, and
# to one mail domain: so many that one account alone keeps no other from inviting.
PER_INVITER = 200
PER_INVITER_AND_RECIPIENT = 5
PER_RECIPIENT = 20
PER_DOMAIN = 2000

SIGN_UPS_A_DAY = 20
"""How often a name may be tried with one invitation: each attempt tells whether a name is taken."""

MAX_NOTE = 500
MAX_LABEL = 1000

# Those that ask the acceptor to let the inviter see its name, and whether it may accept without that.
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


class TermsChanged(Conflict):
    """What was accepted is not what there is to accept."""


class Sent(msgspec.Struct, frozen=True):
    """An invitation that is pending, and whether it is new."""

    invitation: Invitation
    is_new: bool


class GrantRequested(msgspec.Struct, frozen=True):
    """In place of an invitation: a partner was asked for a grant, and whether that is new."""

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

    One that is invited already, for the same reason, is not invited again. Where the two are connected
    already, a reason that asks for a name becomes a request for a grant. Who has opted out is not sent
    the mail.

    Raises `InvalidInput`, `LimitReached`, and `Conflict` where there is nothing to invite to any more.
    """
    email = checked_email(email)
    note, vendor_label = checked_note(note), _checked_label(vendor_label)
    # One at a time for an inviter: so there is one pending invitation, and whoever asks again gets it.
    await queries.lock_inviter(connection, inviter_id)
    pending = await queries.select_pending_invitation(connection, inviter_id, email, reason)
    if pending is not None:
        if pending.state == "pending":
            if pending.role != role:
                raise Conflict(
                    f"this address is invited as {pending.role}; cancel that invitation first"
                )
            return Sent(pending, is_new=False)
        await queries.lock_invitation(connection, pending.id)
        await _end(connection, pending, "expired", audit.SERVICE)
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
        digest_of(link_token(secret, mail_id)),
    )
    await audit.record(
        connection,
        "invitation.created",
        inviter_id,
        actor=actor,
        invitation_id=invitation_id,
        email=email,
        reason=reason,
    )
    return Sent(await _existing(connection, invitation_id), is_new=True)


async def resend(
    connection: Connection, secret: bytes, inviter_id: UUID, invitation_id: UUID, actor: Actor
) -> Invitation:
    """Send a pending or expired invitation again, for its whole time. Needs a transaction.

    The link in former mails is good no more.

    Raises `NotFound`, `LimitReached`, and `Conflict` where it was answered, withdrawn, or made anew.
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
    await queries.update_invitation_resent(
        connection, invitation_id, expires_at, mail_id, digest_of(link_token(secret, mail_id))
    )
    await audit.record(
        connection,
        "invitation.resent",
        inviter_id,
        actor=actor,
        invitation_id=invitation_id,
        email=invitation.email,
    )
    return await _existing(connection, invitation_id)


async def cancel(
    connection: Connection, inviter_id: UUID, invitation_id: UUID, actor: Actor
) -> Invitation:
    """Withdraw an invitation; a mail that was not sent yet is not sent. Needs a transaction.

    Withdrawing again changes nothing. Raises `NotFound` or `NoLongerOpen`.
    """
    invitation = await _locked_of(connection, inviter_id, invitation_id)
    if invitation.state == "cancelled":
        return invitation
    _require_pending(invitation)
    await _end(connection, invitation, "cancelled", actor)
    return await _existing(connection, invitation_id)


async def decline(connection: Connection, invitation_id: UUID) -> None:
    """Decline an invitation; the inviter is told. Needs a transaction. Again, it changes nothing.

    Raises `NotFound` or `NoLongerOpen`.
    """
    invitation = await _locked(connection, invitation_id)
    if invitation.state == "declined":
        return
    _require_pending(invitation)
    await _decline(connection, invitation)


async def opt_out(connection: Connection, invitation_id: UUID, *, of_all: bool) -> None:
    """Let an invitation's recipient have no more of them, from that inviter or at all, for good.

    What is pending of those is declined. Needs a transaction. Raises `NotFound`.
    """
    invitation = await _existing(connection, invitation_id)
    inviter_id = None if of_all else invitation.inviter_id
    await queries.insert_opt_out(connection, invitation.email, inviter_id)
    for pending_id in await queries.select_pending_ids(connection, invitation.email, inviter_id):
        pending = await _existing(connection, pending_id)
        if pending.state == "pending":
            await _decline(connection, pending)


async def accept(
    connection: Connection,
    invitation_id: UUID,
    acceptor_id: UUID,
    actor: Actor,
    *,
    shows_name: bool | None = None,
    terms: str | None = None,
) -> Invitation:
    """Accept an invitation to connect for an account, with all that follows. Needs a transaction.

    `shows_name` is whether the inviter may see the acceptor's name, where it asks for that; None means
    what it asks for. `terms` are those of what was shown, and None of who does not say. Accepting
    again for the same account changes nothing. That the acceptor may accept what was sent to this
    address is for the caller to see to.

    Raises `NotFound`, `NoLongerOpen`, `InvalidInput`, and `Conflict` where the inviter is the acceptor
    or is suspended.
    """
    invitation = await _locked(connection, invitation_id)
    if invitation.reason == "join_account":
        raise Conflict(
            "only the invited person can accept this invitation, by the link in the email"
        )
    if invitation.state == "accepted" and invitation.acceptor_id == acceptor_id:
        return invitation
    _require_acceptable(invitation)
    await queries.lock_parties(connection, invitation.inviter_id, actor.id)
    if terms is not None and terms != terms_of(await _existing(connection, invitation_id)):
        raise TermsChanged("this invitation changed since you read it; review it again")
    if invitation.inviter_id == acceptor_id:
        raise Conflict("an account can't accept its own invitation")
    shows_name = _checked_shows_name(invitation.reason, shows_name)
    buyer_id, seller_id = invitation.inviter_id, acceptor_id
    if invitation.reason == "send_leads":
        buyer_id, seller_id = seller_id, buyer_id
    connection_id = await connect(
        connection,
        buyer_id=buyer_id,
        seller_id=seller_id,
        actor=actor,
        invitation_id=invitation_id,
    )
    if shows_name:
        await grants.grant(
            connection,
            owner_id=acceptor_id,
            viewer_id=invitation.inviter_id,
            actor=actor,
            invitation_id=invitation_id,
        )
    await queries.end_invitation(connection, invitation_id, "accepted", acceptor_id, connection_id)
    await cancel_mails(connection, invitation_id)
    await audit.record_between(
        connection,
        "invitation.accepted",
        invitation.inviter_id,
        acceptor_id,
        actor=actor,
        invitation_id=invitation_id,
        email=invitation.email,
        reason=invitation.reason,
        shows_name=shows_name,
    )
    await _accept_crossing(connection, invitation, acceptor_id, connection_id, actor)
    await _tell_accepted(connection, invitation, acceptor_id, connection_id, shows_name)
    return await _existing(connection, invitation_id)


async def sign_up(
    connection: Connection, invitation_id: UUID, user: User | None, company: str, your_name: str
) -> tuple[User, Account]:
    """A new account for the recipient of an invitation to connect. Needs a transaction.

    `user` is the recipient, if it is signed in; otherwise it becomes a user.

    Raises `NotFound`, `NoLongerOpen`, `InvalidInput`, and `Forbidden` for who is a user without being
    signed in, or belongs to an account.
    """
    invitation = await _locked(connection, invitation_id)
    _require_acceptable(invitation)
    user = await members.named_user(connection, user, invitation.email, your_name)
    if await members.belongs_anywhere(connection, user.id):
        raise Forbidden("you already belong to an account: accept for that one")
    account = await create_account(connection, company, user.email, founder_id=user.id)
    return user, account


async def join(
    connection: Connection, invitation_id: UUID, user: User | None, your_name: str | None
) -> User:
    """Make the recipient of an invitation to join an account a member of it. Needs a transaction.

    `user` is the recipient, if it is signed in; otherwise it becomes a user. `your_name` is that of a
    user who has none yet.

    Raises `NotFound`, `NoLongerOpen`, `InvalidInput`, and `Forbidden` for who is a user without being
    signed in.
    """
    invitation = await _locked(connection, invitation_id)
    _require_acceptable(invitation)
    assert invitation.role is not None
    if user is None or your_name is not None:
        user = await members.named_user(connection, user, invitation.email, your_name or "")
    actor = Actor("user", invitation.inviter_id, user.id)
    await members.add_member(connection, invitation.inviter_id, user.id, invitation.role, actor)
    await queries.end_invitation(connection, invitation_id, "accepted", invitation.inviter_id)
    await cancel_mails(connection, invitation_id)
    await audit.record(
        connection,
        "invitation.accepted",
        invitation.inviter_id,
        actor=actor,
        invitation_id=invitation_id,
        email=invitation.email,
        reason=invitation.reason,
    )
    return user


async def expire_due(connection: Connection) -> int:
    """Note which invitations are past their end: how many, of a bounded number. Needs a transaction."""
    expired = await queries.expire_invitations(connection)
    for invitation_id, inviter_id, email in expired:
        await audit.record(
            connection,
            "invitation.expired",
            inviter_id,
            actor=audit.SERVICE,
            invitation_id=invitation_id,
            email=email,
        )
    return len(expired)


async def find_by_token(connection: Connection, token: str) -> Invitation:
    """The invitation that a mailed link leads to, open or not. Raises `NotFound`."""
    invitation = await queries.select_invitation_of_token(connection, digest_of(token))
    if invitation is None:
        raise NotFound("invitation", "…")
    return invitation


def terms_of(invitation: Invitation) -> str:
    """What stands for all that an invitation shows: who accepts, accepts these terms and no others."""
    shown = (
        invitation.id,
        invitation.mail_id,
        invitation.inviter_name,
        invitation.reason,
        invitation.role,
    )
    return hashlib.sha256(msgspec.json.encode(shown)).hexdigest()


def checked_note(note: str | None) -> str | None:
    """A personal note as it is kept; None if it is blank. Raises `InvalidInput`."""
    if note is None or not note.strip():
        return None
    lines = note.replace("\r\n", "\n").strip().split("\n")
    if len(note) > MAX_NOTE or has_unseen("".join(lines)):
        raise InvalidInput("note", note, f"at most {MAX_NOTE} visible characters")
    if has_link(note):
        raise InvalidInput("note", note, "text without web addresses")
    return "\n".join(lines)


def _checked_label(label: str | None) -> str | None:
    if label is None or not label.strip():
        return None
    if len(label) > MAX_LABEL or "\0" in label:
        raise InvalidInput("vendor_label", label, f"at most {MAX_LABEL} characters")
    return label.strip()


def _checked_shows_name(reason: Reason, shows_name: bool | None) -> bool:
    if reason not in ASK_FOR_NAME:
        if shows_name:
            raise InvalidInput(
                "shows_name", "true", "omitted: the inviter does not ask to see your name"
            )
        return False
    if shows_name is False and not ASK_FOR_NAME[reason]:
        raise InvalidInput(
            "shows_name", "false", "true: the inviter asks for nothing else, so decline instead"
        )
    return shows_name is not False


def _require_pending(invitation: Invitation) -> None:
    if invitation.state != "pending":
        raise NoLongerOpen(_ENDED[invitation.state])


def _require_acceptable(invitation: Invitation) -> None:
    _require_pending(invitation)
    if not invitation.is_inviter_active:
        raise Conflict("the account that sent this invitation is suspended")


async def _existing(connection: Connection, invitation_id: UUID) -> Invitation:
    invitation = await queries.select_invitation(connection, invitation_id)
    if invitation is None:
        raise NotFound("invitation", str(invitation_id))
    return invitation


async def _locked(connection: Connection, invitation_id: UUID) -> Invitation:
    """The invitation as it is, and stays until this transaction ends."""
    await queries.lock_invitation(connection, invitation_id)
    return await _existing(connection, invitation_id)


async def _locked_of(connection: Connection, inviter_id: UUID, invitation_id: UUID) -> Invitation:
    invitation = await _locked(connection, invitation_id)
    if invitation.inviter_id != inviter_id:
        raise NotFound("invitation", str(invitation_id))
    return invitation


async def _ask_partner(
    connection: Connection, inviter_id: UUID, actor: Actor, email: str, reason: Reason
) -> GrantRequested | None:
    """What becomes of an invitation to someone whose account the inviter is connected to."""
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


async def _spend(connection: Connection, inviter_id: UUID, email: str) -> None:
    """Count an invitation to that address. Raises `LimitReached`, without saying which."""
    domain = email.rpartition("@")[2]
    await allowance.take(connection, "invitations by", str(inviter_id), PER_INVITER)
    await allowance.take(
        connection, "invitations by and to", f"{inviter_id} {email}", PER_INVITER_AND_RECIPIENT
    )
    await allowance.take(connection, "invitations to domain", domain, PER_DOMAIN)
    await allowance.take(connection, "invitations to", email, PER_RECIPIENT)


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
    """Have the mail sent, unless it is not wanted; when the invitation expires."""
    inviter = await name_of(connection, inviter_id)
    expires_at = await queries.select_end(connection, LASTS)
    await queue_mail(
        connection,
        "invitation",
        email,
        mail_id=mail_id,
        subject_id=invitation_id,
        not_after=expires_at,
        suppressed=await queries.has_opted_out(connection, email, inviter_id),
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
    connection: Connection, invitation: Invitation, state: InvitationState, actor: Actor
) -> None:
    await queries.end_invitation(connection, invitation.id, state)
    await cancel_mails(connection, invitation.id)
    await audit.record(
        connection,
        f"invitation.{state}",
        invitation.inviter_id,
        actor=actor,
        invitation_id=invitation.id,
        email=invitation.email,
    )


async def _decline(connection: Connection, invitation: Invitation) -> None:
    """Whoever declined: whether that was by an account is not for the inviter to know."""
    await _end(connection, invitation, "declined", audit.RECIPIENT)
    await members.mail_admins(
        connection,
        invitation.inviter_id,
        "declined",
        invitation.email,
        email=invitation.email,
    )


async def _accept_crossing(
    connection: Connection,
    invitation: Invitation,
    acceptor_id: UUID,
    connection_id: UUID,
    actor: Actor,
) -> None:
    """What the acceptor asked of the inviter, if it was to be connected the same way, is had as well."""
    reasons: list[Reason] = (
        ["receive_leads", "share_lead_quality_reports"]
        if invitation.reason == "send_leads"
        else ["send_leads"]
    )
    for crossing_id in await queries.accept_crossing_invitations(
        connection, acceptor_id, invitation.inviter_id, reasons, connection_id
    ):
        await cancel_mails(connection, crossing_id)
        await audit.record_between(
            connection,
            "invitation.accepted",
            acceptor_id,
            invitation.inviter_id,
            actor=actor,
            invitation_id=crossing_id,
            crossing=invitation.id,
        )


async def _tell_accepted(
    connection: Connection,
    invitation: Invitation,
    acceptor_id: UUID,
    connection_id: UUID,
    shows_name: bool,
) -> None:
    inviter = invitation.inviter_name
    await members.mail_admins(
        connection,
        invitation.inviter_id,
        "accepted",
        acceptor_id,
        partner=await name_of(connection, acceptor_id),
        connection_id=connection_id,
        shows="You now see its name as the owner of its verified domains."
        if shows_name
        else "It doesn’t show you its name as the owner of its domains.",
    )
    await members.mail_admins(
        connection,
        acceptor_id,
        "connected",
        invitation.inviter_id,
        partner=inviter,
        connection_id=connection_id,
        shows="It now sees your name as the owner of your verified domains. You can hide it again."
        if shows_name
        else "It doesn’t see your name as the owner of your domains.",
    )
