"""The management API about the caller's own account: its name, its members, what happened to it."""

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import delete, get, patch
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from service import allowance, audit
from service.accounts import members, queries
from service.accounts.accounts import rename_account
from service.accounts.keys import actor_of
from service.accounts.records import Account, AccountDetails, Caller, Member, Role
from service.audit import Event
from service.postgres.pools import Database
from service.web.bodies import MAX_BODY, HttpRequest, json_of
from service.web.documents import documented, json_body, problems
from service.web.parameters import Limit

RENAMES_TRIED_A_DAY = 20
"""Each attempt tells whether a name is taken."""

_COMMON = problems(401, 402, 503)


class AccountChange(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be changed of an account: the name that others are shown where it permits."""

    name: str


class MemberChange(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be changed of a member."""

    role: Role


class MemberList(msgspec.Struct):
    """All members of an account, the first of them first."""

    items: list[Member]
    next: None = None


class EventList(msgspec.Struct):
    """Events, the latest first, and the cursor of those before, if there are any."""

    items: list[Event]
    next: int | None


@get(
    "/v1/account",
    tags=["Account"],
    operation_id="getAccount",
    security=[{"Basic": []}],
    responses={200: documented(AccountDetails, "OK"), **_COMMON},
)
async def get_account(
    caller: NamedDependency[Caller], database: NamedDependency[Database]
) -> AccountDetails:
    """Your account."""
    async with database.general.connection() as connection:
        return await queries.select_account(connection, caller.account_id)


@patch(
    "/v1/account",
    tags=["Account"],
    operation_id="renameAccount",
    operation_class=json_body(AccountChange),
    security=[{"Basic": []}],
    request_max_body_size=MAX_BODY,
    responses={
        200: documented(AccountDetails, "OK"),
        **_COMMON,
        **problems(400, 409, 413, 415, 422, 429),
    },
)
async def change_account(
    request: HttpRequest, caller: NamedDependency[Caller], database: NamedDependency[Database]
) -> AccountDetails:
    """Rename your account, from the next call on; once in seven days.

    A name must not look like another account's, nor like one of the fixed answers about owners.
    """
    change = await json_of(request, AccountChange)
    async with database.general.connection() as connection:
        # For itself, so that attempts that come to nothing count.
        await allowance.take(
            connection, "renames tried", str(caller.account_id), RENAMES_TRIED_A_DAY
        )
    async with database.general.transaction() as connection:
        account = Account(caller.account_id, caller.name, None)
        await rename_account(connection, account, change.name, actor_of(caller))
        return await queries.select_account(connection, caller.account_id)


@get(
    "/v1/account/members",
    tags=["Account"],
    operation_id="listMembers",
    security=[{"Basic": []}],
    responses={200: documented(MemberList, "OK"), **_COMMON},
)
async def list_members(
    caller: NamedDependency[Caller], database: NamedDependency[Database]
) -> MemberList:
    """The users of your account. Invite others with `POST /v1/account/members`."""
    async with database.general.connection() as connection:
        return MemberList(await queries.select_members(connection, caller.account_id))


@patch(
    "/v1/account/members/{user_id:uuid}",
    tags=["Account"],
    operation_id="changeMember",
    operation_class=json_body(MemberChange),
    security=[{"Basic": []}],
    request_max_body_size=MAX_BODY,
    responses={
        200: documented(Member, "OK"),
        **_COMMON,
        **problems(400, 404, 409, 413, 415, 422),
    },
)
async def change_member(
    request: HttpRequest,
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    user_id: Annotated[UUID, PathParameter()],
) -> Member:
    """Make a member an admin, or the other way round. An account always has an admin."""
    change = await json_of(request, MemberChange)
    async with database.general.transaction() as connection:
        return await members.change_role(
            connection, caller.account_id, user_id, change.role, actor_of(caller)
        )


@delete(
    "/v1/account/members/{user_id:uuid}",
    tags=["Account"],
    operation_id="removeMember",
    security=[{"Basic": []}],
    responses={**_COMMON, **problems(404, 409)},
)
async def remove_member(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    user_id: Annotated[UUID, PathParameter()],
) -> None:
    """Let a user belong to your account no more, from now on. An account always has an admin."""
    async with database.general.transaction() as connection:
        await members.remove_member(connection, caller.account_id, user_id, actor_of(caller))


@get(
    "/v1/events",
    tags=["Account"],
    operation_id="listEvents",
    security=[{"Basic": []}],
    responses={200: documented(EventList, "OK"), **_COMMON, **problems(422)},
)
async def list_events(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    cursor: Annotated[
        int | None, QueryParameter(ge=1, le=2**63 - 1, description="The `next` of an earlier page.")
    ] = None,
    action: Annotated[str | None, QueryParameter(max_length=80)] = None,
    limit: Limit = 50,
) -> EventList:
    """What happened to your account, the latest first: what, when, and who did it.

    Of your own people you are told which key or user it was, of a partner only that it was the partner,
    under the name it had then.
    """
    async with database.general.connection() as connection:
        events = await audit.events_of(
            connection, caller.account_id, before=cursor, action=action, limit=limit + 1
        )
    return EventList(events[:limit], events[limit - 1].id if len(events) > limit else None)


routes = [
    get_account,
    change_account,
    list_members,
    change_member,
    remove_member,
    list_events,
]
