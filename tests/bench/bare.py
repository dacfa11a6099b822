"""What the endpoint is compared with: servers that read a request's body and return fixed bytes.

`python -m tests.bench.bare PORT handler|callable BODY` serves a Litestar handler, or an ASGI callable
without any framework, the way `confirmed-owner run` serves.
"""

import sys
from typing import Any

from litestar import Litestar, Request, Response, post

from service.processes.logs import configure_logs
from service.processes.serving import Application, serve


def handler(body: bytes) -> Application:
    """A Litestar application with one route."""

    @post("/{cert_id:str}", status_code=200)
    async def bare(request: Request[Any, Any, Any], cert_id: str) -> Response[bytes]:
        del cert_id
        await request.body()
        return Response(body, media_type="application/json")

    return Litestar([bare], openapi_config=None)


def bare_callable(body: bytes) -> Application:
    """The floor: the least that a request costs on this server."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]

    async def floor(scope: Any, receive: Any, send: Any) -> None:
        # Refusing the lifespan is how an application says that it has none.
        assert scope["type"] == "http"
        while (await receive()).get("more_body", False):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return floor


if __name__ == "__main__":
    configure_logs("console")
    port, kind, body = int(sys.argv[1]), sys.argv[2], sys.argv[3].encode()
    make = {"handler": handler, "callable": bare_callable}[kind]
    serve(lambda: make(body), "127.0.0.1", port, 1)
