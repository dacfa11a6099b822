"""A fake of the vendor behind us, and a service in front of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from service.app import create_app
from service.postgres.pools import Database
from service.settings import TrustedForm
from tests.builders import NO_VERIFIED, VERIFIED, Company, World, web_id
from tests.conftest import SETTINGS, living

URL = "https://vendor.example"
KEY = "upstream-key-5f4dcc3b5aa765d61d8327deb882cf99"
OWNER = "Sunny Roofs Incorporated"
NOT_FOUND = "TrustedForm certificate has expired or could not be found"
CLAIMED = "Certificate has been claimed too many times"
TOKEN = "k7Jx0pQ2vTz9"  # the vendor's stand-in for a masked certificate's domain

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
    """The vendor, played by respx: first answers from `script`, then honest ones from `facts`."""

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
        """The documented answer, with some blocks changed (or left out, if None)."""
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
        """The properties that each call asked for, in alphabetical order."""
        return [sorted(body.get("insights", {}).get("properties", [])) for body in self.sent]

    async def called(self) -> None:
        await asyncio.wait_for(self.arrivals.get(), 2)


@dataclass
class Stage:
    """A service with a vendor behind it, a viewer, and an owner that the viewer may see."""

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
        """A certificate for which the vendor told us only the facts that decide its owner."""
        cert_id = web_id()
        assert await self.told(cert_id, "confirmed_owner") == {"confirmed_owner": OWNER}
        self.vendor.requests.clear()
        return cert_id

    async def calm(self) -> None:
        """Make a successful call to reset the breaker's failure count."""
        await self.told(web_id(), "ip")
        self.vendor.requests.clear()
        self.vendor.arrivals = asyncio.Queue()

    async def later(self, minutes: int) -> None:
        """Backdate the facts."""
        await self.world.fetch(
            "UPDATE certificate SET fetched_at = fetched_at - make_interval(mins => $1)", minutes
        )


@asynccontextmanager
async def service(
    database_url: str, database: Database, url: str = URL, budget: float = 2.0
) -> AsyncIterator[World]:
    """A new application, so that it shares no breaker or cache with other tests."""
    trustedform = TrustedForm(api_key=KEY, url=url, budget=budget)
    app = create_app(database_url, msgspec.structs.replace(SETTINGS, trustedform=trustedform))
    async with living(app) as client:
        yield World(database, client)


async def set_up(world: World) -> Company:
    await world.reset()
    viewer, owner = await world.company(), await world.company(OWNER)
    await world.own(owner, "example.com")
    await world.permit(owner, viewer)
    return viewer


def check_error(response: httpx.Response, status: int, reason: str | None = None) -> None:
    """Check for a v4 error that contains nothing like an owner, and not the key."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) - {"errors", "message"} == {"outcome", "reason"}
    assert body["outcome"] == "error"
    assert isinstance(body["reason"], str)
    assert body["reason"]
    if reason:
        assert body["reason"] == reason
    if status == 400:
        assert body["errors"]["detail"]
        assert body["message"] == body["reason"]
    if status == 503:
        assert int(response.headers["Retry-After"]) >= 1
    for text in (NO_VERIFIED, VERIFIED, OWNER, KEY):
        assert text not in response.text


def says(status: int, reason: str = "No such luck, Sunny Roofs Incorporated") -> httpx.Response:
    """A vendor response with this status, by default with a reason the vendor never published."""
    return httpx.Response(status, json={"outcome": "error", "reason": reason})
