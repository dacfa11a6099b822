"""The Certificate API over HTTP."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Litestar, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.openapi.spec import (
    OpenAPIMediaType,
    Operation,
    RequestBody,
)
from litestar.params import PathParameter

from service.accounts.keys import key_digest_of
from service.accounts.records import Caller
from service.certificates.facts import CERT_ID, MAX_CERT_ID, checked_cert_id, kind_told_by
from service.errors import (
    InvalidCertificateId,
    InvalidInput,
    SchemaViolation,
    ServiceError,
)
from service.insights import bulk, call
from service.insights.bulk import MAX_BULK_BODY, BulkRequest, BulkResponse
from service.insights.confirmed_owner import check_ready, confirmed_owner
from service.insights.contract import (
    REQUEST_RULES,
    SCHEMA,
    ErrorResponse,
    OperationsRequest,
    OperationsResponse,
    ValidateResponse,
)
from service.insights.operations import Operations
from service.insights.upstream import open_vendor
from service.postgres import shares
from service.postgres.batching import NaturalBatcher
from service.postgres.pools import FOR_ANSWERS, Database
from service.processes import metrics
from service.web.asgi import ASGIApp, HTTPScope
from service.web.bodies import JSON, HttpRequest, json_of
from service.web.documents import (
    KEYED,
    closed,
    documented,
    inline_schema,
    json_body,
    problems,
)
from service.web.pages import error_page, not_routed, prefers_page

_HOW_TO_CALL = "send the operations in a POST request to /{cert_id}, or GET /{cert_id}/validate"
_NOT_A_PAGE = "This is where programs ask about a certificate. It has no page."


def unrouted(request: HttpRequest, error: HTTPException) -> Response[Any]:
    """Answer a request that no route takes: in the Certificate API's shape if it is meant for it.

    There, 404 would say that the certificate has expired, and 405 that it can't be claimed. So GET
    and POST get 400.
    """
    first = request.scope["path"].removeprefix("/").partition("/")[0]
    if first in request.app.state.first_segments:
        return not_routed(request, error)
    try:
        checked_cert_id(first)
    except InvalidCertificateId as invalid:
        return not_routed(request, error) if request.method == "GET" else v4_error(request, invalid)
    if prefers_page(request):
        return error_page(request, HTTPException(_NOT_A_PAGE, status_code=400))
    response = v4_error(request, SchemaViolation(SCHEMA, _HOW_TO_CALL))
    if error.status_code == 405 and request.method not in ("GET", "POST"):
        # No client of this API sends these methods, so the status can't be mistaken.
        response.status_code = 405
        response.headers.update(error.headers or {})
    return response


@dataclass
class _Operations(Operation):
    """The request body of `POST /{cert_id}`, which the handler reads itself."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            content={
                JSON: OpenAPIMediaType(
                    schema=closed(inline_schema(OperationsRequest)) | REQUEST_RULES
                )
            },
            required=True,
        )


def ahead_of_router(scope: HTTPScope) -> ASGIApp | None:
    """Return what answers a request if it is a call about a certificate."""
    first = scope["path"][1:]
    is_call = (
        scope["method"] == "POST"
        and "/" not in first
        and first not in scope["litestar_app"].state.first_segments
    )
    return call.run_operations if is_call else None


def v4_error(request: HttpRequest, error: Exception) -> Response[bytes]:
    """Return any error in the shape the Certificate API gives it."""
    status, headers, body = call.told_of(error)
    return Response(body, status_code=status, headers=headers, media_type=JSON)


_V4_ERRORS: dict[int | type[Exception], Any] = {
    ServiceError: v4_error,
    Exception: v4_error,
}


@post(
    "/{cert_id:str}",
    status_code=200,
    tags=["Certificate API"],
    operation_id="runOperations",
    operation_class=_Operations,
    security=[{"Basic": []}],
    exception_handlers=_V4_ERRORS,
    responses={
        200: documented(OperationsResponse, "OK"),
        **{
            status: documented(ErrorResponse, what)
            for status, what in {
                400: "A malformed certificate id, or a body that does not meet the schema",
                401: "Incorrect API key",
                402: "The account is inactive",
                403: "An operation that is not offered",
                404: "The certificate has expired or could not be found",
                405: "The certificate is a sandboxed one",
                408: "The body took too long to arrive",
                413: "The body is longer than 64 KB",
                422: "The operations can't be run on this certificate",
                429: "Too many of your calls are in progress",
                502: "The vendor failed",
                503: "No answer right now; see Retry-After",
                504: "The vendor took too long",
            }.items()
        },
    },
)
async def run_operations(
    cert_id: Annotated[
        str, PathParameter(schema_extra={"maxLength": MAX_CERT_ID, "pattern": f"^({CERT_ID})$"})
    ],
) -> ASGIApp:
    """Run operations on a certificate, like the vendor's Certificate API v4."""
    del cert_id
    # The front takes most of them there directly. Litestar has those with a slash at the end.
    return call.run_operations


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
        429: documented(ErrorResponse, "Too many of your calls are in progress"),
        502: documented(ErrorResponse, "The vendor failed"),
        503: documented(ErrorResponse, "No answer right now; see Retry-After"),
        504: documented(ErrorResponse, "The vendor took too long"),
    },
)
async def validate_certificate_id(
    request: HttpRequest, cert_id: Annotated[str, PathParameter()]
) -> Response[bytes]:
    """Check that an id belongs to a certificate, and that it is not too old.

    The reason names the kind of certificate. If we don't know the certificate and have no vendor to
    ask, we check only the form of the id.
    """
    state = request.app.state
    caller = await state.callers.identify(key_digest_of(request.headers.get("authorization")))
    shares.belongs_to(caller.account_id)
    told = kind_told_by(str(request.scope.get("sent_path", "")))
    validity = await state.operations.validate(caller, cert_id, told)
    metrics.REQUESTS.labels(200).inc()
    return Response(msgspec.json.encode(validity), media_type=JSON)


@post(
    "/v1/insights",
    status_code=200,
    tags=["Insights"],
    operation_id="askAboutMany",
    operation_class=json_body(BulkRequest),
    security=[{"Basic": []}],
    request_max_body_size=MAX_BULK_BODY,
    responses={
        200: documented(BulkResponse, "A result for each item"),
        **KEYED,
        **problems(400, 408, 413, 415, 422),
    },
)
async def ask_about_many(
    request: HttpRequest, caller: NamedDependency[Caller], database: NamedDependency[Database]
) -> BulkResponse:
    """Ask about up to 1,000 certificates or sites, now or as of a past instant.

    An item is a certificate (`cert_id`, `cert_url`) or a site (`host`, `page_url`). Only what is on
    record is asked, so certificates are answered at any age. Every item gets what it would get
    alone, and all see the same instant. An item without an answer fails none of the others.
    """
    state = request.app.state
    asked = await json_of(request, BulkRequest)
    if asked.fetch and asked.as_of is not None:
        raise InvalidInput(
            "fetch", "true", "false with as_of: the vendor tells only what is so now"
        )
    key_digest = key_digest_of(request.headers.get("authorization"))
    instant, results = await bulk.answer_many(
        database,
        caller,
        key_digest,
        asked.items,
        asked.properties,
        as_of=asked.as_of,
    )
    if asked.fetch and state.settings.trustedform is not None:
        results = await bulk.buy_missing(
            state.operations,
            caller,
            key_digest,
            asked.items,
            asked.properties,
            results,
            asked.max_purchases,
        )
    told = zip(asked.items, results, strict=True)
    return BulkResponse(instant, [bulk.item_view(*each) for each in told])


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Provide what runs operations; at shutdown, wait until the last of them has ended."""
    state = app.state
    async with AsyncExitStack() as stack:
        vendor = None
        if state.settings.trustedform is not None:
            vendor = await stack.enter_async_context(open_vendor(state.settings.trustedform))
        state.vendor = vendor
        resolver = NaturalBatcher(
            partial(confirmed_owner, state.database.answering),
            in_flight=FOR_ANSWERS,
            observe=metrics.BATCH_SIZE.observe,
        )
        state.operations = Operations(
            resolver, state.database, vendor, retains_locally=state.settings.local_retain
        )

        async def ready(asked: Sequence[None]) -> Sequence[None]:
            await check_ready(state.database.probing)
            return asked

        state.ready = NaturalBatcher(ready, in_flight=1, deadline=1.0)
        yield
        await state.operations.drain()


routes = [run_operations, validate_certificate_id, ask_about_many]
