"""What operators' tools ask: whether the process is alive, can answer, and what it has counted."""

from litestar import Response, get
from litestar.openapi.spec import SecurityRequirement
from prometheus_client import CONTENT_TYPE_LATEST

from service import __version__
from service.processes.shared_metrics import exposition
from service.web.bodies import HttpRequest
from service.web.documents import problems
from service.web.front import ALWAYS_ANSWERED

# The document says so, since every operation says what it needs.
_NO_KEY: list[SecurityRequirement] = [{}]


@get("/health", tags=["Operations"], operation_id="health", security=_NO_KEY, opt=ALWAYS_ANSWERED)
async def health() -> dict[str, str]:
    """Check that the process responds."""
    return {"status": "ok", "version": __version__}


@get(
    "/ready",
    tags=["Operations"],
    operation_id="ready",
    security=_NO_KEY,
    opt=ALWAYS_ANSWERED,
    responses=problems(503),
)
async def ready(request: HttpRequest) -> dict[str, str]:
    """Check that calls can be answered: that an answer could be put on record right now."""
    # Those who ask at the same time share one check, so that nobody can ask too often.
    await request.app.state.ready.ask(None, None)
    return {"status": "ready"}


@get("/metrics", include_in_schema=False, opt=ALWAYS_ANSWERED)
async def metrics(request: HttpRequest) -> Response[bytes]:
    """Return what all processes have counted and have in use, and what the database knows."""
    known = await request.app.state.readings.metrics()
    return Response(exposition(known), media_type=CONTENT_TYPE_LATEST)


routes = [health, ready, metrics]
