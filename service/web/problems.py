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
    INTERNAL_ERROR,
    InvalidInput,
    LimitReached,
    Overloaded,
    ServiceError,
    TooManyCalls,
    Unavailable,
    VendorFailed,
    error_code,
    http_headers,
    http_status,
)
from service.processes import metrics
from service.web.bodies import HttpRequest
from service.web.front import current_request_id
from service.web.json_input import in_words, literals_in
from service.web.parameters import parameter_names

PROBLEM_JSON = "application/problem+json"

_log = structlog.get_logger("service")


class Problem(msgspec.Struct, omit_defaults=True):
    """A problem document (RFC 9457).

    Branch on `code`, which doesn't change; `type` is its entry in the guide to errors. `field` names
    the invalid value, if there is one. `request_id` is that of the logs.
    """

    status: int
    title: str
    code: str
    type: str
    detail: str | msgspec.UnsetType = msgspec.UNSET
    field: str | msgspec.UnsetType = msgspec.UNSET
    request_id: str | msgspec.UnsetType = msgspec.UNSET


def problem_of(error: ServiceError) -> Problem:
    """Return what a client is told about an error."""
    status, code = http_status(error), error_code(error)
    return Problem(
        status=status,
        title=HTTPStatus(status).phrase,
        code=code,
        type=type_of(code),
        detail=str(error),
        field=error.field if isinstance(error, InvalidInput) else msgspec.UNSET,
    )


def type_of(code: str) -> str:
    """Return the URI reference of an error code's entry in the guide to errors."""
    return f"/guides/errors#{code}"


def problem_plugin() -> ProblemDetailsPlugin:
    """Return the plugin that answers errors with problem documents, unless a route handles them."""
    return ProblemDetailsPlugin(
        ProblemDetailsConfig(
            enable_for_all_http_exceptions=True,
            exception_to_problem_detail_map={ServiceError: _problem, Exception: _unexpected},
        )
    )


def invalid_parameter(request: HttpRequest, error: ValidationException) -> Response[Any]:
    """Report a wrong parameter to a program."""
    return _problem(wrong_parameter(request, error)).to_response(request)


def wrong_parameter(request: HttpRequest, error: ValidationException) -> InvalidInput:
    """Return what Litestar says about a parameter, with the name and value that were sent."""
    wrong = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
    parameter = str(wrong.get("key") or "request")
    handler = request.route_handler
    names = parameter_names(handler, QueryParameter) | parameter_names(handler, HeaderParameter)
    field = names.get(parameter, parameter)
    sent = request.query_params.get(field) or request.headers.get(field) or ""
    known = handler.parsed_fn_signature.parameters.get(parameter)
    values = literals_in(known.annotation) if known else []
    expected = in_words(str(wrong.get("message", "")), values)
    return InvalidInput(field, sent, expected)


def http_problem(request: HttpRequest, error: HTTPException) -> Response[Any]:
    """Return a problem document for an error about HTTP itself, such as an unknown path."""
    return _exception(
        error.status_code, HTTPStatus(error.status_code).name.lower(), headers=error.headers
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


async def count_refused(error: Exception, scope: Scope) -> None:
    """Count what is refused for being too much, or while something it needs is away."""
    del scope
    match error:
        case TooManyCalls():
            metrics.REFUSED.labels("too_many_calls").inc()
        case LimitReached():
            metrics.REFUSED.labels("limit_reached").inc()
        case Overloaded():
            metrics.REFUSED.labels("overloaded").inc()
        case Unavailable():
            metrics.REFUSED.labels("unavailable").inc()


def _problem(error: ServiceError) -> ProblemDetailsException:
    problem = problem_of(error)
    return _exception(
        problem.status,
        problem.code,
        detail=str(error),
        headers=http_headers(error),
        field=problem.field,
    )


def _unexpected(error: Exception) -> ProblemDetailsException:
    return _exception(500, INTERNAL_ERROR)


def _exception(
    status: int,
    code: str,
    *,
    detail: str = "",
    headers: dict[str, str] | None = None,
    field: str | msgspec.UnsetType = msgspec.UNSET,
) -> ProblemDetailsException:
    more = {"code": code, "field": field, "request_id": current_request_id()}
    return ProblemDetailsException(
        status_code=status,
        title=HTTPStatus(status).phrase,
        type_=type_of(code),
        detail=detail,
        headers=headers,
        extra={name: value for name, value in more.items() if value not in (None, msgspec.UNSET)},
    )
