"""Bodies of requests, limited in size and of the declared type, and files in responses."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.response import Stream

from service.errors import BodyTooLarge, UnsupportedMediaType
from service.web.json_input import read_body

HttpRequest: TypeAlias = Request[Any, Any, State]

JSON = "application/json"

# For JSON bodies of the management API.
MAX_BODY = 64 * 1024

_Read = TypeVar("_Read")


async def raw_body(request: HttpRequest, media_types: tuple[str, ...]) -> bytes:
    """Return the bytes of a body. Raises `UnacceptableBody`."""
    with _measured(request):
        body = await request.body()
    if body:
        check_type(request.headers.get("content-type", ""), media_types)
    return body


async def streamed_body(
    request: HttpRequest, media_types: tuple[str, ...] | None
) -> AsyncIterator[bytes]:
    """Yield a body as it arrives; of any type, if none are given. Raises `UnacceptableBody`."""
    with _measured(request):
        async for chunk in request.stream():
            if chunk:
                if media_types is not None:
                    check_type(request.headers.get("content-type", ""), media_types)
                yield chunk


@contextmanager
def _measured(request: HttpRequest) -> Iterator[None]:
    try:
        yield
    except HTTPException as error:
        if error.status_code != 413:
            raise
        limit = request.route_handler.resolve_request_max_body_size()
        raise too_large(limit) from None


def too_large(most: int | None) -> BodyTooLarge:
    """Return the error for a body of more than so many bytes."""
    return BodyTooLarge(f"the body must be at most {most} bytes long")


def check_type(content_type: str, media_types: tuple[str, ...]) -> None:
    """Raise `UnsupportedMediaType` if a body's Content-Type is none of these."""
    if content_type.partition(";")[0].strip().lower() not in media_types:
        raise UnsupportedMediaType(f"the Content-Type must be {media_types[0]}")


async def json_of(request: HttpRequest, kind: type[_Read]) -> _Read:
    """Parse a JSON body as `kind`; no body is an empty object.

    Raises `UnacceptableBody` or `InvalidInput`.
    """
    return read_body(await raw_body(request, (JSON,)), kind)


def download(content: Callable[[], AsyncIterator[bytes]], media_type: str, name: str) -> Stream:
    """Return a file that browsers save under that name, sent as it is made."""
    return Stream(
        content,
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
