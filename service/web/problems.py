"""Errors as clients see them: problem documents (RFC 9457), and what we log about them."""

import time
import traceback
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.params import HeaderParameter, QueryParameter
from litestar.plugins.problem_details import (
    ProblemDetailsConfig,
    ProblemDetailsException,
    ProblemDetailsPlugin,
)
from litestar.types import Scope

from service.errors import (
    InvalidInput,
    ServiceError,
    Unavailable,
    VendorFailed,
    http_headers,
    http_status,
)
from service.web.bodies import HttpRequest
from service.web.parameters import parameter_names

PROBLEM_JSON = "application/problem+json"

_log = structlog.get_logger("service")


class Problem(msgspec.Struct, omit_defaults=True):
    """A problem document (RFC 9457). `field` names the invalid value, if there is one."""

    status: int
    title: str
    detail: str | msgspec.UnsetType = msgspec.UNSET
    field: str | msgspec.UnsetType = msgspec.UNSET


def problem_of(error: ServiceError) -> Problem:
    """Return what a client is told about an error."""
    status = http_status(error)
    return Problem(
        status=status,
        title=HTTPStatus(status).phrase,
        detail=str(error),
        field=error.field if isinstance(error, InvalidInput) else msgspec.UNSET,
    )


def problem_plugin() -> ProblemDetailsPlugin:
    """Return the plugin that answers errors with problem documents, unless a route handles them."""
    return ProblemDetailsPlugin(
        ProblemDetailsConfig(
            enable_for_all_http_exceptions=True,
            exception_to_problem_detail_map={ServiceError: _problem, Exception: _unexpected},
        )
    )


def invalid_parameter(request: HttpRequest, error: ValidationException) -> Response[Any]:
    """Report what Litestar says about a parameter, with the name and value that were sent."""
    wrong = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
    parameter = str(wrong.get("key") or "request")
    handler = request.route_handler
    names = parameter_names(handler, QueryParameter) | parameter_names(handler, HeaderParameter)
    field = names.get(parameter, parameter)
    message = f"valid ({wrong.get('message', 'it is not')})"
    sent = request.query_params.get(field) or request.headers.get(field) or ""
    return _problem(InvalidInput(field, sent, message)).to_response(request)


def http_problem(request: HttpRequest, error: HTTPException) -> Response[Any]:
    """Return a problem document for an error about HTTP itself, such as an unknown path."""
    return ProblemDetailsException(
        status_code=error.status_code,
        title=HTTPStatus(error.status_code).phrase,
        headers=error.headers,
    ).to_response(request)


async def log_unexpected(error: Exception, scope: Scope) -> None:
    """Log what no client caused: unknown errors, and why the database or the vendor failed."""
    if isinstance(error, Unavailable | VendorFailed):
        # Once a second, because an outage is one event, however many calls it refuses.
        state, now = scope["litestar_app"].state, time.monotonic()
        if now - state.get("unavailable_logged_at", -1.0) < 1:
            return
        state.unavailable_logged_at = now
        cause = type(error.__cause__).__name__ if error.__cause__ else None
        _log.warning("unavailable", why=str(error), cause=cause)
    elif not isinstance(error, ServiceError | HTTPException):
        # Neither an error's message nor its values, because they can hold keys and personal data.
        frames = traceback.extract_tb(error.__traceback__)
        _log.error(
            "unexpected error",
            path=scope.get("path_template"),
            error=type(error).__qualname__,
            where=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]],
        )


def _problem(error: ServiceError) -> ProblemDetailsException:
    problem = problem_of(error)
    return ProblemDetailsException(
        status_code=problem.status,
        title=problem.title,
        detail=str(error),
        headers=http_headers(error),
        extra=None if problem.field is msgspec.UNSET else {"field": problem.field},
    )


def _unexpected(error: Exception) -> ProblemDetailsException:
    return ProblemDetailsException(status_code=500, title="Internal Server Error")
