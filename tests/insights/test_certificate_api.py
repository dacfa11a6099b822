"""`POST /{cert_id}` as the vendor documents it: properties, windows, and refusals."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from service.insights.contract import PROPERTIES
from tests.builders import World, basic, meta_id, mobile_id, web_id

JSON = {"Content-Type": "application/json"}

WEB_FACTS: dict[str, Any] = {
    "approx_ip_geo": {"city": "Dallas", "country_code": "US", "lat": 32.7451, "lon": -96.8038,
                      "postal_code": "75203", "state": "Texas", "time_zone": "America/Chicago"},
    "bot_detected": False,
    "browser": {"full": "Chrome 128.0.0.0", "name": "Chrome", "user_agent": "Mozilla/5.0",
                "version": {"full": "128.0.0.0", "major": "128", "minor": "0", "patch": "0"}},
    "domain": "example.com",
    "form_input_kpm": 234.92560689115115,
    "form_input_method": ["typing", "pre-populated"],
    "form_input_wpm": 47.355958958168905,
    "ip": "192.0.2.44",
    "is_framed": False,
    "is_masked": False,
    "num_sensitive_content_elements": 0,
    "num_sensitive_form_elements": 2,
    "os": {"full": "Mac OS X 10.15.7", "is_mobile": False, "name": "Mac OS X",
           "version": {"full": "10.15.7", "major": "10", "minor": "15", "patch": "7"}},
    "page_url": "https://www.example.com/contact.html",
    "parent_page_url": None,
    "seconds_on_page": 1129,
}  # fmt: skip


async def properties(world: World, cert_id: str, *asked: str) -> dict[str, Any]:
    viewer = await world.company()
    response = await world.ask(viewer, cert_id, *asked)
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["outcome"], body["reason"]) == ("success", None)
    return body["insights"]["properties"]


async def test_web_certificate_has_every_recorded_property(world: World) -> None:
    cert_id = await world.certificate(**WEB_FACTS)
    told = await properties(world, cert_id, *WEB_FACTS)
    assert told == WEB_FACTS


async def test_times_are_written_as_the_vendor_does_and_age_counts_from_the_last_event(
    world: World,
) -> None:
    cert_id = web_id()
    created = datetime.now(UTC) - timedelta(hours=2)
    await world.import_lines(
        {
            "cert_id": cert_id,
            "insights": {
                "properties": {
                    "created_at": created.isoformat(),
                    "expires_at": "2999-12-20T17:07:09.123Z",
                    "seconds_on_page": 600,
                }
            },
        }
    )
    told = await properties(world, cert_id, "created_at", "expires_at", "age_seconds")
    assert told["created_at"] == created.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert told["expires_at"] == "2999-12-20T17:07:09Z"
    assert 7200 - 600 <= told["age_seconds"] < 7200 - 600 + 60


@pytest.mark.parametrize(
    ("cert_id", "has"),
    [
        (mobile_id(), {"age_seconds", "approx_ip_geo", "confirmed_owner_detail", "created_at", "ip",
                       "is_masked", "os", "seconds_on_page"}),
        (meta_id(), {"age_seconds", "confirmed_owner_detail", "created_at"}),
    ],
)  # fmt: skip
async def test_properties_a_kind_does_not_have_are_null(
    world: World, cert_id: str, has: set[str]
) -> None:
    await world.certificate(cert_id, **WEB_FACTS)
    told = await properties(world, cert_id, *sorted(PROPERTIES))
    assert set(told) == PROPERTIES
    assert {name for name, value in told.items() if value is not None} == has


async def test_only_what_was_asked_for_is_returned_once_in_the_order_asked(world: World) -> None:
    cert_id = await world.certificate(**WEB_FACTS)
    told = await properties(world, cert_id, "ip", "domain", "ip")
    assert list(told) == ["ip", "domain"]


async def test_no_properties_are_no_error(world: World) -> None:
    viewer, cert_id = await world.company(), await world.certificate(**WEB_FACTS)
    response = await world.client.post(
        f"/{cert_id}", headers=viewer.headers, json={"insights": {"properties": []}}
    )
    assert response.json() == {"outcome": "success", "reason": None, "insights": {"properties": {}}}


async def test_vendors_own_clients_are_understood(world: World) -> None:
    viewer, cert_id = await world.company(), await world.certificate(**WEB_FACTS)
    response = await world.client.post(
        f"/{cert_id}/",
        headers={
            **basic(viewer.key, "API"),
            "content-type": "application/json; charset=utf-8",
            "api-version": "4.0",
            "accept": "application/json",
        },
        content=b'{"insights": {"properties": ["domain"]}, "retain": null}',
    )
    assert response.json()["insights"]["properties"] == {"domain": "example.com"}
    assert response.headers["content-type"] == "application/json"


REQUEST = b'{"insights": {"properties": ["confirmed_owner"]}}'
SCHEMA = "The request cannot be processed because it does not meet the expected schema."


@pytest.mark.parametrize(
    ("status", "reason", "content", "headers"),
    [
        (400, "No valid products detected", b"", {}),
        (400, "No valid products detected", b"{}", JSON),
        (400, "No valid products detected", b'{"insights": null}', JSON),
        (400, "Invalid property key(s) requested", b'{"insights": {"properties": ["x"]}}', JSON),
        (400, SCHEMA, b'{"insights": {}}', JSON),
        (400, SCHEMA, b'{"insights": {"properties": "domain"}}', JSON),
        (400, SCHEMA, b'{"insights": {"properties": [1]}}', JSON),
        (400, SCHEMA, b'{"insights": []}', JSON),
        (400, SCHEMA, b"[]", JSON),
        (400, SCHEMA, b"null", JSON),
        (400, SCHEMA, b"1", JSON),
        (400, SCHEMA, b"{", JSON),
        (400, SCHEMA, b'{"insights": {"properties": ["domain"]}} x', JSON),
        (400, SCHEMA, b"\xff", JSON),
        (400, SCHEMA, b'{"insights": ' + b'{"a": [' * 8_000, JSON),
        (400, SCHEMA, b'{"retain": ' + b'{"a": [' * 8_000, JSON),
        (400, SCHEMA, REQUEST, {}),
        (400, SCHEMA, REQUEST, {"Content-Type": "application/x-www-form-urlencoded"}),
        (413, SCHEMA, b" " * (64 * 1024 + 1), JSON),
        (403, "Unavailable product requested", b'{"verify": {}}', JSON),
        (400, "Match Lead fields not included in request.", b'{"retain": {}}', JSON),
    ],
)
async def test_unusable_body(
    world: World, status: int, reason: str, content: bytes, headers: dict[str, str]
) -> None:
    viewer, cert_id = await world.company(), await world.certificate(**WEB_FACTS)
    response = await world.client.post(
        f"/{cert_id}", headers={**viewer.headers, **headers}, content=content
    )
    assert response.status_code == status
    body = response.json()
    assert (body["outcome"], body["reason"]) == ("error", reason)
    assert set(body) <= {"outcome", "reason", "errors", "message"}


@pytest.mark.parametrize(
    "cert_id",
    [
        "a",
        "a" * 39,
        "a" * 41,
        "a" * 79,
        "a" * 81,
        "g!" * 20,
        "0.",
        "0." + "a" * 254,
        "0.a%00b",
        "0.%C3%A9",
    ],
)
async def test_malformed_certificate_id(world: World, cert_id: str) -> None:
    viewer = await world.company()
    response = await world.ask(viewer, cert_id)
    assert response.status_code == 400
    assert response.json() == {
        "errors": {"detail": "Malformed certificate id"},
        "message": "Malformed certificate id",
        "outcome": "error",
        "reason": "Malformed certificate id",
    }


async def test_wrong_key_is_told_that_before_anything_else(world: World) -> None:
    stranger = basic("cok_unknown")
    cert_id = await world.certificate(**WEB_FACTS)
    for path, content in (
        (cert_id, REQUEST),
        (web_id(), REQUEST),
        ("malformed", b""),
        (cert_id, b"{"),
    ):
        for headers in ({**stranger, **JSON}, JSON):
            response = await world.client.post(f"/{path}", headers=headers, content=content)
            assert response.status_code == 401
            assert response.json() == {"outcome": "error", "reason": "Unauthorized"}
            assert response.headers["www-authenticate"].startswith("Basic ")


async def test_suspended_account_is_inactive_with_the_next_call(world: World) -> None:
    viewer, cert_id = await world.company(), await world.certificate(**WEB_FACTS)
    await world.suspend(viewer)
    for path in (cert_id, web_id(), "malformed"):
        response = await world.ask(viewer, path)
        assert response.status_code == 402
        assert response.json() == {"outcome": "error", "reason": "Account is inactive"}
    await world.reinstate(viewer)
    assert (await world.ask(viewer, cert_id)).status_code == 200


GONE = {
    "outcome": "error",
    "reason": "TrustedForm certificate has expired or could not be found",
}


async def test_unknown_certificate_is_not_found(world: World) -> None:
    response = await world.ask(await world.company(), web_id())
    assert (response.status_code, response.json()) == (404, GONE)


@pytest.mark.parametrize(
    ("created", "facts", "status"),
    [
        (timedelta(days=-89), {}, 200),
        (timedelta(days=-94), {}, 404),
        (timedelta(days=-94), {"expires_at": "2999-01-01T00:00:00Z"}, 200),
        (timedelta(days=-1), {"expires_at": "2020-01-01T00:00:00Z"}, 404),
    ],
)
async def test_certificate_past_its_window_is_not_found(
    world: World, created: timedelta, facts: dict[str, Any], status: int
) -> None:
    cert_id = await world.certificate(created=created, **facts)
    response = await world.ask(await world.company(), cert_id)
    assert response.status_code == status
    assert status == 200 or response.json() == GONE


CERT = "eb9fc4dd9bed9ad451a5648946cf4bf09b5bb947"
PING = "0.1JT7abc.fF0D-x.E2eY_z"


@pytest.mark.parametrize(
    "path",
    [
        CERT,
        CERT.upper(),
        f"%20{CERT}%0D",
        f"{CERT},{'0' * 40}",
        f"https%3A%2F%2Fcert.trustedform.com%2F{CERT}",
        f"https://cert.trustedform.com/{CERT}/",
        f"https:/CERT.trustedform.com/{CERT.upper()}",
        f"cert.trustedform.com/{CERT}",
        f"http%3A%2F%2Fcert.trustedform-staging.com%2F{CERT}%2C%20https%3A%2F%2Fcert.trustedform.com%2F0",
    ],
)
async def test_certificate_is_one_however_its_id_is_written(world: World, path: str) -> None:
    await world.certificate(CERT, domain="example.com")
    caller = await world.company()
    asked = {"insights": {"properties": ["domain"]}}
    response = await world.client.post(f"/{path}", headers=caller.headers, json=asked)
    assert response.json()["insights"] == {"properties": {"domain": "example.com"}}
    first = path.partition("%2C")[0].partition(",")[0].removesuffix("/")
    response = await world.client.get(f"/{first}/validate", headers=caller.headers)
    assert response.json()["reason"] == "This is a valid Web certificate id"
    rows = await world.fetch("SELECT cert_id FROM answer")
    assert [row["cert_id"] for row in rows] == [CERT]


async def test_mobile_id_of_forty_characters_keeps_its_case(world: World) -> None:
    caller, cert_id = await world.company(), "Mobile_" + "zA" * 16 + "x"
    await world.certificate(cert_id, ip="192.0.2.1")
    for path, status in ((cert_id, 200), (cert_id.lower(), 404)):
        assert (await world.ask(caller, path, "ip")).status_code == status


async def test_ping_url_is_a_web_certificates(world: World) -> None:
    caller = await world.company()
    for path, kind in (
        (f"https%3A%2F%2Fping.trustedform.com%2F{PING}", "Web"),
        (f"ping.trustedform.com/{PING}", "Web"),
        (PING, "Facebook"),
    ):
        response = await world.client.get(f"/{path}/validate", headers=caller.headers)
        assert response.json()["reason"] == f"This is a valid {kind} certificate id"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"v4/{CERT}"),
        ("POST", f"{CERT}/insights"),
        ("POST", f"{CERT}/validate"),
        ("POST", f"{CERT}/retain"),
        ("POST", "https%3A%2F%2Fevil.example%2F" + CERT),
        ("PUT", CERT),
        ("DELETE", CERT),
        ("GET", CERT),
        ("GET", f"{CERT}/check_in"),
    ],
)
async def test_near_miss_answers_in_the_v4_shape_and_not_as_if_expired(
    world: World, method: str, path: str
) -> None:
    caller = await world.company()
    response = await world.client.request(method, f"/{path}", headers=caller.headers)
    assert response.status_code == (400 if method in ("GET", "POST") else 405)
    assert response.json()["outcome"] == "error"
    assert response.json()["reason"] in (SCHEMA, "Malformed certificate id")


async def test_browser_is_told_that_a_certificate_has_no_page(world: World) -> None:
    response = await world.client.get(f"/{web_id()}", headers={"Accept": "text/html,*/*;q=0.8"})
    assert response.status_code == 400
    assert "It has no page" in response.text


@pytest.mark.parametrize(
    ("body", "key", "meant"),
    [
        ({"insights": {"properties": [], "scan": {"forbidden": "x"}}}, "insights.scan", "scans"),
        (
            {"insights": {"properties": [], "scans": {"forbiden": "x"}}},
            "insights.scans.forbiden",
            "forbidden",
        ),
        ({"match_leads": {"email": "a@b.example"}}, "match_leads", "match_lead"),
        ({"match_lead": {"e-mail": "a@b.example"}}, "match_lead.e-mail", "email"),
        (
            {"match_lead": {"email": "a@b.example"}, "retain": {"vender": "A"}},
            "retain.vender",
            "vendor",
        ),
        ({"scan": "x", "vendor": "y"}, None, None),
        ({"insights": {"properties": []}, "xyz": 1}, "xyz", None),
    ],
)
async def test_misspelled_key_is_refused_with_the_key_that_was_meant(
    world: World, body: Any, key: str | None, meant: str | None
) -> None:
    caller, cert_id = await world.company(), await world.certificate()
    response = await world.client.post(f"/{cert_id}", headers=caller.headers, json=body)
    assert response.status_code == 400
    assert response.json()["reason"] == SCHEMA
    detail = response.json()["errors"]["detail"]
    assert "unknown key: " + (key or "") in detail
    assert ("did you mean" in detail) is (meant is not None)
    assert meant is None or detail.endswith(f"did you mean {meant}?")
    assert await world.fetch("SELECT FROM answer") == []


async def test_hashed_lead_in_the_keys_of_a_help_page_is_matched(world: World) -> None:
    caller, cert_id = await world.company(), web_id()
    digest = hashlib.sha1(b"a@b.example", usedforsecurity=False).hexdigest()
    await world.import_lines({"cert_id": cert_id, "fingerprints": [digest]})
    sent = {"match_lead": {"email_sha1": digest, "phone_sha1": None}}
    response = await world.client.post(f"/{cert_id}", headers=caller.headers, json=sent)
    assert response.json()["match_lead"] == {
        **sent["match_lead"],
        "result": {"success": True, "email_match": True, "phone_match": None},
    }


@pytest.mark.parametrize(
    ("version", "status"),
    [("4.0", 200), ("4", 200), (" 4.0 ", 200), ("3.0", 400), ("2", 400), ("2099-01-01", 400)],
)
async def test_version_of_the_api_is_4(world: World, version: str, status: int) -> None:
    caller, cert_id = await world.company(), await world.certificate(domain="example.com")
    response = await world.client.post(
        f"/{cert_id}",
        headers={**caller.headers, "Api-Version": version},
        json={"insights": {"properties": ["domain"]}},
    )
    assert response.status_code == status
    assert status == 200 or "Api-Version must be 4.0" in response.text


async def test_what_is_imported_comes_back_as_it_is(world: World) -> None:
    caller, cert_id = await world.company(), web_id()
    facts = {
        "os": {"full": "iOS 18.7", "version": {"full": "18.7", "major": "18", "patch": None}},
        "browser": {"name": None, "new": {"a": 1}},
        "approx_ip_geo": {"city": "Austin", "state": "TX"},
        "form_input_method": ["typing", "voice"],
        "session_replay_status": "available",
    }
    await world.import_lines({"cert_id": cert_id, "insights": {"properties": facts}})
    response = await world.ask(caller, cert_id, *facts)
    assert response.json()["insights"]["properties"] == facts


@pytest.mark.parametrize("value", [b"1e400", b'"\xff"', b"9" * 5000])
async def test_value_that_we_do_not_know_is_no_error_of_ours(world: World, value: bytes) -> None:
    caller = await world.company()
    body = b'{"insights": {"properties": ["domain"]}, "x": %s}' % value
    response = await world.client.post(
        f"/{web_id()}", headers={**caller.headers, **JSON}, content=body
    )
    assert response.status_code == 400


@pytest.mark.parametrize(
    "path", ["metrics", "health", "v1/account", "sign-in", f"{CERT}/insights", f"{CERT}/../metrics"]
)
@pytest.mark.parametrize("host", ["https:/cert.trustedform.com", "cert.trustedform.com"])
async def test_nothing_but_a_certificate_is_reached_through_its_url(
    world: World, path: str, host: str
) -> None:
    caller = await world.company()
    for method in ("GET", "POST"):
        response = await world.client.request(method, f"/{host}/{path}", headers=caller.headers)
        assert response.status_code in (400, 404)
        assert "confirmed_owner_requests" not in response.text


@pytest.mark.parametrize("path", ["", "*", "//", "/%2e%2e"])
async def test_path_of_any_form_is_answered(world: World, path: str) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    app: Any = cast("Any", world.client._transport).app
    for method in ("GET", "POST", "OPTIONS"):
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [], "server": ("service", 80), "client": ("127.0.0.1", 1), "root_path": "",
        }  # fmt: skip
        sent.clear()
        await app(scope, receive, send)
        assert sent[0]["status"] < 500


async def test_too_many_keys_or_properties_are_refused(world: World) -> None:
    caller = await world.company()
    for body in (
        {"insights": {"properties": [f"p{number}" for number in range(101)]}},
        {"insights": {"properties": []}, **{f"k{number}": 1 for number in range(1000)}},
    ):
        response = await world.client.post(f"/{web_id()}", headers=caller.headers, json=body)
        assert response.status_code == 400


async def test_call_gets_the_same_whichever_way_it_takes(world: World) -> None:
    """The front takes calls past the router, but not those whose path ends with a slash."""
    viewer, owner = await world.company(), await world.company("Owner Leads")
    await world.own(owner, "example.com")
    await world.connect(viewer, owner)
    await world.grant(owner, viewer)
    cert_id = await world.certificate(**WEB_FACTS)
    valid = b'{"insights": {"properties": ["confirmed_owner", "ip", "browser"]}}'
    calls: tuple[tuple[dict[str, str], str, bytes], ...] = (
        (viewer.headers, cert_id, valid),
        (viewer.headers, web_id(), valid),
        (viewer.headers, "malformed", valid),
        (viewer.headers, cert_id, b"{"),
        (viewer.headers, cert_id, b" " * 70_000),
        (viewer.headers | {"Content-Type": "text/plain"}, cert_id, valid),
        (viewer.headers | {"Api-Version": "3.0"}, cert_id, valid),
        (basic("cok_unknown"), cert_id, valid),
        ({}, cert_id, valid),
    )
    statuses = []
    for headers, asked, body in calls:
        told = []
        for path in (f"/{asked}", f"/{asked}/"):
            response = await world.client.post(path, headers=JSON | headers, content=body)
            told.append((response.status_code, response.content, dict(response.headers)))
        assert told[0] == told[1]
        statuses.append(told[0][0])
    assert statuses == [200, 404, 400, 400, 413, 400, 400, 401, 401]


async def test_calls_with_the_same_body_are_about_their_own_certificates_and_leads(
    world: World,
) -> None:
    viewer = await world.company()
    ids = [await world.certificate(domain="example.com", ip=f"192.0.2.{n}") for n in range(3)]
    for _ in range(2):
        for n, cert_id in enumerate(ids):
            told = await world.ask(viewer, cert_id, "ip")
            assert told.json()["insights"]["properties"] == {"ip": f"192.0.2.{n}"}
    lead = {"match_lead": {"email": "jane@example.com"}, "insights": {"properties": ["ip"]}}
    for cert_id, status in ((ids[0], 200), (meta_id(), 404), (mobile_id(), 422), (ids[0], 200)):
        response = await world.client.post(f"/{cert_id}", headers=viewer.headers, json=lead)
        assert response.status_code == status, response.text
