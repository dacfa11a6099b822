"""What operators' tools ask: whether the process is alive, can answer, and what it has counted."""

from litestar import get
from litestar.di import NamedDependency
from litestar.openapi.spec import SecurityRequirement
from litestar.plugins.prometheus import PrometheusController

from service import __version__
from service.errors import Unavailable
from service.postgres.migrations import is_migrated
from service.postgres.pools import Database
from service.web.documents import problems

# The document says so, since every operation says what it needs.
_NO_KEY: list[SecurityRequirement] = [{}]


@get("/health", tags=["Operations"], operation_id="health", security=_NO_KEY)
async def health() -> dict[str, str]:
    """Check that the process responds."""
    return {"status": "ok", "version": __version__}


@get(
    "/ready",
    tags=["Operations"],
    operation_id="ready",
    security=_NO_KEY,
    responses=problems(503),
)
async def ready(database: NamedDependency[Database]) -> dict[str, str]:
    """Check that calls can be answered: the database is reachable, and its schema is current."""
    async with database.general.connection() as connection:
        if not await is_migrated(connection):
            raise Unavailable("the database schema is out of date: run “confirmed-owner migrate”")
    return {"status": "ready"}


class _Metrics(PrometheusController):
    include_in_schema = False


routes = [health, ready, _Metrics]
