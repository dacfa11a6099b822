"""Opt-outs: whoever reads a mailbox stops invitations to it, and can allow them again.

An opt-out is from one inviter or from everyone. It spares invitations to join an account, since
those are about colleagues, unless the recipient opts out by the link of such an invitation.
"""

from uuid import UUID

from uuid_utils.compat import uuid7

from service import allowance, audit
from service.errors import InvalidLink, LimitReached
from service.invitations import queries
from service.invitations.invitations import decline_all
from service.invitations.records import Invitation, OptOut
from service.mail.mails import queue_mail
from service.postgres.pools import Connection
from service.tokens import digest_of, link_token

# Emails to one address that confirm an opt-out.
CONFIRMATIONS_A_DAY = 5

opt_outs_of = queries.select_opt_outs


async def opt_out(
    connection: Connection, secret: bytes, invitation: Invitation, *, of_all: bool
) -> None:
    """Opt an invitation's recipient out, from this inviter or `of_all`. Needs a transaction.

    Pending invitations that this covers are declined, and an email to the recipient says how to
    undo it. By the link of an invitation to join an account, it is always from this inviter.
    """
    joins = invitation.reason == "join_account"
    inviter_id = None if of_all and not joins else invitation.inviter_id
    inviter_name = None if inviter_id is None else invitation.inviter_name
    is_new = await queries.insert_opt_out(
        connection, invitation.email, inviter_id, inviter_name, covers_joining=joins
    )
    unwanted = await queries.select_unwanted_ids(connection, invitation.email)
    await decline_all(connection, unwanted, "invitation.opted_out")
    if not is_new:
        return
    await audit.record(
        connection,
        "recipient.opted_out",
        invitation.inviter_id,
        actor=audit.RECIPIENT,
        email=invitation.email,
    )
    await _confirm(connection, secret, invitation.email, inviter_id, inviter_name)


async def find_by_token(connection: Connection, token: str) -> OptOut:
    """Return the opt-out that an emailed link can undo. Raises `NotFound`."""
    found = await queries.select_opt_out_of_token(connection, digest_of(token))
    if found is None:
        raise InvalidLink("you already allowed these invitations again, or this link isn't valid")
    return found


async def allow_again(connection: Connection, email: str, inviter_id: UUID | None) -> None:
    """End an opt-out from one inviter, or from everyone. Needs a transaction.

    Ending it again changes nothing.
    """
    if await queries.delete_opt_out(connection, email, inviter_id):
        whom = [] if inviter_id is None else [inviter_id]
        await audit.record(
            connection, "recipient.allowed_again", *whom, actor=audit.RECIPIENT, email=email
        )


async def _confirm(
    connection: Connection,
    secret: bytes,
    email: str,
    inviter_id: UUID | None,
    inviter_name: str | None,
) -> None:
    try:
        mailbox = await queries.select_mailbox(connection, email)
        await allowance.take(
            connection, "opt-outs confirmed to", mailbox, CONFIRMATIONS_A_DAY, is_told=False
        )
    except LimitReached:
        return
    mail_id = uuid7()
    await queries.update_opt_out_token(
        connection, email, inviter_id, digest_of(link_token(secret, mail_id))
    )
    await queue_mail(
        connection,
        "opted_out",
        email,
        mail_id=mail_id,
        params={
            "email": email,
            "inviter": inviter_name,
        },
    )
