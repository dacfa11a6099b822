"""Certificate import over HTTP."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile

import msgspec
from litestar import Litestar, Response, post
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema

from service.accounts.records import Caller
from service.certificates.imports import (
    LineResult,
    check_are_lines,
    import_lines,
    in_groups,
    numbered_lines,
)
from service.errors import BodyTooLarge, Overloaded
from service.postgres.pools import Database
from service.processes import metrics
from service.web.bodies import JSON, HttpRequest, streamed_body
from service.web.documents import KEYED, documented, problems
from service.web.one_each import OneEach

MAX_IMPORT = 16 * 1024 * 1024
MAX_IMPORT_LINES = 20_000

# How much of a body is kept in memory while it arrives. The rest waits in a temporary file.
_IN_MEMORY = 256 * 1024

# How many imports a process takes at the same time, how many of them record a group of lines, and how
# many seconds any of those waits for its turn. One leaves time for calls to be answered.
_MOST = 32
_AT_ONCE = 1
_DEADLINE = 5.0

# How many seconds an import rests after each group, so that it leaves the processor to calls.
_PAUSE = 0.1


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
        **KEYED,
        **problems(400, 408, 413, 415),
    },
)
async def import_certificates(
    request: HttpRequest, caller: NamedDependency[Caller], database: NamedDependency[Database]
) -> Response[bytes]:
    """Import facts about certificates for your own calls. A bad line doesn't stop the others.

    Send one JSON object per line: a stored response of the Certificate API with the `cert_id` or
    `cert_url` beside it, or as `{"cert_url", "response": {…}}`. A line may also have `kind`,
    `account`, `page_text`, and `fingerprints`. Facts are in `insights.properties`. An email address
    or phone number that the response says matched becomes a fingerprint. Importing a line again
    changes nothing. At most 16 MB and 20,000 lines, and one import at a time.

    Lines are recorded in groups. If you get a 503, some may be recorded: send them all again.
    """
    imports: OneEach = request.app.state.imports
    turns: asyncio.Semaphore = request.app.state.import_turns
    items: list[LineResult] = []
    async with imports.one_more(caller.account_id):
        with SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
            ends = 0
            async for chunk in streamed_body(request, _NDJSON):
                file.write(chunk)
                ends += chunk.count(b"\n")
                # A last line without an end is one, too.
                if ends + (not chunk.endswith(b"\n")) > MAX_IMPORT_LINES:
                    raise BodyTooLarge(f"the body must be at most {MAX_IMPORT_LINES} lines long")
            file.seek(0)
            for group in in_groups(numbered_lines(file)):
                if not items:
                    check_are_lines(group)
                if items:
                    await asyncio.sleep(_PAUSE)
                async with _turn(turns), database.general.transaction() as connection:
                    items += await import_lines(connection, group, caller)
    failed = sum(item.result is msgspec.UNSET for item in items)
    for result, count in Counter(str(item.result or "failed") for item in items).items():
        metrics.IMPORTED.labels(result).inc(count)
    return Response(
        msgspec.json.encode(ImportReport(items)),
        status_code=200 if not failed else 207 if failed < len(items) else 422,
        media_type=JSON,
    )


@asynccontextmanager
async def _turn(turns: asyncio.Semaphore) -> AsyncIterator[None]:
    """Wait to record a group of lines. Raises `Overloaded`."""
    try:
        async with asyncio.timeout(_DEADLINE):
            await turns.acquire()
    except TimeoutError:
        raise Overloaded("too many imports are in progress") from None
    try:
        yield
    finally:
        turns.release()


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Limit how many imports run at once in this process."""
    app.state.imports = OneEach("import", _MOST)
    app.state.import_turns = asyncio.Semaphore(_AT_ONCE)
    yield


routes = [import_certificates]
