"""The management API for the caller's own account: its name, its members, and its events."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Litestar, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from service import allowance, audit
from service.accounts import keys, members, queries
from service.accounts.accounts import details_of, rename_account
from service.accounts.callers import Callers
from service.accounts.keys import actor_of
from service.accounts.records import Account, AccountDetails, ApiKey, Caller, Member, Role
from service.accounts.used_keys import UsedKeys, writing
from service.audit import Event
from service.postgres.pools import Database
from service.web.bodies import MAX_BODY, HttpRequest, json_of
from service.web.documents import KEYED, documented, json_body, problems
from service.web.parameters import IdCursor, Limit, TextCursor, page_after, page_of

RENAMES_TRIED_A_DAY = 20
"""Each attempt reveals whether a name is taken."""


class AccountChange(msgspec.Struct, forbid_unknown_fields=True):
    """Changes to your account. `name` is what partners see if you let them."""

    name: str


class MemberChange(msgspec.Struct, forbid_unknown_fields=True):
    """Changes to a member."""

    role: Role


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """What to call the new key, such as after the system that will use it."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=keys.LONGEST_NAME)]


class CreatedKey(msgspec.Struct):
    """A new API key. Copy `key` now; it is not shown again."""

    id: UUID
    name: str
    key: str


class KeyList(msgspec.Struct):
    """API keys, newest first. `next` is the cursor for older ones, or `null`."""

    items: list[ApiKey]
    next: str | None


class MemberList(msgspec.Struct):
    """Members of your account, oldest first. `next` is the cursor for newer ones, or `null`."""

    items: list[Member]
    next: str | None


class EventList(msgspec.Struct):
    """Events, newest first. `next` is the cursor for older ones, or `null`."""

    items: list[Event]
    next: UUID | None


@get(
    "/v1/account",
    tags=["Account"],
    operation_id="getAccount",
    security=[{"Basic": []}],
    responses={200: documented(AccountDetails, "OK"), **KEYED},
)
async def get_account(
    caller: NamedDependency[Caller], database: NamedDependency[Database]
) -> AccountDetails:
    """Get your account."""
    async with database.general.connection() as connection:
        return await details_of(connection, caller.account_id)


@patch(
    "/v1/account",
    tags=["Account"],
    operation_id="renameAccount",
    operation_class=json_body(AccountChange),
    security=[{"Basic": []}],
    request_max_body_size=MAX_BODY,
    responses={
        200: documented(AccountDetails, "OK"),
        **KEYED,
        **problems(400, 408, 409, 413, 415, 422),
    },
)
async def change_account(
    request: HttpRequest, caller: NamedDependency[Caller], database: NamedDependency[Database]
) -> AccountDetails:
    """Rename your account. You can do this once every seven days.

    The new name applies from the next call on. It must not look like another account's name or
    like one of the fixed answers about owners.
    """
    change = await json_of(request, AccountChange)
    async with database.general.connection() as connection:
        # Outside the transaction below, so that failed attempts count too.
        await allowance.take(
            connection, "tries to rename it", str(caller.account_id), RENAMES_TRIED_A_DAY
        )
    async with database.general.transaction() as connection:
        account = Account(caller.account_id, caller.name, None)
        await rename_account(connection, account, change.name, actor_of(caller))
        return await details_of(connection, caller.account_id)


@get(
    "/v1/account/members",
    tags=["Account"],
    operation_id="listMembers",
    security=[{"Basic": []}],
    responses={200: documented(MemberList, "OK"), **KEYED, **problems(422)},
)
async def list_members(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    cursor: TextCursor = None,
    limit: Limit = 50,
) -> MemberList:
    """List the users of your account. To invite others, use `POST /v1/account/members`."""
    async with database.general.connection() as connection:
        found = await queries.select_members(connection, caller.account_id)
    return MemberList(*page_after(found, cursor, limit, lambda member: str(member.user_id)))


@patch(
    "/v1/account/members/{user_id:uuid}",
    tags=["Account"],
    operation_id="changeMember",
    operation_class=json_body(MemberChange),
    security=[{"Basic": []}],
    request_max_body_size=MAX_BODY,
    responses={
        200: documented(Member, "OK"),
        **KEYED,
        **problems(400, 404, 408, 409, 413, 415, 422),
    },
)
async def change_member(
    request: HttpRequest,
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    user_id: Annotated[UUID, PathParameter()],
) -> Member:
    """Change a member's role. Your account must keep at least one admin."""
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
    responses={**KEYED, **problems(404, 409)},
)
async def remove_member(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    user_id: Annotated[UUID, PathParameter()],
) -> None:
    """Remove a user from your account, right away. Your account must keep at least one admin."""
    async with database.general.transaction() as connection:
        await members.remove_member(connection, caller.account_id, user_id, actor_of(caller))


@get(
    "/v1/account/keys",
    tags=["Account"],
    operation_id="listKeys",
    security=[{"Basic": []}],
    responses={200: documented(KeyList, "OK"), **KEYED, **problems(422)},
)
async def list_keys(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    cursor: TextCursor = None,
    limit: Limit = 50,
) -> KeyList:
    """List the active API keys of your account, newest first."""
    async with database.general.connection() as connection:
        found = await keys.keys_of(connection, caller.account_id)
    return KeyList(*page_after(found, cursor, limit, lambda key: str(key.id)))


@post(
    "/v1/account/keys",
    status_code=201,
    tags=["Account"],
    operation_id="createKey",
    operation_class=json_body(NewKey),
    security=[{"Basic": []}],
    request_max_body_size=MAX_BODY,
    responses={
        201: documented(CreatedKey, "Created"),
        **KEYED,
        **problems(400, 408, 409, 413, 415, 422),
    },
)
async def create_key(
    request: HttpRequest, caller: NamedDependency[Caller], database: NamedDependency[Database]
) -> CreatedKey:
    """Create an API key. It is shown only in this response, so no `Idempotency-Key` is taken."""
    wanted = await json_of(request, NewKey)
    async with database.general.transaction() as connection:
        key_id, key = await keys.create_key(
            connection, caller.account_id, name=wanted.name, actor=actor_of(caller)
        )
    return CreatedKey(key_id, wanted.name, key)


@delete(
    "/v1/account/keys/{key_id:uuid}",
    tags=["Account"],
    operation_id="revokeKey",
    security=[{"Basic": []}],
    responses={**KEYED, **problems(404)},
)
async def revoke_key(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    key_id: Annotated[UUID, PathParameter()],
) -> None:
    """Revoke one of your account's API keys, also the one you call with. The next call is refused."""
    async with database.general.transaction() as connection:
        await keys.revoke_own_key(connection, caller.account_id, key_id, actor_of(caller))


@get(
    "/v1/events",
    tags=["Account"],
    operation_id="listEvents",
    security=[{"Basic": []}],
    responses={200: documented(EventList, "OK"), **KEYED, **problems(422)},
)
async def list_events(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    cursor: IdCursor = None,
    action: Annotated[str | None, QueryParameter(max_length=80)] = None,
    limit: Limit = 50,
) -> EventList:
    """List what happened to your account, newest first: what, when, and who did it.

    For your own people, you see which key or user it was. For a partner, you see only that it was
    the partner, under the name it had at the time.
    """
    async with database.general.connection() as connection:
        events = await audit.events_of(
            connection, caller.account_id, before=cursor, action=action, limit=limit + 1
        )
    return EventList(*page_of(events, limit, lambda event: event.id))


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Identify callers, and note which keys are used, until the end."""
    state = app.state
    state.callers = Callers(state.database.identifying, state.settings.workers)
    state.used_keys = UsedKeys()
    async with writing(state.used_keys, state.database):
        yield


routes = [
    get_account,
    change_account,
    list_members,
    change_member,
    remove_member,
    list_keys,
    create_key,
    revoke_key,
    list_events,
]
