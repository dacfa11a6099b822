"""The Certificate API over HTTP, and the import of certificates."""

import time
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, Any, get_args

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)
from litestar.params import PathParameter

from service import metrics
from service.accounts.keys import authenticate, key_of
from service.bodies import JSON, HttpRequest, raw_body
from service.database import Database
from service.documents import documented, inline_schema, problems
from service.errors import (
    BodyTooLarge,
    InvalidCertificateId,
    ProductUnavailable,
    Refused,
    SchemaViolation,
    ServiceError,
    UnacceptableBody,
    http_headers,
    http_status,
)
from service.insights.contract import (
    CERT_ID,
    MALFORMED_ID,
    MAX_BODY,
    MAX_CERT_ID,
    REQUEST_RULES,
    SCHEMA,
    ErrorResponse,
    OperationsRequest,
    OperationsResponse,
    Status,
    ValidateResponse,
    checked_cert_id,
)
from service.insights.imports import (
    LINES_AT_ONCE,
    LineResult,
    import_lines,
    numbered_lines,
)

MAX_IMPORT = 16 * 1024 * 1024
MAX_IMPORT_LINES = 20_000

_NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", JSON)
# Looked up once: finding a counter by its labels costs more than counting.
_ANSWERED = metrics.REQUESTS.labels(200)
_TOLD = {
    status: metrics.ANSWERS.labels(status or "not_asked") for status in (*get_args(Status), None)
}
_INTERNAL_ERROR = "An unexpected error occurred"


class ImportReport(msgspec.Struct):
    """What became of each line of an import, in order."""

    items: list[LineResult]


@dataclass
class _Operations(Operation):
    """The request body of `POST /{cert_id}`, which the handler reads for itself."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            content={
                JSON: OpenAPIMediaType(schema=inline_schema(OperationsRequest) | REQUEST_RULES)
            },
            required=True,
        )


@dataclass
class _Import(Operation):
    """The request body of `POST /v1/certificates`: lines, which no schema describes as a whole."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            description="One JSON object a line.",
            content={_NDJSON[0]: OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))},
        )


def v4_error(request: HttpRequest, error: Exception) -> Response[bytes]:
    """Any error, in the shape the Certificate API gives it."""
    body: dict[str, object]
    match error:
        case InvalidCertificateId():
            body = {
                "errors": {"detail": MALFORMED_ID},
                "message": MALFORMED_ID,
                "outcome": "error",
                "reason": MALFORMED_ID,
            }
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
    match error:
        case ServiceError():
            status, headers = http_status(error), http_headers(error)
        case HTTPException():
            status, headers = error.status_code, {}
        case _:
            status, headers = 500, {}
    metrics.REQUESTS.labels(status).inc()
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        headers=headers,
        media_type=JSON,
    )


_V4_ERRORS: dict[int | type[Exception], Any] = {
    ServiceError: v4_error,
    HTTPException: v4_error,
    Exception: v4_error,
}


def _error(reason: str, detail: str | None = None) -> dict[str, object]:
    errors = {} if detail is None else {"errors": {"detail": detail}}
    return {**errors, "outcome": "error", "reason": reason}


@post(
    "/{cert_id:str}",
    status_code=200,
    tags=["Certificate API"],
    operation_id="runOperations",
    operation_class=_Operations,
    security=[{"Basic": []}],
    request_max_body_size=MAX_BODY,
    exception_handlers=_V4_ERRORS,
    responses={
        200: documented(OperationsResponse, "OK"),
        **{
            status: documented(ErrorResponse, what)
            for status, what in {
                400: "Malformed certificate id, or a body that is not JSON",
                401: "Incorrect API key",
                402: "The account is inactive",
                403: "An operation that is not offered",
                404: "The certificate has expired or could not be found",
                405: "The certificate is a sandboxed one",
                413: "The body is longer than 64 KB",
                415: "The body is not declared to be application/json",
                422: "The body does not meet the schema, or the operations can't be run",
                502: "The vendor behind this service failed",
                503: "No answer could be had now; see Retry-After",
                504: "The vendor behind this service took too long",
            }.items()
        },
    },
)
async def run_operations(
    request: HttpRequest,
    cert_id: Annotated[
        str, PathParameter(schema_extra={"maxLength": MAX_CERT_ID, "pattern": f"^({CERT_ID})$"})
    ],
) -> Response[bytes]:
    """Run the operations the body names on a certificate, as the vendor's Certificate API v4 does."""
    # Taken from the state: injecting more than one dependency costs a call a quarter of its speed.
    state = request.app.state
    started = time.perf_counter()
    key = key_of(request.headers.get("authorization"))
    try:
        checked_cert_id(cert_id)
        asked = state.operations.asked_of(cert_id, await raw_body(request, (JSON,)))
    except ServiceError:
        # Whoever calls without a good key is told that, and nothing else.
        async with state.database.general.connection() as connection:
            await authenticate(connection, key)
        raise
    body, answer = await state.operations.run(key, cert_id, asked)
    _ANSWERED.inc()
    _TOLD[answer.status].inc()
    metrics.DURATION.observe(time.perf_counter() - started)
    return Response(body, media_type=JSON)


@get(
    "/{cert_id:str}/validate",
    tags=["Certificate API"],
    operation_id="validateCertificateId",
    security=[{"Basic": []}],
    exception_handlers=_V4_ERRORS,
    responses={
        200: documented(ValidateResponse, "OK"),
        401: documented(ErrorResponse, "Incorrect API key"),
        402: documented(ErrorResponse, "The account is inactive"),
        502: documented(ErrorResponse, "The vendor behind this service failed"),
        503: documented(ErrorResponse, "No answer could be had now; see Retry-After"),
        504: documented(ErrorResponse, "The vendor behind this service took too long"),
    },
)
async def validate_certificate_id(
    request: HttpRequest, cert_id: Annotated[str, PathParameter()]
) -> Response[bytes]:
    """Tell whether an id is that of a certificate, of which kind, and not too old.

    Where a certificate is not known here, and there is no vendor to ask, the form of its id decides.
    """
    key = key_of(request.headers.get("authorization"))
    validity = await request.app.state.operations.validate(key, cert_id)
    metrics.REQUESTS.labels(200).inc()
    return Response(msgspec.json.encode(validity), media_type=JSON)


@post(
    "/v1/certificates",
    status_code=200,
    tags=["Certificates"],
    operation_id="importCertificates",
    operation_class=_Import,
    security=[{"Basic": []}],
    request_max_body_size=MAX_IMPORT,
    responses={
        200: documented(ImportReport, "Every line was imported"),
        207: documented(ImportReport, "Some lines were not; each says why"),
        422: documented(ImportReport, "No line was imported; each says why"),
        **problems(401, 402, 413, 415, 503),
    },
)
async def import_certificates(
    request: HttpRequest, database: NamedDependency[Database]
) -> Response[bytes]:
    """Import what is known about certificates, for the caller's own calls; a bad line stops no other.

    One JSON object a line: `{"cert_id"|"cert_url", "kind"?, "account"?, "page_text"?,
    "fingerprints"?, "insights": {"properties": {…}}}`, where `insights.properties` is what a stored
    v4 response holds. Importing a line again changes nothing. At most 16 MB and 20,000 lines.
    """
    key = key_of(request.headers.get("authorization"))
    async with database.general.connection() as connection:
        caller = await authenticate(connection, key)
    body = await raw_body(request, _NDJSON)
    if body.rstrip(b"\n").count(b"\n") >= MAX_IMPORT_LINES:
        raise BodyTooLarge(f"the body must be at most {MAX_IMPORT_LINES} lines long")
    lines = list(numbered_lines(BytesIO(body)))
    items: list[LineResult] = []
    # Whoever imports much may wait for itself, but not hold the connections that others need.
    async with request.app.state.imports, database.general.transaction() as connection:
        for start in range(0, len(lines), LINES_AT_ONCE):
            items += await import_lines(connection, lines[start : start + LINES_AT_ONCE], caller)
    failed = sum(item.result is msgspec.UNSET for item in items)
    for result, count in Counter(str(item.result or "failed") for item in items).items():
        metrics.IMPORTED.labels(result).inc(count)
    return Response(
        msgspec.json.encode(ImportReport(items)),
        status_code=200 if not failed else 207 if failed < len(items) else 422,
        media_type=JSON,
    )
