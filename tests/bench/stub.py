"""A stub of the vendor behind us: it takes 50 ms for each call, and counts calls.

`python -m tests.bench.stub PORT` serves it.
"""

import asyncio
import sys
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get, post

from service.processes.logs import configure_logs
from service.processes.serving import serve

SECONDS = 0.05

FACTS: dict[str, object] = {
    "created_at": "2020-01-01T00:00:00Z",
    "expires_at": "2999-01-01T00:00:00Z",
    "domain": "example.com",
    "page_url": "https://example.com/quote",
    "ip": "192.0.2.1",
}


def stub_app() -> Litestar:
    calls = 0

    @post("/{cert_id:str}", status_code=200)
    async def run(request: Request[Any, Any, Any], cert_id: str) -> Response[bytes]:
        nonlocal calls
        del cert_id
        asked = msgspec.json.decode(await request.body())["insights"]["properties"]
        calls += 1
        await asyncio.sleep(SECONDS)
        properties = {name: FACTS.get(name) for name in asked}
        body = {"outcome": "success", "reason": None, "insights": {"properties": properties}}
        return Response(msgspec.json.encode(body), media_type="application/json")

    @get("/calls")
    async def count() -> int:
        return calls

    return Litestar([run, count], openapi_config=None)


if __name__ == "__main__":
    configure_logs("console")
    serve(stub_app, "127.0.0.1", int(sys.argv[1]), 1)
