"""What the endpoint is compared with: servers that read a request's body and return fixed bytes.

`python -m tests.bench.bare PORT handler|callable BODY [URL KEY]` serves a Litestar handler, or an ASGI
callable without any framework, the way `confirmed-owner run` serves. With a database, the callable
asks and records there what the endpoint does.
"""

import sys
from functools import partial
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, post

from service.insights.asked import asked_of
from service.insights.confirmed_owner import confirmed_owner
from service.insights.operations import question_of
from service.insights.queries import Answer, Question
from service.postgres.batching import NaturalBatcher
from service.postgres.pools import open_database
from service.processes.logs import configure_logs
from service.processes.serving import Application, serve
from service.tokens import digest_of
from tests.bench.cluster import cert_id
from tests.bench.load import ALL, asking


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

    async def floor(scope: Any, receive: Any, send: Any) -> None:
        # Refusing the lifespan is how an application says that it has none.
        assert scope["type"] == "http"
        await _read(receive)
        await _respond(send, body)

    return floor


def asking_callable(body: bytes, url: str, key: str) -> Application:
    """The floor with an answer on record: as little as a request costs that is put to the database."""
    digest = digest_of(key)
    asked = asked_of(cert_id(1), msgspec.json.encode(asking(ALL)), has_vendor=False)
    resolver: NaturalBatcher[Question, Answer]

    async def floor(scope: Any, receive: Any, send: Any) -> None:
        nonlocal resolver
        if scope["type"] == "lifespan":
            await receive()
            async with open_database(url) as database:
                resolver = NaturalBatcher(partial(confirmed_owner, database.answering))
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await _read(receive)
        answer = await resolver.ask(question_of(digest, scope["path"][1:], asked), "everyone")
        assert answer.verdict == "answered"
        await _respond(send, body)

    return floor


async def _read(receive: Any) -> None:
    while (await receive()).get("more_body", False):
        pass


async def _respond(send: Any, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    configure_logs("console")
    port, kind, content, *where = sys.argv[1:]
    make = {"handler": handler, "callable": asking_callable if where else bare_callable}[kind]
    serve(partial(make, content.encode(), *where), "127.0.0.1", int(port), 1)
