"""Accepting an invitation: for an account, for a new account, or as a new member."""

import hashlib
from uuid import UUID

import msgspec

from service import allowance, audit
from service.accounts import members
from service.accounts.accounts import create_account, name_of
from service.accounts.records import Account, User
from service.audit import Actor
from service.connections import grants
from service.connections.connections import connect
from service.errors import Conflict, Forbidden, InvalidInput
from service.invitations import queries
from service.invitations.invitations import ASK_FOR_NAME, existing, locked, require_pending
from service.invitations.records import Invitation, Reason
from service.mail.mails import cancel_mails
from service.postgres.pools import Connection

# Attempts a day to sign up with one invitation, and names refused with all of one account. A refusal
# can reveal that a name is taken, and an account could invite itself.
SIGN_UPS_A_DAY = 20
NAMES_REFUSED_A_DAY = 50
_NAMES_REFUSED = "names refused to those an account invited"


class TermsChanged(Conflict):
    """The invitation changed after the acceptor read it."""


async def accept(
    connection: Connection,
    invitation_id: UUID,
    acceptor_id: UUID,
    actor: Actor,
    *,
    shows_name: bool | None = None,
    terms: str | None = None,
) -> Invitation:
    """Accept an invitation to connect for an account, with all its effects. Needs a transaction.

    `shows_name` is whether the inviter may see the acceptor's name, if it asks to; None means what
    the inviter asks for. `terms` are those the acceptor saw; None skips that check. Accepting again
    for the same account changes nothing. The caller must check that the acceptor may answer for
    this address.

    Raises `NotFound`, `NoLongerOpen`, `InvalidInput`, `TermsChanged`, or `Conflict` if it invites
    to join an account, or if the inviter is the acceptor or is suspended.
    """
    invitation = await locked(connection, invitation_id)
    if invitation.reason == "join_account":
        raise Conflict(
            "only the invited person can accept this invitation, by the link in the email"
        )
    if invitation.state == "accepted" and invitation.acceptor_id == acceptor_id:
        return invitation
    await queries.lock_parties(connection, invitation.inviter_id, actor.id)
    # Read again under the lock: the inviter may have been renamed or suspended in the meantime.
    invitation = await existing(connection, invitation_id)
    _require_acceptable(invitation)
    if terms is not None and terms != terms_of(invitation):
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
    return await existing(connection, invitation_id)


async def sign_up(
    connection: Connection, invitation_id: UUID, user: User | None, company: str, your_name: str
) -> tuple[User, Account]:
    """Create an account for the recipient of an invitation to connect. Needs a transaction.

    `user` is the recipient if signed in; without it, a user is created.

    Raises `NotFound`, `NoLongerOpen`, `InvalidInput`, `Conflict` if the inviter is suspended, or
    `Forbidden` if the recipient is a user who isn't signed in, or belongs to an account.
    """
    invitation = await locked(connection, invitation_id)
    _require_acceptable(invitation)
    user = await members.named_user(connection, user, invitation.email, your_name)
    if await members.belongs_anywhere(connection, user.id):
        raise Forbidden("you already belong to an account: accept for that one")
    account = await create_account(connection, company, user.email, founder_id=user.id)
    return user, account


async def check_attempts(connection: Connection, invitation: Invitation) -> None:
    """Count an attempt to sign up. Raises `LimitReached`."""
    await allowance.take(
        connection, "sign-ups with this invitation", str(invitation.id), SIGN_UPS_A_DAY
    )
    inviter_id = str(invitation.inviter_id)
    if await allowance.used_of(connection, _NAMES_REFUSED, inviter_id) >= NAMES_REFUSED_A_DAY:
        # At its limit, this raises.
        await count_failed_name(connection, invitation)


async def count_failed_name(connection: Connection, invitation: Invitation) -> None:
    """Count a name that was refused. Raises `LimitReached`."""
    await allowance.take(
        connection, _NAMES_REFUSED, str(invitation.inviter_id), NAMES_REFUSED_A_DAY, is_told=False
    )


async def join(
    connection: Connection, invitation_id: UUID, user: User | None, your_name: str | None
) -> User:
    """Add the recipient of an invitation to join an account to that account. Needs a transaction.

    `user` is the recipient if signed in; without it, a user is created. `your_name` is the name of
    a user who has none yet.

    Raises `NotFound`, `NoLongerOpen`, `InvalidInput`, `Conflict` if the inviter is suspended, or
    `Forbidden` if the recipient is a user who isn't signed in.
    """
    invitation = await locked(connection, invitation_id)
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


def terms_of(invitation: Invitation) -> str:
    """Return a hash of what an invitation offers: accepting covers these terms and no others."""
    shown = (
        invitation.id,
        invitation.mail_id,
        invitation.inviter_name,
        invitation.reason,
        invitation.role,
    )
    return hashlib.sha256(msgspec.json.encode(shown)).hexdigest()


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


def _require_acceptable(invitation: Invitation) -> None:
    require_pending(invitation)
    if not invitation.is_inviter_active:
        raise Conflict("the account that sent this invitation is suspended")


async def _accept_crossing(
    connection: Connection,
    invitation: Invitation,
    acceptor_id: UUID,
    connection_id: UUID,
    actor: Actor,
) -> None:
    """Also accept what the acceptor sent to the inviter, if it leads to the same connection."""
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
    inviter, acceptor = invitation.inviter_name, await name_of(connection, acceptor_id)
    await members.mail_admins(
        connection,
        invitation.inviter_id,
        "accepted",
        acceptor_id,
        partner=acceptor,
        connection_id=connection_id,
        shows=f"You now see {acceptor} as the owner of its verified domains."
        if shows_name
        else f"{acceptor} doesn’t show you its name as the owner of its domains.",
    )
    await members.mail_admins(
        connection,
        acceptor_id,
        "connected",
        invitation.inviter_id,
        partner=inviter,
        connection_id=connection_id,
        shows=f"{inviter} now sees your name as the owner of your verified domains. You can hide it "
        "at any time."
        if shows_name
        else f"{inviter} doesn’t see your name as the owner of your domains.",
    )
