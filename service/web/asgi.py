"""Requests and responses as ASGI has them, for what is answered ahead of Litestar's router."""

from collections.abc import Iterable, Mapping
from typing import Any

from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.web.bodies import check_type, too_large

__all__ = ["ASGIApp", "HTTPScope", "Receive", "Scope", "Send", "headers_of", "read_all", "respond"]


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Return a request's headers by their lowercase names; of several with one name, the first."""
    return dict(reversed(list(scope["headers"])))


async def read_all(
    receive: Receive, headers: Mapping[bytes, bytes], media_types: tuple[str, ...], most: int
) -> bytes:
    """Return a body of at most so many bytes, of one of these types. Raises `UnacceptableBody`.

    A body that is declared to be too large is not read.
    """
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > most:
        raise too_large(most)
    body, is_complete = bytearray(), False
    while not is_complete:
        message: Any = await receive()
        body += message.get("body", b"")
        is_complete = not message.get("more_body", False)
        if len(body) > most:
            raise too_large(most)
    if body:
        check_type(headers.get(b"content-type", b"").decode("latin-1"), media_types)
    return bytes(body)


async def respond(
    send: Send, status: int, media_type: str, body: bytes, headers: Iterable[tuple[str, str]] = ()
) -> None:
    """Send a whole response."""
    sent = [
        (b"content-type", media_type.encode()),
        (b"content-length", b"%d" % len(body)),
        *((name.lower().encode(), value.encode()) for name, value in headers),
    ]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body, "more_body": False})
