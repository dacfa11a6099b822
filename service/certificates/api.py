"""Certificate import over HTTP."""

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
from service.certificates.imports import (
    LINES_AT_ONCE,
    LineResult,
    check_are_lines,
    import_lines,
    numbered_lines,
)
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
    """The result of each line, in order."""

    items: list[LineResult]


@dataclass
class _Import(Operation):
    """The request body of `POST /v1/certificates`: lines, which no schema describes as a whole."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            description="One JSON object per line.",
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
        207: documented(ImportReport, "Some lines were imported: see each item"),
        422: documented(ImportReport, "No line was imported: see each item"),
        **problems(400, 401, 402, 408, 413, 415, 503),
    },
)
async def import_certificates(
    request: HttpRequest, database: NamedDependency[Database]
) -> Response[bytes]:
    """Import facts about certificates for your own calls. A bad line doesn't stop the others.

    Send one JSON object per line: a stored response of the Certificate API with the `cert_id` or
    `cert_url` beside it, or as `{"cert_url", "response": {…}}`. A line may also have `kind`,
    `account`, `page_text`, and `fingerprints`. Facts are in `insights.properties`. An email address
    or phone number that the response says matched becomes a fingerprint. Importing a line again
    changes nothing. At most 16 MB and 20,000 lines.
    """
    key = key_of(request.headers.get("authorization"))
    async with database.general.connection() as connection:
        caller = await authenticate(connection, key)
    body = await raw_body(request, _NDJSON)
    if body.rstrip(b"\n").count(b"\n") >= MAX_IMPORT_LINES:
        raise BodyTooLarge(f"the body must be at most {MAX_IMPORT_LINES} lines long")
    lines = list(numbered_lines(BytesIO(body)))
    check_are_lines(lines)
    items: list[LineResult] = []
    # A caller that imports a lot may wait for itself, but not hold connections that others need.
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
    """Limit how many imports run at once in this process."""
    app.state.imports = asyncio.Semaphore(_AT_ONCE)
    yield


routes = [import_certificates]
