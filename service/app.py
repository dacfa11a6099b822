"""The web application of a process, assembled from what each subject adds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import yaml
from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import (
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)

from service.accounts import api as accounts_api
from service.accounts import pages as accounts_pages
from service.accounts.callers import calling
from service.accounts.visitors import visiting
from service.answers import api as answers_api
from service.answers import pages as answers_pages
from service.batches import api as batches_api
from service.batches import pages as batches_pages
from service.certificates import api as certificates_api
from service.certificates.facts import without_vendor_host
from service.connections import api as connections_api
from service.connections import pages as connections_pages
from service.demo.examples import EXAMPLES
from service.home import pages as home_pages
from service.insights import api as insights_api
from service.invitations import api as invitations_api
from service.invitations import pages as invitations_pages
from service.ownership import api as ownership_api
from service.ownership import pages as ownership_pages
from service.postgres.pools import Database, open_database
from service.processes import metrics
from service.processes.vitals import tell_of_database, told_of
from service.settings import Settings
from service.status.readings import Readings
from service.tokens import load_secret
from service.web import documents, guides, probes
from service.web import pages as web_pages
from service.web.bodies import MAX_BODY
from service.web.front import Front, refuse_if_saturated
from service.web.pages import Site, template_config
from service.web.problems import (
    count_refused,
    invalid_parameter,
    log_unexpected,
    problem_plugin,
)

_ROUTES = (
    insights_api,
    answers_api,
    batches_api,
    certificates_api,
    accounts_api,
    invitations_api,
    connections_api,
    ownership_api,
    home_pages,
    accounts_pages,
    invitations_pages,
    answers_pages,
    batches_pages,
    connections_pages,
    ownership_pages,
    probes,
    documents,
    guides,
    web_pages,
)
_LIFESPANS = (accounts_api, insights_api, certificates_api, ownership_api, batches_api)


def create_app(database_url: str, settings: Settings) -> Litestar:
    """Return the application that answers from that database, and from the vendor if configured.

    It starts even if they are down.
    """

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_database(
            settings.pooler_url or database_url, is_pooler=settings.pooler_url is not None
        ) as database:
            app.state.settings = settings
            app.state.database = database
            app.state.secret = load_secret(settings.secret_key, settings.state_dir)
            app.state.site = Site(settings.public_url, app.state.secret)
            app.state.readings = Readings(database.probing, settings.state_dir)
            yield

    app = Litestar(
        [route for subject in _ROUTES for route in subject.routes],
        lifespan=[lifespan, *(subject.lifespan for subject in _LIFESPANS), _told_of],
        dependencies={
            "database": Provide(_database, sync_to_thread=False),
            "caller": Provide(calling),
            "visitor": Provide(visiting),
        },
        template_config=template_config(),
        plugins=[problem_plugin()],
        exception_handlers={
            ValidationException: invalid_parameter,
            NotFoundException: insights_api.unrouted,
            MethodNotAllowedException: insights_api.unrouted,
        },
        before_request=refuse_if_saturated,
        after_exception=[log_unexpected, count_refused],
        request_max_body_size=MAX_BODY,
        openapi_config=documents.openapi_config(EXAMPLES),
        logging_config=None,
    )
    app.state.first_segments = {route.path.split("/")[1] for route in app.routes}
    app.state.front = Front(
        app.asgi_handler,
        without_vendor_host,
        insights_api.ahead_of_router,
        logs=settings.access_log,
    )
    app.asgi_handler = app.state.front
    return app


def openapi_yaml() -> str:
    """Return the OpenAPI document as YAML, as committed in openapi.yaml."""
    # The URL is never used: making the document needs no database.
    app = create_app("postgresql://", Settings(public_url="http://127.0.0.1"))
    return yaml.safe_dump(
        app.openapi_schema.to_schema(), sort_keys=False, allow_unicode=True, width=100
    )


@asynccontextmanager
async def _told_of(app: Litestar) -> AsyncIterator[None]:
    state = app.state

    def tell() -> None:
        metrics.IN_PROGRESS.set(state.front.in_progress)
        tell_of_database("serving", state.database)
        if state.vendor is not None:
            state.vendor.tell()

    async with told_of("serving", tell):
        yield


def _database(state: State) -> Database:
    return state.database
