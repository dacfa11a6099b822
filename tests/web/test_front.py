"""What every request goes through: HEAD, ids of requests, the access log, and unknown paths."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
import structlog

from service.errors import _CODES
from service.web import front
from service.web.guides import guide_called
from tests.builders import World, web_id
from tests.parties import party, problem
from tests.surfer import ORIGIN, signed_in

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    "path",
    ["/", "/health", "/ready", "/metrics", "/sign-in", "/guides/buyers", "/robots.txt",
     "/favicon.ico", "/static/pages.css", "/schema/openapi.json", "/nothing"],
)  # fmt: skip
async def test_head_tells_what_get_would_without_a_body(world: World, path: str) -> None:
    got, head = await world.client.get(path), await world.client.head(path)
    assert head.status_code == got.status_code
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.content == b""


async def test_head_works_for_the_api(world: World) -> None:
    company = await world.company()
    for path in ("/v1/account", "/v1/events", f"/{web_id()}/validate"):
        head = await world.client.head(path, headers=company.headers)
        assert (head.status_code, head.content) == (200, b"")


async def test_home_says_what_this_is(world: World) -> None:
    response = await world.client.get("/")
    assert response.status_code == 200
    for words in ("Who owns the site", "/sign-in", "/guides/buyers", "confirmed_owner"):
        assert words in response.text


@pytest.mark.parametrize("path", ["/nothing", "/connections/xyz", "/sign-out", "/v1/nothing"])
async def test_unknown_path_is_a_page_for_browsers_and_a_problem_for_programs(
    world: World, path: str
) -> None:
    page = await world.client.get(path, headers=BROWSER)
    # What takes forms alone is no page to who opens its address.
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    response = await world.client.get(path)
    told = problem(response, response.status_code)
    code = {404: "not_found", 405: "method_not_allowed"}[response.status_code]
    assert told["code"] == code


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [
        ("abc-123", True),
        ("A" * 128, True),
        ("A" * 129, False),
        ("a b", False),
        ("ü", False),
        ("", False),
    ],
)
async def test_request_has_an_id_in_the_response_the_log_and_the_error(
    world: World, sent: str, is_kept: bool
) -> None:
    with structlog.testing.capture_logs(
        processors=[structlog.contextvars.merge_contextvars]
    ) as logged:
        response = await world.client.get("/v1/account", headers=[(b"X-Request-Id", sent.encode())])
    request_id = response.headers["x-request-id"]
    assert (request_id == sent) is is_kept
    assert response.json()["request_id"] == request_id
    assert [line["request_id"] for line in logged] == [request_id]


async def test_access_log_has_no_key_no_certificate_and_no_address(world: World) -> None:
    company, cert_id = await world.company(), await world.certificate(domain="example.com")
    surfer = await signed_in(world, company.email)
    invitation = await world.invite(company, "jo@secret.example")
    calls: list[tuple[str, str, Any]] = [
        ("POST", f"/{cert_id}", {"insights": {"properties": ["domain"]}}),
        ("POST", f"/https%3A%2F%2Fcert.trustedform.com%2F{cert_id}", None),
        ("GET", f"/{cert_id}/nothing", None),
        ("GET", f"/v1/invitations/{invitation.id}?email=jo@secret.example", None),
        ("GET", "/v1/domains/secret.example", None),
    ]
    with structlog.testing.capture_logs() as logged:
        for method, path, body in calls:
            await world.client.request(method, path, headers=company.headers, json=body)
        await surfer.go("/connections")
    assert len(logged) == len(calls) + 1
    for secret in (company.key, cert_id, "secret.example", str(invitation.id), company.email):
        assert secret not in str(logged)
    assert (logged[0]["status"], logged[0]["path"]) == (200, "/{cert_id}")


async def test_limit_is_counted_in_headers_and_named_when_it_is_reached(world: World) -> None:
    inviter = await party(world)
    for left in (4, 3, 2, 1, 0):
        response = await inviter.invite("jo@x.example", note=f"{left}")
        assert response.status_code == 201
        assert response.headers["ratelimit-policy"] == '"invitations to this address";q=5;w=86400'
        assert response.headers["ratelimit"].startswith(
            f'"invitations to this address";r={left};t='
        )
        path = f"/v1/invitations/{response.json()['items'][0]['id']}/cancel"
        assert (await inviter.do("POST", path)).status_code == 200
    response = await inviter.invite("jo@x.example")
    item = response.json()["items"][0]
    assert "the limit of 5 invitations to this address per day" in item["error"]["detail"]
    assert item["error"]["code"] == "limit_reached"


async def test_what_others_did_is_not_told_by_limits(world: World) -> None:
    await world.fetch(
        "INSERT INTO allowance VALUES (date_trunc('day', now(), 'UTC'), 'invitations to', $1, 20)",
        "jo@x.example",
    )
    inviter = await party(world)
    response = await inviter.invite("jo@x.example")
    item = response.json()["items"][0]
    assert item["error"]["detail"].startswith("you've reached a limit; try again in")
    assert "20" not in response.headers.get("ratelimit-policy", "").split(";")[0]


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "field", "detail"),
    [
        ("POST", "/v1/invitations", {"email": "jo@x.example"}, "unknown_field", "email", ""),
        (
            "POST",
            "/v1/invitations",
            {"emails": ["jo@x.example"], "reason": "domain_visibility"},
            "invalid_value",
            "reason",
            "one of receive_leads, send_leads, domain_ownership_visibility",
        ),
        ("GET", "/v1/events?limit=1000000", None, "invalid_value", "limit", "of at most 100"),
        ("GET", "/v1/invitations?state=x", None, "invalid_value", "state", "one of pending"),
        ("GET", "/v1/connections?cursor=junk", None, "invalid_value", "cursor", "must be"),
        ("PATCH", "/v1/account", {"name": 5}, "invalid_value", "name", "must be a string"),
        ("PATCH", "/v1/account", {}, "missing_value", "name", "is required"),
        ("GET", "/v1/domains/1.2.3.4", None, "invalid_host_name", "domain", ""),
    ],
)
async def test_error_has_a_code_a_field_and_words(
    world: World, method: str, path: str, body: Any, code: str, field: str, detail: str
) -> None:
    told = problem(await (await party(world)).do(method, path, body), 422, field)
    assert told["code"] == code
    assert told["type"] == f"/guides/errors#{code}"
    assert detail in told["detail"]
    for python in ("`", "Expected", "int |", "str |", "Invalid enum"):
        assert python not in told["detail"]


async def test_every_code_is_in_the_guide_that_its_type_leads_to(client: httpx.AsyncClient) -> None:
    page = guide_called("errors").html
    for code in {*_CODES.values(), "internal_error", "nothing_done", "method_not_allowed"}:
        assert f'id="{code}"' in page
    assert (await client.get("/guides/errors")).status_code == 200


async def test_compressed_or_wrongly_encoded_body_is_called_that(world: World) -> None:
    company = await world.company()
    headers = {**company.headers, "Content-Type": "application/json"}
    for content, status, words in (
        (b"\x1f\x8b\x08\x00", 415, "compressed"),
        (b'{"name": "\xfc"}', 400, "not UTF-8"),
    ):
        response = await world.client.patch("/v1/account", headers=headers, content=content)
        assert words in problem(response, status)["detail"]


@pytest.mark.parametrize(
    "path", [f"/{web_id()}", "/v1/certificates", "/v1/invitations", "/sign-in"]
)
async def test_body_that_stalls_ends_with_408_and_a_slow_one_that_goes_on_does_not(
    world: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(front, "BODY_RATE", 10)
    company = await world.company()
    media_type = "application/x-www-form-urlencoded" if path == "/sign-in" else "application/json"

    async def post(pauses: list[float]) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            for pause in pauses:
                yield b"{ ...... }"
                await asyncio.sleep(pause)

        headers = {**company.headers, "Content-Type": media_type, "Origin": ORIGIN}
        return await world.client.post(path, headers=headers, content=body())

    stalled = await post([30])
    assert stalled.status_code == 408
    assert "took too long to arrive" in stalled.text
    assert (await post([0.5, 0.5])).status_code != 408


@pytest.mark.parametrize("path", [f"/{web_id()}", "/v1/certificates", "/v1/invitations"])
async def test_client_that_leaves_before_its_body_is_complete_is_no_failure_of_ours(
    world: World, path: str
) -> None:
    company = await world.company()
    headers = {**company.headers, "Content-Type": "application/json"}
    request = world.client.build_request("POST", path, headers=headers, content=b"{")
    arriving = iter(
        [
            {"type": "http.request", "body": b"{", "more_body": True},
            {"type": "http.disconnect"},
        ]
    )
    sent: list[Any] = []

    async def receive() -> Any:
        return next(arriving)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": ("service", 80),
        "client": ("127.0.0.1", 1),
    }
    await cast("Any", world.client)._transport.app(scope, receive, send)
    assert sent[0]["status"] == 400


@pytest.mark.parametrize(
    ("path", "is_cached"),
    [
        ("/health", False), ("/metrics", False), ("/v1/account", False), ("/nothing/at/all", False),
        ("/schema", False), ("/schema/openapi.json", False), ("/sign-in", False), ("/", False),
        ("/static/pages.css", True), ("/schema/static/swagger-ui.css", True),
    ],
)  # fmt: skip
async def test_response_can_not_be_framed_taken_for_something_else_or_kept(
    world: World, path: str, is_cached: bool
) -> None:
    company = await world.company()
    response = await world.client.get(path, headers=company.headers)
    assert response.headers.get_list("X-Content-Type-Options") == ["nosniff"]
    assert response.headers.get_list("Cache-Control") == ([] if is_cached else ["no-store"])
    (policy,) = response.headers.get_list("Content-Security-Policy")
    assert "frame-ancestors 'none'" in policy
    assert ("unsafe-inline" in policy) is path.startswith("/schema")


async def test_answer_and_its_refusal_are_for_nobodys_cache(world: World) -> None:
    company = await world.company()
    for cert_id in (await world.certificate(domain="example.com"), "malformed"):
        response = await world.ask(company, cert_id)
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/activity?before=x", "Before"),
        (f"/connections?q={'x' * 300}", "Q"),
        ("/check?before=1", "Before"),
    ],
)
async def test_wrong_parameter_of_a_page_is_told_of_on_a_page(
    client: httpx.AsyncClient, path: str, field: str
) -> None:
    response = await client.get(path, headers=BROWSER)
    assert (response.status_code, response.headers["content-type"]) == (
        422,
        "text/html; charset=utf-8",
    )
    assert f"{field} must be" in response.text
