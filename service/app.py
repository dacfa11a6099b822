"""The one place where the parts meet: the web application of a process."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog
import swagger_ui_bundle
import yaml
from jinja2 import Environment, PackageLoader
from litestar import Litestar, Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme
from litestar.params import HeaderParameter, QueryParameter
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.plugins.problem_details import (
    ProblemDetailsConfig,
    ProblemDetailsException,
    ProblemDetailsPlugin,
)
from litestar.plugins.prometheus import PrometheusController
from litestar.static_files import create_static_files_router
from litestar.template import TemplateConfig
from litestar.types import Scope

from service import __version__, metrics
from service.accounts import api as accounts_api
from service.accounts import pages as accounts_pages
from service.accounts.callers import calling, parameter_names
from service.accounts.queries import Caller
from service.accounts.visitors import Site, Visitor, visiting
from service.bodies import HttpRequest
from service.connections import api as connections_api
from service.connections import pages as connections_pages
from service.database import Database, is_migrated, open_database
from service.documents import problems
from service.errors import (
    InvalidInput,
    ServiceError,
    Unavailable,
    VendorFailed,
    http_headers,
    http_status,
)
from service.insights.api import (
    import_certificates,
    run_operations,
    validate_certificate_id,
)
from service.insights.batching import NaturalBatcher
from service.insights.confirmed_owner import confirmed_owner
from service.insights.operations import Operations
from service.insights.upstream import open_vendor
from service.ownership import api as ownership_api
from service.ownership import pages as ownership_pages
from service.ownership.dns_txt import system_resolvers
from service.settings import Settings
from service.tokens import load_secret

# Two, so that one batch is being gathered and read in this process while the other is in the server.
BATCHES_IN_FLIGHT = 2

# Fewer than the general connections, so that imports never take the last one.
IMPORTS_AT_ONCE = 2

_log = structlog.get_logger("service")


def create_app(database_url: str, settings: Settings) -> Litestar:
    """The application that answers from that database, and from the vendor behind it if there is one.

    It starts whether they are up or not.
    """
    trustedform = settings.trustedform

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(
                open_database(database_url, answering=BATCHES_IN_FLIGHT)
            )
            vendor = None
            if trustedform is not None:
                vendor = await stack.enter_async_context(open_vendor(trustedform))
            resolver = NaturalBatcher(
                partial(confirmed_owner, database.answering),
                in_flight=BATCHES_IN_FLIGHT,
                observe=metrics.BATCH_SIZE.observe,
            )
            app.state.database = database
            app.state.secret = load_secret(settings.secret_key, settings.state_dir)
            app.state.site = Site(settings.public_url, app.state.secret)
            app.state.resolvers = settings.dns_resolvers or tuple(system_resolvers())
            app.state.imports = asyncio.Semaphore(IMPORTS_AT_ONCE)
            app.state.operations = operations = Operations(resolver, database, vendor)
            yield
            await operations.drain()

    return Litestar(
        [
            run_operations,
            validate_certificate_id,
            import_certificates,
            accounts_api.get_account,
            accounts_api.change_account,
            accounts_api.list_members,
            accounts_api.change_member,
            accounts_api.remove_member,
            accounts_api.list_events,
            connections_api.invite,
            connections_api.invite_members,
            connections_api.list_invitations,
            connections_api.get_invitation,
            connections_api.resend_invitation,
            connections_api.cancel_invitation,
            connections_api.accept_invitation,
            connections_api.decline_invitation,
            connections_api.list_connections,
            connections_api.get_connection,
            connections_api.disconnect,
            connections_api.show_name,
            connections_api.hide_name,
            connections_api.ask_for_name,
            connections_api.end_request_for_name,
            connections_api.get_visibility,
            ownership_api.add_domains,
            ownership_api.list_domains,
            ownership_api.get_domain,
            ownership_api.change_domain,
            ownership_api.remove_domain,
            ownership_api.verify_domain,
            ownership_api.get_domain_history,
            accounts_pages.pages,
            connections_pages.pages,
            ownership_pages.pages,
            health,
            ready,
            _Metrics,
            create_static_files_router(
                "/schema/static",
                [str(swagger_ui_bundle.swagger_ui_path)],
                include_in_schema=False,
            ),
            create_static_files_router(
                "/static", [Path(__file__).parent / "static"], include_in_schema=False
            ),
        ],
        lifespan=[lifespan],
        dependencies={
            "database": Provide(_database, sync_to_thread=False),
            "caller": Provide(_caller),
            "visitor": Provide(_visitor),
        },
        template_config=TemplateConfig(
            instance=JinjaTemplateEngine.from_environment(
                Environment(
                    loader=PackageLoader("service"),
                    autoescape=True,
                    trim_blocks=True,
                    lstrip_blocks=True,
                )
            )
        ),
        plugins=[
            ProblemDetailsPlugin(
                ProblemDetailsConfig(
                    enable_for_all_http_exceptions=True,
                    exception_to_problem_detail_map={
                        ServiceError: _problem,
                        Exception: _unexpected,
                    },
                )
            )
        ],
        exception_handlers={ValidationException: _invalid},
        after_exception=[_log_unexpected],
        openapi_config=_openapi(),
        logging_config=None,
    )


@get("/health", tags=["Operations"], operation_id="health")
async def health() -> dict[str, str]:
    """Whether the process answers at all."""
    return {"status": "ok", "version": __version__}


@get("/ready", tags=["Operations"], operation_id="ready", responses=problems(503))
async def ready(database: NamedDependency[Database]) -> dict[str, str]:
    """Whether calls can be answered: the database is within reach and its schema is current."""
    async with database.general.connection() as connection:
        if not await is_migrated(connection):
            raise Unavailable("the database's schema is not current: run “confirmed-owner migrate”")
    return {"status": "ready"}


class _Metrics(PrometheusController):
    include_in_schema = False


def _database(state: State) -> Database:
    return state.database


async def _caller(request: HttpRequest, database: NamedDependency[Database]) -> Caller:
    return await calling(request, database)


async def _visitor(request: HttpRequest, database: NamedDependency[Database]) -> Visitor:
    return await visiting(request, database)


def _invalid(request: HttpRequest, error: ValidationException) -> Response[Any]:
    """What Litestar says of a parameter, under the name and with the value that were sent."""
    wrong = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
    parameter = str(wrong.get("key") or "request")
    handler = request.route_handler
    names = parameter_names(handler, QueryParameter) | parameter_names(handler, HeaderParameter)
    field = names.get(parameter, parameter)
    message = f"valid ({wrong.get('message', 'it is not')})"
    sent = request.query_params.get(field) or request.headers.get(field) or ""
    return _problem(InvalidInput(field, sent, message)).to_response(request)


def _problem(error: ServiceError) -> ProblemDetailsException:
    return ProblemDetailsException(
        status_code=http_status(error),
        title=HTTPStatus(http_status(error)).phrase,
        detail=str(error),
        headers=http_headers(error),
        extra={"field": error.field} if isinstance(error, InvalidInput) else None,
    )


def _unexpected(error: Exception) -> ProblemDetailsException:
    return ProblemDetailsException(status_code=500, title="Internal Server Error")


async def _log_unexpected(error: Exception, scope: Scope) -> None:
    """Log what no client caused: what is unknown, and why the database or the vendor failed."""
    if isinstance(error, Unavailable | VendorFailed):
        # Once a second: an outage is one event, however many calls it refuses.
        state, now = scope["litestar_app"].state, time.monotonic()
        if now - state.get("unavailable_logged_at", -1.0) < 1:
            return
        state.unavailable_logged_at = now
        cause = type(error.__cause__).__name__ if error.__cause__ else None
        _log.warning("unavailable", why=str(error), cause=cause)
    elif not isinstance(error, ServiceError | HTTPException):
        # Neither the message nor the values of an error: they can hold keys and personal data.
        frames = traceback.extract_tb(error.__traceback__)
        _log.error(
            "unexpected error",
            path=scope.get("path_template"),
            error=type(error).__qualname__,
            where=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]],
        )


def openapi_yaml() -> str:
    """The OpenAPI document, as it is committed."""
    # No database is asked for it.
    schema = create_app(
        "postgresql://", Settings(public_url="http://127.0.0.1")
    ).openapi_schema.to_schema()
    return yaml.safe_dump(schema, sort_keys=False, allow_unicode=True, width=100)


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="confirmed-owner",
        version=__version__,
        summary="Who owns the site this lead came from?",
        description=(
            "The Certificate API v4, with `confirmed_owner` decided from verified ownership and "
            "connection permissions. An independent implementation, not affiliated with "
            "ActiveProspect or TrustedForm."
        ),
        license=License(name="MIT", identifier="MIT"),
        components=Components(
            security_schemes={
                "Basic": SecurityScheme(
                    type="http",
                    scheme="basic",
                    description="The password is your API key; the user name is ignored.",
                )
            }
        ),
        render_plugins=[
            SwaggerRenderPlugin(
                js_url="/schema/static/swagger-ui-bundle.js",
                css_url="/schema/static/swagger-ui.css",
                standalone_preset_js_url="/schema/static/swagger-ui-standalone-preset.js",
                favicon="<link rel='icon' href='/schema/static/favicon-32x32.png'>",
                path="/",
            )
        ],
    )
