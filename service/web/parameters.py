"""Parameters that requests share, and a check for unknown ones."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, TypeAlias, TypeVar
from uuid import UUID

import msgspec
from litestar.handlers import BaseRouteHandler
from litestar.params import HeaderParameter, QueryParameter

from service.errors import InvalidInput, UnknownInput
from service.web.bodies import HttpRequest
from service.web.idempotency import LONGEST_KEY

_Item = TypeVar("_Item")
_Cursor = TypeVar("_Cursor")
_Time = Annotated[datetime, msgspec.Meta(tz=True)]

Limit: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=100, description="The maximum number of items to return.")
]
IdCursor: TypeAlias = Annotated[
    UUID | None, QueryParameter(description="`next` from the previous page.")
]
TextCursor: TypeAlias = Annotated[
    str | None, QueryParameter(max_length=253, description="`next` from the previous page.")
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


def page_after(
    found: Sequence[_Item], cursor: str | None, limit: int, key_of: Callable[[_Item], str]
) -> tuple[list[_Item], str | None]:
    """Return the page after the item with the key `cursor`, and the cursor of the next page.

    For lists that are read as a whole. After an item that is gone comes nothing.
    """
    if cursor is not None:
        places = (place for place, each in enumerate(found) if key_of(each) == cursor)
        found = found[next(places, len(found)) + 1 :]
    return page_of(found, limit, key_of)


def time_in(name: str, text: str | None) -> datetime | None:
    """Return a time in a query (RFC 3339); None if there is none. Raises `InvalidInput`."""
    if text is None:
        return None
    try:
        # A plus sign that was sent as it is means a space in a query.
        return msgspec.convert(text.replace(" ", "+"), _Time)
    except msgspec.ValidationError:
        raise InvalidInput(name, text, "a time such as 2026-07-04T12:00:00Z") from None
