"""The pages about checking: certificates and sites that are pasted, and files."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, get_args
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.datastructures import UploadFile
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter
from litestar.response import Stream

from service.accounts.keys import key_of_member
from service.accounts.members import account_of_admin, account_of_member
from service.accounts.visitors import Seat, Visitor, form_of, go_on, page, seat_of, user_of
from service.audit import Actor
from service.batches import batches, queries
from service.batches.batches import Asked
from service.batches.checking import Checked
from service.batches.columns import item_of
from service.batches.records import MEDIA_TYPES, Batch, Format, Options
from service.batches.report import report, shown
from service.batches.summaries import RESULTS, WORDS
from service.batches.views import BatchView, file_name, viewed
from service.errors import (
    Conflict,
    InvalidInput,
    MissingInput,
    NotFound,
    ServiceError,
    TooManyCalls,
)
from service.insights import bulk
from service.insights.bulk import MAX_ITEMS
from service.postgres import shares
from service.postgres.pools import Connection, Database
from service.web.bodies import HttpRequest
from service.web.one_each import OneEach
from service.web.pages import Page, page_router
from service.web.parameters import page_of

# How many bytes a form may have: a thousand long URLs, or a file. Larger files go through the API.
_MAX_PASTED = 256 * 1024
_MAX_FILE = 32 * 1024 * 1024

# How many rows a page has, how much of a value it shows, and how many days a file is kept.
_SHOWN = 20
_KEPT = timedelta(days=90)

# What encloses values where people copy them from.
_AROUND = ",;\"'<>"

_BatchId = Annotated[UUID, PathParameter()]


class _Row(msgspec.Struct, frozen=True):
    """What was pasted, and what came of it: an answer, or what is wrong."""

    text: str
    result: str
    told: str | None = None
    answer_id: str | None = None
    is_expired: bool = False
    problem: str | None = None


@get("/check")
async def show_check(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    before: Annotated[UUID | None, QueryParameter()] = None,
) -> Page:
    """Show the forms to check certificates, sites, and files, and the files checked so far."""
    return await _check(request, visitor, database, before=before)


@post("/check", status_code=200, request_max_body_size=_MAX_PASTED)
async def check(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Answer about everything that was pasted, and put the answers on record."""
    user = user_of(visitor, "/check")
    form = await form_of(request, visitor)
    typed = {name: form.get(name, "") for name in ("items", "as_of")}
    try:
        values = _pasted(typed["items"])
        as_of = _instant(typed["as_of"])
        async with database.general.transaction() as connection:
            account_id = await account_of_member(connection, user, form.get("account_id", ""))
            seat = await seat_of(request, visitor, connection, "/check")
            digest = await key_of_member(connection, account_id, user.id)
        shares.belongs_to(account_id)
        instant, results = await bulk.answer_many(
            database,
            await request.app.state.callers.identify(digest),
            digest,
            [item_of(value) for value in values],
            ["confirmed_owner", "confirmed_owner_detail"],
            as_of=as_of,
        )
    except (InvalidInput, MissingInput) as error:
        return await _check(request, visitor, database, error=str(error), typed=typed)
    rows = [_row(value, result) for value, result in zip(values, results, strict=True)]
    counts = Counter(row.result for row in rows)
    return page(
        request,
        visitor,
        "checked",
        seat=seat,
        rows=rows,
        counts=[(each, WORDS[each], counts[each]) for each in RESULTS if counts[each]],
        instant=instant,
        is_past=as_of is not None,
        typed=typed,
    )


@post("/check/files", status_code=200, request_max_body_size=_MAX_FILE)
async def check_file(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Begin to check a file."""
    user = user_of(visitor, "/check")
    uploads: OneEach = request.app.state.uploads
    try:
        # From the first byte on: until a form is there, nobody knows for which account.
        async with uploads.one_more(user.id):
            form = await form_of(request, visitor)
            sent = (await request.form()).get("file")
            if not isinstance(sent, UploadFile):
                raise MissingInput("file", "is missing: choose one")
            async with database.general.transaction() as connection:
                account_id = await account_of_member(connection, user, form.get("account_id", ""))
                digest = await key_of_member(connection, account_id, user.id)
            shares.belongs_to(account_id)
            caller = await request.app.state.callers.identify(digest)
            asked = Asked(
                name=sent.filename[:200].replace("\0", ""),
                source="upload",
                options=Options(column=form.get("column", "").strip()[:300] or None),
                as_of=_instant(form.get("as_of", "")),
                kept_for=_KEPT,
                idempotency_key=None,
            )
            async with database.general.transaction() as connection:
                batch_id = await batches.create(connection, caller, asked)
                batch = await queries.select_batch(connection, batch_id, account_id)
            assert batch is not None
            await batches.upload(database, batch, _chunks(sent))
    except (InvalidInput, MissingInput, Conflict, TooManyCalls) as error:
        return await _check(request, visitor, database, error=str(error))
    return go_on(request, f"/check/{batch_id}")


@get("/check/{batch_id:uuid}")
async def show_batch(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    batch_id: _BatchId,
) -> Page:
    """Show how far a file is, and what was told about its rows."""
    return await _batch(request, visitor, database, batch_id)


@post("/check/{batch_id:uuid}", status_code=200)
async def change_batch(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    batch_id: _BatchId,
) -> Page:
    """Have results made in another format, or cancel or delete a file's check.

    What was answered stays on record.
    """
    form = await form_of(request, visitor)
    user, account = user_of(visitor, f"/check/{batch_id}"), form.get("account_id", "")
    try:
        async with database.general.transaction() as connection:
            account_id = await account_of_member(connection, user, account)
            batch = await queries.select_batch(connection, batch_id, account_id)
            if batch is None:
                raise NotFound("file", str(batch_id))
            match form.get("do"):
                case "prepare":
                    wanted = _format(form.get("format", ""))
                    if batch.state != "finished":
                        raise Conflict("the file isn’t checked yet")
                    await batches.prepare(connection, batch.id, wanted)
                case "cancel":
                    await batches.cancel(connection, batch)
                case "delete":
                    await account_of_admin(connection, user, account)
                    await batches.delete(connection, batch, Actor("user", account_id, user.id))
                    return go_on(request, "/check")
                case other:
                    raise InvalidInput("do", other or "", "prepare, cancel, or delete")
    except Conflict as error:
        return await _batch(request, visitor, database, batch_id, error=str(error))
    return go_on(request, f"/check/{batch_id}")


@get("/check/{batch_id:uuid}/report")
async def download_report(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    batch_id: _BatchId,
) -> Response[Any]:
    """Download the report about a file that was checked: one page that needs nothing else."""
    async with database.general.connection() as connection:
        _, batch = await _own_batch(request, visitor, connection, batch_id)
        checked = await _checked(connection, batch, await _view(connection, batch))
    if checked is None:
        raise NotFound("report", str(batch_id))
    named = file_name(batch, "csv").removesuffix(".csv")
    return Response(
        report([checked]),
        media_type="text/html",
        headers={"Content-Disposition": f'attachment; filename="{named}.html"'},
    )


@get("/check/{batch_id:uuid}/results")
async def download_results(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    batch_id: _BatchId,
    file_format: Annotated[str, QueryParameter(name="format", max_length=10)] = "",
) -> Response[Any]:
    """Download the results of a file."""
    async with database.general.connection() as connection:
        _, batch = await _own_batch(request, visitor, connection, batch_id)
        if batch.state != "finished" or batch.layout is None:
            raise NotFound("results", str(batch_id))
        form = _format(file_format or batch.layout.format)
        made = (await queries.select_formats(connection, batch.id)).get(form)
        parts = await queries.select_parts(connection, batch.id, form)
    if made is None or not made[0]:
        raise NotFound("results", f"{batch_id} as {form}")
    size = sum(length for _, length in parts)
    return Stream(
        partial(batches.content_of, database, batch.id, form, parts, 0, size),
        media_type=MEDIA_TYPES[form],
        headers={
            "Content-Disposition": f'attachment; filename="{file_name(batch, form)}"',
            "Content-Length": str(size),
        },
    )


def _pasted(text: str) -> Sequence[str]:
    """Return what was pasted, each value once. Raises `InvalidInput` or `MissingInput`."""
    values = list(dict.fromkeys(value for word in text.split() if (value := word.strip(_AROUND))))
    if not values:
        raise MissingInput("items", "are missing: paste at least one certificate or site")
    if len(values) > MAX_ITEMS:
        expected = f"at most {MAX_ITEMS:,} at a time; check a file for more"
        raise InvalidInput("items", f"{len(values):,}", expected)
    return values


def _instant(text: str) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput("as_of", text, "a time such as 2026-07-04T14:05") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _format(text: str) -> Format:
    for each in get_args(Format):
        if text == each:
            return each
    raise InvalidInput("format", text, ", ".join(get_args(Format)))


def _row(text: str, result: bulk.Result) -> _Row:
    if isinstance(result, ServiceError):
        return _Row(text, "error", problem=str(result))
    told: Any = result.properties
    status = told["confirmed_owner_detail"]["status"]
    return _Row(text, status, told["confirmed_owner"], result.answer_id, result.is_expired)


async def _chunks(sent: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await sent.read(1024 * 1024):
        yield chunk


async def _check(
    request: HttpRequest,
    visitor: Visitor,
    database: Database,
    *,
    before: UUID | None = None,
    error: str | None = None,
    typed: dict[str, str] | None = None,
) -> Page:
    views: list[BatchView] = []
    older = None
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/check")
        if seat.account is not None:
            found = await queries.select_batches(
                connection, seat.account.account_id, before=before, limit=_SHOWN + 1
            )
            some, older = page_of(found, _SHOWN, lambda batch: batch.id)
            progress = await queries.select_progress(connection, [batch.id for batch in some])
            views = [viewed(batch, progress.get(batch.id, {})) for batch in some]
    return page(
        request,
        visitor,
        "check",
        seat=seat,
        status=422 if error else 200,
        batches=views,
        older=older,
        is_first=before is None,
        error=error,
        typed=typed or {"items": "", "as_of": ""},
        most=MAX_ITEMS,
        most_bytes=_MAX_FILE,
    )


async def _own_batch(
    request: HttpRequest, visitor: Visitor, connection: Connection, batch_id: UUID
) -> tuple[Seat, Batch]:
    """Return a batch of any of the visitor's accounts, at that account. Raises `NotFound`."""
    seat = await seat_of(request, visitor, connection, f"/check/{batch_id}")
    for account in seat.accounts:
        batch = await queries.select_batch(connection, batch_id, account.account_id)
        if batch is not None:
            return seat.at(account), batch
    raise NotFound("file", str(batch_id))


async def _view(connection: Connection, batch: Batch) -> BatchView:
    progress = await queries.select_progress(connection, [batch.id])
    return viewed(batch, progress.get(batch.id, {}))


async def _checked(connection: Connection, batch: Batch, view: BatchView) -> Checked | None:
    """Return what a report says of a batch, or None if it isn't finished."""
    if batch.state != "finished":
        return None
    summary = await queries.select_summary(connection, batch.id)
    assert summary is not None
    return Checked(
        batch.name or "Retained certificates",
        file_name(batch, "csv"),
        msgspec.to_builtins(view),
        msgspec.json.decode(summary),
    )


async def _batch(
    request: HttpRequest,
    visitor: Visitor,
    database: Database,
    batch_id: UUID,
    *,
    error: str | None = None,
) -> Page:
    async with database.general.connection() as connection:
        seat, batch = await _own_batch(request, visitor, connection, batch_id)
        view = await _view(connection, batch)
        checked = await _checked(connection, batch, view)
        made = await queries.select_formats(connection, batch.id)
    return page(
        request,
        visitor,
        "batch",
        seat=seat,
        status=409 if error else 200,
        batch=view,
        file=checked and shown(checked),
        made=made,
        results=RESULTS,
        words=WORDS,
        error=error,
    )


routes = [
    page_router(
        show_check,
        check,
        check_file,
        show_batch,
        change_batch,
        download_report,
        download_results,
    )
]
