"""The page about the people of an account: who belongs to it, and who is invited to."""

from collections.abc import Sequence
from typing import get_args

from litestar import get, post
from litestar.di import NamedDependency

from service.accounts import members
from service.accounts.members import account_of_admin
from service.accounts.records import Member, Role
from service.accounts.visitors import Visitor, form_of, go_on, id_in, page, seat_of, user_of
from service.audit import Actor
from service.errors import Conflict, InvalidInput, LimitReached, NotFound
from service.invitations import invitations, queries
from service.invitations.records import Invitation
from service.postgres.pools import Database
from service.web.bodies import HttpRequest
from service.web.pages import Page

_SHOWN = 100


@get("/settings/members")
async def show_members(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Show the members of the account, and who is invited to join it."""
    return await _members(request, visitor, database)


@post("/settings/members", status_code=200)
async def change_members(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Invite a colleague, resend or cancel that, change a member's role, or remove one."""
    form = await form_of(request, visitor)
    user, secret = user_of(visitor, "/settings/members"), request.app.state.secret
    email = form.get("email", "")
    try:
        async with database.general.transaction() as connection:
            account_id = await account_of_admin(connection, user, form.get("account_id", ""))
            actor = Actor("user", account_id, user.id)
            match form.get("do"):
                case "invite":
                    role = _role_of(form.get("role", ""))
                    await invitations.invite(
                        connection, secret, account_id, actor, email, "join_account", role=role
                    )
                case "resend":
                    invited = id_in(form, "invitation_id", "an invitation")
                    await invitations.resend(connection, secret, account_id, invited, actor)
                case "cancel":
                    invited = id_in(form, "invitation_id", "an invitation")
                    await invitations.cancel(connection, account_id, invited, actor)
                case "make_admin":
                    who = id_in(form, "user_id", "a member")
                    await members.change_role(connection, account_id, who, "admin", actor)
                case "make_member":
                    who = id_in(form, "user_id", "a member")
                    await members.change_role(connection, account_id, who, "member", actor)
                case "remove":
                    who = id_in(form, "user_id", "a member")
                    await members.remove_member(connection, account_id, who, actor)
                case other:
                    expected = "invite, resend, cancel, make_admin, make_member, or remove"
                    raise InvalidInput("do", other or "", expected)
    except (InvalidInput, Conflict, LimitReached, NotFound) as error:
        return await _members(request, visitor, database, error=str(error), typed=email)
    return go_on(request, "/settings/members")


def _role_of(text: str) -> Role:
    for role in get_args(Role):
        if text == role:
            return role
    raise InvalidInput("role", text, "admin or member")


async def _members(
    request: HttpRequest,
    visitor: Visitor,
    database: Database,
    *,
    error: str | None = None,
    typed: str = "",
) -> Page:
    own: Sequence[Member] = ()
    pending: Sequence[Invitation] = ()
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/settings/members")
        if seat.account is not None:
            own = await members.members_of(connection, seat.account.account_id)
            pending = await queries.select_sent_invitations(
                connection, seat.account.account_id, state="pending", joins=True, limit=_SHOWN
            )
    return page(
        request,
        visitor,
        "members",
        seat=seat,
        status=422 if error else 200,
        members=own,
        pending=pending,
        error=error,
        typed=typed,
    )


handlers = [show_members, change_members]
