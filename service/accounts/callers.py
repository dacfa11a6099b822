"""Who calls the management API, and what all its requests have in common."""

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, TypeAlias

import msgspec
from litestar import Response
from litestar.handlers import BaseRouteHandler
from litestar.params import HeaderParameter, QueryParameter

from service import idempotency
from service.accounts.keys import authenticate, key_of
from service.accounts.queries import Caller
from service.bodies import JSON, HttpRequest, raw_body
from service.database import Connection, Database
from service.documents import PROBLEM_JSON, Problem
from service.errors import InvalidInput, ServiceError, http_headers, http_status
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
    """Whose key came with a request, whose query has no parameters but those there are.

    A filter that is misspelt would otherwise filter nothing.

    Raises `Unauthorized`, `InactiveAccount`, `InvalidInput` or `Unavailable`.
    """
    key = key_of(request.headers.get("authorization"))
    async with database.general.connection() as connection:
        caller = await authenticate(connection, key)
    known = list(parameter_names(request.route_handler, QueryParameter).values())
    for given, value in request.query_params.items():
        if "\0" in str(value):
            raise InvalidInput(given, str(value), "without NUL characters")
        if given not in known:
            expected = f"one of {', '.join(known)}" if known else "left out: there are none"
            raise InvalidInput("query parameter", given, expected)
    return caller


def parameter_names(
    handler: BaseRouteHandler, kind: type[QueryParameter | HeaderParameter]
) -> dict[str, str]:
    """A handler's parameters of that kind: what it calls them, and what requests do."""
    return {
        name: field.kwarg_definition.name or name
        for name, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, kind)
    }


async def carried_out_once(
    request: HttpRequest,
    database: Database,
    caller: Caller,
    key: str | None,
    work: Callable[[Connection], Awaitable[Answered]],
) -> Response[bytes]:
    """Do what a request asks for in one transaction; with a key, once however often it is sent."""
    # Before a connection is taken: it may be long in coming.
    body = await raw_body(request, (JSON,))
    async with database.general.transaction() as connection:
        if key is None:
            answered = await work(connection)
        else:
            what = msgspec.json.encode(
                (request.method, request.url.path, body.decode("utf-8", "replace"))
            )
            before = await idempotency.answered_before(connection, caller.account_id, key, what)
            answered = before or await work(connection)
            if before is None and answered.is_new:
                await idempotency.remember(connection, caller.account_id, key, what, answered)
    media_type = JSON if answered.status < 400 else PROBLEM_JSON
    return Response(answered.body, status_code=answered.status, media_type=media_type)


async def carried_out_for_each(
    request: HttpRequest,
    database: Database,
    caller: Caller,
    key: str | None,
    values: Sequence[str],
    do: Callable[[Connection, str], Awaitable[tuple[int, object]]],
    refused: Callable[[str, Problem], object],
    order: Callable[[str], Any],
) -> Response[bytes]:
    """Do for each value what `do` does, and answer with an item for each, in order.

    `do` gives the HTTP status of a value and its item, `refused` the item of a value that can't be done,
    which leaves nothing behind and the others alone. `order` is one in which no two transactions wait
    for each other. The answer has the items' status if they have one, else 207; where nothing was done
    it is a problem document that has them.
    """
    retry_after: list[str] = []

    async def one(connection: Connection, value: str) -> tuple[int, object]:
        try:
            async with connection.transaction():
                return await do(connection, value)
        except ServiceError as error:
            if "Retry-After" in (headers := http_headers(error)):
                retry_after.append(headers["Retry-After"])
            return http_status(error), refused(value, problem_of(error))

    async def work(connection: Connection) -> Answered:
        results = {value: await one(connection, value) for value in sorted(set(values), key=order)}
        statuses = {status for status, _ in results.values()}
        status = next(iter(statuses)) if len(statuses) == 1 else 207
        body: dict[str, object] = {"items": [results[value][1] for value in values]}
        if status >= 400:
            problem = Problem(
                status=status,
                title=HTTPStatus(status).phrase,
                detail="nothing was done; each item says why",
            )
            body = msgspec.to_builtins(problem) | body
        return Answered(status, msgspec.json.encode(body), is_new=201 in statuses)

    response = await carried_out_once(request, database, caller, key, work)
    if response.status_code == 429:
        response.headers["Retry-After"] = max(retry_after, key=int)
    return response


def problem_of(error: ServiceError) -> Problem:
    """What a client is told of an error."""
    status = http_status(error)
    return Problem(
        status=status,
        title=HTTPStatus(status).phrase,
        detail=str(error),
        field=error.field if isinstance(error, InvalidInput) else msgspec.UNSET,
    )
