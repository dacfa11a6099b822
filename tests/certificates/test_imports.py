"""Certificate imports: valid lines, and importing a line again."""

import asyncio
import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.accounts.accounts import set_limits
from service.certificates import api, imports
from service.certificates.imports import MAX_LINE, LineError, in_groups, numbered_lines
from tests.builders import NO_VERIFIED, Company, World, meta_id, mobile_id, web_id

NDJSON = {"Content-Type": "application/x-ndjson"}


def line(cert_id: str, **properties: Any) -> dict[str, Any]:
    return {"cert_id": cert_id, "insights": {"properties": properties}}


async def told(world: World, viewer: Company, cert_id: str, *asked: str) -> dict[str, Any]:
    response = await world.ask(viewer, cert_id, *asked)
    assert response.status_code == 200, response.text
    return response.json()["insights"]["properties"]


async def post(world: World, caller: Company, *lines: Any) -> tuple[int, list[dict[str, Any]]]:
    content = b"\n".join(
        each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines
    )
    response = await world.client.post(
        "/v1/certificates", headers={**caller.headers, **NDJSON}, content=content
    )
    return response.status_code, response.json()["items"]


async def test_stored_v4_response_is_imported_as_it_is(world: World) -> None:
    viewer, cert_id = await world.company(), web_id()
    stored: dict[str, Any] = {
        "outcome": "success",
        "reason": None,
        "insights": {
            "properties": {
                "age_seconds": 76287,
                "confirmed_owner": "Somebody, Inc.",
                "created_at": "2999-09-18T17:07:09Z",
                "domain": "example.com",
                "something_new": {"a": 1},
            },
            "scans": {"required": [], "result": {}},
        },
        "retain": {"results": {}},
    }
    (result,) = await world.import_lines(
        {"cert_url": f"https://cert.trustedform.com/{cert_id}", **stored}
    )
    assert (result.cert_id, result.result) == (cert_id, "created")
    properties = await told(world, viewer, cert_id, "domain", "confirmed_owner")
    assert properties == {"domain": "example.com", "confirmed_owner": NO_VERIFIED}


async def test_id_is_read_as_its_url_is(world: World) -> None:
    results = await world.import_lines(
        line("AB" * 20, ip="192.0.2.1"),
        line(" " + "ab" * 20 + "\r\n", ip="192.0.2.1"),
        line("aB" * 20 + ", " + "c" * 40, ip="192.0.2.1"),
    )
    assert [(each.cert_id, each.result) for each in results] == [
        ("ab" * 20, "created"),
        ("ab" * 20, "unchanged"),
        ("ab" * 20, "unchanged"),
    ]
    both = {
        "page_text": "x",
        "cert_id": "CD" * 20,
        "cert_url": f"https://cert.trustedform.com/{'cd' * 20}",
    }
    (result,) = await world.import_lines(both)
    assert (result.cert_id, result.result) == ("cd" * 20, "created")


async def test_ping_url_is_a_web_certificates(world: World) -> None:
    url = "https://ping.trustedform.com/0.1JT7abc.fF0D-x.E2eY_z"
    lead = {"cert_url": url, "fingerprints": ["0" * 40], "insights": {"properties": {}}}
    wrong, right = await world.import_lines({**lead, "kind": "meta"}, lead)
    assert isinstance(wrong.error, LineError)
    assert (wrong.error.field, wrong.error.reason) == ("kind", "must be web for a ping URL")
    assert right.result == "created"
    rows = await world.fetch("SELECT kind FROM certificate")
    assert [row["kind"] for row in rows] == ["web"]


@pytest.mark.parametrize(
    "url",
    [
        "https://cert.trustedform.com/{}",
        "http://cert.trustedform.com/{}",
        "https://cert.trustedform.com/{}/",
        " https://CERT.trustedform.com/{} ",
        "https://cert.staging.trustedform.com/{}",
        "https://cert.trustedform-dev.com/{}",
        "https://cert.trustedform.com/{}?shared_token=x",
        "https://cert.trustedform-staging.com/{}",
        "https://cert.trustedform.com/{},https://cert.trustedform.com/0",
    ],
)
@pytest.mark.parametrize("make_id", [web_id, mobile_id, meta_id])
async def test_certificate_url(world: World, url: str, make_id: Any) -> None:
    cert_id = make_id()
    (result,) = await world.import_lines({"cert_url": url.format(cert_id), "page_text": "x"})
    assert (result.cert_id, result.result) == (cert_id, "created")


A = "a" * 40


@pytest.mark.parametrize(
    ("given", "field", "value", "reason"),
    [
        (b"{", "line", "{", "must be a JSON object"),
        (b"[]", "line", "[]", "must be an object"),
        (b'"x"', "line", "x", "must be an object"),
        (b"\xff", "line", "�", "must be a JSON object"),
        (b'{"a":' * 5000, "line", None, "must be a JSON object"),
        ({}, "cert_id", "", "is required, unless cert_url is given"),
        ({"cert_id": "abc"}, "cert_id", "abc", "must be 40 or 80 characters"),
        ({"cert_id": 5}, "cert_id", "5", "must be a string"),
        ({"cert_url": f"https://evil.example/{A}"}, "cert_url", None, "must be a certificate URL"),
        (
            {"cert_url": f"https://cert.trustedform.com@evil.example/{A}"},
            "cert_url",
            None,
            "must be a certificate URL",
        ),
        (
            {"cert_url": "https://cert.trustedform.com/"},
            "cert_url",
            None,
            "must be a certificate URL",
        ),
        ({"cert_url": "https://[/"}, "cert_url", None, "must be a certificate URL"),
        ({"cert_id": A, "kind": "mobil"}, "kind", "mobil", "must be one of web, mobile, meta"),
        ({"cert_id": A, "kind": "meta"}, "kind", "meta", "must be web or mobile for such an id"),
        (
            {"cert_id": "0.x", "kind": "mobile"},
            "kind",
            "mobile",
            "must be web or meta for such an id",
        ),
        (line(A, domain=5), "insights.properties.domain", "5", "must be a string"),
        (
            line(A, created_at="yesterday"),
            "insights.properties.created_at",
            "yesterday",
            "must be a time such as 2026-07-04T12:00:00Z",
        ),
        (
            line(A, created_at="2026-01-01T00:00:00"),
            "insights.properties.created_at",
            None,
            "must be",
        ),
        (
            line(A, seconds_on_page=-1),
            "insights.properties.seconds_on_page",
            "-1",
            "must be a number of at least 0",
        ),
        (
            line(A, form_input_method=["typing", 1]),
            "insights.properties.form_input_method[1]",
            "1",
            "must be a string",
        ),
        ({"cert_id": A, "page_text": "a\0b"}, "line", None, "must be text without NUL"),
        (line(A, page_url="https://e.example/\0"), "line", None, "must be text without NUL"),
        ({"cert_id": A, "fingerprints": ["x"]}, "fingerprints[0]", "x", "must be a SHA-1"),
        (
            {"cert_id": A, "account": "Nobody"},
            "account",
            "Nobody",
            "must be the id or name of an account",
        ),
    ],
)
async def test_bad_line_is_told_of_and_stops_no_other(
    world: World, given: Any, field: str, value: str | None, reason: str
) -> None:
    before, bad, after = await world.import_lines(
        {"cert_id": web_id(), "page_text": "x"}, given, {"cert_id": web_id(), "page_text": "x"}
    )
    assert (before.result, after.result) == ("created", "created")
    assert (before.line, bad.line, after.line) == (1, 2, 3)
    assert bad.error
    assert bad.error.field == field
    assert value is None or bad.error.value == value
    assert bad.error.reason.startswith(reason)
    assert len(bad.error.value) <= 80
    assert len(await world.fetch("SELECT 1 FROM certificate")) == 2


async def test_importing_again_changes_nothing(world: World) -> None:
    given = {
        **line(web_id(), domain="example.com", ip="192.0.2.1", is_framed=False),
        "page_text": "x",
    }
    results = [(await world.import_lines(given))[0].result for _ in range(2)]
    within_one = await world.import_lines(given, given)
    assert results == ["created", "unchanged"]
    assert [result.result for result in within_one] == ["unchanged", "unchanged"]


async def test_what_is_known_is_not_overwritten_by_nulls_and_gaps_are_filled(world: World) -> None:
    viewer, cert_id = await world.company(), web_id()
    await world.import_lines(
        {
            **line(cert_id, domain="example.com", ip=None),
            "page_text": "old",
            "fingerprints": ["a" * 40],
        }
    )
    (result,) = await world.import_lines(
        {**line(cert_id, domain=None, ip="192.0.2.1"), "page_text": None, "fingerprints": None}
    )
    assert result.result == "updated"
    properties = await told(world, viewer, cert_id, "domain", "ip", "confirmed_owner")
    assert properties == {
        "domain": "example.com",
        "ip": "192.0.2.1",
        "confirmed_owner": NO_VERIFIED,
    }
    (row,) = await world.fetch("SELECT page_text, fingerprints FROM certificate")
    assert (row["page_text"], row["fingerprints"]) == ("old", ["a" * 40])


async def test_later_of_two_times_counts_in_whichever_order_they_come(world: World) -> None:
    viewer, cert_id = await world.company(), web_id()
    created = "2998-01-01T00:00:00Z"
    early = line(cert_id, created_at=created, expires_at="2998-01-04T00:00:00Z", seconds_on_page=5)
    late = line(cert_id, created_at=created, expires_at="2998-04-01T00:00:00Z", seconds_on_page=90)
    for given in (early, late, early):
        await world.import_lines(given)
    properties = await told(world, viewer, cert_id, "expires_at", "seconds_on_page")
    assert properties == {"expires_at": "2998-04-01T00:00:00Z", "seconds_on_page": 90}


async def test_lines_about_one_certificate_in_one_import_add_up(world: World) -> None:
    viewer, cert_id = await world.company(), web_id()
    results = await world.import_lines(
        line(cert_id, domain="example.com"), line(cert_id, ip="192.0.2.1")
    )
    assert [result.result for result in results] == ["created", "updated"]
    properties = await told(world, viewer, cert_id, "domain", "ip")
    assert properties == {"domain": "example.com", "ip": "192.0.2.1"}


MIXED, HEX = line("G" * 40, ip="192.0.2.1"), line("a" * 40, ip="192.0.2.1")


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ([MIXED], "mobile"),
        ([HEX], "web"),
        ([line("G" * 40, domain="example.com")], "web"),
        (
            [{**MIXED, "kind": "web"}, MIXED],
            "web",
        ),
        (
            [MIXED, {**MIXED, "kind": "web"}],
            "web",
        ),
        (
            [HEX, {**HEX, "kind": "mobile"}],
            "mobile",
        ),
        (
            [{**HEX, "kind": "mobile"}, HEX],
            "mobile",
        ),
        ([MIXED, line("G" * 40, page_url="https://example.com/")], "web"),
        ([line("A" * 80, domain="example.com")], "mobile"),
        ([line("0.a", domain="example.com")], "meta"),
    ],
)
async def test_kind_is_the_one_given_else_the_likeliest(
    world: World, lines: list[dict[str, Any]], kind: str
) -> None:
    for each in lines:
        await world.import_lines(each)
    (row,) = await world.fetch("SELECT kind FROM certificate")
    assert row["kind"] == kind
    (again,) = await world.import_lines(lines[-1])
    assert again.result == "unchanged"


async def test_fingerprints_are_kept_in_one_form(world: World) -> None:
    digest = hashlib.sha1(b"user@example.com", usedforsecurity=False)
    forms = [digest.hexdigest().upper(), base64.b64encode(digest.digest()).decode()]
    await world.import_lines({"cert_id": web_id(), "fingerprints": forms})
    (row,) = await world.fetch("SELECT fingerprints FROM certificate")
    assert row["fingerprints"] == [digest.hexdigest()] * 2


async def test_account_may_be_given_by_id_or_by_name(world: World) -> None:
    company = await world.company("Acme, Inc.")
    results = await world.import_lines(
        {"cert_id": meta_id(), "account": str(company.id)},
        {"cert_id": meta_id(), "account": "Acme, Inc."},
    )
    assert [result.result for result in results] == ["created", "created"]
    rows = await world.fetch("SELECT DISTINCT account_id FROM certificate")
    assert [row["account_id"] for row in rows] == [company.id]


async def test_import_over_http_reports_each_line(world: World) -> None:
    caller, cert_id = await world.company(), web_id()
    told_of = line(cert_id, ip="192.0.2.1")
    assert await post(world, caller, told_of, b"", b"{", told_of) == (
        207,
        [
            {"line": 1, "cert_id": cert_id, "result": "created"},
            {
                "line": 3,
                "error": {"field": "line", "value": "{", "reason": "must be a JSON object"},
            },
            {"line": 4, "cert_id": cert_id, "result": "unchanged"},
        ],
    )
    assert (await post(world, caller, told_of))[0] == 200
    assert (await post(world, caller, b"{"))[0] == 422
    assert await post(world, caller, b"") == (200, [])


@pytest.mark.parametrize(
    "given",
    [
        {"domain": "example.com"},
        {"properties": {"domain": "example.com"}},
        {"insights": {"domain": "example.com"}},
        {"insights": {"properties": {"Domain": "example.com", "page_uri": "x"}}},
        {"insight": {"properties": {"domain": "example.com"}}},
        {"response": {}},
        {},
    ],
)
async def test_line_that_tells_nothing_says_so_and_records_nothing(
    world: World, given: dict[str, Any]
) -> None:
    (result,) = await world.import_lines({"cert_id": web_id(), **given})
    assert isinstance(result.error, LineError)
    assert result.error.field == "insights.properties"
    assert await world.fetch("SELECT FROM certificate") == []


async def test_archived_error_answer_is_refused_as_such(world: World) -> None:
    error = {
        "outcome": "error",
        "reason": "TrustedForm certificate has expired or could not be found",
    }
    url = f"https://cert.trustedform.com/{web_id()}"
    for given in ({**error, "cert_url": url}, {"cert_url": url, "response": error}):
        (result,) = await world.import_lines(given)
        assert isinstance(result.error, LineError)
        assert (result.error.field, result.error.value) == ("outcome", "error")


async def test_stored_response_is_imported_with_what_it_proves(world: World) -> None:
    caller = await world.company()
    response = {
        "outcome": "success",
        "reason": None,
        "match_lead": {
            "email": "Superman@example.com",
            "phone": ["512-555-1234", "512-555-9999"],
            "result": {"success": True, "email_match": True, "phone_match": True},
        },
        "insights": {"properties": {"domain": "example.com", "form_input_method": ["voice"]}},
    }
    for cert_id, given in (
        (web_id(), response),
        (web_id(), {"response": response}),
    ):
        (result,) = await world.import_lines(
            {"cert_url": f"https://cert.trustedform.com/{cert_id}", **given}
        )
        assert result.result == "created"
        for lead, is_match in (
            ({"email": "superman@example.com"}, True),
            # The certificate may have other fingerprints: that these aren't among them says nothing.
            ({"email": "batman@example.com"}, None),
            # Which of the two was found is not told.
            ({"phone": "5125551234"}, None),
        ):
            response_ = await world.client.post(
                f"/{cert_id}", headers=caller.headers, json={"match_lead": lead}
            )
            assert response_.json()["match_lead"]["result"]["success"] is is_match


@pytest.mark.parametrize("result", [{"email_match": False}, {"email_match": None}, {}, None])
async def test_lead_that_did_not_match_is_no_fingerprint(world: World, result: Any) -> None:
    stored = {"match_lead": {"email": "a@example.com", "result": result}, "page_text": "x"}
    await world.import_lines({"cert_id": web_id(), **stored})
    (row,) = await world.fetch("SELECT fingerprints FROM certificate")
    assert row["fingerprints"] is None


async def test_response_of_version_3_is_read_where_it_means_the_same(world: World) -> None:
    viewer, cert_id = await world.company(), web_id()
    stored = {
        "outcome": "success",
        "cert": {
            "cert_id": cert_id,
            "created_at": "2999-01-01T00:00:00Z",
            "expires_at": "2999-04-01T00:00:00Z",
            "ip": "192.0.2.1",
            "location": "https://example.com/form",
            "parent_location": None,
            "framed": False,
            "browser": "Chrome 1",
            "age": 5,
        },
    }
    (result,) = await world.import_lines(stored)
    assert (result.cert_id, result.result) == (cert_id, "created")
    names = ("created_at", "expires_at", "ip", "page_url", "is_framed", "confirmed_owner")
    assert await told(world, viewer, cert_id, *names) == {
        "created_at": "2999-01-01T00:00:00Z",
        "expires_at": "2999-04-01T00:00:00Z",
        "ip": "192.0.2.1",
        "page_url": "https://example.com/form",
        "is_framed": False,
        "confirmed_owner": NO_VERIFIED,
    }


@pytest.mark.parametrize(
    ("text", "looks_like"),
    [
        ("cert_url,email\nhttps://cert.trustedform.com/x,a@b.example\n", "CSV"),
        ("cert_id;domain\na;b\n", "CSV"),
        ("cert_id\tdomain\na\tb\n", "CSV"),
        ('{\n  "cert_id": "a"\n}\n', "one JSON document"),
        ('[{"cert_id": "a"},\n{"cert_id": "b"}]', "one JSON document"),
        ('[\n{"cert_id": "a"}\n]', "one JSON document"),
    ],
)
async def test_file_of_another_kind_is_recognized_and_told_of_once(
    world: World, text: str, looks_like: str
) -> None:
    caller = await world.company()
    response = await world.client.post(
        "/v1/certificates", headers={**caller.headers, **NDJSON}, content=text
    )
    assert response.status_code == 400
    assert looks_like in response.json()["detail"]


async def test_files_joined_with_a_byte_order_mark_each_are_read(world: World) -> None:
    caller = await world.company()
    bom = b"\xef\xbb\xbf"
    lines = [bom + json.dumps(line(web_id(), ip="192.0.2.1")).encode() for _ in range(2)]
    status, items = await post(world, caller, *lines)
    assert (status, [item["result"] for item in items]) == (200, ["created", "created"])


async def test_facts_imported_over_http_serve_their_importer_alone(world: World) -> None:
    importer, other, owner = (
        await world.company(),
        await world.company(),
        await world.company("Reputable, Inc."),
    )
    await world.own(owner, "reputable.example")
    await world.permit(owner, other)
    await world.permit(owner, importer)
    cert_id = web_id()
    await post(world, importer, line(cert_id, domain="reputable.example", ip="192.0.2.1"))
    assert await world.confirmed_owner(importer, cert_id) == "Reputable, Inc."
    assert (await world.ask(other, cert_id)).status_code == 404


async def test_services_own_record_stands_above_an_importers(world: World) -> None:
    importer, owner = await world.company(), await world.company("Reputable, Inc.")
    await world.own(owner, "reputable.example")
    await world.permit(owner, importer)
    cert_id = await world.certificate(domain="unowned.example")
    await post(world, importer, line(cert_id, domain="reputable.example"))
    assert await world.confirmed_owner(importer, cert_id) == NO_VERIFIED


async def test_importer_may_name_only_its_own_account_and_learns_of_no_other(world: World) -> None:
    importer, other = await world.company(), await world.company("Other, Inc.")
    _, items = await post(
        world,
        importer,
        {"cert_id": meta_id(), "account": importer.name},
        {"cert_id": meta_id(), "account": str(importer.id)},
        {"cert_id": meta_id(), "account": "Other, Inc."},
        {"cert_id": meta_id(), "account": "Unknown, Inc."},
        {"cert_id": meta_id(), "account": str(other.id)},
    )
    assert [item.get("result") for item in items] == ["created", "created", None, None, None]
    reasons = {item["error"]["reason"] for item in items[2:]}
    assert reasons == {"must be the id or name of your own account"}


async def test_import_needs_a_key_a_media_type_and_a_measure(world: World) -> None:
    caller = await world.company()
    for headers, content, status in (
        ({**NDJSON}, b"{}", 401),
        ({**caller.headers, "Content-Type": "text/csv"}, b"{}", 415),
        ({**caller.headers, **NDJSON}, b" " * (16 * 1024 * 1024 + 1), 413),
    ):
        response = await world.client.post("/v1/certificates", headers=headers, content=content)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == status


async def test_id_and_url_of_different_certificates_are_refused(world: World) -> None:
    url = "https://cert.trustedform.com/"
    same, other = await world.import_lines(
        {"cert_id": A, "cert_url": url + A, "page_text": "x"},
        {"cert_id": A, "cert_url": url + "b" * 40, "page_text": "x"},
    )
    assert same.result == "created"
    assert other.error
    assert other.error.field == "cert_url"


@pytest.mark.parametrize(
    "bad",
    [
        b'{"cert_id": 5, "x',
        b'{"cert_id": 5, "x": "\xff"}',
        b'{"cert_id": 5, "x": ' + b"1" * 5000 + b"}",
        b'{"insights": {"properties": {"domain": 5}}, "insights": null}',
        b'{"fingerprints": ["a", 5], "fingerprints": []}',
        b'{"cert_id": 5, "x": ' + b"[" * 100_000,
        line(A, created_at="0001-01-01T00:00:00+23:59"),
        line(A, expires_at="9999-12-31T23:59:59-23:59"),
        line(A, expires_at="9999-12-31T23:59:59.999999Z"),
        line(A, seconds_on_page=1e12),
        line(A, form_input_kpm=10**30),
        line(A, domain="a" * 1025),
        line(A, domain="https://example.com/"),
        line(A, domain="exam\u200cple.com"),
        line(A, domain="xn--a-ä.pt"),
        line(A, page_url="https://exam\u200cple.com/"),
        line(A, page_url="https://example.com/" + "a" * 8192),
    ],
)
async def test_no_line_is_so_bad_that_it_stops_the_others(world: World, bad: Any) -> None:
    good, told_of, also_good = await world.import_lines(
        {"cert_id": web_id(), "page_text": "x"}, bad, {"cert_id": web_id(), "page_text": "x"}
    )
    assert (good.result, also_good.result) == ("created", "created")
    assert told_of.error


async def test_literal_backslash_u0000_is_no_nul(world: World) -> None:
    (result,) = await world.import_lines({"cert_id": A, "page_text": "a \\u0000 b"})
    assert result.result == "created"


async def test_import_over_http_has_a_measure_of_lines(world: World) -> None:
    caller = await world.company()
    response = await world.client.post(
        "/v1/certificates", headers={**caller.headers, **NDJSON}, content=b"1\n" * 20_001
    )
    assert response.status_code == 413
    assert "20000 lines" in response.json()["detail"]


def test_lines_are_numbered_as_an_editor_does_and_overlong_ones_cut() -> None:
    stream = io.BytesIO(b"\xef\xbb\xbfa\r\n\n  \n" + b"b" * (3 * MAX_LINE) + b"\nc")
    lines = list(numbered_lines(stream))
    assert [number for number, _ in lines] == [1, 4, 5]
    assert lines[0][1] == b"a\r\n"
    assert len(lines[1][1]) == MAX_LINE + 1
    assert lines[2][1] == b"c"


@pytest.mark.parametrize(
    "value", [b"1e400", b'"\xff"', b"9" * 5000, b"[" * 3000, b'{"a": "\\ud800"}']
)
async def test_value_that_we_do_not_know_can_not_stop_an_import(world: World, value: bytes) -> None:
    caller = await world.company()
    bad = [
        b'{"cert_id": "%s", "insights": {"properties": {"domain": "a.com", "foo": %s}}}',
        b'{"cert_id": "%s", "page_text": "x", "foo": %s}',
    ]
    lines = [each % (web_id().encode(), value) for each in bad]
    good = line(web_id(), ip="192.0.2.1")
    status, items = await post(world, caller, good, *lines, good)
    assert status in (200, 207)
    assert [item.get("result") for item in (items[0], items[-1])] == ["created", "unchanged"]


async def test_empty_response_hides_nothing_beside_it(world: World) -> None:
    outside = {"properties": {"domain": "a.com", "created_at": "2020-01-01T00:00:00Z"}}
    (result,) = await world.import_lines({"cert_id": web_id(), "response": {}, "insights": outside})
    assert isinstance(result.error, LineError)


async def test_proven_fingerprint_adds_to_those_on_record(world: World) -> None:
    caller, cert_id = await world.company(), web_id()
    phone = "31d46def73ea933393b074e35ff94b3f07fce491"
    await world.import_lines({"cert_id": cert_id, "fingerprints": [phone]})
    lead = {"email": "a@example.com", "result": {"email_match": True}}
    await world.import_lines({"cert_id": cert_id, "match_lead": lead})
    for sent, match in (
        ({"phone": "5125551234"}, True),
        ({"email": "a@example.com"}, True),
        ({"email": "b@example.com"}, False),
    ):
        response = await world.client.post(
            f"/{cert_id}", headers=caller.headers, json={"match_lead": sent}
        )
        assert response.json()["match_lead"]["result"]["success"] is match


@pytest.mark.parametrize(
    ("much", "field"),
    [
        ({"fingerprints": ["a" * 40] * 501}, "fingerprints"),
        ({"page_text": "x" * 1_000_001}, "page_text"),
        ({"insights": {"properties": {"ip": "1" * 101}}}, "insights.properties.ip"),
        ({"insights": {"properties": {"browser": {"full": "x" * 1001}}}},
         "insights.properties.browser.full"),
        ({"insights": {"properties": {"ip": "::1", "a": "x" * 40_000}}},
         "insights.properties"),
    ],
)  # fmt: skip
async def test_certificate_has_bounds_and_the_error_says_which_it_passed(
    world: World, much: dict[str, Any], field: str
) -> None:
    (result,) = await world.import_lines({"cert_id": A, **much})
    assert result.error
    assert result.error.field == field
    assert "at most" in result.error.reason
    assert await world.fetch("SELECT FROM certificate") == []


async def test_bounds_hold_for_what_adds_up_over_several_imports(world: World) -> None:
    for number in range(2):
        properties = {"ip": "::1", f"p{number}": "x" * 20_000}
        (result,) = await world.import_lines({"cert_id": A, "insights": {"properties": properties}})
    assert result.error
    assert result.error.field == "insights.properties"
    (row,) = await world.fetch("SELECT facts FROM certificate")
    assert list(json.loads(row["facts"])) == ["ip", "p0"]


async def usage(world: World, company: Company) -> tuple[int, int]:
    response = await world.client.get("/v1/account", headers=company.headers)
    used = response.json()["used"]
    return used["certificates"], used["certificate_bytes"]


async def test_account_records_no_more_certificates_than_it_may_and_sees_how_many(
    world: World,
) -> None:
    caller = await world.company()
    async with world.database.general.transaction() as connection:
        await set_limits(connection, caller.id, {"certificates": 2})
    ids = [web_id() for _ in range(3)]
    status, items = await post(world, caller, *(line(each, domain="a.example") for each in ids))
    assert status == 207
    assert [item.get("result") for item in items] == ["created", "created", None]
    assert items[2]["error"] == {
        "field": "line",
        "value": "one more certificate",
        "reason": "must be within 2 certificates",
    }
    assert (await usage(world, caller))[0] == 2
    status, items = await post(world, caller, line(ids[0], ip="192.0.2.1"), line(ids[2], ip="::1"))
    assert [item.get("result") for item in items] == ["updated", None]


async def test_account_that_filled_its_room_changes_nothing_more(world: World) -> None:
    caller = await world.company()
    assert (await post(world, caller, {"cert_id": A, "page_text": "x" * 5000}))[0] == 200
    before = await usage(world, caller)
    assert 5000 <= before[1] < 5100
    async with world.database.general.transaction() as connection:
        await set_limits(connection, caller.id, {"certificate_bytes": 5000})
    status, items = await post(
        world,
        caller,
        {"cert_id": A, "page_text": "y" * 6000},
        {"cert_id": A, "page_text": "x" * 5000},
    )
    assert (status, items[1]["result"]) == (207, "unchanged")
    assert items[0]["error"]["reason"] == "must be within 5,000 bytes"
    assert await usage(world, caller) == before
    # The operator's own are not counted.
    await world.import_lines({"cert_id": A, "page_text": "z" * 9000})
    assert await usage(world, caller) == before


async def test_what_an_account_uses_follows_every_change(world: World) -> None:
    one, other = await world.company(), await world.company()
    await post(world, one, {"cert_id": A, "page_text": "x" * 1000})
    await post(world, one, {"cert_id": A, "page_text": "x" * 3000}, line(web_id(), ip="::1"))
    await post(world, other, {"cert_id": A, "fingerprints": ["a" * 40] * 10})
    rows = await world.fetch(
        "SELECT imported_by, count(*), sum(bytes)::bigint FROM certificate GROUP BY imported_by"
    )
    assert {row[0]: (row[1], row[2]) for row in rows} == {
        one.id: await usage(world, one),
        other.id: await usage(world, other),
    }
    await world.fetch("DELETE FROM certificate")
    assert await usage(world, one) == await usage(world, other) == (0, 0)


async def test_import_of_an_account_waits_for_its_other_one_and_for_nobody_elses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_DEADLINE", 0.2)
    busy, other = await world.company(), await world.company()
    go_on = asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        yield json.dumps(line(web_id(), ip="::1")).encode()
        await go_on.wait()

    sending = asyncio.create_task(
        world.client.post(
            "/v1/certificates", headers={**busy.headers, **NDJSON}, content=slow_body()
        )
    )
    await asyncio.sleep(0.05)
    refused = await world.client.post(
        "/v1/certificates", headers={**busy.headers, **NDJSON}, content=b"{}"
    )
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_calls")
    assert (await post(world, other, line(web_id(), ip="::1")))[0] == 200
    go_on.set()
    assert (await sending).status_code == 200


async def test_large_import_is_recorded_in_groups_that_leave_room_for_others(
    world: World,
) -> None:
    busy, other = await world.company(), await world.company()
    text = "x" * 400_000
    lines = [{"cert_id": web_id(), "page_text": text} for _ in range(8)]
    large = asyncio.create_task(post(world, busy, *lines))
    await asyncio.sleep(0.1)
    small = await asyncio.wait_for(post(world, other, line(web_id(), ip="::1")), 2)
    assert small[0] == 200
    status, items = await large
    assert status == 200
    assert [item["line"] for item in items] == list(range(1, 9))


def test_groups_are_bounded_in_lines_and_bytes_and_lose_nothing() -> None:
    lines = [(number, b"x" * 100_000) for number in range(1, 31)]
    lines += [(number, b"y") for number in range(31, 5000)]
    groups = list(in_groups(lines))
    assert [each for group in groups for each in group] == lines
    for group in groups:
        assert len(group) <= 500
        assert sum(len(text) for _, text in group) <= 256 * 1024
    assert len(list(in_groups([(1, b"x" * 3_000_000), (2, b"y")]))) == 2


async def test_import_lets_other_calls_go_on_after_a_moments_work(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_MOMENT", 0.0)
    turns = 0
    turns_at: dict[str, list[int]] = {"parse_line": [], "merged": []}

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def noting(name: str) -> Any:
        real = getattr(imports, name)

        def noted(*arguments: Any) -> Any:
            turns_at[name].append(turns)
            return real(*arguments)

        return noted

    for name in turns_at:
        monkeypatch.setattr(imports, name, noting(name))
    task = asyncio.create_task(others())
    domain = {"insights": {"properties": {"domain": "example.com"}}}
    await world.import_lines(*({"cert_id": web_id(), **domain} for _ in range(100)))
    task.cancel()
    for noted in turns_at.values():
        assert len(noted) == 100
        assert max(Counter(noted).values()) == 1
