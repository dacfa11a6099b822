"""`POST /{cert_id}`, from the request to the response.

Litestar's way through its router, layers, and objects takes longer than everything this call does.
So the front hands these requests over ahead of the router; `api` has their place in the document.
"""

import time
from collections.abc import Mapping
from typing import NamedTuple, get_args

import msgspec

from service.accounts.keys import key_digest_of
from service.accounts.names import Status
from service.certificates.facts import checked_cert_id, kind_told_by
from service.errors import (
    InvalidCertificateId,
    ProductUnavailable,
    Refused,
    SchemaViolation,
    ServiceError,
    UnacceptableBody,
    UnsupportedMediaType,
    http_headers,
    http_status,
    shorten,
)
from service.insights.contract import MALFORMED_ID, MAX_BODY, SCHEMA
from service.postgres import shares
from service.processes import metrics
from service.web.asgi import Receive, Scope, Send, headers_of, read_all, respond
from service.web.bodies import JSON
from service.web.front import check_room
from service.web.problems import count_refused, log_unexpected

# Looked up once, because finding a counter by its labels costs more than counting.
_ANSWERED = metrics.REQUESTS.labels(200)
_TOLD = {
    status: metrics.ANSWERS.labels(status or "not_asked") for status in (*get_args(Status), None)
}
_INTERNAL_ERROR = "An unexpected error occurred"


class Told(NamedTuple):
    """What a client is told: a response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def run_operations(scope: Scope, receive: Receive, send: Send) -> None:
    """Run operations on a certificate, and respond; an ASGI application for `POST /{cert_id}`."""
    scope["path_template"] = "/{cert_id}"
    try:
        told = Told(200, {}, await _answer(scope, receive))
    except Exception as error:  # noqa: BLE001 - the client is told, and the log
        await log_unexpected(error, scope)
        await count_refused(error, scope)
        told = told_of(error)
    await respond(send, told.status, JSON, told.body, told.headers.items())


async def _answer(scope: Scope, receive: Receive) -> bytes:
    started = time.perf_counter()
    check_room(scope)
    state = scope["litestar_app"].state
    headers = headers_of(scope)
    key_digest = key_digest_of(_text(headers, b"authorization"))
    # Before the body, which nobody without a key makes us wait for.
    caller = await state.callers.remember(key_digest)
    shares.belongs_to(caller.account_id)
    state.callers.begin_call(caller)
    try:
        try:
            cert_id = checked_cert_id(scope["path"].strip("/"))
            _check_version(_text(headers, b"api-version"))
            sent = await read_all(receive, headers, (JSON,), MAX_BODY)
            asked = state.operations.asked_of(cert_id, sent)
        except ServiceError:
            # A caller whose key was just revoked learns only that.
            await state.callers.identify(key_digest)
            raise
        told = kind_told_by(str(scope.get("sent_path", "")))
        body, answer = await state.operations.run(caller, key_digest, cert_id, asked, told)
    finally:
        state.callers.end_call(caller)
    state.used_keys.note(key_digest)
    _ANSWERED.inc()
    _TOLD[answer.status].inc()
    metrics.DURATION.observe(time.perf_counter() - started)
    return body


def told_of(error: Exception) -> Told:
    """Return what a client is told of any error, in the shape the Certificate API gives it."""
    body: dict[str, object]
    match error:
        case InvalidCertificateId():
            body = _error(MALFORMED_ID, MALFORMED_ID)
        case SchemaViolation():
            body = _error(error.reason, error.detail)
        case UnacceptableBody():
            body = _error(SCHEMA, error.detail)
        case ProductUnavailable() | Refused():
            body = _error(str(error), error.detail)
        case ServiceError():
            body = _error(str(error))
        case _:
            body = _error(_INTERNAL_ERROR)
    status, headers = 500, dict[str, str]()
    if isinstance(error, UnsupportedMediaType):
        # As the vendor does (“Troubleshooting the Certificate API”).
        status = 400
    elif isinstance(error, ServiceError):
        status, headers = http_status(error), http_headers(error)
    if status == 400:
        # The published schema of this status requires it.
        body["message"] = body["reason"]
    metrics.REQUESTS.labels(status).inc()
    return Told(status, headers, msgspec.json.encode(body))


def _error(reason: str, detail: str | None = None) -> dict[str, object]:
    errors = {} if detail is None else {"errors": {"detail": detail}}
    return {**errors, "outcome": "error", "reason": reason}


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _check_version(header: str | None) -> None:
    if header is not None and header.strip() not in ("4.0", "4"):
        raise SchemaViolation(
            SCHEMA, f"Api-Version must be 4.0, the only one spoken here, not “{shorten(header)}”"
        )
