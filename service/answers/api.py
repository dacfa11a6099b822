"""The management API for the record of answers and of retained certificates."""

from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from service.accounts.names import Status
from service.accounts.records import Caller
from service.answers import queries
from service.answers.merkle import consistency_ranges, hash_of, tiles_for
from service.answers.records import (
    AnswerFilters,
    AnswerView,
    RetainedFilters,
    RetainedView,
    SealedAnswer,
)
from service.answers.sealing import receipt_of
from service.certificates.facts import checked_cert_id
from service.errors import InvalidInput, NotFound
from service.ownership.hostname import host_as_answered
from service.postgres.pools import Database
from service.web.bodies import JSON, HttpRequest, download
from service.web.documents import KEYED, documented, problems
from service.web.exports import MEDIA_TYPES, Format, exported
from service.web.parameters import IdCursor, Limit, TextCursor, check_query, page_of, time_in


class AnswerList(msgspec.Struct):
    """Answers, newest first. `next` is the cursor for older ones, or `null`."""

    items: list[AnswerView]
    next: UUID | None


class RetainedList(msgspec.Struct):
    """Retained certificates, newest first. `next` is the cursor for older ones, or `null`."""

    items: list[RetainedView]
    next: str | None


class ConsistencyProof(msgspec.Struct):
    """The hashes that lead from the root of the first tree to the root of the second."""

    first: int
    second: int
    path: list[str]


_AS_TIME = {"format": "date-time"}
_Since = Annotated[
    str | None,
    QueryParameter(name="from", description="At or after this time.", schema_extra=_AS_TIME),
]
_Until = Annotated[
    str | None, QueryParameter(name="to", description="Before this time.", schema_extra=_AS_TIME)
]
_Format = Annotated[
    Format | None,
    QueryParameter(name="format", description="All of them as a file, not a page of JSON."),
]
_Label = Annotated[str | None, QueryParameter(max_length=1000)]


@get(
    "/v1/answers",
    tags=["Answers"],
    operation_id="listAnswers",
    security=[{"Basic": []}],
    responses={200: documented(AnswerList, "OK"), **KEYED, **problems(400, 404, 422)},
)
async def list_answers(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    cert_id: Annotated[str | None, QueryParameter(max_length=255)] = None,
    host: Annotated[str | None, QueryParameter(max_length=1024)] = None,
    status: Annotated[Status | None, QueryParameter()] = None,
    since: _Since = None,
    until: _Until = None,
    key_id: Annotated[UUID | None, QueryParameter()] = None,
    batch_id: Annotated[UUID | None, QueryParameter()] = None,
    cursor: IdCursor = None,
    limit: Limit = 50,
    file_format: _Format = None,
) -> Response[Any]:
    """List what your account was told, newest first: who asked, about what, when, and the answer.

    With `format`, you get all of them as one file. Cells that a spreadsheet would compute begin with
    an apostrophe in CSV.
    """
    ids = None
    if batch_id is not None:
        async with database.general.connection() as connection:
            ids = await queries.select_ids_of_batch(connection, caller.account_id, batch_id)
        if ids is None:
            raise NotFound("batch", str(batch_id))
    filters = AnswerFilters(
        cert_id=None if cert_id is None else checked_cert_id(cert_id),
        host=None if host is None else host_as_answered(host),
        status=status,
        since=time_in("from", since),
        until=time_in("to", until),
        key_id=key_id,
        first_id=ids and ids[0],
        last_id=ids and ids[1],
    )

    async def page(after: UUID | None, most: int) -> list[AnswerView]:
        async with database.general.connection() as connection:
            return await queries.select_answers(
                connection, caller.account_id, filters, before=after, limit=most
            )

    if file_format is not None:
        return _file(
            AnswerView, lambda last, most: page(last and last.id, most), file_format, "answers"
        )
    found = await page(cursor, limit + 1)
    return _json(AnswerList(*page_of(found, limit, lambda answer: answer.id)))


@get(
    "/v1/answers/{answer_id:uuid}",
    tags=["Answers"],
    operation_id="getAnswer",
    security=[{"Basic": []}],
    responses={200: documented(SealedAnswer, "OK"), **KEYED, **problems(404)},
)
async def get_answer(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    answer_id: Annotated[UUID, PathParameter()],
) -> SealedAnswer:
    """Get one answer, as it was told, and its receipt. Its id is in `confirmed_owner_detail`.

    A receipt proves offline that the answer is in the log of all answers. It is there about a minute
    after the answer, and until then `null`.
    """
    async with database.general.connection() as connection:
        found = await queries.select_answer(connection, caller.account_id, answer_id)
        if found is None:
            raise NotFound("answer", str(answer_id))
        receipt = await receipt_of(connection, caller.account_id, answer_id)
    return SealedAnswer(**msgspec.structs.asdict(found), receipt=receipt)


@get(
    "/v1/retained",
    tags=["Answers"],
    operation_id="listRetained",
    security=[{"Basic": []}],
    responses={200: documented(RetainedList, "OK"), **KEYED, **problems(422)},
)
async def list_retained(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    reference: _Label = None,
    vendor: _Label = None,
    campaign_id: _Label = None,
    since: _Since = None,
    until: _Until = None,
    cursor: TextCursor = None,
    limit: Limit = 50,
    file_format: _Format = None,
) -> Response[Any]:
    """List the certificates that your account retained, newest first, by their labels.

    With `format`, you get all of them as one file.
    """
    filters = RetainedFilters(
        reference=reference,
        vendor=vendor,
        campaign_id=campaign_id,
        since=time_in("from", since),
        until=time_in("to", until),
    )

    async def page(after: str | None, most: int) -> list[RetainedView]:
        async with database.general.connection() as connection:
            return await queries.select_retained(
                connection, caller.account_id, filters, before=after, limit=most
            )

    if file_format is not None:
        return _file(
            RetainedView,
            lambda last, most: page(last and last.cert_id, most),
            file_format,
            "retained",
        )
    found = await page(cursor, limit + 1)
    return _json(RetainedList(*page_of(found, limit, lambda each: each.cert_id)))


@get(
    "/v1/log/checkpoint",
    tags=["Log"],
    operation_id="getCheckpoint",
    media_type=MediaType.TEXT,
    security=[{}],
    responses={
        200: ResponseSpec(
            str, description="A note", generate_examples=False, media_type="text/plain"
        ),
        **problems(404, 429, 503),
    },
)
async def get_checkpoint(database: NamedDependency[Database]) -> str:
    """Get the latest checkpoint of the log of all answers, signed (C2SP tlog-checkpoint).

    It says how many answers there are, and the root of the tree over them (RFC 9162). It tells
    nothing of any answer. Keep it to prove later that nothing before it was changed.
    """
    async with database.general.connection() as connection:
        latest = await queries.select_checkpoint(connection)
    if latest is None:
        raise NotFound("checkpoint", "latest")
    return latest[1]


@get(
    "/v1/log/key",
    tags=["Log"],
    operation_id="getLogKeys",
    media_type=MediaType.TEXT,
    security=[{}],
    responses={
        200: ResponseSpec(
            str, description="Keys", generate_examples=False, media_type="text/plain"
        ),
        **problems(404, 429, 503),
    },
)
async def get_log_keys(database: NamedDependency[Database]) -> str:
    """Get the public keys that checkpoints were signed with, one a line, the latest first.

    They have the form of C2SP signed notes: name, hash, and key.
    """
    async with database.general.connection() as connection:
        found = await queries.select_log_keys(connection)
    if not found:
        raise NotFound("key", "latest")
    return "".join(f"{key}\n" for key in found)


@get(
    "/v1/log/proof",
    tags=["Log"],
    operation_id="getConsistencyProof",
    security=[{}],
    responses={200: documented(ConsistencyProof, "OK"), **problems(422, 429, 503)},
)
async def get_consistency_proof(
    request: HttpRequest,
    database: NamedDependency[Database],
    first: Annotated[int, QueryParameter(ge=1, le=2**53)],
    second: Annotated[int, QueryParameter(ge=1, le=2**53)],
) -> ConsistencyProof:
    """Get the proof that the log of one size begins with the log of a smaller size (RFC 9162).

    Take the sizes from two checkpoints. The hashes are in hexadecimal.
    """
    check_query(request)
    async with database.general.connection() as connection:
        log = await queries.select_log(connection)
        size = 0 if log is None else log.size
        if second > size:
            raise InvalidInput("second", str(second), f"at most the size of the log, {size}")
        if first > second:
            raise InvalidInput("first", str(first), f"at most second, {second}")
        ranges = consistency_ranges(first, second)
        tiles = await queries.select_tiles(connection, tiles_for(ranges))
    return ConsistencyProof(first, second, [hash_of(each, tiles).hex() for each in ranges])


def _file(kind: Any, page: Any, form: Format, name: str) -> Response[Any]:
    return download(partial(exported, kind, page, form), MEDIA_TYPES[form], f"{name}.{form}")


def _json(body: msgspec.Struct) -> Response[bytes]:
    return Response(msgspec.json.encode(body), media_type=JSON)


routes = [
    list_answers,
    get_answer,
    list_retained,
    get_checkpoint,
    get_log_keys,
    get_consistency_proof,
]
