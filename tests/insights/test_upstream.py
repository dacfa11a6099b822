"""Vendor failures, and what callers get then.

respx plays the vendor when it sends whole responses. A real socket (`Wire`) plays it when bytes
matter: slow, cut off, huge, compressed. In every failure, the certificate has a known owner who is
verified and connected, so a wrong answer would be easy to give.
"""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from service.postgres.pools import Database
from tests.builders import NO_VERIFIED, VERIFIED, World, basic, meta_id, web_id
from tests.insights.vendor import (
    BOTH,
    CLAIMED,
    KEY,
    MATCH,
    NOT_FOUND,
    OWNER,
    RETAIN,
    Json,
    Stage,
    Vendor,
    ask,
    check_error,
    says,
    service,
    set_up,
)

SCHEMA = "The request cannot be processed because it does not meet the expected schema."
STATUSES: dict[str, tuple[Callable[[], httpx.Response], int, str | None]] = {
    "400": (lambda: says(400), 400, SCHEMA),
    "400, malformed": (lambda: says(400, "Malformed certificate id"), 400,
                       "Malformed certificate id"),
    "400, published text": (lambda: says(400, "No valid products detected"), 400,
                            "No valid products detected"),
    "400, unpublished text": (lambda: says(400, VERIFIED), 400, SCHEMA),
    "406": (lambda: says(406), 400, SCHEMA),
    "410": (lambda: says(410), 404, NOT_FOUND),
    "401": (lambda: says(401, "Unauthorized"), 502, None),
    "402": (lambda: says(402), 402, "Account is inactive"),
    "403": (lambda: says(403, "Unavailable product requested"), 403,
            "Unavailable product requested"),
    "403, of one product": (lambda: says(403, "Unavailable product requested: Verify"), 403,
                            "Unavailable product requested: Verify"),
    "404": (lambda: says(404), 404, NOT_FOUND),
    "404, older text": (lambda: says(404, "Certificate has expired or could not be found."), 404,
                        NOT_FOUND),
    "404 in HTML": (lambda: httpx.Response(404, html=VERIFIED), 404, NOT_FOUND),
    "405": (lambda: says(405, VERIFIED), 405, "Certificate is not claimable"),
    "422": (lambda: says(422, CLAIMED), 422, CLAIMED),
    "422, unpublished text": (lambda: says(422, NO_VERIFIED), 422,
                              "The operations can't be run on this certificate"),
    "422, another published text": (lambda: says(422, "match_lead requires a web certificate"), 422,
                                    "match_lead requires a web certificate"),
    "429": (lambda: says(429), 503, None),
    "500": (lambda: says(500, VERIFIED), 502, None),
    "500 in HTML": (lambda: httpx.Response(500, html=OWNER), 502, None),
    "502": (lambda: says(502), 502, None),
    "503": (lambda: says(503), 503, None),
    "503, absurd Retry-After": (lambda: httpx.Response(503, headers={"Retry-After": "soon"}), 503,
                                None),
    "504": (lambda: says(504), 504, None),
    "418": (lambda: says(418), 502, None),
    "204": (lambda: httpx.Response(204), 502, None),
    "599": (lambda: says(599), 502, None),
}  # fmt: skip


@pytest.mark.parametrize("name", STATUSES)
async def test_a_status_of_the_vendor_becomes_one_the_caller_can_use(
    stage: Stage, vendor: Vendor, name: str
) -> None:
    answer, status, reason = STATUSES[name]
    cert_id = await stage.known()
    vendor.script = [answer(), answer()]
    check_error(await stage.call(cert_id, BOTH), status, reason)


PHASES: dict[str, tuple[type[httpx.TransportError], int, int]] = {
    # how the call fails: the error, the status, and the number of attempts
    "connecting fails": (httpx.ConnectError, 502, 2),
    "connecting takes too long": (httpx.ConnectTimeout, 504, 2),
    "no connection is free": (httpx.PoolTimeout, 504, 1),
    "writing takes too long": (httpx.WriteTimeout, 504, 1),
    "writing fails": (httpx.WriteError, 502, 1),
    "reading takes too long": (httpx.ReadTimeout, 504, 1),
    "reading fails": (httpx.ReadError, 502, 1),
    "the connection is dropped": (httpx.RemoteProtocolError, 502, 1),
}


@pytest.mark.parametrize("name", PHASES)
async def test_a_failure_in_any_phase_is_an_error_and_tried_again_only_if_nothing_was_sent(
    fresh: Stage, vendor: Vendor, name: str
) -> None:
    error, status, attempts = PHASES[name]
    cert_id = await fresh.known()
    vendor.script = [error(VERIFIED), error(VERIFIED)]
    check_error(await fresh.call(cert_id, BOTH), status)
    assert len(vendor.requests) == attempts


@pytest.mark.parametrize(
    ("first", "retains", "status", "attempts"),
    [
        (says(503), False, 200, 2),
        *((says(s), True, t, 1) for s, t in ((502, 502), (503, 503), (504, 504), (500, 502))),
        *((says(s), False, t, 1) for s, t in ((502, 502), (504, 504), (500, 502))),
        (says(429), False, 503, 1),
        (says(404), False, 404, 1),
        (httpx.ConnectError("no"), False, 200, 2),
        (httpx.ConnectError("no"), True, 200, 2),
        (httpx.ReadTimeout("no"), True, 504, 1),
    ],
)
async def test_a_call_is_repeated_once_and_only_if_nothing_was_done(fresh: Stage,
    vendor: Vendor, first: httpx.Response | Exception, *, retains: bool, status: int, attempts: int
) -> None:  # fmt: skip
    vendor.script = [first]
    operations = {"match_lead": MATCH, "retain": RETAIN} if retains else {}
    response = await fresh.call(web_id(), ask("ip", **operations))
    assert (response.status_code, len(vendor.requests)) == (status, attempts)
    rows = await fresh.world.fetch("SELECT FROM retained_certificate")
    assert len(rows) == (retains and status == 200)


class Wire:
    """A server on a real socket."""

    def __init__(self, reply: bytes | None) -> None:
        self.now(reply)

    def now(self, reply: bytes | None, pause: float = 0) -> None:
        """Answer with this from now on, slowly with a `pause`. None means no answer."""
        self.reply, self.pause = reply, pause
        self.heads: list[bytes] = []
        self.bodies: list[Json] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            self.bodies.append(json.loads(await reader.readexactly(length)))
            self.heads.append(head)
            if self.reply is None:
                await reader.read()
            elif self.pause:
                for number in range(len(self.reply)):
                    writer.write(self.reply[number : number + 1])
                    await writer.drain()
                    await asyncio.sleep(self.pause)
            else:
                writer.write(self.reply)
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture(scope="module")
async def socket(migrated_url: str, shared_database: Database) -> AsyncIterator[tuple[Wire, World]]:
    wire = Wire(b"")
    server = await asyncio.start_server(wire.handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, service(migrated_url, shared_database, url, budget=1.0) as world:
        yield wire, world


@pytest.fixture
async def wired(socket: tuple[Wire, World]) -> Stage:
    """A stage whose vendor is a `Wire`."""
    stage = Stage(socket[1], await set_up(socket[1]))
    socket[0].now(raw(GOOD))
    await stage.calm()
    return stage


@pytest.fixture
def wire(wired: Stage, socket: tuple[Wire, World]) -> Wire:
    return socket[0]


def raw(
    body: bytes, *more: str, status: str = "200 OK", kind: str = "application/json", cut: int = 0
) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", f"Content-Type: {kind}", *more]
    return "\r\n".join([*head, "", ""]).encode() + body[: len(body) - cut]


def told(**properties: Any) -> bytes:
    """An answer to `BOTH`, with some properties changed."""
    facts = {"ip": "198.51.100.77", "domain": "example.com", "page_url": "https://example.com/"}
    insights = {"properties": {**facts, **properties}}
    return json.dumps({"outcome": "success", "reason": None, "insights": insights}).encode()


GOOD = told()
NONSENSE: dict[str, bytes] = {
    "connection dropped": b"",
    "dropped within the head": b"HTTP/1.1 200 OK\r\nContent-",
    "dropped within the body": raw(GOOD, cut=9),
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "empty body": raw(b""),
    "truncated JSON": raw(GOOD[:-9]),
    "two documents": raw(GOOD + GOOD),
    "not UTF-8": raw(GOOD.replace(b"198.51", b"\xff\xfe")),
    "lone surrogate": raw(GOOD.replace(b"198.51", b"\\ud800")),
    "nested without end": raw(b'{"insights":' + b"[" * 500_000),
    "wrong content type": raw(GOOD, kind="text/html"),
    "no content type": raw(GOOD).replace(b"Content-Type", b"X-Was-Type"),
    "10 MB": raw(told(ip="9" * 10_000_000)),
    "10 MB of blanks": raw(GOOD + b" " * 10_000_000),
    "10 MB in chunks": raw(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    + b"989680\r\n" + b" " * 10_000_000 + b"\r\n0\r\n\r\n",
    "10 MB, compressed": raw(gzip.compress(b" " * 10_000_000 + GOOD), "Content-Encoding: gzip"),
    "compressed, unasked": raw(gzip.compress(GOOD), "Content-Encoding: gzip"),
    "broken gzip": raw(gzip.compress(GOOD)[:-20], "Content-Encoding: gzip"),
    "said to be gzip": raw(GOOD, "Content-Encoding: gzip"),
    **{f"redirect {status}": raw(GOOD, "Location: /elsewhere", status=f"{status} Moved")
       for status in (301, 302, 303, 307, 308)},
    **{f"shape {text[:40]}": raw(text.encode()) for text in (
        "null", "[]", '"success"', "5", "{}",
        '{"outcome": "success", "reason": null}',
        '{"outcome": "success", "reason": null, "insights": null}',
        '{"outcome": "failure", "reason": "No matches found"}',
        '{"outcome": "success", "reason": null, "insights": {}}',
        '{"outcome": "success", "reason": null, "insights": {"properties": ["ip"]}}',
        '{"outcome": 1, "reason": null, "insights": {"properties": {"ip": null}}}',
    )},
    "unknown outcome": raw(GOOD.replace(b'"success"', b'"splendid"')),
    "domain is an object": raw(told(domain={"a": "example.com"})),
    "page_url is a list": raw(told(page_url=["https://example.com/"])),
    "NUL in ip": raw(told(ip="198.51.100.77\0")),
    "NUL in domain": raw(told(domain="exam\0ple.com")),
    "NUL in page_url": raw(told(page_url="https://example.com/\0")),
}  # fmt: skip


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_is_a_bad_gateway_and_not_asked_for_again(
    wired: Stage, wire: Wire, name: str
) -> None:
    wire.now(NONSENSE[name])
    check_error(await wired.call(web_id(), BOTH), 502)
    assert len(wire.heads) == 1


@pytest.mark.parametrize(
    "reply",
    [
        raw(GOOD),
        raw(GOOD, kind="Application/JSON; charset=utf-8"),
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + raw(GOOD),
    ],
    ids=["plain", "charset", "early hints"],
)
async def test_a_good_answer_is_understood_and_a_connection_closed_meanwhile_is_not_used_again(
    wired: Stage, wire: Wire, reply: bytes
) -> None:
    wire.now(reply)
    for _ in range(2):
        told = await wired.told(web_id(), "confirmed_owner", "ip")
        assert told == {"confirmed_owner": OWNER, "ip": "198.51.100.77"}
    assert len(wire.heads) == 2


@pytest.mark.parametrize(
    ("reply", "pause"), [(None, 0), (raw(GOOD), 0.05)], ids=["silence", "a byte now and then"]
)
async def test_a_call_takes_no_longer_than_its_budget(
    wired: Stage, wire: Wire, reply: bytes | None, pause: float
) -> None:
    wire.now(reply, pause)
    began = time.monotonic()
    check_error(await wired.call(web_id(), BOTH), 504)
    assert 0.95 < time.monotonic() - began < 3
    assert len(wire.heads) == 1


async def test_a_vendor_that_is_not_there_is_a_bad_gateway_at_once(
    migrated_url: str, shared_database: Database
) -> None:
    async with service(migrated_url, shared_database, "http://127.0.0.1:9") as world:
        stage = Stage(world, await set_up(world))
        began = time.monotonic()
        check_error(await stage.call(web_id(), BOTH), 502)
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("held", [True, False], ids=["domain known", "nothing known"])
@pytest.mark.parametrize("reason", ["Invalid property key(s) requested", VERIFIED, OWNER])
async def test_an_error_in_a_whole_answer_stays_one_in_words_that_are_published(
    stage: Stage, vendor: Vendor, reason: str, *, held: bool
) -> None:
    cert_id = await stage.known() if held else web_id()
    vendor.script = [httpx.Response(200, json={"outcome": "error", "reason": reason})]
    kept = None if reason in (VERIFIED, OWNER) else reason
    check_error(await stage.call(cert_id, BOTH), 422, kept)


@pytest.mark.parametrize(
    ("operation", "block"),
    [
        ("match_lead", {"result": {"success": None, "email_match": None, "phone_match": None}}),
        ("verify", {"languages": [{"text": "I agree"}]}),
        ("verify", {"result": None}),
    ],
)
async def test_operation_that_was_not_performed_is_a_success_as_the_vendor_says(
    stage: Stage, vendor: Vendor, operation: str, block: Json
) -> None:
    bodies: Json = {
        "match_lead": {"match_lead": MATCH, "retain": RETAIN},
        "verify": {"verify": {"advertiser_name": "Acme"}},
    }
    vendor.script = [{operation: block}]
    response = await stage.call(web_id(), bodies[operation])
    assert response.json()["outcome"] == "success", response.text
    assert block.items() <= response.json()[operation].items()


@pytest.mark.parametrize("odd", [5, {"a": 1}, [True], "x" * 200])
async def test_one_odd_value_spoils_that_value_alone(
    stage: Stage, vendor: Vendor, odd: object
) -> None:
    vendor.facts |= {"age_seconds": -2, "ip": odd, "domain": "example.com"}
    told_of = await stage.told(web_id(), "age_seconds", "ip", "domain")
    assert told_of == {"age_seconds": None, "ip": None, "domain": "example.com"}


@pytest.mark.parametrize(
    ("operation", "block"),
    [("match_lead", {}), ("match_lead", {"result": None}), ("match_lead", {"result": {"success": 1}}),
     ("match_lead", None), ("retain", None), ("retain", {}), ("retain", {"results": None}),
     ("verify", None), ("verify", {"result": {"success": False}})],
)  # fmt: skip
async def test_an_operation_without_a_result_is_no_success(
    stage: Stage, vendor: Vendor, operation: str, block: Json | None
) -> None:
    bodies: Json = {
        "match_lead": {"match_lead": MATCH},
        "retain": {"match_lead": MATCH, "retain": RETAIN},
        "verify": {"verify": {"advertiser_name": "Acme"}},
    }
    vendor.script = [{operation: block}]
    response = await stage.call(web_id(), bodies[operation])
    assert response.json()["outcome"] == "error", response.text


async def test_the_vendor_can_set_no_cookie(stage: Stage, vendor: Vendor) -> None:
    vendor.script = [httpx.Response(404, headers={"Set-Cookie": "session=s3cret"})]
    await stage.call(web_id(), ask("ip"))
    await stage.told(web_id(), "ip")
    assert "cookie" not in vendor.requests[1].headers


@pytest.mark.parametrize(
    "cert_id", ["0.a%2Fb%.c", "0.a&x=1;y", "0.a%25", "0.a:b@c", meta_id(), web_id()]
)
async def test_the_vendor_is_called_by_the_id_with_its_own_key_and_nothing_of_the_callers(
    wired: Stage, wire: Wire, cert_id: str
) -> None:
    wire.now(raw(GOOD))
    response = await wired.world.client.post(
        f"/{quote(cert_id, safe='')}",
        headers={**wired.viewer.headers, "CPL-Token": "t0ken", "Cookie": "a=b", "X-A": "b"},
        json=ask("created_at"),
    )
    assert response.status_code == 200, response.text
    line, *lines = wire.heads[0].decode().strip().split("\r\n")
    method, path, protocol = line.split(" ")
    assert (method, protocol) == ("POST", "HTTP/1.1")
    assert httpx.URL("http://x" + path).path == "/" + cert_id
    assert "?" not in path
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
    assert headers["authorization"] == basic(KEY)["Authorization"]
    assert headers["api-version"] == "4.0"
    assert headers["content-type"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert not {"cookie", "cpl-token", "x-a"} & headers.keys()
    assert wire.bodies == [ask("created_at")]
