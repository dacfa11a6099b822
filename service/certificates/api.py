"""The import of certificates over HTTP."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO

import msgspec
from litestar import Litestar, Response, post
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema

from service.accounts.keys import authenticate, key_of
from service.certificates.imports import LINES_AT_ONCE, LineResult, import_lines, numbered_lines
from service.errors import BodyTooLarge
from service.postgres.pools import Database
from service.processes import metrics
from service.web.bodies import JSON, HttpRequest, raw_body
from service.web.documents import documented, problems

MAX_IMPORT = 16 * 1024 * 1024


MAX_IMPORT_LINES = 20_000
# Fewer than the general connections, so that imports never take the last one.
_AT_ONCE = 2


_NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", JSON)


class ImportReport(msgspec.Struct):
    """What became of each line of an import, in order."""

    items: list[LineResult]


@dataclass
class _Import(Operation):
    """The request body of `POST /v1/certificates`: lines, which no schema describes as a whole."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            description="One JSON object a line.",
            content={_NDJSON[0]: OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))},
        )


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


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """The places that imports have in this process."""
    app.state.imports = asyncio.Semaphore(_AT_ONCE)
    yield


routes = [import_certificates]
