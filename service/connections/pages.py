"""The pages about connections: partners, and what each side sees."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from service.accounts.members import account_of_admin, memberships_of
from service.accounts.records import Membership
from service.accounts.visitors import Visitor, form_of, go_on, page, user_of
from service.audit import Actor
from service.connections import connections, grants, queries
from service.connections.records import Partner
from service.errors import (
    InvalidInput,
    NotFound,
)
from service.ownership.ownerships import owned_by
from service.ownership.records import Ownership
from service.postgres.pools import Database
from service.web.bodies import HttpRequest
from service.web.pages import Page, page_router

_ConnectionId = Annotated[UUID, PathParameter()]


class _Side(msgspec.Struct, frozen=True):
    """A connection as one of the user's accounts sees it."""

    account: Membership
    partner: Partner
    domains: Sequence[Ownership]


@get("/connections")
async def show_connections(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
) -> Page:
    """Show the connections of all accounts that the user belongs to."""
    if visitor.session is None:
        return go_on(request, "/sign-in")
    async with database.general.connection() as connection:
        accounts = [
            (account, await queries.select_partners(connection, account.account_id))
            for account in await memberships_of(connection, visitor.session.user.id)
        ]
    return page(request, visitor, "connections", accounts=accounts)


@get("/connections/{connection_id:uuid}")
async def show_connection(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    connection_id: _ConnectionId,
    accepted: Annotated[str, QueryParameter()] = "",
) -> Page:
    """Show a connection, what each side sees, and how to change that."""
    user = user_of(visitor, f"/connections/{connection_id}")
    async with database.general.connection() as connection:
        sides = [
            _Side(
                account,
                partner,
                await owned_by(connection, account.account_id),
            )
            for account in await memberships_of(connection, user.id)
            if (
                partner := await queries.select_partner(
                    connection, account.account_id, connection_id
                )
            )
        ]
    if not sides:
        raise NotFound("connection", str(connection_id))
    return page(request, visitor, "connection", sides=sides, accepted=bool(accepted))


@post("/connections/{connection_id:uuid}", status_code=200)
async def change_connection(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    connection_id: _ConnectionId,
) -> Page:
    """Show or hide the account's name, decline a request, or disconnect."""
    form = await form_of(request, visitor)
    user = user_of(visitor, f"/connections/{connection_id}")
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
                raise InvalidInput("do", other or "", "show, hide, decline, or disconnect")
    return go_on(request, f"/connections/{connection_id}")


routes = [page_router(show_connections, show_connection, change_connection)]
