"""What every request goes through before it is routed."""

from collections.abc import Callable
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send


class Front:
    """An application in front of another: it answers HEAD, and corrects paths.

    HEAD gets what GET would, without the body (RFC 9110, section 9.3.2). `corrected` returns the
    path to route a request by.
    """

    def __init__(self, app: ASGIApp, corrected: Callable[[str], str]) -> None:
        self._app = app
        self._corrected = corrected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, as the ASGI specification says."""
        if scope["type"] == ScopeType.HTTP:
            path = self._corrected(scope["path"])
            if path != scope["path"]:
                scope["sent_path"] = scope["path"]  # type: ignore[typeddict-unknown-key]
                scope["path"], scope["raw_path"] = path, path.encode()
            if scope["method"] == "HEAD":
                scope["method"] = "GET"
                send = _without_body(send)
        await self._app(scope, receive, send)


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            rest: Any = {**message, "body": b""}
            await send(rest)
        else:
            await send(message)

    return send_head
