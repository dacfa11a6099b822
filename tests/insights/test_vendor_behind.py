"""The vendor behind us: what we ask, what we buy, and who gets the answer."""

import asyncio
import json
import logging
import time
from datetime import timedelta
from hashlib import sha1
from typing import Any

import httpx
import pytest
import structlog.testing

from service.certificates import merging, queries
from service.certificates.facts import Certificate
from service.certificates.imports import import_lines
from service.insights import purchases
from service.postgres.pools import Database
from tests.builders import NO_VERIFIED, VERIFIED, Company, basic, meta_id, mobile_id, until, web_id
from tests.insights.vendor import (
    BOTH,
    KEY,
    MATCH,
    MATCHED,
    NOT_FOUND,
    OWNER,
    RETAIN,
    RETAINED,
    SCANNED,
    SCANS,
    TOKEN,
    VERIFIED_CONSENT,
    Json,
    Stage,
    Vendor,
    ask,
    check_error,
    says,
    service,
    stamp,
)


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
    # The vendor doesn't document whether 80-character ids can be web ids; we treat them as mobile.
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
    # asked first, asked next, and what the second call buys
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
    check_error(await stage.call(web_id(), {"insights": {"properties": "ip"}}), 400)
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
        # One probe fails; the other's caller leaves.
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
        # During the probe, no other call gets through; afterwards all do.
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
    # This account hasn't retained it yet, even if our own account at the vendor has.
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
    # If one operation needs the vendor, all go there, but facts on record aren't bought again.
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


async def import_own(stage: Stage, cert_id: str, **line: Any) -> None:
    response = await stage.world.client.post(
        "/v1/certificates",
        headers={**stage.viewer.headers, "Content-Type": "application/x-ndjson"},
        content=json.dumps({"cert_id": cert_id, **line}).encode(),
    )
    assert response.status_code == 200, response.text


OWN: Json = {
    "page_text": "free quote for jane",
    "fingerprints": [sha1(MATCH["email"].encode(), usedforsecurity=False).hexdigest()],
    "insights": {"properties": {"domain": "example.com", "created_at": stamp(hours=1)}},
}


async def test_what_a_caller_told_itself_is_never_mixed_with_what_the_vendor_tells(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id = web_id()
    await import_own(stage, cert_id, **OWN)
    assert await stage.told(cert_id, "confirmed_owner") == {"confirmed_owner": OWNER}
    assert vendor.requests == []
    told = await stage.told(cert_id, "confirmed_owner", "domain", "ip", "created_at")
    assert told["confirmed_owner"] == OWNER
    assert told["domain"] == "example.com"
    assert told["created_at"] == vendor.facts["created_at"]
    assert set(vendor.bought[0]) >= {"created_at", "domain", "ip"}


async def test_what_another_buys_does_not_hide_what_a_caller_told_itself(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id, other = web_id(), await stage.world.company()
    await import_own(stage, cert_id, **OWN)
    await stage.told(cert_id, "ip", viewer=other)
    vendor.requests.clear()
    response = await stage.call(cert_id, {"match_lead": MATCH, **ask("confirmed_owner")})
    assert response.json()["match_lead"]["result"]["email_match"] is True
    assert response.json()["insights"]["properties"] == {"confirmed_owner": OWNER}
    assert vendor.requests == []


async def test_certificate_of_unknown_age_ends_93_days_after_it_was_first_heard_of(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id = await stage.known()
    for days, status in ((92, 200), (94, 404)):
        await stage.world.fetch(
            "UPDATE certificate SET recorded_at = now() - make_interval(days => $1)", days
        )
        response = await stage.call(cert_id, ask("confirmed_owner"))
        assert response.status_code == status
    assert vendor.requests == []


async def test_overdue_certificate_is_retained_if_its_window_was_lengthened(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id = await stage.world.certificate(created=timedelta(days=-10), expires_at=stamp(hours=1))
    response = await stage.call(cert_id, {"match_lead": MATCH, "retain": RETAIN})
    assert response.status_code == 200, response.text
    assert "insights" not in response.json()
    assert vendor.bought == [["expires_at"]]
    assert len(await stage.world.fetch("SELECT FROM retained_certificate")) == 1


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([{}, says(500)], id="second call fails"),
        pytest.param([{"insights": {"properties": {"os": 5}}}], id="facts make no sense"),
    ],
)
async def test_what_the_vendor_retained_is_noted_whatever_goes_wrong_with_the_rest(
    stage: Stage, vendor: Vendor, script: list[Any]
) -> None:
    cert_id = web_id()
    vendor.facts["domain"] = None
    vendor.script = script
    body = {"match_lead": MATCH, "retain": RETAIN, **ask("confirmed_owner", "os")}
    check_error(await stage.call(cert_id, body), 502)
    (kept,) = await stage.world.fetch("SELECT reference, vendor FROM retained_certificate")
    assert tuple(kept) == (RETAIN["reference"], RETAIN["vendor"])
    vendor.facts["domain"] = "example.com"
    again = (await stage.call(cert_id, body)).json()
    assert again["retain"]["results"]["previously_retained"] is True


async def test_caller_that_leaves_loses_nothing_that_was_paid_for(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id = web_id()
    vendor.gate.clear()
    body = {"match_lead": MATCH, "retain": RETAIN, **ask("ip")}
    caller = asyncio.create_task(stage.call(cert_id, body))
    await vendor.called()
    caller.cancel()
    vendor.gate.set()
    for _ in range(100):
        if await stage.world.fetch("SELECT FROM certificate WHERE cert_id = $1", cert_id):
            break
        await asyncio.sleep(0.02)
    vendor.requests.clear()
    assert await stage.told(cert_id, "ip") == {"ip": vendor.facts["ip"]}
    assert vendor.requests == []
    assert len(await stage.world.fetch("SELECT FROM retained_certificate")) == 1


async def test_equal_calls_in_quick_succession_buy_once_and_record_once(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id = web_id()

    async def call(after: float) -> None:
        await asyncio.sleep(after)
        await stage.told(cert_id, "ip", "age_seconds")

    await asyncio.gather(*(call(n / 1000) for n in range(0, 80, 2)))
    assert len(vendor.requests) == 1
    (row,) = await stage.world.fetch(
        "SELECT revision, (SELECT last_value FROM certificate_revision) AS last FROM certificate"
        " WHERE cert_id = $1",
        cert_id,
    )
    assert row["revision"] == row["last"]


async def test_what_moves_settles_though_the_age_of_a_certificate_is_not_known(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id = web_id()
    await stage.told(cert_id, "expires_at")
    await stage.world.fetch(
        "UPDATE certificate SET recorded_at = now() - interval '3 days',"
        " fetched_at = now() - interval '1 day'"
    )
    vendor.requests.clear()
    await stage.told(cert_id, "expires_at")
    assert vendor.requests == []


async def test_import_of_others_does_not_hold_up_what_is_bought(
    stage: Stage, vendor: Vendor
) -> None:
    async with stage.world.database.general.transaction() as importing:
        await import_lines(
            importing, [(1, json.dumps({"cert_id": web_id(), "page_text": "x"}).encode())]
        )
        assert await stage.told(web_id(), "ip") == {"ip": vendor.facts["ip"]}


async def test_import_adds_to_what_the_vendor_told_meanwhile(
    stage: Stage, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert_id = web_id()
    line = {"cert_id": cert_id, "insights": {"properties": {"os": {"name": "Android"}}}}
    read, go_on = asyncio.Event(), asyncio.Event()
    select = queries.select_certificates

    async def select_slowly(*arguments: Any) -> dict[str, Certificate]:
        found = await select(*arguments)
        if not read.is_set():
            read.set()
            await go_on.wait()
        return found

    monkeypatch.setattr(queries, "select_certificates", select_slowly)
    importing = asyncio.create_task(stage.world.import_lines(line))
    await read.wait()
    await stage.told(cert_id, "ip")
    go_on.set()
    await importing
    vendor.requests.clear()
    both = await stage.told(cert_id, "ip", "os")
    assert both == {"ip": vendor.facts["ip"], "os": {"name": "Android"}}
    assert vendor.requests == []


async def test_purge_during_a_purchase_is_an_error_that_passes(
    stage: Stage, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def record_and_purge(*arguments: Any) -> Certificate:
        record = await merging.record_told(*arguments)
        await stage.world.fetch("DELETE FROM certificate")
        return record

    monkeypatch.setattr(purchases, "record_told", record_and_purge)
    check_error(await stage.call(web_id(), ask("ip")), 503)


@pytest.mark.parametrize("first", ["ip", "domain"])
async def test_owner_does_not_depend_on_what_was_asked_before(
    stage: Stage, vendor: Vendor, first: str
) -> None:
    cert_id = ("Zz" + web_id())[:40]
    await stage.told(cert_id, first)
    assert await stage.told(cert_id, "confirmed_owner") == {"confirmed_owner": OWNER}


async def test_statuses_about_a_call_keep_no_other_from_the_vendor(
    stage: Stage, vendor: Vendor
) -> None:
    for status in (409, 413, 414, 418):
        vendor.script = [says(status)]
        check_error(await stage.call(web_id(), ask("ip")), 502)
    assert await stage.told(web_id(), "ip") == {"ip": vendor.facts["ip"]}


async def test_retry_after_of_any_length_is_understood(stage: Stage, vendor: Vendor) -> None:
    for told, expected in (("7", "7"), ("9" * 5000, "1"), ("99999", "60"), ("soon", "1")):
        vendor.script = [httpx.Response(429, headers={"Retry-After": told})]
        response = await stage.call(web_id(), ask("ip"))
        assert response.headers["Retry-After"] == expected


async def test_end_that_the_vendor_tells_after_it_is_over_is_not_our_end(
    stage: Stage, vendor: Vendor
) -> None:
    vendor.facts["expires_at"] = end = stamp(hours=1)
    unknown = web_id()
    for _ in range(2):
        assert (await stage.told(unknown, "expires_at"))["expires_at"] == end
    assert len(vendor.requests) == 1
    await stage.later(16)
    vendor.script = [says(404)]
    check_error(await stage.call(unknown, ask("ip")), 404, NOT_FOUND)


async def test_many_who_ask_for_different_things_of_a_new_certificate_are_all_told(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id = web_id()
    wanted = [[name] for name in sorted(vendor.facts)] + [["ip", name] for name in vendor.facts]
    told = await asyncio.gather(*(stage.told(cert_id, *names) for names in wanted))
    assert [set(each) for each in told] == [set(names) for names in wanted]


async def test_twenty_buyers_retain_a_lead_at_once(stage: Stage, vendor: Vendor) -> None:
    cert_id = web_id()
    buyers = [await stage.world.company() for _ in range(20)]
    names = sorted(vendor.facts) * 2

    async def retain(buyer: Company, name: str) -> bool:
        body = {"match_lead": MATCH, "retain": RETAIN, **ask(name)}
        response = await stage.call(cert_id, body, buyer)
        assert response.status_code == 200, response.text
        return response.json()["retain"]["results"]["previously_retained"]

    before = await asyncio.gather(*(retain(*pair) for pair in zip(buyers, names, strict=False)))
    assert before == [False] * 20


@pytest.mark.parametrize(
    "facts",
    [
        {"domain": "exa mple.com"},
        {"domain": "http://example.com"},
        {"domain": None, "page_url": "https://exa_mple..com/x"},
    ],
)
async def test_site_that_the_vendor_recorded_unreadably_is_nobodys_and_paid_for_once(
    stage: Stage, vendor: Vendor, facts: Json
) -> None:
    vendor.facts |= facts
    cert_id = web_id()
    assert await stage.told(cert_id, "confirmed_owner") == {"confirmed_owner": None}
    vendor.requests.clear()
    everything = ("confirmed_owner", "domain", "page_url", "is_masked")
    told = await stage.told(cert_id, *everything)
    assert told["domain"] == facts["domain"]
    assert vendor.requests == []


async def test_what_is_bought_as_its_time_runs_out_is_told(stage: Stage, vendor: Vendor) -> None:
    cert_id = web_id()
    await stage.told(cert_id, "expires_at", "created_at")
    await stage.world.fetch(
        "UPDATE certificate SET fetched_at = now() - interval '14 minutes 59.9 seconds'"
    )
    vendor.gate.clear()
    asking = asyncio.create_task(stage.told(cert_id, "seconds_on_page"))
    await vendor.called()
    await vendor.called()
    await asyncio.sleep(0.2)
    vendor.gate.set()
    assert await asking == {"seconds_on_page": vendor.facts["seconds_on_page"]}


async def test_what_moves_is_unknown_again_once_something_else_of_it_is_told_later(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id = web_id()
    await stage.told(cert_id, "expires_at", "created_at")
    await stage.later(16)
    await stage.told(cert_id, "seconds_on_page")
    vendor.requests.clear()
    await stage.told(cert_id, "expires_at")
    assert vendor.bought == [["expires_at"]]


async def test_end_is_not_settled_by_what_was_told_without_it(stage: Stage, vendor: Vendor) -> None:
    vendor.facts["created_at"] = stamp(days=2)
    cert_id = web_id()
    await stage.told(cert_id, "ip", "created_at")
    await stage.world.import_lines(
        {"cert_id": cert_id, "insights": {"properties": {"expires_at": stamp(hours=1)}}}
    )
    vendor.requests.clear()
    await stage.told(cert_id, "ip")
    assert vendor.bought == [["expires_at"]]


async def test_own_line_that_is_too_old_leaves_the_word_to_the_vendor(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id = web_id()
    old = {"properties": {"ip": "192.0.2.9", "created_at": stamp(days=94)}}
    await import_own(stage, cert_id, insights=old)
    assert await stage.told(cert_id, "ip") == {"ip": vendor.facts["ip"]}


async def test_caller_who_asks_much_leaves_connections_to_others(
    stage: Stage, vendor: Vendor
) -> None:
    other = await stage.world.company()
    vendor.gate.clear()
    calls = [asyncio.create_task(stage.call(web_id(), ask("ip"))) for _ in range(40)]

    async def have_gone(number: int) -> bool:
        return len(vendor.requests) + sum(call.done() for call in calls) >= number

    await until(lambda: have_gone(40))
    asking = asyncio.create_task(stage.call(web_id(), ask("ip"), other))
    await until(lambda: have_gone(41))
    vendor.gate.set()
    assert (await asking).status_code == 200
    statuses = [response.status_code for response in await asyncio.gather(*calls)]
    assert sorted(statuses) == [200] * 32 + [429] * 8


async def test_what_was_purged_meanwhile_does_not_come_back(stage: Stage, vendor: Vendor) -> None:
    cert_id = await stage.known()
    async with stage.world.database.general.connection() as connection:
        old = await queries.select_certificates(connection, [cert_id], None)
        await connection.execute("DELETE FROM certificate")
        assert await queries.upsert_certificates(connection, old.values()) == set()
    assert await stage.world.fetch("SELECT FROM certificate") == []


def validity(outcome: str, reason: str) -> httpx.Response:
    return httpx.Response(200, json={"outcome": outcome, "reason": reason})


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (validity("success", "This is a valid Web certificate id"), "success"),
        (validity("failure", "Certificate is more than 90 days old"), "failure"),
        (says(404), "failure"),
        (says(400), "failure"),
    ],
)
async def test_vendor_says_whether_an_id_is_valid_that_is_not_on_record(
    stage: Stage, vendor: Vendor, answer: httpx.Response, outcome: str
) -> None:
    vendor.script = [answer]
    response = await stage.world.client.get(f"/{web_id()}/validate", headers=stage.viewer.headers)
    assert response.status_code == 200
    assert response.json()["outcome"] == outcome
    assert vendor.requests[0].method == "GET"


async def test_what_the_vendor_leaves_out_is_null_and_never_what_was_true_before(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id = web_id()
    await stage.told(cert_id, "expires_at", "age_seconds", "created_at")
    await stage.later(16)
    asked = ("expires_at", "age_seconds", "os")
    vendor.script = [{"insights": {"properties": {"expires_at": stamp(days=-80)}}}]
    told = await stage.told(cert_id, *asked)
    assert told == {"expires_at": vendor.facts["expires_at"], "age_seconds": None, "os": None}
    assert (await stage.told(cert_id, *asked))["age_seconds"] is not None


async def test_recordings_of_one_certificate_take_turns(
    stage: Stage, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = most = 0

    async def record(*arguments: Any) -> Certificate:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        recorded = await merging.record_told(*arguments)
        under_way -= 1
        return recorded

    monkeypatch.setattr(purchases, "record_told", record)
    cert_id = web_id()
    await asyncio.gather(*(stage.told(cert_id, name) for name in ("ip", "os", "browser")))
    assert len(vendor.requests) == 3
    assert most == 1


@pytest.mark.parametrize("days", [91, 92, 95])
async def test_vendors_answer_is_never_turned_into_our_not_found(
    stage: Stage, vendor: Vendor, days: int
) -> None:
    """Retained and billed, it was told as not found from day 90."""
    vendor.facts["created_at"] = created = stamp(days=days)
    cert_id = web_id()
    body = {"match_lead": MATCH, "retain": RETAIN, "insights": {"properties": ["created_at"]}}
    response = await stage.call(cert_id, body)
    assert response.status_code == 200, response.text
    assert response.json()["retain"]["results"]["previously_retained"] is False
    assert len(await stage.world.fetch("SELECT FROM retained_certificate")) == 1
    if days < 93:
        assert (await stage.told(cert_id, "created_at"))["created_at"] == created


async def test_what_we_do_not_know_is_passed_on_in_both_directions_and_kept(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id = web_id()
    vendor.facts |= {
        "something_new": {"a": [1, None]},
        "session_replay_status": "available",
        "os": {"family": "iOS", "version": {"full": "18.7", "patch": None}},
        "approx_ip_geo": {"city": "Austin"},
    }
    names = ("something_new", "session_replay_status", "os", "approx_ip_geo")
    for _ in range(2):
        told = await stage.told(cert_id, *names)
        assert told == {name: vendor.facts[name] for name in names}
    assert len(vendor.requests) == 1
    vendor.script = [{"verify": {"result": {"success": True, "new": 1}}, "another": {"b": 2}}]
    sent = {"verify": {"future_option": True}, "another": {"c": 3}}
    response = await stage.call(web_id(), sent)
    assert response.status_code == 200, response.text
    assert response.json()["verify"]["result"] == {"success": True, "new": 1}
    assert response.json()["another"] == {"b": 2}
    sent_on = json.loads(vendor.requests[-1].content)
    assert sent_on["verify"]["future_option"] is True
    assert sent_on["another"] == {"c": 3}


@pytest.mark.parametrize(
    "slip",
    [{"verfy": {}}, {"verify": {"advertizer_name": "A"}}, {"insights": {"properties": ["domian"]}}],
)
async def test_slip_of_a_known_key_is_refused_before_the_vendor_is_asked(
    stage: Stage, vendor: Vendor, slip: Json
) -> None:
    response = await stage.call(web_id(), slip)
    check_error(response, 400)
    assert "did you mean" in response.json()["errors"]["detail"]
    assert vendor.requests == []


async def test_operations_that_are_in_the_plan_run_without_one_that_is_not(
    stage: Stage, vendor: Vendor
) -> None:
    refused = says(403, "Unavailable product requested: Verify")
    vendor.script = [refused, {}, {}, {}, refused]
    body = {
        "match_lead": MATCH,
        "retain": RETAIN,
        "insights": {"properties": ["ip"]},
        "verify": {},
    }
    response = await stage.call(web_id(), body)
    assert response.status_code == 200, response.text
    told = response.json()
    assert (told["outcome"], told["reason"]) == ("error", "Unavailable product requested: Verify")
    assert told["match_lead"]["result"]["success"] is True
    assert told["retain"]["results"]["previously_retained"] is False
    assert told["insights"]["properties"] == {"ip": vendor.facts["ip"]}
    assert "verify" not in told
    assert len(await stage.world.fetch("SELECT FROM retained_certificate")) == 1


async def test_boolean_in_text_decides_the_host_as_what_it_means(
    stage: Stage, vendor: Vendor
) -> None:
    vendor.facts |= {
        "domain": None,
        "is_framed": "false",
        "page_url": "https://owner.example/quote",
        "parent_page_url": "https://other.example/x",
    }
    cert_id = web_id()
    await stage.told(cert_id, "confirmed_owner", "is_framed", "parent_page_url", "is_masked")
    (row,) = await stage.world.fetch("SELECT host FROM certificate WHERE cert_id = $1", cert_id)
    assert row["host"] == "owner.example"


async def test_ping_url_is_not_taken_for_a_lead_ad_at_the_vendor(
    stage: Stage, vendor: Vendor
) -> None:
    response = await stage.world.client.post(
        "/https%3A%2F%2Fping.trustedform.com%2F0.abc",
        headers=stage.viewer.headers,
        json=ask("confirmed_owner"),
    )
    check_error(response, 404, NOT_FOUND)
    assert vendor.requests == []
    assert await stage.world.fetch("SELECT FROM certificate WHERE cert_id = '0.abc'") == []


async def test_what_the_vendor_tells_its_own_account_is_not_passed_on(
    stage: Stage, vendor: Vendor
) -> None:
    private = "Service Holdings LLC (account 991) is over its plan"
    vendor.script = [
        {"outcome": "failure", "reason": private, "errors": {"detail": private}, "message": private}
    ]
    sent = {**ask("ip"), "reason": 1, "outcome": 1, "errors": 1, "message": 1}
    response = await stage.call(web_id(), sent)
    assert private not in response.text.replace(str(response.json().get("reason")), "", 1)
    assert "errors" not in response.json()
    results = {"previously_retained": False, "reference": "OTHER lead 1", "vendor": "Theirs",
               "storage_expires_at": "2031-01-01T00:00:00Z"}  # fmt: skip
    vendor.script = [{"retain": {"results": results}}]
    response = await stage.call(web_id(), {"match_lead": MATCH, "retain": RETAIN})
    told = response.json()["retain"]["results"]
    assert "OTHER" not in response.text
    assert "Theirs" not in response.text
    assert told["storage_expires_at"] == "2031-01-01T00:00:00Z"


async def test_unknown_key_of_insights_is_sent_again_although_all_else_is_known(
    stage: Stage, vendor: Vendor
) -> None:
    cert_id = web_id()
    body = {"insights": {"properties": ["ip"], "novelty": {"a": 1}}}
    for _ in range(2):
        await stage.call(cert_id, body)
        assert json.loads(vendor.requests[-1].content)["insights"]["novelty"] == {"a": 1}


async def test_operation_that_we_do_not_know_is_sent_once(stage: Stage, vendor: Vendor) -> None:
    vendor.script = [says(403, "Unavailable product requested")]
    body = {"match_lead": MATCH, "insights": {"properties": ["ip"]}, "claimx": {"a": 1}}
    await stage.call(web_id(), body)
    sent = [json.loads(request.content) for request in vendor.requests]
    assert ["claimx" in each for each in sent].count(True) == 1


async def test_part_that_is_refused_in_words_spoils_no_other(stage: Stage, vendor: Vendor) -> None:
    error = {"outcome": "error", "reason": "The cert could not be retained", "match_lead": None}
    vendor.script = [
        says(403, "Unavailable product requested: Verify"),
        httpx.Response(200, json=error),
    ]
    body = {"match_lead": MATCH, "retain": RETAIN, "verify": {}}
    response = await stage.call(web_id(), body)
    assert response.status_code == 200, response.text
    assert response.json()["match_lead"]["result"]["success"] is True


@pytest.mark.parametrize("value", [b"1e400", b'"\xff"'])
async def test_vendors_value_that_can_not_be_read_is_no_error_of_ours(
    stage: Stage, vendor: Vendor, value: bytes
) -> None:
    content = b'{"outcome": "success", "reason": null, "insights": {"properties": {}}, "x": %s}'
    vendor.script = [
        httpx.Response(200, content=content % value, headers={"Content-Type": "application/json"})
    ]
    check_error(await stage.call(web_id(), ask("ip")), 502)


@pytest.mark.parametrize("name", ["a\0b", "ip,domain", "", "x" * 65, "a b", "ä"])
async def test_name_of_an_unknown_property_is_a_word(
    stage: Stage, vendor: Vendor, name: str
) -> None:
    response = await stage.call(web_id(), ask(name))
    check_error(response, 400, "Invalid property key(s) requested")
    assert vendor.requests == []


async def test_retention_is_on_record_although_a_later_part_fails(
    stage: Stage, vendor: Vendor
) -> None:
    vendor.script = [says(403, "Unavailable product requested: Verify"), {}, {}, says(500)]
    body = {"match_lead": MATCH, "retain": RETAIN, "insights": {"properties": ["ip"]}, "verify": {}}
    await stage.call(web_id(), body)
    assert len(await stage.world.fetch("SELECT FROM retained_certificate")) == 1
