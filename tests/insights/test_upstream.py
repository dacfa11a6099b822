"""The vendor behind us: what it is asked, what is bought, and what callers are told when it fails.

respx plays the vendor wherever it answers in whole responses, and a socket of our own (`Wire`) where
bytes matter: slow, cut off, huge, compressed. Every failure is tried with an owner who is verified,
connected and already known for the certificate, so that a wrong answer would be easy to give.
"""

import asyncio
import gzip
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import respx
import structlog.testing

from service.app import create_app
from service.database import Database
from service.settings import TrustedForm
from tests.builders import NO_VERIFIED, VERIFIED, Company, World, basic, meta_id, mobile_id, web_id
from tests.conftest import living

URL = "https://vendor.example"
KEY = "upstream-key-5f4dcc3b5aa765d61d8327deb882cf99"
OWNER = "Sunny Roofs Incorporated"
NOT_FOUND = "TrustedForm certificate has expired or could not be found"
CLAIMED = "Certificate has been claimed too many times"
TOKEN = "k7Jx0pQ2vTz9"  # what the vendor has for the domain of a masked certificate

Json = dict[str, Any]


def stamp(**ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def ask(*properties: str, **operations: Any) -> Json:
    return {"insights": {"properties": list(properties)}, **operations}


BOTH = ask("confirmed_owner", "ip")
MATCH: Json = {"email": "jane.roe@mail.example", "phone": "(512) 555-0142"}
RETAIN: Json = {"reference": "lead 7", "vendor": "Acme Leads", "campaign_id": "c-9"}
SCANS: Json = {"required": ["free quote for jane"], "forbidden": "ipad", "delimiter": "|"}
SCANNED = {"success": True, "required": {"found": ["free quote for jane"], "not_found": []},
           "forbidden": {"found": [], "not_found": ["ipad"]}}  # fmt: skip
MATCHED = {"success": True, "email_match": True, "phone_match": True}
RETAINED = {"expires_at": "2999-01-02T03:04:05Z", "previously_retained": False,
            "masked_cert_url": "https://cert.trustedform.com/" + "ab" * 20}  # fmt: skip
VERIFIED_CONSENT = {"success": True, "form_submitted": True, "language_approved": True,
                    "one_to_one": None, "min_font_size_px_satisfied": True,
                    "min_contrast_ratio_satisfied": True,
                    "opt_in_types_satisfied": True}  # fmt: skip


class Vendor:
    """The vendor as respx plays it: first what `script` says, then honest answers from `facts`."""

    def __init__(self) -> None:
        self.facts: Json = {
            "age_seconds": 60,
            "approx_ip_geo": {"city": "Wimberley", "country_code": "US", "lat": 29.99, "lon": -98.1,
                              "postal_code": "78676", "state": "TX", "time_zone": None},
            "bot_detected": False,
            "created_at": stamp(hours=3),
            "domain": "example.com",
            "expires_at": stamp(days=-89),
            "form_input_method": None,
            "ip": "198.51.100.77",
            "is_framed": False,
            "is_masked": False,
            "page_url": "https://www.example.com/quote",
            "parent_page_url": None,
            "seconds_on_page": 41,
        }  # fmt: skip
        self.script: list[httpx.Response | Exception | Json] = []
        self.requests: list[httpx.Request] = []
        self.arrivals: asyncio.Queue[None] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.arrivals.put_nowait(None)
        step = self.script.pop(0) if self.script else {}
        await self.gate.wait()
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, httpx.Response) else self.honest(request, step)

    def honest(self, request: httpx.Request, changes: Json) -> httpx.Response:
        """The documented answer, with some of its blocks changed (None: left out)."""
        body: Json = {"outcome": "success", "reason": None, **json.loads(request.content)}
        results: Json = {"match_lead": {"result": MATCHED}, "retain": {"results": RETAINED},
                         "verify": {"languages": [{"text": "I consent"}],
                                    "result": VERIFIED_CONSENT}}  # fmt: skip
        for operation in results.keys() & body.keys():
            body[operation] = {**body[operation], **results[operation]}
        if insights := body.get("insights"):
            asked = insights.get("properties", [])
            insights["properties"] = {name: self.facts.get(name) for name in asked}
            if "scans" in insights:
                insights["scans"] = {**insights["scans"], "result": SCANNED}
        body |= changes
        return httpx.Response(
            200, json={k: v for k, v in body.items() if k == "reason" or v is not None}
        )

    @property
    def sent(self) -> list[Json]:
        return [json.loads(request.content) for request in self.requests]

    @property
    def bought(self) -> list[list[str]]:
        """The properties each call has asked for, in alphabetical order."""
        return [sorted(body.get("insights", {}).get("properties", [])) for body in self.sent]

    async def called(self) -> None:
        await asyncio.wait_for(self.arrivals.get(), 2)


@dataclass
class Stage:
    """A service with a vendor behind it, a viewer, and an owner whose name the viewer may see."""

    world: World
    viewer: Company
    vendor: Vendor = field(default_factory=Vendor)

    async def call(self, cert_id: str, body: Json, viewer: Company | None = None) -> httpx.Response:
        headers = (viewer or self.viewer).headers
        return await self.world.client.post(f"/{quote(cert_id)}", headers=headers, json=body)

    async def told(self, cert_id: str, *asked: str, viewer: Company | None = None) -> Json:
        response = await self.call(cert_id, ask(*asked), viewer)
        assert response.status_code == 200, response.text
        body = response.json()
        assert (body["outcome"], body["reason"]) == ("success", None)
        return body["insights"]["properties"]

    async def known(self) -> str:
        """A certificate of which the vendor has told us what decides its owner, no more."""
        cert_id = web_id()
        assert await self.told(cert_id, "confirmed_owner") == {"confirmed_owner": OWNER}
        self.vendor.requests.clear()
        return cert_id

    async def calm(self) -> None:
        """End a row of failures, which the breaker counts, by a success."""
        await self.told(web_id(), "ip")
        self.vendor.requests.clear()
        self.vendor.arrivals = asyncio.Queue()

    async def later(self, minutes: int) -> None:
        """Let facts be older than they are."""
        await self.world.fetch(
            "UPDATE certificate SET fetched_at = fetched_at - make_interval(mins => $1)", minutes
        )


@asynccontextmanager
async def service(
    database_url: str, database: Database, url: str = URL, budget: float = 2.0
) -> AsyncIterator[World]:
    """An application of its own, so that no breaker or cache of another test is in it."""
    app = create_app(database_url, TrustedForm(api_key=KEY, url=url, budget=budget))
    async with living(app) as client:
        yield World(database, client)


async def set_up(world: World) -> Company:
    await world.reset()
    viewer, owner = await world.company(), await world.company(OWNER)
    await world.own(owner, "example.com")
    await world.permit(owner, viewer)
    return viewer


@pytest.fixture(scope="module")
async def with_vendor(migrated_url: str, shared_database: Database) -> AsyncIterator[World]:
    async with service(migrated_url, shared_database) as world:
        yield world


@pytest.fixture
async def stage(with_vendor: World) -> AsyncIterator[Stage]:
    stage = Stage(with_vendor, await set_up(with_vendor))
    with respx.mock(base_url=URL, assert_all_called=False) as router:
        router.post(path__regex="^/.").mock(side_effect=stage.vendor.answer)
        await stage.calm()
        yield stage


@pytest.fixture
async def fresh(stage: Stage, migrated_url: str) -> AsyncIterator[Stage]:
    """The stage with a service of its own, whose breaker and budget of retries are untouched."""
    async with service(migrated_url, stage.world.database) as world:
        yield Stage(world, stage.viewer, stage.vendor)


@pytest.fixture
def vendor(stage: Stage) -> Vendor:
    return stage.vendor


def check_error(response: httpx.Response, status: int, reason: str | None = None) -> None:
    """An error as v4 has them, and nothing in it that could be taken for an owner, or the key."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) - {"errors", "message"} == {"outcome", "reason"}
    assert body["outcome"] == "error"
    assert isinstance(body["reason"], str)
    assert body["reason"]
    if reason:
        assert body["reason"] == reason
    if status == 400:
        assert body["errors"]["detail"] == body["message"] == body["reason"]
    if status == 503:
        assert int(response.headers["Retry-After"]) >= 1
    for text in (NO_VERIFIED, VERIFIED, OWNER, KEY):
        assert text not in response.text


def says(status: int, reason: str = "No such luck, Sunny Roofs Incorporated") -> httpx.Response:
    """What the vendor says with a status; unless told otherwise, with a text it never published."""
    return httpx.Response(status, json={"outcome": "error", "reason": reason})


STATUSES: dict[str, tuple[Callable[[], httpx.Response], int, str | None]] = {
    "400": (lambda: says(400), 400, "Malformed certificate id"),
    "401": (lambda: says(401, "Unauthorized"), 502, None),
    "402": (lambda: says(402), 402, "Account is inactive"),
    "403": (lambda: says(403, "Unavailable product requested"), 502, None),
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
    # how the call fails: the status, and how many attempts there are
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
        *((says(status), False, 200, 2) for status in (502, 503, 504)),
        *((says(s), True, t, 1) for s, t in ((502, 502), (503, 503), (504, 504), (500, 502))),
        (says(500), False, 502, 1),
        (says(429), False, 503, 1),
        (says(404), False, 404, 1),
        (httpx.ConnectError("no"), False, 200, 2),
        (httpx.ConnectError("no"), True, 200, 2),
        (httpx.ReadTimeout("no"), True, 504, 1),
    ],
)
async def test_a_call_is_tried_twice_at_most_and_a_retaining_one_only_if_it_was_not_sent(fresh: Stage,
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
        """Answer with this from now on, slowly if there is a `pause`; None is silence."""
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
    async with server, service(migrated_url, shared_database, url, budget=0.4) as world:
        yield wire, world


@pytest.fixture
async def wired(socket: tuple[Wire, World]) -> Stage:
    """A stage on which the vendor is a `wire`."""
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
    """An answer to `BOTH`, with changes."""
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
    **{f"{name} is {value}": raw(told(**{name: value}))
       for name, value in (("ip", 5), ("ip", {"a": 1}), ("ip", [True]))},
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
    assert 0.35 < time.monotonic() - began < 1
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
    check_error(await stage.call(cert_id, BOTH), 200, kept)


@pytest.mark.parametrize(
    ("operation", "block"),
    [("match_lead", {}), ("match_lead", {"result": None}), ("match_lead", {"result": {"success": 1}}),
     ("match_lead", None), ("retain", None), ("retain", {}), ("retain", {"results": None}),
     ("verify", None), ("verify", {}), ("verify", {"result": 5}), ("verify", {"result": None})],
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
    "cert_id", ["0.a%2Fb%.c?d=e#f", "0.a&x=1;y", "0.a%25", "0.a\\b", meta_id(), web_id()]
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


@pytest.mark.parametrize(
    ("cert_id", "asked", "bought"),
    [
        (web_id(), ("ip",), ["ip"]),
        (web_id(), ("confirmed_owner",), ["domain", "page_url"]),
        (web_id(), ("confirmed_owner_detail", "confirmed_owner"), ["domain", "page_url"]),
        (web_id(), ("ip", "domain", "confirmed_owner"), ["domain", "ip", "page_url"]),
        (web_id(), ("ip", "ip"), ["ip"]),
        (mobile_id(), ("ip", "confirmed_owner"), ["ip"]),
        (meta_id(), ("created_at", "confirmed_owner"), ["created_at"]),
    ],
)
async def test_the_vendor_is_asked_for_what_is_needed_and_only_what_was_asked_is_told(
    stage: Stage, vendor: Vendor, cert_id: str, asked: tuple[str, ...], bought: list[str]
) -> None:
    # Whether an id of 80 characters can be a web one is not published; ours say it is mobile.
    assert set(await stage.told(cert_id, *asked)) == set(asked)
    assert vendor.bought == [bought]
    assert set(vendor.sent[0]) == {"insights"}


async def test_what_the_vendor_tells_unasked_is_not_told(stage: Stage, vendor: Vendor) -> None:
    insights = {"properties": {**vendor.facts, "confirmed_owner": VERIFIED, "x": 1}}
    vendor.script = [{"insights": insights, "verify": {"result": {}}, "extra": 1}]
    response = await stage.call(web_id(), BOTH)
    facts = {"confirmed_owner": OWNER, "ip": vendor.facts["ip"]}
    body = {"outcome": "success", "reason": None, "insights": {"properties": facts}}
    assert response.json() == body


AGAIN: list[tuple[tuple[str, ...], tuple[str, ...], list[str]]] = [
    # asked first, asked then, and what of that is bought then
    (("ip", "page_url"), ("ip", "page_url"), []),
    (("ip", "page_url"), ("page_url",), []),
    (("ip", "page_url"), ("ip", "bot_detected"), ["bot_detected"]),
    (("parent_page_url", "form_input_method"), ("form_input_method", "parent_page_url"), []),
    (("confirmed_owner",), ("domain", "page_url"), []),
    (("domain", "page_url"), ("confirmed_owner",), []),
    (("domain",), ("confirmed_owner", "ip"), ["ip"]),
    (("age_seconds", "created_at"), ("age_seconds",), []),
    (("created_at", "expires_at", "seconds_on_page"), ("expires_at", "seconds_on_page"), []),
    (("ip",), (), []),
]


@pytest.mark.parametrize("who", ["same caller", "another caller", "another process"])
async def test_a_fact_is_bought_once_for_everybody(stage: Stage, vendor: Vendor, fresh: Stage,
    who: str
) -> None:  # fmt: skip
    viewer = await stage.world.company() if who == "another caller" else None
    then_on = fresh if who == "another process" else stage
    for first, then, bought in AGAIN:
        cert_id = web_id()
        await stage.told(cert_id, *first)
        vendor.requests.clear()
        facts = await then_on.told(cert_id, *then, viewer=viewer)
        assert vendor.bought == ([bought] if bought else []), (first, then)
        for name in set(then) - {"confirmed_owner", "age_seconds"}:
            assert facts[name] == vendor.facts[name]


async def test_equal_calls_at_once_share_one_to_the_vendor(stage: Stage, vendor: Vendor) -> None:
    vendor.gate.clear()
    cert_id, other = web_id(), await stage.world.company()
    viewers = [stage.viewer, stage.viewer, other, other]
    calls = [asyncio.create_task(stage.call(cert_id, BOTH, viewer)) for viewer in viewers]
    await vendor.called()
    await asyncio.sleep(0.15)
    vendor.gate.set()
    responses = await asyncio.gather(*calls)
    assert len(vendor.requests) == 1
    told = [r.json()["insights"]["properties"]["confirmed_owner"] for r in responses]
    assert told == [OWNER, OWNER, VERIFIED, VERIFIED]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (ask("ip"), ask("ip", "bot_detected")),
        (ask("ip", match_lead={"email": "a@b.example"}), ask("ip", match_lead={"email": "c@d.example"})),
        (ask(match_lead=MATCH, retain=RETAIN), ask(match_lead=MATCH, retain=RETAIN)),
    ],
    ids=["other properties", "other leads", "retaining"],
)  # fmt: skip
async def test_calls_for_different_things_or_to_retain_share_none(
    stage: Stage, vendor: Vendor, one: Json, two: Json
) -> None:
    vendor.gate.clear()
    cert_id, other = web_id(), await stage.world.company()
    pairs = ((one, stage.viewer), (two, other))
    calls = [asyncio.create_task(stage.call(cert_id, *pair)) for pair in pairs]
    await vendor.called()
    await vendor.called()
    vendor.gate.set()
    assert [r.status_code for r in await asyncio.gather(*calls)] == [200, 200]


@pytest.mark.parametrize("gone", [{0}, {1}, {0, 1}])
async def test_a_caller_that_leaves_harms_no_other(
    stage: Stage, vendor: Vendor, gone: set[int]
) -> None:
    vendor.gate.clear()
    cert_id = web_id()
    calls = [asyncio.create_task(stage.call(cert_id, BOTH)) for _ in range(3)]
    await vendor.called()
    await asyncio.sleep(0.1)
    for number in gone:
        calls[number].cancel()
    await asyncio.sleep(0.05)
    vendor.gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    for number, result in enumerate(results):
        if number in gone:
            assert isinstance(result, asyncio.CancelledError)
        else:
            assert isinstance(result, httpx.Response)
            assert result.status_code == 200, result.text
    assert len(vendor.requests) == 1


async def test_who_may_not_call_us_causes_no_call_to_the_vendor(
    stage: Stage, vendor: Vendor
) -> None:
    suspended = await stage.world.company()
    await stage.world.suspend(suspended)
    check_error(await stage.call(web_id(), BOTH, suspended), 402, "Account is inactive")
    for headers in ({}, basic("f" * 40), basic(KEY)):
        response = await stage.world.client.post(f"/{web_id()}", headers=headers, json=BOTH)
        check_error(response, 401, "Unauthorized")
    check_error(await stage.call("not-an-id", BOTH), 400)
    check_error(await stage.call(web_id(), {"insights": {"properties": "ip"}}), 422)
    assert vendor.requests == []


async def fail(stage: Stage, times: int, *, status: int = 500) -> None:
    for _ in range(times):
        stage.vendor.script = [says(status)]
        await stage.call(web_id(), ask("ip"))


async def test_five_failures_in_a_row_open_the_breaker_and_what_is_known_is_still_told(
    fresh: Stage, vendor: Vendor
) -> None:
    stage = fresh
    cert_id = await stage.known()
    await fail(stage, 4)
    assert await stage.told(web_id(), "ip")
    await fail(stage, 4)
    await fail(stage, 6, status=404)
    await stage.told(web_id(), "ip")
    await fail(stage, 5)
    vendor.requests.clear()
    began = time.monotonic()
    for _ in range(5):
        check_error(await stage.call(cert_id, BOTH), 503)
    assert time.monotonic() - began < 0.5
    assert await stage.told(cert_id, "confirmed_owner") == {"confirmed_owner": OWNER}
    assert vendor.requests == []


async def test_an_open_breaker_lets_one_probe_through_after_five_seconds(
    fresh: Stage, vendor: Vendor, migrated_url: str, shared_database: Database
) -> None:
    stage = fresh
    async with (
        service(migrated_url, shared_database) as second,
        service(migrated_url, shared_database) as third,
    ):
        failing, leaving = Stage(second, stage.viewer, vendor), Stage(third, stage.viewer, vendor)
        for each in (stage, failing, leaving):
            await fail(each, 5)
            check_error(await each.call(web_id(), ask("ip")), 503)
        await asyncio.sleep(5.05)
        vendor.requests.clear()
        vendor.arrivals = asyncio.Queue()
        # The probe that fails, and the one whose caller leaves
        await fail(failing, 1)
        check_error(await failing.call(web_id(), ask("ip")), 503)
        assert len(vendor.requests) == 1
        vendor.requests.clear()
        await vendor.called()
        vendor.gate.clear()
        calls = [asyncio.create_task(each.call(web_id(), ask("ip"))) for each in (leaving, stage)]
        await vendor.called()
        await vendor.called()
        calls[0].cancel()
        # While the probe is under way nobody else gets through; afterwards everybody does.
        check_error(await stage.call(web_id(), ask("ip")), 503)
        assert len(vendor.requests) == 2
        vendor.gate.set()
        assert (await calls[1]).status_code == 200
        for each in (stage, stage, leaving):
            assert await each.told(web_id(), "ip")


async def test_a_certificate_that_was_not_found_is_not_asked_for_again_at_once(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id, other = web_id(), await stage.world.company()
    vendor.script = [says(404)]
    for viewer, body in ((stage.viewer, BOTH), (other, BOTH), (other, ask("bot_detected"))):
        check_error(await stage.call(cert_id, body, viewer), 404, NOT_FOUND)
    assert len(vendor.requests) == 1
    await stage.world.certificate(cert_id, domain="example.com", page_url=None)
    assert await stage.told(cert_id, "confirmed_owner") == {"confirmed_owner": OWNER}


async def test_all_operations_go_to_the_vendor_in_one_call_and_come_back_as_they_were_sent(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id, verify = web_id(), {"advertiser_name": "Acme", "min_font_size_px_required": 16}
    body: Json = {"match_lead": MATCH, "retain": RETAIN, "verify": verify,
                  "insights": {"properties": ["ip", "confirmed_owner"], "scans": SCANS}}  # fmt: skip
    false = {"reference": "x", "vendor": "x", "campaign_id": "x"}
    vendor.script = [
        {"match_lead": {"email": "x", "phone": "x", "result": MATCHED},
         "retain": {**false, "results": {**RETAINED, "previously_retained": True}}}
    ]  # fmt: skip
    first = (await stage.call(cert_id, body)).json()
    assert first == {
        "outcome": "success",
        "reason": None,
        "match_lead": {**MATCH, "result": MATCHED},
        "retain": {**RETAIN, "results": first["retain"]["results"]},
        "insights": {"properties": {"ip": vendor.facts["ip"], "confirmed_owner": OWNER},
                     "scans": {**SCANS, "result": SCANNED}},
        "verify": {**verify, "languages": [{"text": "I consent"}], "result": VERIFIED_CONSENT},
    }  # fmt: skip
    # With us the account has not retained it yet, whatever the account we have there has done.
    assert first["retain"]["results"].items() >= RETAINED.items()
    (sent,) = vendor.sent
    assert sorted(sent["insights"].pop("properties")) == ["domain", "ip", "page_url"]
    assert sent == {**body, "insights": {"scans": SCANS}}

    second = (await stage.call(cert_id, body)).json()
    assert second["retain"]["results"]["previously_retained"] is True
    other = (await stage.call(cert_id, body, await stage.world.company())).json()
    assert other["retain"]["results"]["previously_retained"] is False
    rows = await stage.world.fetch(
        "SELECT reference, vendor, campaign_id FROM retained_certificate"
    )
    assert [dict(row) for row in rows] == [RETAIN, RETAIN]
    assert vendor.bought[1:] == [[], []], "facts are bought again with operations"


async def test_verify_with_nothing_is_sent_with_nothing(stage: Stage, vendor: Vendor) -> None:
    unsaid = {"success": False, "form_submitted": True, "language_approved": False}
    reason = "Consent language not detected in the certificate."
    vendor.script = [
        {"outcome": "failure", "reason": reason, "verify": {"languages": [], "result": unsaid}}
    ]
    response = await stage.call(web_id(), {"verify": {}})
    assert response.status_code == 200, response.text
    body = response.json()
    assert vendor.sent == [{"verify": {}}]
    assert (body["outcome"], body["reason"]) == ("failure", reason)
    assert body["verify"]["languages"] == []
    assert body["verify"]["result"].items() >= unsaid.items()


async def test_a_lead_that_does_not_match_is_retained_nevertheless(
    stage: Stage, vendor: Vendor
) -> None:
    nothing = {"success": False, "email_match": False, "phone_match": False}
    vendor.script = [{"outcome": "failure", "reason": "No matches found",
                      "match_lead": {**MATCH, "result": nothing}}]  # fmt: skip
    body = (await stage.call(web_id(), {"match_lead": MATCH, "retain": {}})).json()
    assert (body["outcome"], body["reason"]) == ("failure", "No matches found")
    assert body["match_lead"] == {**MATCH, "result": nothing}
    assert body["retain"]["results"]["previously_retained"] is False
    assert len(await stage.world.fetch("SELECT FROM retained_certificate")) == 1


@pytest.mark.parametrize(
    "block", [None, {"reference": "x"}, {"results": None}], ids=["gone", "no results", "null"]
)
async def test_what_the_vendor_could_not_retain_is_not_retained_with_us(
    stage: Stage, vendor: Vendor, block: Json | None
) -> None:
    cert_id, body = web_id(), {"match_lead": MATCH, "retain": RETAIN}
    reason = "The cert has been claimed too many times"
    vendor.script = [{"outcome": "failure", "reason": reason, "retain": block}]
    response = await stage.call(cert_id, body)
    assert response.status_code == 200, response.text
    assert (response.json()["outcome"], response.json()["reason"]) == ("failure", reason)
    assert await stage.world.fetch("SELECT FROM retained_certificate") == []
    again = (await stage.call(cert_id, body)).json()
    assert again["retain"]["results"]["previously_retained"] is False


async def test_a_certificate_on_record_is_matched_and_scanned_here(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id = web_id()
    await stage.world.import_lines(
        {
            "cert_id": cert_id,
            "insights": {"properties": {"created_at": stamp(hours=1), "domain": "example.com",
                                        "page_url": None, "ip": "192.0.2.1"}},
            "page_text": "Your FREE quote  for Jane.",
            "fingerprints": [sha1(MATCH["email"].encode(), usedforsecurity=False).hexdigest()],
        }
    )  # fmt: skip
    body: Json = {"match_lead": {"email": MATCH["email"]},
                  "insights": {"properties": ["confirmed_owner", "ip"], "scans": SCANS}}  # fmt: skip
    response = (await stage.call(cert_id, body)).json()
    assert (response["outcome"], vendor.requests) == ("success", [])
    assert response["match_lead"]["result"]["email_match"] is True
    assert response["insights"]["scans"] == {**SCANS, "result": SCANNED}
    # As soon as one operation has to go there, all do; facts on record are not bought with it.
    response = (await stage.call(cert_id, {**body, "verify": {}})).json()
    assert response["outcome"] == "success"
    assert response["insights"]["properties"] == {"confirmed_owner": OWNER, "ip": "192.0.2.1"}
    assert vendor.sent[0]["match_lead"] == body["match_lead"]
    assert vendor.sent[0]["insights"]["scans"] == SCANS
    assert vendor.bought == [[]]


MOVING = ["age_seconds", "expires_at", "seconds_on_page"]


@pytest.mark.parametrize(
    ("age", "minutes", "bought"),
    [(3, 14, []), (3, 16, MOVING), (23, 16, MOVING), (30, 16, []), (72, 600, [])],
)
async def test_what_moves_in_the_first_day_is_asked_for_again_after_a_quarter_of_an_hour(
    stage: Stage, vendor: Vendor, age: int, minutes: int, bought: list[str]
) -> None:
    vendor.facts["created_at"] = stamp(hours=age)
    cert_id = web_id()
    asked = ("created_at", "ip", "confirmed_owner", *MOVING)
    await stage.told(cert_id, *asked)
    await stage.later(minutes)
    vendor.facts["seconds_on_page"] = 55
    vendor.requests.clear()
    assert set(await stage.told(cert_id, "ip", "created_at", "confirmed_owner")) == {"ip",
        "created_at", "confirmed_owner"}  # fmt: skip
    assert vendor.requests == []
    assert (await stage.told(cert_id, *asked))["seconds_on_page"] == (55 if bought else 41)
    assert vendor.bought == ([bought] if bought else [])


@pytest.mark.parametrize(
    ("fetched", "answer", "status", "calls"),
    [(2, None, 200, 1), (2, says(404), 404, 1), (30, None, 404, 0)],
    ids=["extended", "gone", "settled"],
)
async def test_an_end_that_was_told_in_the_first_day_is_not_taken_for_the_last_word(stage: Stage,
    vendor: Vendor, fetched: int, answer: httpx.Response | None, status: int, calls: int
) -> None:  # fmt: skip
    vendor.facts |= {"created_at": stamp(hours=fetched), "expires_at": stamp(hours=fetched - 72)}
    cert_id = web_id()
    await stage.told(cert_id, "created_at", "expires_at", "ip", "confirmed_owner")
    await stage.world.fetch(
        """
        UPDATE certificate SET created_at = created_at - interval '4 days',
            expires_at = expires_at - interval '4 days', fetched_at = fetched_at - interval '4 days',
            last_event_at = last_event_at - interval '4 days'
        """
    )
    vendor.facts |= {"created_at": stamp(hours=fetched + 96), "expires_at": stamp(days=-80)}
    vendor.requests.clear()
    vendor.script = [answer] if answer else []
    response = await stage.call(cert_id, BOTH)
    assert (response.status_code, len(vendor.requests)) == (status, calls), response.text
    if status == 404:
        check_error(response, 404, NOT_FOUND)


SECOND = ["is_framed", "is_masked", "parent_page_url"]
FRAMED: Json = {"is_framed": True, "parent_page_url": "https://example.com/frame"}


@pytest.mark.parametrize(
    ("facts", "asked", "bought", "owner"),
    [
        ({}, (), [], OWNER),
        ({"domain": "www.EXAMPLE.com."}, (), [], OWNER),
        ({"domain": None}, (), SECOND, OWNER),
        ({"domain": TOKEN}, (), ["is_masked"], NO_VERIFIED),
        ({"domain": None, "page_url": "https://elsewhere.net/", **FRAMED}, (), SECOND, OWNER),
        ({"domain": None, "page_url": "https://elsewhere.net/"}, (), SECOND, NO_VERIFIED),
        ({"domain": TOKEN, "page_url": "x9", "is_masked": True}, (), ["is_masked"], None),
        ({"domain": TOKEN}, ("is_masked",), [], NO_VERIFIED),
        ({"domain": None}, ("is_masked",), ["is_framed", "parent_page_url"], OWNER),
        ({"domain": None}, ("ip", *SECOND), [], OWNER),
    ],
)
async def test_a_second_call_is_made_only_if_the_first_told_no_readable_domain(stage: Stage,
    vendor: Vendor, facts: Json, asked: tuple[str, ...], bought: list[str], owner: str | None
) -> None:  # fmt: skip
    vendor.facts |= facts
    cert_id = web_id()
    for _ in range(2):
        told = await stage.told(cert_id, "confirmed_owner", *asked)
        assert told == {"confirmed_owner": owner, **{name: vendor.facts[name] for name in asked}}
        assert vendor.bought[1:] == ([bought] if bought else [])


async def test_a_second_call_that_fails_is_an_error_and_the_first_is_not_paid_again(
    stage: Stage, vendor: Vendor
) -> None:
    vendor.facts["domain"] = None
    vendor.script = [{}, says(500)]
    cert_id = web_id()
    check_error(await stage.call(cert_id, BOTH), 502)
    assert (await stage.told(cert_id, "confirmed_owner", "ip"))["confirmed_owner"] == OWNER
    assert vendor.bought == [["domain", "ip", "page_url"], SECOND, SECOND]


async def test_no_secret_and_nothing_about_a_consumer_reaches_logs_metrics_or_errors(
    stage: Stage, vendor: Vendor, caplog: pytest.LogCaptureFixture
) -> None:
    leaks: Json = {"reason": f"{MATCH} {SCANS}", **vendor.facts, "key": KEY}
    caplog.set_level(logging.DEBUG)
    texts = []
    with structlog.testing.capture_logs() as events:
        everything = ask("ip", "approx_ip_geo", "confirmed_owner", match_lead=MATCH, retain=RETAIN)
        everything["insights"]["scans"] = SCANS
        assert (await stage.call(web_id(), everything)).status_code == 200
        failures: list[httpx.Response | Exception | Json] = [
            *(httpx.Response(status, json=leaks) for status in (200, 400, 401, 402, 403, 404, 422)),
            *(httpx.Response(status, json=leaks) for status in (429, 500, 502, 503, 504)),
            httpx.Response(200, content=json.dumps(leaks)[:-3]),
            httpx.ReadTimeout(json.dumps(leaks)),
            httpx.ConnectError(json.dumps(leaks)),
            {"insights": {"properties": {**vendor.facts, "ip": [vendor.facts["ip"]]}}},
        ]
        for failure in failures:
            vendor.script = [failure]
            response = await stage.call(web_id(), everything)
            if response.status_code != 200:
                check_error(response, response.status_code)
                texts.append(response.text)
            await stage.told(web_id(), "bot_detected")
    assert events
    texts += [(await stage.world.client.get("/metrics")).text, caplog.text, repr(events)]
    secrets = (KEY, basic(KEY)["Authorization"].split()[1], vendor.facts["ip"], "Wimberley",
               "29.99", *MATCH.values(), "5125550142", "free quote", "lead 7")  # fmt: skip
    assert [secret for secret in secrets for text in texts if secret in text] == []
