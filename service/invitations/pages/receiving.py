"""The pages that emails about invitations lead to, where recipients answer them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter

from service.accounts import sign_in
from service.accounts.members import belongs_anywhere, find_user, memberships_of
from service.accounts.records import User
from service.accounts.sign_in import LinkRequest
from service.accounts.visitors import Visitor, form_of, go_on, page, seat_of, user_of
from service.audit import Actor
from service.errors import Conflict, Forbidden, InvalidInput, InvalidName, NoLongerOpen
from service.invitations import acceptance, invitations, opt_outs, queries
from service.invitations.acceptance import TermsChanged, terms_of
from service.invitations.invitations import ASK_FOR_NAME
from service.invitations.records import Invitation, Link
from service.ownership.ownerships import owned_by
from service.ownership.records import Ownership
from service.postgres.pools import Connection, Database
from service.web.bodies import HttpRequest
from service.web.networks import network_of
from service.web.pages import Page

# What a visitor can do about an open invitation.
Way: TypeAlias = Literal[
    "sign_up",  # no user has this address: create a user and an account
    "sign_in",  # a user has this address and must sign in
    "choose",  # the recipient is signed in, and an admin of accounts that can accept
    "join",  # the recipient is signed in, and can join the account
    "not_admin",  # the recipient is signed in, but not an admin of any account that can accept
    "own",  # the recipient is signed in, but belongs only to the inviter's account
    "suspended",  # the recipient is signed in, but belongs only to suspended accounts
    "other_user",  # someone else is signed in
    "replaced",  # a newer email has the link that can accept
]


# How many of an account's domains the page names.
_DOMAINS = 50

_Token = Annotated[str, PathParameter()]


class _Account(msgspec.Struct, frozen=True):
    """An account that can accept, and the domains it would be named as the owner of."""

    id: UUID
    name: str
    domains: Sequence[Ownership]


class _Seen(msgspec.Struct, frozen=True):
    """An invitation as one visitor sees it."""

    invitation: Invitation
    way: Way
    accounts: Sequence[_Account] = ()


@get("/invitations/{token:str}")
async def show_invitation(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Page:
    """Show who invites to what, and what accepting would reveal. Opening the page does nothing."""
    async with database.general.connection() as connection:
        seen = await _look(connection, visitor, token)
    return _invitation(request, visitor, token, seen)


@post("/invitations/{token:str}/accept", status_code=200)
async def accept(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Page:
    """Accept what was shown, for the chosen account or a new one."""
    form = await form_of(request, visitor)
    async with database.general.connection() as connection:
        seen = await _look(connection, visitor, token)
        if seen.way == "sign_up":
            # Outside the transaction below, so that failed attempts count too.
            await acceptance.check_attempts(connection, seen.invitation)
    try:
        async with database.general.transaction() as connection:
            # Look again under the locks: the invitation or the memberships may have changed.
            await queries.lock_invitation(connection, seen.invitation.id)
            await queries.lock_parties(
                connection,
                seen.invitation.inviter_id,
                visitor.session.user.id if visitor.session else None,
            )
            seen = await _look(connection, visitor, token)
            if seen.invitation.state != "pending":
                return _invitation(request, visitor, token, seen)
            if form.get("terms") != terms_of(seen.invitation):
                raise TermsChanged("this invitation changed since you opened it; review it again")
            return await _accept(request, connection, visitor, seen, form)
    except (InvalidInput, Forbidden, Conflict) as error:
        async with database.general.connection() as connection:
            if isinstance(error, InvalidName):
                await acceptance.count_failed_name(connection, seen.invitation)
            seen = await _look(connection, visitor, token)
        status = 422 if isinstance(error, InvalidInput) else 409
        return _invitation(
            request, visitor, token, seen, status=status, error=str(error), form=form
        )


@post("/invitations/{token:str}/decline", status_code=200)
async def decline(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Page:
    """Decline an invitation. The link is enough; no account is needed."""
    await form_of(request, visitor)
    async with database.general.transaction() as connection:
        link = await _link_for(connection, visitor, token)
        if not link.is_current:
            return _invitation(request, visitor, token, _Seen(link.invitation, "replaced"))
        try:
            await invitations.decline(connection, link.invitation.id)
        except NoLongerOpen:
            return _invitation(request, visitor, token, _Seen(link.invitation, "sign_in"))
    return page(request, visitor, "answered", invitation=link.invitation, token=token)


@get("/invitations/{token:str}/unsubscribe")
async def show_stop(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Page:
    """Ask which invitations to stop, and say what that does. Opening the page does nothing."""
    async with database.general.connection() as connection:
        link = await _link_for(connection, visitor, token, stops=True)
    return page(request, visitor, "stop", invitation=link.invitation, token=token)


@post("/invitations/{token:str}/stop", status_code=200)
async def stop(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Page:
    """Opt out of invitations, from this inviter or from everyone."""
    form = await form_of(request, visitor)
    scope = form.get("scope", "")
    if scope not in ("inviter", "all"):
        raise InvalidInput("scope", scope, "inviter or all")
    return await _stop(request, visitor, database, token, of_all=scope == "all")


@post("/invitations/{token:str}/unsubscribe", status_code=200)
async def unsubscribe(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Page:
    """Handle a mail program's one-click opt-out (RFC 8058). No page sends it: the token must do."""
    if (await request.form()).get("List-Unsubscribe") != "One-Click":
        raise InvalidInput("List-Unsubscribe", "…", "“One-Click” (RFC 8058)")
    return await _stop(request, visitor, database, token, of_all=True)


@get("/opt-outs")
async def show_opt_outs(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Show which invitations the user stopped."""
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/opt-outs")
        stopped = await opt_outs.opt_outs_of(connection, seat.user.email)
    return page(request, visitor, "opt_outs", seat=seat, stopped=stopped)


@post("/opt-outs", status_code=200)
async def end_opt_out(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Allow an inviter's, or everyone's, invitations to the user again."""
    form = await form_of(request, visitor)
    email = user_of(visitor, "/opt-outs").email
    async with database.general.transaction() as connection:
        for each in await opt_outs.opt_outs_of(connection, email):
            if str(each.inviter_id or "everyone") == form.get("inviter"):
                await opt_outs.allow_again(connection, email, each.inviter_id)
    return go_on(request, "/opt-outs")


@get("/opt-outs/{token:str}")
async def show_opt_out(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Page:
    """Ask whether to undo an opt-out. Opening the page does nothing."""
    async with database.general.connection() as connection:
        found = await opt_outs.find_by_token(connection, token)
    _require_recipient(visitor, found.email)
    return page(request, visitor, "opt_out", stopped=found, token=token, is_undone=False)


@post("/opt-outs/{token:str}", status_code=200)
async def undo_opt_out(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Page:
    """Undo an opt-out by the link in the email that confirmed it."""
    await form_of(request, visitor)
    async with database.general.transaction() as connection:
        found = await opt_outs.find_by_token(connection, token)
        _require_recipient(visitor, found.email)
        await opt_outs.allow_again(connection, found.email, found.inviter_id)
        left = await opt_outs.opt_outs_of(connection, found.email)
    return page(
        request,
        visitor,
        "opt_out",
        stopped=found,
        token=token,
        is_undone=True,
        is_all_stopped=any(each.inviter_id is None for each in left),
    )


@post("/invitations/{token:str}/sign-in", status_code=200)
async def ask_for_link(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Page:
    """Email a sign-in link to the invited address. It leads back to the invitation."""
    await form_of(request, visitor)
    async with database.general.transaction() as connection:
        link = await _link_for(connection, visitor, token)
        if not link.is_current:
            return _invitation(request, visitor, token, _Seen(link.invitation, "replaced"))
        await sign_in.request_link(
            connection,
            LinkRequest(
                link.invitation.email,
                link.invitation.id if link.invitation.state == "pending" else None,
            ),
            browser=visitor.token,
            network=network_of(request),
        )
    return page(request, visitor, "link_sent", email=link.invitation.email)


async def _stop(
    request: HttpRequest, visitor: Visitor, database: Database, token: str, *, of_all: bool
) -> Page:
    async with database.general.transaction() as connection:
        link = await _link_for(connection, visitor, token, stops=True)
        await opt_outs.opt_out(connection, request.app.state.secret, link.invitation, of_all=of_all)
    return page(request, visitor, "stopped", invitation=link.invitation, of_all=of_all)


async def _link_for(
    connection: Connection, visitor: Visitor, token: str, *, stops: bool = False
) -> Link:
    """Return what a link leads to. Raises `NotFound`, or `Forbidden` to anyone else who signed in."""
    link = await invitations.find_by_token(connection, token, stops=stops)
    _require_recipient(visitor, link.invitation.email)
    return link


def _require_recipient(visitor: Visitor, email: str) -> None:
    if visitor.session and visitor.session.user.email != email:
        raise Forbidden(f"this link is for {email}; sign out, then open it again")


async def _look(connection: Connection, visitor: Visitor, token: str) -> _Seen:
    """Return an invitation, and what this visitor can do about it. Raises `NotFound`."""
    link = await invitations.find_by_token(connection, token)
    invitation = link.invitation
    user = visitor.session.user if visitor.session else None
    if not link.is_current:
        return _Seen(invitation, "replaced")
    if user is None:
        is_known = await find_user(connection, invitation.email) is not None
        return _Seen(invitation, "sign_in" if is_known else "sign_up")
    if user.email != invitation.email:
        return _Seen(invitation, "other_user")
    if invitation.reason == "join_account":
        return _Seen(invitation, "join")
    memberships = await memberships_of(connection, user.id)
    if not memberships:
        is_suspended = await belongs_anywhere(connection, user.id)
        return _Seen(invitation, "suspended" if is_suspended else "sign_up")
    others = [each for each in memberships if each.account_id != invitation.inviter_id]
    if not others:
        return _Seen(invitation, "own")
    accounts = [
        _Account(
            each.account_id,
            each.name,
            await owned_by(connection, each.account_id, limit=_DOMAINS + 1),
        )
        for each in others
        if each.role == "admin"
    ]
    return _Seen(invitation, "choose" if accounts else "not_admin", accounts)


async def _accept(
    request: HttpRequest,
    connection: Connection,
    visitor: Visitor,
    seen: _Seen,
    form: Mapping[str, str],
) -> Page:
    """Accept in the way that is open to this visitor.

    Who opened a forwarded email is not its recipient. So accepting begins no session: the mailbox is
    asked once more, with a link to sign in.
    """
    invitation, session = seen.invitation, visitor.session
    signed_in = session.user if session else None
    if invitation.reason == "join_account" and seen.way in ("join", "sign_up"):
        your_name = form.get("your_name") if session is None or not session.user.name else None
        user = await acceptance.join(connection, invitation.id, signed_in, your_name)
        return await _go_on_as(request, connection, visitor, invitation, user, "/connections")
    match seen.way:
        case "sign_up":
            user, account = await acceptance.sign_up(
                connection,
                invitation.id,
                signed_in,
                form.get("company", ""),
                form.get("your_name", ""),
            )
            account_id = account.id
        case "choose":
            assert session is not None
            user = session.user
            chosen = [each for each in seen.accounts if str(each.id) == form.get("account_id")]
            if not chosen:
                raise InvalidInput(
                    "account", form.get("account_id", ""), "one of the accounts shown"
                )
            account_id = chosen[0].id
        case _:
            raise Forbidden("you can't accept this invitation")
    accepted = await acceptance.accept(
        connection,
        invitation.id,
        account_id,
        Actor("user", account_id, user.id),
        shows_name="shows_name" in form if ASK_FOR_NAME.get(invitation.reason) else None,
    )
    path = f"/connections/{accepted.connection_id}?accepted=1"
    return await _go_on_as(request, connection, visitor, invitation, user, path)


async def _go_on_as(
    request: HttpRequest,
    connection: Connection,
    visitor: Visitor,
    invitation: Invitation,
    user: User,
    path: str,
) -> Page:
    """Go on to a page, or let the mailbox show that the visitor is that user first."""
    if visitor.session is not None:
        return go_on(request, path)
    await sign_in.queue_link(connection, LinkRequest(user.email, next_path=path))
    return page(request, visitor, "accepted", invitation=invitation)


def _invitation(
    request: HttpRequest,
    visitor: Visitor,
    token: str,
    seen: _Seen,
    *,
    status: int = 200,
    error: str | None = None,
    form: Mapping[str, str] | None = None,
) -> Page:
    """Return the page of an invitation: what the visitor can do, or how it ended."""
    if seen.invitation.state != "pending" or seen.way == "replaced":
        status = 410
    return page(
        request,
        visitor,
        "invitation",
        status=status,
        invitation=seen.invitation,
        way=seen.way,
        accounts=seen.accounts,
        terms=terms_of(seen.invitation),
        token=token,
        error=error,
        form=form or {},
        asks_for_name=seen.invitation.reason in ASK_FOR_NAME,
        may_hide_name=ASK_FOR_NAME.get(seen.invitation.reason, False),
        most_domains=_DOMAINS,
    )


handlers = [
    show_invitation,
    accept,
    decline,
    stop,
    show_stop,
    unsubscribe,
    ask_for_link,
    show_opt_outs,
    end_opt_out,
    show_opt_out,
    undo_opt_out,
]
