"""The management API for batches: uploads, progress, results, and summaries."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Litestar, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import PathParameter, QueryParameter
from litestar.response import Stream
from msgspec import Meta, Struct

from service.accounts.records import Caller
from service.audit import Actor
from service.batches import batches, queries
from service.batches.batches import Asked
from service.batches.records import (
    MAX_UPLOAD,
    MEDIA_TYPES,
    Batch,
    Format,
    Options,
)
from service.batches.views import BatchSummary, BatchView, file_name, viewed
from service.errors import Conflict, NotFound, UnsupportedMediaType
from service.postgres.pools import Database
from service.web import idempotency
from service.web.bodies import JSON, HttpRequest, json_of, streamed_body
from service.web.documents import KEYED, documented, inline_schema, problems
from service.web.one_each import OneEach
from service.web.parameters import IdCursor, IdempotencyKey, Limit, page_of, time_in

# How many uploads a process takes at the same time.
_MOST = 32

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")

Days = Annotated[int, Meta(ge=1, le=3660)]
# PostgreSQL's text has no NUL.
_WITHOUT_NUL = r"^[^\x00]*$"


class RetainedBatch(Struct, forbid_unknown_fields=True):
    """A batch of the certificates that your account has retained, with these labels if given."""

    of: Annotated[str, Meta(pattern="^retained$")]
    vendor: Annotated[str, Meta(max_length=1000, pattern=_WITHOUT_NUL)] | None = None
    since: Annotated[datetime, Meta(tz=True)] | None = None
    as_of: Annotated[datetime, Meta(tz=True)] | None = None
    name: Annotated[str, Meta(max_length=200, pattern=_WITHOUT_NUL)] | None = None
    keep_days: Days = 90


class BatchList(Struct):
    """Batches, newest first. `next` is the cursor for older ones, or `null`."""

    items: list[BatchView]
    next: UUID | None


class Preparing(Struct):
    """Results that are being made in a format other than the input's. Ask again soon."""

    format: Format
    state: str = "preparing"


@dataclass
class _Create(Operation):
    """The request body of `POST /v1/batches`: a file, or what is to be read instead of one."""

    def __post_init__(self) -> None:
        file = Schema(type=OpenAPIType.STRING)
        self.request_body = RequestBody(
            description="A file, as it is: CSV, newline-delimited JSON, Parquet, or .xlsx.",
            content={
                "text/csv": OpenAPIMediaType(schema=file),
                "application/octet-stream": OpenAPIMediaType(schema=file),
                JSON: OpenAPIMediaType(schema=inline_schema(RetainedBatch)),
            },
            required=True,
        )


_Id = Annotated[UUID, PathParameter()]
_AS_TIME = {"format": "date-time"}


@post(
    "/v1/batches",
    status_code=201,
    tags=["Batches"],
    operation_id="createBatch",
    operation_class=_Create,
    security=[{"Basic": []}],
    request_max_body_size=MAX_UPLOAD,
    responses={
        201: documented(BatchView, "Created"),
        **KEYED,
        **problems(400, 408, 409, 413, 415, 422),
    },
)
async def create_batch(
    request: HttpRequest,
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    name: Annotated[
        str | None, QueryParameter(max_length=200, description="What you call the file.")
    ] = None,
    column: Annotated[
        str | None,
        QueryParameter(max_length=300, description="Which column to ask about, if not found."),
    ] = None,
    sheet: Annotated[
        str | None, QueryParameter(max_length=300, description="Which sheet of a spreadsheet.")
    ] = None,
    file_format: Annotated[
        Format | None, QueryParameter(name="format", description="If not told by the content.")
    ] = None,
    as_of: Annotated[
        str | None,
        QueryParameter(description="A past instant to answer as of.", schema_extra=_AS_TIME),
    ] = None,
    keep_days: Annotated[
        int, QueryParameter(ge=1, le=3660, description="Delete the batch after so many days.")
    ] = 90,
    idempotency_key: IdempotencyKey = None,
) -> Response[bytes]:
    """Have a file of certificates or sites answered: up to 10 million rows and 2 GB.

    Send the file as the body: CSV or TSV in any common encoding, newline-delimited JSON, Parquet,
    .xlsx, or one value a line, also with gzip or zstd. The column with certificate ids or URLs, page
    URLs, or host names is found by its content. Or send JSON to ask about all that you retained.
    The batch is answered in the background. Look at its state, and get the results when it is
    finished.
    """
    if idempotency_key is not None:
        idempotency.check_key(idempotency_key)
    if request.content_type[0] == "multipart/form-data":
        raise UnsupportedMediaType("send the file itself as the body: curl --data-binary @FILE")
    if request.content_type[0] == JSON:
        sent = await json_of(request, RetainedBatch)
        asked = Asked(
            name=sent.name,
            source="retained",
            options=Options(vendor=sent.vendor, since=sent.since),
            as_of=sent.as_of,
            kept_for=timedelta(days=sent.keep_days),
            idempotency_key=idempotency_key,
        )
        async with database.general.transaction() as connection:
            batch_id = await batches.create_once(connection, caller, asked)
        return await _created(database, caller, batch_id)
    asked = Asked(
        name=name,
        source="upload",
        options=Options(column=column, sheet=sheet, format=file_format),
        as_of=time_in("as_of", as_of),
        kept_for=timedelta(days=keep_days),
        idempotency_key=idempotency_key,
    )
    uploads: OneEach = request.app.state.uploads
    async with uploads.one_more(caller.account_id):
        async with database.general.transaction() as connection:
            batch_id = await batches.create_once(connection, caller, asked)
        batch = await _found(database, caller, batch_id)
        await batches.upload(database, batch, streamed_body(request, None))
    return await _created(database, caller, batch_id)


async def _created(database: Database, caller: Caller, batch_id: UUID) -> Response[bytes]:
    view = await _view(database, await _found(database, caller, batch_id))
    return Response(
        msgspec.json.encode(view),
        status_code=201,
        media_type=JSON,
        headers={"Location": f"/v1/batches/{batch_id}"},
    )


@get(
    "/v1/batches",
    tags=["Batches"],
    operation_id="listBatches",
    security=[{"Basic": []}],
    responses={200: documented(BatchList, "OK"), **KEYED, **problems(422)},
)
async def list_batches(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    cursor: IdCursor = None,
    limit: Limit = 50,
) -> BatchList:
    """List your batches, newest first."""
    async with database.general.connection() as connection:
        found = await queries.select_batches(
            connection, caller.account_id, before=cursor, limit=limit + 1
        )
        some, following = page_of(found, limit, lambda batch: batch.id)
        progress = await queries.select_progress(connection, [batch.id for batch in some])
    return BatchList([viewed(batch, progress.get(batch.id, {})) for batch in some], following)


@get(
    "/v1/batches/{batch_id:uuid}",
    tags=["Batches"],
    operation_id="getBatch",
    security=[{"Basic": []}],
    responses={200: documented(BatchView, "OK"), **KEYED, **problems(404)},
)
async def get_batch(
    caller: NamedDependency[Caller], database: NamedDependency[Database], batch_id: _Id
) -> BatchView:
    """Get a batch: its state, and what was told about its rows so far."""
    return await _view(database, await _found(database, caller, batch_id))


@post(
    "/v1/batches/{batch_id:uuid}/cancel",
    status_code=200,
    tags=["Batches"],
    operation_id="cancelBatch",
    security=[{"Basic": []}],
    responses={200: documented(BatchView, "OK"), **KEYED, **problems(404, 409)},
)
async def cancel_batch(
    caller: NamedDependency[Caller], database: NamedDependency[Database], batch_id: _Id
) -> BatchView:
    """Stop a batch that has not ended. What was answered so far stays on record."""
    batch = await _found(database, caller, batch_id)
    async with database.general.transaction() as connection:
        await batches.cancel(connection, batch)
    return await _view(database, await _found(database, caller, batch_id))


@delete(
    "/v1/batches/{batch_id:uuid}",
    tags=["Batches"],
    operation_id="deleteBatch",
    security=[{"Basic": []}],
    responses={204: ResponseSpec(None, description="Deleted"), **KEYED, **problems(404)},
)
async def delete_batch(
    caller: NamedDependency[Caller], database: NamedDependency[Database], batch_id: _Id
) -> None:
    """Delete a batch with its file and results. What it was told stays on record as answers."""
    batch = await _found(database, caller, batch_id)
    actor = Actor("key", caller.account_id, caller.api_key_id)
    async with database.general.transaction() as connection:
        await batches.delete(connection, batch, actor)


@get(
    "/v1/batches/{batch_id:uuid}/summary",
    tags=["Batches"],
    operation_id="getBatchSummary",
    security=[{"Basic": []}],
    responses={200: documented(BatchSummary, "OK"), **KEYED, **problems(404, 409)},
)
async def get_summary(
    caller: NamedDependency[Caller], database: NamedDependency[Database], batch_id: _Id
) -> Response[bytes]:
    """Get what a finished batch was told: over all rows, by domain, by columns, and by day."""
    batch = await _found(database, caller, batch_id)
    _check_finished(batch)
    async with database.general.connection() as connection:
        summary = await queries.select_summary(connection, batch.id)
    return Response(summary or b"{}", media_type=JSON)


@get(
    "/v1/batches/{batch_id:uuid}/results",
    tags=["Batches"],
    operation_id="getBatchResults",
    security=[{"Basic": []}],
    responses={
        200: ResponseSpec(
            bytes, description="The file", generate_examples=False, media_type="text/csv"
        ),
        202: documented(Preparing, "The file is being made: see Retry-After"),
        206: ResponseSpec(
            bytes, description="A part of it", generate_examples=False, media_type="text/csv"
        ),
        **KEYED,
        **problems(404, 409, 416, 422),
    },
)
async def get_results(
    request: HttpRequest,
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    batch_id: _Id,
    file_format: Annotated[
        Format | None, QueryParameter(name="format", description="By default, the input's.")
    ] = None,
) -> Response[Any]:
    """Download the results of a finished batch: your columns as they were, and six more.

    Rows are in the order of the input. A download that was cut off continues with `Range`. Cells that
    a spreadsheet would compute begin with an apostrophe in CSV. A format other than the input's is
    made first: until then, the response is a 202.
    """
    batch = await _found(database, caller, batch_id)
    _check_finished(batch)
    assert batch.layout is not None
    form = file_format or batch.layout.format
    async with database.general.connection() as connection:
        made = (await queries.select_formats(connection, batch.id)).get(form)
    if made is not None and made[1] is not None:
        raise Conflict(made[1])
    if made is None or not made[0]:
        if made is None:
            async with database.general.transaction() as connection:
                await batches.prepare(connection, batch.id, form)
        return Response(
            msgspec.json.encode(Preparing(form)),
            status_code=202,
            media_type=JSON,
            headers={"Retry-After": "1"},
        )
    async with database.general.connection() as connection:
        parts = await queries.select_parts(connection, batch.id, form)
    return _file(request, database, batch, form, parts)


def _file(
    request: HttpRequest,
    database: Database,
    batch: Batch,
    form: Format,
    parts: list[tuple[int, int]],
) -> Response[Any]:
    """Return a file of results, or the range of it that is asked for (RFC 9110, section 14)."""
    size = sum(length for _, length in parts)
    tag = f'"{batch.id}.{form}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'attachment; filename="{file_name(batch, form)}"',
    }
    start, end, status = 0, size, 200
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if asked is not None and any(asked.groups()) and request.headers.get("if-range", tag) == tag:
        first, last = asked.groups()
        if first:
            start, end = int(first), min(size, int(last) + 1 if last else size)
        else:
            start = max(0, size - int(last))
        if start >= end:
            return Response(b"", status_code=416, headers={"Content-Range": f"bytes */{size}"})
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    return Stream(
        partial(batches.content_of, database, batch.id, form, parts, start, end),
        status_code=status,
        media_type=MEDIA_TYPES[form],
        headers=headers,
    )


async def _found(database: Database, caller: Caller, batch_id: UUID) -> Batch:
    async with database.general.connection() as connection:
        batch = await queries.select_batch(connection, batch_id, caller.account_id)
    if batch is None:
        raise NotFound("batch", str(batch_id))
    return batch


def _check_finished(batch: Batch) -> None:
    if batch.state != "finished":
        is_under_way = batch.ended_at is None
        raise Conflict(
            f"the batch is {batch.state}: ask again when it is finished"
            if is_under_way
            else f"the batch has {batch.state}, so it has no results"
            if batch.state == "failed"
            else "the batch was canceled, so it has no results"
        )


async def _view(database: Database, batch: Batch) -> BatchView:
    async with database.general.connection() as connection:
        progress = await queries.select_progress(connection, [batch.id])
    return viewed(batch, progress.get(batch.id, {}))


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Limit how many files are uploaded at once to this process."""
    app.state.uploads = OneEach("upload", _MOST)
    yield


routes = [
    create_batch,
    list_batches,
    get_batch,
    cancel_batch,
    delete_batch,
    get_summary,
    get_results,
]
