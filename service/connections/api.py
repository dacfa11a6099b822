"""The management API for connections, grants, and who sees your name."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter
from msgspec import UNSET, UnsetType

from service.accounts.keys import actor_of
from service.accounts.records import Caller
from service.connections import connections, grants, queries, visibility
from service.connections.records import Side
from service.connections.views import ConnectionView, PartnerAccount, connection_view
from service.postgres.pools import Connection, Database
from service.web.bodies import MAX_BODY, HttpRequest
from service.web.carrying_out import carried_out_once
from service.web.documents import KEYED, documented, problems
from service.web.idempotency import Answered
from service.web.parameters import (
    IdCursor,
    IdempotencyKey,
    Limit,
    TextCursor,
    page_after,
    page_of,
)

_ConnectionId = Annotated[UUID, PathParameter()]


class ConnectionList(msgspec.Struct):
    """Connections, newest first. `next` is the cursor for older ones, or `null`."""

    items: list[ConnectionView]
    next: UUID | None


class Visible(msgspec.Struct, omit_defaults=True):
    """Who sees your name and since when, or what a partner is told about one of your domains."""

    connection_id: UUID
    partner: PartnerAccount
    name_shown_since: datetime | UnsetType = UNSET
    domain: str | UnsetType = UNSET
    covers_subdomains: bool | UnsetType = UNSET
    confirmed_owner: str | UnsetType = UNSET


class Visibility(msgspec.Struct):
    """The partners that see your name. With `as`: what one is told about each of your domains.

    `next` is the cursor of the next page, or `null`.
    """

    items: list[Visible]
    next: str | None


@get(
    "/v1/connections",
    tags=["Connections"],
    operation_id="listConnections",
    security=[{"Basic": []}],
    responses={200: documented(ConnectionList, "OK"), **KEYED, **problems(422)},
)
async def list_connections(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    role: Annotated[
        Side | None, QueryParameter(description="Only connections in which you are that side.")
    ] = None,
    cursor: IdCursor = None,
    limit: Limit = 50,
) -> ConnectionList:
    """List your live connections, and what each side shows the other, newest first."""
    async with database.general.connection() as connection:
        found = await queries.select_partners(
            connection, caller.account_id, before=cursor, role=role, limit=limit + 1
        )
    items, following = page_of(found, limit, lambda partner: partner.connection_id)
    return ConnectionList([connection_view(each) for each in items], following)


@get(
    "/v1/connections/{connection_id:uuid}",
    tags=["Connections"],
    operation_id="getConnection",
    security=[{"Basic": []}],
    responses={200: documented(ConnectionView, "OK"), **KEYED, **problems(404)},
)
async def get_connection(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    connection_id: _ConnectionId,
) -> ConnectionView:
    """Get one of your live connections."""
    async with database.general.connection() as connection:
        return connection_view(
            await connections.find_partner(connection, caller.account_id, connection_id)
        )


@delete(
    "/v1/connections/{connection_id:uuid}",
    tags=["Connections"],
    operation_id="disconnect",
    security=[{"Basic": []}],
    responses={**KEYED, **problems(404)},
)
async def disconnect(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    connection_id: _ConnectionId,
) -> None:
    """Disconnect from a partner. All grants between you end, and both of you get an email."""
    async with database.general.transaction() as connection:
        await connections.end(connection, caller.account_id, connection_id, actor_of(caller))


@put(
    "/v1/connections/{connection_id:uuid}/grant",
    tags=["Connections"],
    operation_id="showName",
    security=[{"Basic": []}],
    responses={200: documented(ConnectionView, "OK"), **KEYED, **problems(404, 409)},
)
async def show_name(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    connection_id: _ConnectionId,
) -> ConnectionView:
    """Show your name to your partner as the owner of your domains, from its next call on."""
    async with database.general.transaction() as connection:
        await grants.show(connection, caller.account_id, connection_id, actor_of(caller))
        return connection_view(
            await connections.find_partner(connection, caller.account_id, connection_id)
        )


@delete(
    "/v1/connections/{connection_id:uuid}/grant",
    tags=["Connections"],
    operation_id="hideName",
    security=[{"Basic": []}],
    responses={**KEYED, **problems(404)},
)
async def hide_name(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    connection_id: _ConnectionId,
) -> None:
    """Hide your name from your partner, from its next call on. Repeating this changes nothing."""
    async with database.general.transaction() as connection:
        await grants.hide(connection, caller.account_id, connection_id, actor_of(caller))


@post(
    "/v1/connections/{connection_id:uuid}/grant-request",
    status_code=201,
    tags=["Connections"],
    operation_id="askForName",
    security=[{"Basic": []}],
    request_max_body_size=MAX_BODY,
    responses={
        200: documented(ConnectionView, "You already asked"),
        201: documented(ConnectionView, "Your partner is asked"),
        **KEYED,
        **problems(404, 408, 409, 413, 415, 422),
    },
)
async def ask_for_name(
    request: HttpRequest,
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    connection_id: _ConnectionId,
    idempotency_key: IdempotencyKey = None,
) -> Response[bytes]:
    """Ask your partner to show you its name as the owner of its domains."""

    async def work(connection: Connection) -> Answered:
        partner = await connections.find_partner(connection, caller.account_id, connection_id)
        is_new = await grants.request_grant(
            connection,
            owner_id=partner.partner_id,
            viewer_id=caller.account_id,
            actor=actor_of(caller),
        )
        asked = await connections.find_partner(connection, caller.account_id, connection_id)
        return Answered(
            201 if is_new else 200, msgspec.json.encode(connection_view(asked)), is_new=is_new
        )

    return await carried_out_once(request, database, caller.account_id, idempotency_key, work)


@delete(
    "/v1/connections/{connection_id:uuid}/grant-request",
    tags=["Connections"],
    operation_id="endRequestForName",
    security=[{"Basic": []}],
    responses={**KEYED, **problems(404)},
)
async def end_request_for_name(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    connection_id: _ConnectionId,
) -> None:
    """Decline your partner's request, and withdraw your own. Repeating this changes nothing."""
    async with database.general.transaction() as connection:
        await grants.end_requests(connection, caller.account_id, connection_id, actor_of(caller))


@get(
    "/v1/account/visibility",
    tags=["Account"],
    operation_id="getVisibility",
    security=[{"Basic": []}],
    responses={200: documented(Visibility, "OK"), **KEYED, **problems(404, 422)},
)
async def get_visibility(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    as_connection: Annotated[
        UUID | None,
        QueryParameter(
            name="as",
            description="A connection id. You get what that partner is told about your domains.",
        ),
    ] = None,
    cursor: TextCursor = None,
    limit: Limit = 50,
) -> Visibility:
    """List who sees your name, or what one partner is told about each domain you own."""
    async with database.general.connection() as connection:
        if as_connection is None:
            partners, following = page_after(
                await visibility.viewers_of(connection, caller.account_id),
                cursor,
                limit,
                lambda partner: str(partner.connection_id),
            )
            return Visibility(
                [
                    Visible(
                        each.connection_id,
                        PartnerAccount(each.partner_id, each.partner_name),
                        name_shown_since=each.name_shown_since or UNSET,
                    )
                    for each in partners
                ],
                following,
            )
        partner = await connections.find_partner(connection, caller.account_id, as_connection)
        told, following = page_after(
            await visibility.told_to(connection, caller.account_id, partner.partner_id),
            cursor,
            limit,
            lambda told: told.domain,
        )
    return Visibility(
        [
            Visible(
                partner.connection_id,
                PartnerAccount(partner.partner_id, partner.partner_name),
                domain=each.domain,
                covers_subdomains=each.covers_subdomains,
                confirmed_owner=each.confirmed_owner or UNSET,
            )
            for each in told
        ],
        following,
    )


routes = [
    list_connections,
    get_connection,
    disconnect,
    show_name,
    hide_name,
    ask_for_name,
    end_request_for_name,
    get_visibility,
]
