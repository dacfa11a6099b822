"""The pages about connections: partners, what each side sees, and what happened between them."""

from typing import Annotated
from uuid import UUID

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from service import audit
from service.accounts.members import account_of_admin
from service.accounts.visitors import Seat, Visitor, form_of, go_on, page, seat_of, user_of
from service.audit import Actor, Event
from service.connections import connections, grants, queries
from service.connections.records import Partner
from service.errors import Conflict, InvalidInput, LimitReached, NotFound
from service.ownership.ownerships import owned_by
from service.postgres.pools import Connection, Database
from service.web.bodies import HttpRequest
from service.web.pages import Page, page_router
from service.web.parameters import page_of

_ConnectionId = Annotated[UUID, PathParameter()]
_Before = Annotated[UUID | None, QueryParameter()]

# How many rows a page has.
_SHOWN = 50

# How many of the account's domains a partner's page names.
_DOMAINS = 10


@get("/connections")
async def show_connections(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    before: _Before = None,
    named: Annotated[str, QueryParameter(name="q", max_length=200)] = "",
) -> Page:
    """Show an account's live connections."""
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/connections")
        partners, older = await _partners(connection, seat, before, named.strip())
        last = {}
        if seat.account is not None:
            ids = [partner.partner_id for partner in partners]
            last = await audit.last_with(connection, seat.account.account_id, ids)
    return page(
        request,
        visitor,
        "connections",
        seat=seat,
        partners=partners,
        last=last,
        older=older,
        named=named,
        is_first=before is None,
    )


async def _partners(
    connection: Connection, seat: Seat, before: UUID | None, named: str
) -> tuple[list[Partner], UUID | None]:
    if seat.account is None:
        return [], None
    found = await queries.select_partners(
        connection, seat.account.account_id, before=before, named=named, limit=_SHOWN + 1
    )
    return page_of(found, _SHOWN, lambda partner: partner.connection_id)


@get("/connections/ended")
async def show_ended(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    before: _Before = None,
) -> Page:
    """Show an account's former connections, under the names that the partners had at the end."""
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/connections/ended")
        events: list[Event] = []
        older = None
        if seat.account is not None:
            found = await audit.events_of(
                connection,
                seat.account.account_id,
                before=before,
                action="connection.ended",
                limit=_SHOWN + 1,
            )
            events, older = page_of(found, _SHOWN, lambda event: event.id)
    return page(request, visitor, "connections_ended", seat=seat, events=events, older=older)


@get("/connections/{connection_id:uuid}")
async def show_connection(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    connection_id: _ConnectionId,
    accepted: Annotated[str, QueryParameter()] = "",
) -> Page:
    """Show a connection, what each side sees, and how to change that."""
    return await _connection(request, visitor, database, connection_id, accepted=bool(accepted))


@post("/connections/{connection_id:uuid}", status_code=200)
async def change_connection(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    connection_id: _ConnectionId,
) -> Page:
    """Show or hide the account's name, ask for the partner's, end a request, or disconnect."""
    form = await form_of(request, visitor)
    user = user_of(visitor, f"/connections/{connection_id}")
    try:
        async with database.general.transaction() as connection:
            account_id = await account_of_admin(connection, user, form.get("account_id", ""))
            actor = Actor("user", account_id, user.id)
            partner = await connections.find_partner(connection, account_id, connection_id)
            match form.get("do"):
                case "show":
                    await grants.show(connection, account_id, connection_id, actor)
                case "hide":
                    await grants.hide(connection, account_id, connection_id, actor)
                case "decline":
                    await grants.end_request(
                        connection, owner_id=account_id, viewer_id=partner.partner_id, actor=actor
                    )
                case "ask":
                    await grants.request_grant(
                        connection, owner_id=partner.partner_id, viewer_id=account_id, actor=actor
                    )
                case "withdraw":
                    await grants.end_request(
                        connection, owner_id=partner.partner_id, viewer_id=account_id, actor=actor
                    )
                case "disconnect":
                    await connections.end(connection, account_id, connection_id, actor)
                    return go_on(request, "/connections")
                case other:
                    expected = "show, hide, decline, ask, withdraw, or disconnect"
                    raise InvalidInput("do", other or "", expected)
    except (Conflict, LimitReached) as error:
        return await _connection(request, visitor, database, connection_id, error=str(error))
    return go_on(request, f"/connections/{connection_id}")


async def _connection(
    request: HttpRequest,
    visitor: Visitor,
    database: Database,
    connection_id: UUID,
    *,
    accepted: bool = False,
    error: str | None = None,
) -> Page:
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, f"/connections/{connection_id}")
        # The account shown comes first; mails lead here whichever that is.
        for account in sorted(seat.accounts, key=lambda account: account != seat.account):
            own_id = account.account_id
            partner = await queries.select_partner(connection, own_id, connection_id)
            if partner is not None:
                # One more than is shown tells whether there are more.
                domains = await owned_by(connection, own_id, limit=_DOMAINS + 1)
                events = await audit.events_of(
                    connection, own_id, partner_id=partner.partner_id, limit=_SHOWN
                )
                break
        else:
            raise NotFound("connection", str(connection_id))
    return page(
        request,
        visitor,
        "connection",
        seat=seat.at(account),
        status=409 if error else 200,
        partner=partner,
        domains=domains[:_DOMAINS],
        owns_more=len(domains) > _DOMAINS,
        events=events,
        accepted=accepted,
        error=error,
    )


routes = [page_router(show_connections, show_ended, show_connection, change_connection)]
