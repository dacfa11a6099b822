"""Carry out requests: once however often they are sent, and for many values at once."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from uuid import UUID

import msgspec
from litestar import Response

from service.errors import ServiceError, http_headers, http_status
from service.postgres.pools import Connection, Database, confirm
from service.web import idempotency
from service.web.bodies import JSON, HttpRequest, raw_body
from service.web.idempotency import Answered
from service.web.problems import PROBLEM_JSON, Problem, problem_of, type_of


async def carried_out_once(
    request: HttpRequest,
    database: Database,
    account_id: UUID,
    key: str | None,
    work: Callable[[Connection], Awaitable[Answered]],
) -> Response[bytes]:
    """Carry out a request in one transaction; with a key, only once however often it is sent."""
    # Read before taking a connection, because the body may take long to arrive.
    body = await raw_body(request, (JSON,))
    if key is None:
        async with database.general.transaction() as connection:
            return _responded(await work(connection))
    idempotency.check_key(key)
    what = msgspec.json.encode((request.method, request.url.path, body.decode("utf-8", "replace")))
    # A repeated request need not wait for its turn.
    async with database.general.connection() as connection:
        before = await idempotency.answered_before(connection, account_id, key, what)
        if before is not None:
            await confirm(connection)
            return _responded(before)
    async with database.general.transaction() as connection:
        await idempotency.lock_key(connection, account_id, key)
        answered = await idempotency.answered_before(connection, account_id, key, what)
        if answered is None:
            answered = await work(connection)
            if answered.is_new:
                await idempotency.remember(connection, account_id, key, what, answered)
    return _responded(answered)


async def carried_out_for_each(
    request: HttpRequest,
    database: Database,
    account_id: UUID,
    key: str | None,
    values: Sequence[str],
    do: Callable[[Connection, str], Awaitable[tuple[int, object]]],
    done: Callable[[Connection, Sequence[str]], Awaitable[Mapping[str, object]]],
    refused: Callable[[str, Problem], object],
    order: Callable[[str], Any],
) -> Response[bytes]:
    """Run `do` for each value, and respond with an item for each, in order.

    `do` returns a value's HTTP status and item. `done` returns the items of values for which there
    is nothing to do; if that is all of them, nothing waits for its turn. `refused` returns the item
    of a value that fails, which leaves nothing behind and doesn't affect the others. `order` is a
    sort key that keeps concurrent transactions from deadlocking. The response has the items' status
    if they share one, otherwise 207. If nothing was done, it is a problem document that contains
    the items.
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
        return _answered(status, [results[value][1] for value in values], is_new=201 in statuses)

    if key is None:
        async with database.general.connection() as connection:
            items = await done(connection, values)
            if all(value in items for value in values):
                await confirm(connection)
                return _responded(_answered(200, [items[value] for value in values]))
    response = await carried_out_once(request, database, account_id, key, work)
    if response.status_code == 429:
        response.headers["Retry-After"] = max(retry_after, key=int)
    return response


def _answered(status: int, items: Sequence[object], *, is_new: bool = False) -> Answered:
    body: dict[str, object] = {"items": items}
    if status >= 400:
        problem = Problem(
            status=status,
            title=HTTPStatus(status).phrase,
            code="nothing_done",
            type=type_of("nothing_done"),
            detail="nothing was done: see each item",
        )
        body = msgspec.to_builtins(problem) | body
    return Answered(status, msgspec.json.encode(body), is_new)


def _responded(answered: Answered) -> Response[bytes]:
    media_type = JSON if answered.status < 400 else PROBLEM_JSON
    return Response(answered.body, status_code=answered.status, media_type=media_type)
