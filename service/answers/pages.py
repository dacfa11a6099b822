"""The pages about answers: what the account was told, and the receipts that prove it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from service.accounts.names import Status
from service.accounts.visitors import Seat, Visitor, form_of, page, seat_of
from service.answers import queries
from service.answers.audit_log import readable_keys
from service.answers.checkpoints import Checkpoint
from service.answers.receipts import InvalidReceipt, Receipt, ReceiptWithKeys, Statement, verified
from service.answers.records import AnswerFilters, AnswerView
from service.answers.sealing import receipt_of
from service.certificates.facts import cert_id_of_url, checked_cert_id
from service.errors import InvalidCertificateId, InvalidInput, NotFound
from service.ownership.hostname import host_as_answered
from service.postgres.pools import Connection, Database
from service.web.bodies import JSON, HttpRequest, download
from service.web.exports import MEDIA_TYPES, exported
from service.web.pages import Page, page_router
from service.web.parameters import page_of

# How many rows a page has.
_SHOWN = 50

_Text = Annotated[str, QueryParameter(max_length=1024)]
_Sought = Annotated[str, QueryParameter(name="q", max_length=1024)]
_First = Annotated[str, QueryParameter(name="from", max_length=10)]
_Last = Annotated[str, QueryParameter(name="to", max_length=10)]
_Batch = Annotated[UUID | None, QueryParameter(name="file")]
_AnswerId = Annotated[UUID, PathParameter()]


class _Proof(msgspec.Struct, frozen=True):
    """What a receipt proves, or why it proves nothing."""

    statement: Statement | None = None
    checkpoint: Checkpoint | None = None
    problem: str | None = None


@get("/answers")
async def show_answers(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    sought: _Sought = "",
    status: _Text = "",
    first: _First = "",
    last: _Last = "",
    batch_id: _Batch = None,
    before: Annotated[UUID | None, QueryParameter()] = None,
) -> Page:
    """Search what the account was told, by certificate or host, answer, day, and file."""
    given = _given(sought, status, first, last, batch_id)
    error: str | None = None
    found: list[AnswerView] = []
    older = None
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/answers")
        try:
            filters = await _filters(connection, seat, given)
        except InvalidInput as problem:
            error = str(problem)
        else:
            if seat.account is not None:
                found, older = page_of(
                    await queries.select_answers(
                        connection,
                        seat.account.account_id,
                        filters,
                        before=before,
                        limit=_SHOWN + 1,
                    ),
                    _SHOWN,
                    lambda answer: answer.id,
                )
    return page(
        request,
        visitor,
        "answers",
        seat=seat,
        status=422 if error else 200,
        answers=found,
        older=older,
        given=given,
        is_filtered=any(given.values()),
        is_first=before is None,
        error=error,
    )


@get("/answers/download")
async def download_answers(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    sought: _Sought = "",
    status: _Text = "",
    first: _First = "",
    last: _Last = "",
    batch_id: _Batch = None,
) -> Response[Any]:
    """Download all answers that a search finds, as CSV."""
    given = _given(sought, status, first, last, batch_id)
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/answers")
        filters = await _filters(connection, seat, given)
    account = _account_in(seat)

    async def more(after: Any, most: int) -> list[AnswerView]:
        async with database.general.connection() as connection:
            return await queries.select_answers(
                connection, account, filters, before=after and after.id, limit=most
            )

    rows = partial(exported, AnswerView, more, "csv")
    return download(rows, MEDIA_TYPES["csv"], "answers.csv")


@get("/answers/{answer_id:uuid}")
async def show_answer(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    answer_id: _AnswerId,
) -> Page:
    """Show one answer with its receipt, fit to print."""
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, f"/answers/{answer_id}")
        found = None
        # The account shown comes first.
        for account in sorted(seat.accounts, key=lambda account: account != seat.account):
            found = await queries.select_answer(connection, account.account_id, answer_id)
            if found is not None:
                seat = seat.at(account)
                break
        if found is None or seat.account is None:
            raise NotFound("answer", str(answer_id))
        receipt = await receipt_of(connection, seat.account.account_id, answer_id)
        proof = None if receipt is None else await _proof_of(connection, receipt)
    return page(request, visitor, "answer", seat=seat, answer=found, receipt=receipt, proof=proof)


@get("/answers/{answer_id:uuid}/receipt")
async def download_receipt(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    answer_id: _AnswerId,
) -> Response[Any]:
    """Download an answer's receipt, with the keys it can be checked with."""
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, f"/answers/{answer_id}")
        keys = await queries.select_log_keys(connection)
        for account in seat.accounts:
            receipt = await receipt_of(connection, account.account_id, answer_id)
            if receipt is not None:
                break
        else:
            raise NotFound("receipt", str(answer_id))
    kept = ReceiptWithKeys(**msgspec.structs.asdict(receipt), keys=keys)
    body = msgspec.json.format(msgspec.json.encode(kept))
    return Response(
        body,
        media_type=JSON,
        headers={"Content-Disposition": f'attachment; filename="receipt-{answer_id}.json"'},
    )


@get("/receipts")
async def show_receipts(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Show the form that verifies a receipt."""
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/receipts")
    return page(request, visitor, "receipts", seat=seat, typed="", proof=None)


@post("/receipts", status_code=200)
async def verify_receipt(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Verify a receipt against the keys of this service's log. It may be anyone's."""
    form = await form_of(request, visitor)
    text = form.get("receipt", "")
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/receipts")
        try:
            receipt: Receipt = msgspec.json.decode(text, type=ReceiptWithKeys)
        except (msgspec.MsgspecError, RecursionError):
            proof = _Proof(problem="this isn’t a receipt; paste everything that is in its file")
        else:
            proof = await _proof_of(connection, receipt)
    status = 422 if proof.problem else 200
    return page(request, visitor, "receipts", seat=seat, status=status, typed=text, proof=proof)


async def _proof_of(connection: Connection, receipt: Receipt) -> _Proof:
    keys = readable_keys(await queries.select_log_keys(connection))
    try:
        return _Proof(*verified(receipt, keys))
    except InvalidReceipt as error:
        return _Proof(problem=str(error))


def _account_in(seat: Seat) -> UUID:
    if seat.account is None:
        raise NotFound("account", seat.user.email)
    return seat.account.account_id


def _given(
    sought: str, status: str, first: str, last: str, batch_id: UUID | None
) -> Mapping[str, str]:
    """Return what a search was given, by the names of the form's fields."""
    file = str(batch_id or "")
    return {"q": sought, "status": status, "from": first, "to": last, "file": file}


async def _filters(connection: Connection, seat: Seat, given: Mapping[str, str]) -> AnswerFilters:
    """Return what a search asks for. Raises `InvalidInput`, or `NotFound` for another's file."""
    cert_id, host = _sought(given["q"].strip())
    last = _day("to", given["to"])
    ids = None
    if given["file"]:
        batch_id, account_id = UUID(given["file"]), _account_in(seat)
        ids = await queries.select_ids_of_batch(connection, account_id, batch_id)
        if ids is None:
            raise NotFound("file", given["file"])
    return AnswerFilters(
        cert_id=cert_id,
        host=host,
        status=_status(given["status"]),
        since=_day("from", given["from"]),
        until=None if last is None else last + timedelta(1),
        first_id=ids and ids[0],
        last_id=ids and ids[1],
    )


def _sought(text: str) -> tuple[str | None, str | None]:
    """Return the certificate's id, or else the host, that a text names: itself, or by a URL."""
    if not text:
        return None, None
    try:
        return cert_id_of_url(text)[0], None
    except InvalidCertificateId:
        try:
            return checked_cert_id(text), None
        except InvalidCertificateId:
            return None, host_as_answered(_host_in(text))


def _host_in(text: str) -> str:
    try:
        return urlsplit(text).hostname or text
    except ValueError:
        return text


def _status(text: str) -> Status | None:
    for status in get_args(Status):
        if text == status:
            return status
    if text:
        raise InvalidInput("status", text, ", ".join(get_args(Status)))
    return None


def _day(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        raise InvalidInput(name, text, "a day such as 2026-07-04") from None


routes = [
    page_router(
        show_answers,
        download_answers,
        show_answer,
        download_receipt,
        show_receipts,
        verify_receipt,
    )
]
