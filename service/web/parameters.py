"""Parameters that requests share, and a check for unknown ones."""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeAlias, TypeVar
from uuid import UUID

from litestar.handlers import BaseRouteHandler
from litestar.params import HeaderParameter, QueryParameter

from service.errors import InvalidInput, UnknownInput
from service.web.bodies import HttpRequest
from service.web.idempotency import LONGEST_KEY

_Item = TypeVar("_Item")
_Cursor = TypeVar("_Cursor")

Limit: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=100, description="The maximum number of items to return.")
]
IdCursor: TypeAlias = Annotated[
    UUID | None, QueryParameter(description="`next` from the previous page.")
]
NumberCursor: TypeAlias = Annotated[
    int | None, QueryParameter(ge=1, le=2**63 - 1, description="`next` from the previous page.")
]
IdempotencyKey: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        required=False,
        min_length=1,
        max_length=LONGEST_KEY,
        pattern="^[ -~]+$",
        description="Requests with the same key within a day are carried out only once.",
    ),
]


def parameter_names(
    handler: BaseRouteHandler, kind: type[QueryParameter | HeaderParameter]
) -> dict[str, str]:
    """Return a handler's parameters of that kind: their names in the code, and in requests."""
    return {
        name: field.kwarg_definition.name or name
        for name, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, kind)
    }


def check_query(request: HttpRequest) -> None:
    """Check that a request has no unknown query parameters.

    A misspelled filter would otherwise filter nothing. Raises `InvalidInput`.
    """
    known = list(parameter_names(request.route_handler, QueryParameter).values())
    for given, value in request.query_params.items():
        if "\0" in str(value):
            raise InvalidInput(given, str(value), "text without NUL characters")
        if given not in known:
            raise UnknownInput(given, "query parameter", known)


def page_of(
    found: Sequence[_Item], limit: int, cursor_of: Callable[[_Item], _Cursor]
) -> tuple[list[_Item], _Cursor | None]:
    """Return a page of what was found, and the cursor of the next page if there is one."""
    return list(found[:limit]), cursor_of(found[limit - 1]) if len(found) > limit else None
