"""What every request goes through: its path, its id, HEAD, how long its body takes, and the log."""

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import structlog
from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars
from uuid_utils import uuid7

from service.errors import BodyTooSlow, MalformedBody, Overloaded
from service.postgres import shares
from service.processes.logs import log_request
from service.web import rate_limits

# A body has this many seconds, and one more for each of so many bytes that have arrived.
BODY_SECONDS = 10.0
BODY_RATE = 50_000

# How many requests a process has in progress at most. With the largest body, that bounds its memory.
MOST_REQUESTS = 1024

# For routes that answer in any case.
ALWAYS_ANSWERED = {"always_answered": True}

# What every response says, unless it says something else about the same: it is what it says it is, it
# is for nobody's cache, and it may do and load nothing. Pages say what they may; see `pages.HEADERS`.
_SNIFFING = (b"x-content-type-options", b"nosniff")
_CACHING = (b"cache-control", b"no-store")
_CONTENT = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# The page that shows the API document has its script in it.
_CONTENT_OF_DOCUMENT = (
    b"content-security-policy",
    (
        b"default-src 'self'; script-src 'self' 'unsafe-inline'; "
        b"style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; "
        b"frame-ancestors 'none'"
    ),
)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")


class Front:
    """An application in front of another.

    - `corrected` returns the path to route a request by.
    - `ahead` returns the application that answers a request ahead of the other's router, if any.
    - HEAD gets what GET would, without the body (RFC 9110, section 9.3.2).
    - Every request has an id: the client's `X-Request-Id` if it is well formed, else a new one. It
      is in the response, and in everything logged about the request.
    - A body has a deadline, by its size. Whoever reads one that is late gets `BodyTooSlow`, and one
      that ends early, `MalformedBody`.
    - Of requests beyond `MOST_REQUESTS`, `refuse_if_saturated` refuses all that it may.
    - Every response has the headers that keep browsers from making more of it than it is.
    - The access log has a line for each request, if `logs`. It holds no key, no id of a certificate,
      no address, and nothing else of the path than its pattern.
    """

    def __init__(
        self,
        app: ASGIApp,
        corrected: Callable[[str], str],
        ahead: Callable[[HTTPScope], ASGIApp | None],
        *,
        logs: bool,
    ) -> None:
        self._app = app
        self._corrected = corrected
        self._ahead = ahead
        self._logs = logs
        self.in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, as the ASGI specification says."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        path = self._corrected(scope["path"])
        if path != scope["path"]:
            scope["sent_path"] = scope["path"]  # type: ignore[typeddict-unknown-key] # ours
            scope["path"], scope["raw_path"] = path, path.encode()
        method = scope["method"]
        if method == "HEAD":
            scope["method"] = "GET"
        request_id = _id_of(scope)
        used = rate_limits.start()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            sent: Any = message
            if message["type"] == "http.response.start":
                status = message["status"]
                more = [(b"x-request-id", request_id.encode()), *rate_limits.headers(used)]
                more += _guards(path, message["headers"])
                sent = {**message, "headers": [*message["headers"], *more]}
            elif method == "HEAD" and message["type"] == "http.response.body":
                sent = {**message, "body": b""}
            await send(sent)

        if self.in_progress >= MOST_REQUESTS:
            scope["is_one_too_many"] = True  # type: ignore[typeddict-unknown-key] # ours
        self.in_progress += 1
        bound, begun = bind_contextvars(request_id=request_id), shares.begin_request()
        try:
            app = self._ahead(scope) or self._app
            await app(scope, _in_time(receive), answer)
        finally:
            self.in_progress -= 1
            shares.end_request(begun)
            reset_contextvars(**bound)
            if self._logs:
                log_request(
                    method=method,
                    path=scope.get("path_template"),
                    status=status,
                    milliseconds=round((time.perf_counter() - started) * 1000, 1),
                    request_id=request_id,
                )


def _guards(path: str, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    given = {name for name, _ in headers}
    if _SNIFFING[0] not in given:
        yield _SNIFFING
    # Static files may be cached: they have a tag that tells whether they changed.
    if _CACHING[0] not in given and b"etag" not in given:
        yield _CACHING
    if _CONTENT[0] not in given:
        yield _CONTENT_OF_DOCUMENT if path.startswith("/schema") else _CONTENT


async def refuse_if_saturated(request: Request[Any, Any, Any]) -> None:
    """Refuse what `check_room` does, unless its route answers in any case."""
    if "always_answered" not in request.route_handler.opt:
        check_room(request.scope)


def check_room(scope: Scope) -> None:
    """Refuse a request beyond what this process has in progress at most. Raises `Overloaded`."""
    if "is_one_too_many" in scope:
        raise Overloaded("too many requests are in progress")


def _in_time(receive: Receive) -> Receive:
    started = asyncio.get_running_loop().time()
    arrived = 0
    is_complete = False

    async def receive_in_time() -> Any:
        nonlocal arrived, is_complete
        if is_complete:
            return await receive()
        try:
            async with asyncio.timeout_at(started + BODY_SECONDS + arrived / BODY_RATE):
                message: Any = await receive()
        except TimeoutError:
            raise BodyTooSlow("the body took too long to arrive") from None
        if message["type"] == "http.disconnect":
            raise MalformedBody("the body is incomplete")
        arrived += len(message.get("body", b""))
        is_complete = not message.get("more_body", False)
        return message

    return receive_in_time


def _id_of(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return str(uuid7())


def current_request_id() -> str | None:
    """Return the id of the request that is being answered."""
    return structlog.contextvars.get_contextvars().get("request_id")
