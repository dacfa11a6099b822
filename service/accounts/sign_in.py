"""Passwordless sign-in, by an emailed link that works once, within 15 minutes.

Asking for a link doesn't reveal whether the address has a user: the service does and says the same
for every address. A job finds out, so that an address without a user leaves nothing behind.

Whoever asks in somebody else's name can't keep that person out: while a link is on its way or waits
in the mailbox, no further one is sent, and it stays valid.
"""

from datetime import timedelta
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from service import allowance
from service.accounts import queries
from service.accounts.records import Session, SignInLink, User
from service.errors import InvalidLink, NoLongerOpen
from service.mail.mails import queue_mail
from service.postgres.pools import Connection
from service.processes.queue import enqueue
from service.tokens import digest_of, link_token, new_token

LINK_LASTS = timedelta(minutes=15)
SESSION_LASTS = timedelta(days=14)

# No link is sent while an unused one is younger than this, and, once so many were sent in an hour and
# not used, than the longer time. A link lasts longer than either.
NEXT_LINK_AFTER = timedelta(minutes=2)
NEXT_UNUSED_LINK_AFTER = timedelta(minutes=10)
UNUSED_AN_HOUR = 5

# How often a browser, and all those of one network, may ask for a link.
ASKED_BY_BROWSER = 20
ASKED_BY_NETWORK = 200

JOB = "send_sign_in_link"

sessions_of = queries.select_live_sessions


class SignedIn(msgspec.Struct, frozen=True):
    """The token of a new session, which is stored nowhere else, and the link that started it."""

    token: str
    link: SignInLink


class LinkRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asks to sign in, and where the link leads: to an invitation or a page."""

    email: str
    invitation_id: UUID | None = None
    next_path: str | None = None


async def request_link(
    connection: Connection, request: LinkRequest, *, browser: str, network: str | None
) -> None:
    """Let a job email a sign-in link to the user of an address, if there is one. Needs a transaction.

    `browser` and `network`, if known, are where the request comes from. Raises `LimitReached`, for
    them alone.
    """
    for what, whose, limit in (
        ("sign-in links to this browser", browser, ASKED_BY_BROWSER),
        ("sign-in links to your network", network, ASKED_BY_NETWORK),
    ):
        if whose is not None:
            await allowance.take(connection, what, whose, limit, per="hour", is_told=False)
    await queue_link(connection, request)


async def queue_link(connection: Connection, request: LinkRequest) -> None:
    """Let a job email a sign-in link that the service itself has reason for. Needs a transaction."""
    await enqueue(connection, JOB, msgspec.json.encode(request))


async def send_link(connection: Connection, secret: bytes, request: LinkRequest) -> None:
    """Email a sign-in link, unless the address has no user or a link already. Needs a transaction."""
    user = await queries.lock_user(connection, request.email)
    if user is None:
        return
    sent = await queries.select_unused_links(connection, request.email)
    pause = NEXT_UNUSED_LINK_AFTER if len(sent) >= UNUSED_AN_HOUR else NEXT_LINK_AFTER
    if sent and sent[0] < pause:
        return
    mail_id = uuid7()
    expires_at = await queries.insert_sign_in_link(
        connection,
        mail_id,
        request.email,
        digest_of(link_token(secret, mail_id)),
        request.invitation_id,
        request.next_path,
        LINK_LASTS,
    )
    await queue_mail(
        connection,
        "sign_in",
        request.email,
        mail_id=mail_id,
        not_after=expires_at,
        params={"expires_at": expires_at},
    )


async def find_link(connection: Connection, token: str) -> SignInLink:
    """Return a valid link. Raises `NotFound`, or `NoLongerOpen` if it was used or has expired."""
    link = await look_up(connection, token)
    if link is None:
        raise InvalidLink("this sign-in link isn't valid; request a new one")
    if link.used_at is not None:
        raise NoLongerOpen(
            "this link was already used, maybe by a program that checks your email; request a new one"
        )
    if link.is_expired:
        raise NoLongerOpen("this link expired; request a new one")
    return link


async def look_up(connection: Connection, token: str) -> SignInLink | None:
    """Return a link, valid or not, or None if there is none, such as a day after it expired."""
    return await queries.select_sign_in_link(connection, digest_of(token))


async def sign_in(connection: Connection, token: str, former: Session | None) -> SignedIn:
    """Use a link: end the browser's former session and start a new one. Needs a transaction.

    Raises `NotFound` or `NoLongerOpen`.
    """
    link = await find_link(connection, token)
    user = await queries.lock_user(connection, link.email)
    if not await queries.update_sign_in_link_used(connection, digest_of(token)):
        raise NoLongerOpen("this link was already used; request a new one")
    if user is None:
        raise InvalidLink("this sign-in link isn't valid; request a new one")
    return SignedIn(await start_session(connection, user, former), link)


async def mail_of_invitation(connection: Connection, link: SignInLink) -> UUID | None:
    """Return the email of the invitation that a sign-in link leads to, if it leads to one."""
    if link.invitation_id is None:
        return None
    return await queries.select_mail_of_invitation(connection, link.invitation_id)


async def start_session(connection: Connection, user: User, former: Session | None) -> str:
    """End the browser's former session, and return the token of a new one. Needs a transaction."""
    if former is not None:
        await queries.end_session(connection, former.id)
    token = new_token()
    await queries.insert_session(connection, uuid7(), user.id, digest_of(token), SESSION_LASTS)
    return token


async def sign_out(connection: Connection, session: Session, *, everywhere: bool) -> None:
    """End a session, or all of its user's sessions."""
    if everywhere:
        await queries.lock_user(connection, session.user.email)
        await queries.end_sessions(connection, session.user)
    else:
        await queries.end_session(connection, session.id)


async def purge(connection: Connection) -> None:
    """Delete links and sessions a day after they expire."""
    await queries.delete_expired_sign_ins(connection)
