"""The baseline for the endpoint: Litestar handlers that return fixed bytes.

`python -m tests.bench.bare PORT BODY` serves them the way `confirmed-owner run` does.
"""

import sys
from typing import Any

from litestar import Litestar, Request, Response, post

from service.processes.logs import configure_logs
from service.processes.serving import serve


def bare_app(body: bytes) -> Litestar:
    """`POST /{cert_id}` reads its request, like the endpoint; `POST /unread/{cert_id}` doesn't."""

    @post("/{cert_id:str}", status_code=200)
    async def bare(request: Request[Any, Any, Any], cert_id: str) -> Response[bytes]:
        del cert_id
        await request.body()
        return Response(body, media_type="application/json")

    @post("/unread/{cert_id:str}", status_code=200)
    async def unread(cert_id: str) -> Response[bytes]:
        del cert_id
        return Response(body, media_type="application/json")

    return Litestar([bare, unread], openapi_config=None)


if __name__ == "__main__":
    configure_logs("console")
    port, body = int(sys.argv[1]), sys.argv[2].encode()
    serve(lambda: bare_app(body), "127.0.0.1", port, 1)
