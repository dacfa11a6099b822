"""The pages that mails lead to: an invitation, what it became, and the connections that came of it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from service import allowance
from service.accounts import sign_in
from service.accounts.members import account_of_admin
from service.accounts.queries import (
    Membership,
    User,
    belongs_anywhere,
    select_memberships,
    select_user,
)
from service.accounts.visitors import ERRORS, MAX_FORM, Visitor, form_of, go_on, page
from service.audit import Actor
from service.bodies import HttpRequest
from service.connections import connections, grants, invitations, queries
from service.connections.invitations import (
    ASK_FOR_NAME,
    SIGN_UPS_A_DAY,
    TermsChanged,
    terms_of,
)
from service.connections.queries import Invitation, Partner
from service.database import Connection, Database
from service.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NoLongerOpen,
    NotFound,
)
from service.ownership.queries import Ownership, select_live_ownerships_of

# What whoever looks at an open invitation can do about it.
Way: TypeAlias = Literal[
    "sign_up",  # nobody has this address: a new user, and a new account
    "sign_in",  # somebody has, and has to show it
    "choose",  # the recipient is signed in, and an admin of accounts that can accept
    "join",  # the recipient is signed in, and can join the account
    "not_admin",  # the recipient is signed in, and no admin of any
    "own",  # the recipient is signed in, and belongs to the inviter's account alone
    "suspended",  # the recipient is signed in, and belongs to accounts that are suspended alone
    "other_user",  # somebody else is signed in
]

_Token = Annotated[str, PathParameter()]
_ConnectionId = Annotated[UUID, PathParameter()]


class _Account(msgspec.Struct, frozen=True):
    """An account that can accept, and the domains as whose owner its name would be shown."""

    id: UUID
    name: str
    domains: Sequence[Ownership]


class _Seen(msgspec.Struct, frozen=True):
    """An invitation as it is shown to one visitor."""

    invitation: Invitation
    way: Way
    accounts: Sequence[_Account] = ()


class _Side(msgspec.Struct, frozen=True):
    """A connection as one account of a user sees it."""

    account: Membership
    partner: Partner
    domains: Sequence[Ownership]


@get("/invitations/{token:str}")
async def show_invitation(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Response[Any]:
    """Show who invites to what, and what accepting would show to whom. Nothing is done by looking."""
    async with database.general.connection() as connection:
        seen = await _look(connection, visitor, token)
    return _invitation(request, visitor, token, seen)


@post("/invitations/{token:str}/accept", status_code=200)
async def accept(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Response[Any]:
    """Accept what was shown, for the account that was chosen, or for a new one."""
    form = await form_of(request, visitor)
    async with database.general.connection() as connection:
        seen = await _look(connection, visitor, token)
        if seen.way == "sign_up":
            # For itself, so that attempts that come to nothing count.
            await allowance.take(
                connection, "sign-ups tried", str(seen.invitation.id), SIGN_UPS_A_DAY
            )
    try:
        async with database.general.transaction() as connection:
            # As it is from here on: what was looked at before may have changed.
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
                raise TermsChanged(
                    "this invitation has changed since you opened it. Please look at it once more"
                )
            return await _accept(request, connection, visitor, seen, form)
    except (InvalidInput, Forbidden, Conflict) as error:
        async with database.general.connection() as connection:
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
) -> Response[Any]:
    """Decline. Whoever has the mail can, without an account."""
    await form_of(request, visitor)
    async with database.general.transaction() as connection:
        invitation = await invitations.find_by_token(connection, token)
        try:
            await invitations.decline(connection, invitation.id)
        except NoLongerOpen:
            return _invitation(request, visitor, token, _Seen(invitation, "sign_in"))
    return page(request, visitor, "answered", invitation=invitation, did="declined")


@post("/invitations/{token:str}/stop", status_code=200)
async def stop(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Response[Any]:
    """Have no more invitations: from this inviter, or at all."""
    form = await form_of(request, visitor)
    of_all = form.get("scope") == "all"
    async with database.general.transaction() as connection:
        invitation = await invitations.find_by_token(connection, token)
        await invitations.opt_out(connection, invitation.id, of_all=of_all)
    did = "stopped_all" if of_all else "stopped"
    return page(request, visitor, "answered", invitation=invitation, did=did)


@get("/invitations/{token:str}/unsubscribe")
async def show_stop(request: HttpRequest, token: _Token) -> Response[Any]:
    """Lead whoever opens the link in the mail's header to where it can be said."""
    return go_on(request, f"/invitations/{token}#stop")


@post("/invitations/{token:str}/unsubscribe", status_code=200)
async def unsubscribe(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Response[Any]:
    """What a mail program sends at one click (RFC 8058), from no page: the token alone has to do."""
    if (await request.form()).get("List-Unsubscribe") != "One-Click":
        raise InvalidInput("List-Unsubscribe", "…", "“One-Click” (RFC 8058)")
    async with database.general.transaction() as connection:
        invitation = await invitations.find_by_token(connection, token)
        await invitations.opt_out(connection, invitation.id, of_all=True)
    return page(request, visitor, "answered", invitation=invitation, did="stopped_all")


@post("/invitations/{token:str}/sign-in", status_code=200)
async def ask_for_link(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    token: _Token,
) -> Response[Any]:
    """Mail a link to sign in to the address that was invited, which leads back to the invitation."""
    await form_of(request, visitor)
    async with database.general.transaction() as connection:
        invitation = await invitations.find_by_token(connection, token)
        await sign_in.request_link(
            connection,
            request.app.state.secret,
            invitation.email,
            invitation_id=invitation.id if invitation.state == "pending" else None,
        )
    return page(request, visitor, "link_sent", email=invitation.email)


@get("/connections")
async def show_connections(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
) -> Response[Any]:
    """The connections of all accounts that the user belongs to."""
    if visitor.session is None:
        return go_on(request, "/sign-in")
    async with database.general.connection() as connection:
        accounts = [
            (account, await queries.select_partners(connection, account.account_id))
            for account in await select_memberships(connection, visitor.session.user.id)
        ]
    return page(request, visitor, "connections", accounts=accounts)


@get("/connections/{connection_id:uuid}")
async def show_connection(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    connection_id: _ConnectionId,
    accepted: Annotated[str, QueryParameter()] = "",
) -> Response[Any]:
    """A connection, what it shows to whom, and how to change that."""
    if visitor.session is None:
        return go_on(request, f"/sign-in?next=/connections/{connection_id}")
    async with database.general.connection() as connection:
        sides = [
            _Side(
                account,
                partner,
                await select_live_ownerships_of(connection, account.account_id),
            )
            for account in await select_memberships(connection, visitor.session.user.id)
            if (
                partner := await queries.select_partner(
                    connection, account.account_id, connection_id
                )
            )
        ]
    if not sides:
        raise NotFound("connection of yours", str(connection_id))
    return page(request, visitor, "connection", sides=sides, accepted=bool(accepted))


@post("/connections/{connection_id:uuid}", status_code=200)
async def change_connection(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    connection_id: _ConnectionId,
) -> Response[Any]:
    """Show one's name to a partner or hide it, decline to, or disconnect."""
    form = await form_of(request, visitor)
    if visitor.session is None:
        return go_on(request, f"/sign-in?next=/connections/{connection_id}")
    user = visitor.session.user
    async with database.general.transaction() as connection:
        account_id = await account_of_admin(connection, user, form.get("account_id", ""))
        actor = Actor("user", account_id, user.id)
        match form.get("do"):
            case "show":
                await grants.show(connection, account_id, connection_id, actor)
            case "hide":
                await grants.hide(connection, account_id, connection_id, actor)
            case "decline":
                partner = await connections.find_partner(connection, account_id, connection_id)
                await grants.end_request(
                    connection,
                    owner_id=account_id,
                    viewer_id=partner.partner_id,
                    actor=actor,
                )
            case "disconnect":
                await connections.end(connection, account_id, connection_id, actor)
                return go_on(request, "/connections")
            case other:
                raise InvalidInput("do", other or "", "show, hide, decline or disconnect")
    return go_on(request, f"/connections/{connection_id}")


async def _look(connection: Connection, visitor: Visitor, token: str) -> _Seen:
    """An invitation, and what this visitor can do about it. Raises `NotFound`."""
    invitation = await invitations.find_by_token(connection, token)
    user = visitor.session.user if visitor.session else None
    if user is None:
        is_known = await select_user(connection, invitation.email) is not None
        return _Seen(invitation, "sign_in" if is_known else "sign_up")
    if user.email != invitation.email:
        return _Seen(invitation, "other_user")
    if invitation.reason == "join_account":
        return _Seen(invitation, "join")
    memberships = await select_memberships(connection, user.id)
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
            await select_live_ownerships_of(connection, each.account_id),
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
) -> Response[Any]:
    """Do what was asked for in the way that is open to this visitor."""
    invitation, session = seen.invitation, visitor.session
    signed_in = session.user if session else None
    token: str | None = None
    user: User
    if invitation.reason == "join_account" and seen.way in ("join", "sign_up"):
        your_name = form.get("your_name") if session is None or not session.user.name else None
        user = await invitations.join(connection, invitation.id, signed_in, your_name)
        if session is None:
            token = await sign_in.start_session(connection, user, None)
        return go_on(request, "/connections", token)
    match seen.way:
        case "sign_up":
            user, account = await invitations.sign_up(
                connection,
                invitation.id,
                signed_in,
                form.get("company", ""),
                form.get("your_name", ""),
            )
            account_id = account.id
            token = await sign_in.start_session(connection, user, session)
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
            raise Forbidden("this invitation can't be accepted from here")
    accepted = await invitations.accept(
        connection,
        invitation.id,
        account_id,
        Actor("user", account_id, user.id),
        shows_name="shows_name" in form if ASK_FOR_NAME.get(invitation.reason) else None,
    )
    return go_on(request, f"/connections/{accepted.connection_id}?accepted=1", token)


def _invitation(
    request: HttpRequest,
    visitor: Visitor,
    token: str,
    seen: _Seen,
    *,
    status: int = 200,
    error: str | None = None,
    form: Mapping[str, str] | None = None,
) -> Response[Any]:
    """The page of an invitation: open, with what can be done about it, or what became of it."""
    if seen.invitation.state != "pending":
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
    )


pages = Router(
    "/",
    route_handlers=[
        show_invitation,
        accept,
        decline,
        stop,
        show_stop,
        unsubscribe,
        ask_for_link,
        show_connections,
        show_connection,
        change_connection,
    ],
    exception_handlers=ERRORS,
    include_in_schema=False,
    request_max_body_size=MAX_FORM,
)
