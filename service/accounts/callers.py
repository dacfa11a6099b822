"""Who calls the management API, and what all its requests have in common."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias

import msgspec
from litestar import Response
from litestar.params import HeaderParameter, QueryParameter

from service import idempotency
from service.accounts.keys import authenticate, key_of
from service.accounts.queries import Caller
from service.bodies import JSON, HttpRequest
from service.database import Connection, Database
from service.idempotency import Answered

MAX_BODY = 64 * 1024

Limit: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=100, description="How many items at the most.")
]
IdempotencyKey: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        required=False,
        min_length=1,
        max_length=idempotency.LONGEST_KEY,
        pattern="^[ -~]+$",
        description="A request that comes with the same key within a day is carried out once.",
    ),
]


async def calling(request: HttpRequest, database: Database) -> Caller:
    """Whose key came with a request. Raises `Unauthorized`, `InactiveAccount` or `Unavailable`."""
    key = key_of(request.headers.get("authorization"))
    async with database.general.connection() as connection:
        return await authenticate(connection, key)


async def carried_out_once(
    request: HttpRequest,
    database: Database,
    caller: Caller,
    key: str | None,
    work: Callable[[Connection], Awaitable[Answered]],
) -> Response[bytes]:
    """Do what a request asks for in one transaction; with a key, once however often it is sent."""
    async with database.general.transaction() as connection:
        if key is None:
            answered = await work(connection)
        else:
            what = msgspec.json.encode(
                (
                    request.method,
                    request.url.path,
                    (await request.body()).decode("utf-8", "replace"),
                )
            )
            before = await idempotency.answered_before(connection, caller.account_id, key, what)
            answered = before or await work(connection)
            if before is None and answered.status < 300:
                await idempotency.remember(connection, caller.account_id, key, what, answered)
    return Response(answered.body, status_code=answered.status, media_type=JSON)
