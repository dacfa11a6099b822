"""`POST /{cert_id}` operations and `GET /{cert_id}/validate`, one published fact at a time.

The service has no vendor behind it here. The A7 rows for plans, sandboxes, claim counts, and
consent languages can't occur: no record causes them.
"""

import asyncio
import base64
import hashlib
import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.errors import ProductUnavailable
from service.insights.asked import asked_of
from service.insights.confirmed_owner import confirmed_owner
from service.insights.operations import question_of
from service.tokens import digest_of
from tests.builders import Company, World, basic, meta_id, mobile_id, web_id

SCHEMA = "The request cannot be processed because it does not meet the expected schema."
WEB_ONLY = "match_lead requires a web certificate"
NO_LEAD = "match_lead must contain either phone or email keys"
EMAILS = "match_lead email must be a list of 3 or less email addresses"
PHONES = "match_lead phone must be a list of 3 or less phone numbers"
NO_MATCH = "No matches found"
LEAD_MISSING = "Match Lead fields not included in request."
PROPERTY = "Invalid property key(s) requested"
DELIMITER_SPACE = "Invalid delimiter contains whitespace characters"
DELIMITER_LENGTH = "Invalid delimiter length"
SCANS = "Insights page scans unsuccessful"
UNAVAILABLE = "Unavailable product requested"

PAGE = """Protect your home   with a Home\tSecurity
System! (Terms apply: a.c, 50% off.) By clicking I agree to be called on behalf of Acme & Sons
at the telephone number above. CAFÉ\u00a0Olé"""


def rows(table: Mapping[str, tuple[Any, ...]]) -> list[Any]:
    return [pytest.param(*row, id=name) for name, row in table.items()]


def sha1(value: str) -> str:
    return hashlib.sha1(value.encode(), usedforsecurity=False).hexdigest()


def base64_sha1(value: str) -> str:
    return base64.b64encode(bytes.fromhex(sha1(value))).decode()


MAIL, PHONE = "jane.doe@example.com", "5125551234"
LEAD = {"email": MAIL}
STRANGER = {"email": "other@example.com"}


def scan(required: Any = None, forbidden: Any = None, delimiter: str | None = None) -> Any:
    given = {"required": required, "forbidden": forbidden, "delimiter": delimiter}
    scans = {key: value for key, value in given.items() if value is not None}
    return {"properties": [], "scans": scans}


async def recorded(world: World, cert_id: str | None = None, **properties: Any) -> str:
    cert_id = await world.certificate(cert_id, **properties)
    marks = [sha1(MAIL), base64_sha1(PHONE)]
    await world.import_lines({"cert_id": cert_id, "page_text": PAGE, "fingerprints": marks})
    return cert_id


async def call(world: World, cert_id: str, body: Any, by: Company | None = None) -> httpx.Response:
    by = by or await world.company()
    return await world.client.post(f"/{cert_id}", headers=by.headers, json=body)


async def told(world: World, cert_id: str, body: Any, by: Company | None = None) -> dict[str, Any]:
    response = await call(world, cert_id, body, by)
    assert response.status_code == 200, response.text
    return response.json()


async def assert_refused(
    world: World, response: httpx.Response, status: int, reason: str, *, detail: bool = True
) -> None:
    body = response.json()
    assert (response.status_code, body["outcome"], body["reason"]) == (status, "error", reason)
    assert not detail or body["errors"]["detail"].strip()
    for table in ("retained_certificate", "answer"):
        assert await world.fetch(f"SELECT 1 FROM {table}") == []


WHOLE: dict[str, Any] = {
    "match_lead": {"email": MAIL, "phone": PHONE},
    "retain": {"reference": "r-1", "vendor": "Acme Co.", "campaign_id": "c-1"},
    "insights": {
        "properties": ["domain", "ip"],
        "scans": {"required": ["home |*| system!"], "forbidden": "ipad", "delimiter": "|"},
    },
}
RETAINED = {"expires_at": "2999-01-02T03:04:05Z", "masked_cert_url": None, "share_url": None,
            "previously_retained": False, "stored": "labels"}  # fmt: skip
SCANNED = {"success": True, "required": {"found": ["home |*| system!"], "not_found": []},
           "forbidden": {"found": [], "not_found": ["ipad"]}}  # fmt: skip
A5_BLOCKS: dict[str, Any] = {
    "match_lead": {
        **WHOLE["match_lead"],
        "result": {"success": True, "email_match": True, "phone_match": True},
    },
    "retain": {**WHOLE["retain"], "results": RETAINED},
    "insights": {
        "properties": {"domain": "example.com", "ip": "192.0.2.1"},
        "scans": {**WHOLE["insights"]["scans"], "result": SCANNED},
    },
}
A5_COMBINATIONS = [
    order
    for length in (1, 2, 3)
    for order in itertools.permutations(WHOLE, length)
    if "match_lead" in order or "retain" not in order
]


@pytest.mark.parametrize("operations", A5_COMBINATIONS, ids=" ".join)
async def test_a5_every_operation_asked_for_is_echoed_with_its_result_in_any_order(
    world: World, operations: tuple[str, ...]
) -> None:
    known = {"domain": "example.com", "ip": "192.0.2.1", "expires_at": "2999-01-02T03:04:05.678Z"}
    cert_id = await recorded(world, **known)
    body = await told(world, cert_id, {name: WHOLE[name] for name in operations})
    blocks = {name: A5_BLOCKS[name] for name in operations}
    assert body == {"outcome": "success", "reason": None, **blocks}


async def test_a5_keys_not_sent_are_not_echoed(world: World) -> None:
    request = {"match_lead": LEAD, "retain": {}, "insights": scan(required="system")}
    body = await told(world, await recorded(world), request)
    assert set(body["match_lead"]) == {"email", "result"}
    assert set(body["retain"]) == {"results"}
    # But for a list of scans: the vendor tells it as empty, and its clients count on that.
    assert set(body["insights"]["scans"]) == {"required", "forbidden", "result"}
    assert body["insights"]["scans"]["forbidden"] == []


async def test_a5_retained_certificate_expires_93_days_after_it_was_made(world: World) -> None:
    created = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    cert_id = await recorded(world, created_at=created.isoformat())
    body = await told(world, cert_id, {"match_lead": LEAD, "retain": {}})
    expires = datetime.fromisoformat(body["retain"]["results"]["expires_at"])
    assert expires == created + timedelta(days=93)


MATCHED, FOUND = {"match_lead": LEAD}, {"insights": scan("system")}
UNMATCHED, UNFOUND = {"match_lead": STRANGER}, {"insights": scan("ipad")}
NEITHER: dict[str, Any] = {"match_lead": {}}
UNKNOWN = {"insights": {"properties": ["x"]}}
A6_OUTCOMES: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "all succeed": ({**MATCHED, **FOUND}, "success", None),
    "match_lead fails": ({**FOUND, **UNMATCHED}, "failure", NO_MATCH),
    "insights fails": ({**MATCHED, **UNFOUND}, "failure", SCANS),
    "both fail, in the other order": ({**UNFOUND, **UNMATCHED}, "failure", NO_MATCH),
}


@pytest.mark.parametrize(("request_body", "outcome", "reason"), rows(A6_OUTCOMES))
async def test_a6_failure_outranks_success_and_the_first_operations_reason_is_told(
    world: World, request_body: Any, outcome: str, reason: str | None
) -> None:
    body = await told(world, await recorded(world), request_body)
    assert (body["outcome"], body["reason"]) == (outcome, reason)
    assert set(body) == {"outcome", "reason", *request_body}


A6_ERRORS: dict[str, tuple[dict[str, Any], int, str]] = {
    "error over failure": ({**UNMATCHED, **UNKNOWN}, 400, PROPERTY),
    "verify's error over failure": ({**UNMATCHED, "verify": {}}, 403, UNAVAILABLE),
    "match_lead before retain": ({"retain": {}, **NEITHER}, 400, NO_LEAD),
    "match_lead before insights": ({**UNKNOWN, **NEITHER}, 400, NO_LEAD),
    "match_lead before verify": ({"verify": {}, **NEITHER}, 400, NO_LEAD),
    "retain before insights": ({**UNKNOWN, "retain": {}}, 400, LEAD_MISSING),
    "retain before verify": ({"verify": {}, "retain": {}}, 400, LEAD_MISSING),
    "insights before verify": ({"verify": {}, **UNKNOWN}, 400, PROPERTY),
}


@pytest.mark.parametrize(("request_body", "status", "reason"), rows(A6_ERRORS))
async def test_a6_error_outranks_failure_and_the_first_operations_reason_is_told(
    world: World, request_body: Any, status: int, reason: str
) -> None:
    response = await call(world, await recorded(world), request_body)
    await assert_refused(world, response, status, reason, detail=False)


async def test_a6_match_leads_error_comes_first_on_other_kinds_too(world: World) -> None:
    response = await call(world, await recorded(world, mobile_id()), {**MATCHED, **UNKNOWN})
    await assert_refused(world, response, 422, WEB_ONLY, detail=False)


A7_ERRORS: dict[str, tuple[Any, str]] = {
    "generic: no operation": ({}, "No valid products detected"),
    "generic: only nulls": (dict.fromkeys([*WHOLE, "verify"]), "No valid products detected"),
    "generic: match_lead no object": ({"match_lead": MAIL}, SCHEMA),
    "generic: e-mail a number": ({"match_lead": {"email": 5}}, SCHEMA),
    "generic: e-mails numbers": ({"match_lead": {"email": [5]}}, SCHEMA),
    "generic: retain no object": ({**MATCHED, "retain": True}, SCHEMA),
    "generic: vendor a boolean": ({**MATCHED, "retain": {"vendor": True}}, SCHEMA),
    "generic: reference a list": ({**MATCHED, "retain": {"reference": ["a"]}}, SCHEMA),
    "generic: campaign_id an object": ({**MATCHED, "retain": {"campaign_id": {}}}, SCHEMA),
    "generic: scans without properties": ({"insights": {"scans": {"required": "a"}}}, SCHEMA),
    "generic: scans no object": ({"insights": {"properties": [], "scans": "a"}}, SCHEMA),
    "generic: a term a number": ({"insights": scan(required=[1])}, SCHEMA),
    "generic: 101 terms": ({"insights": scan([f"t{n}" for n in range(101)])}, SCHEMA),
    "retain: alone": ({"retain": {}}, LEAD_MISSING),
    "retain: match_lead null": ({"retain": {}, "match_lead": None}, LEAD_MISSING),
    "match_lead: empty": ({"match_lead": {}}, NO_LEAD),
    "match_lead: nulls": ({"match_lead": {"email": None, "phone": None}}, NO_LEAD),
    "match_lead: blanks": ({"match_lead": {"email": "", "phone": " "}}, NO_LEAD),
    "match_lead: empty lists": ({"match_lead": {"email": [], "phone": []}}, NO_LEAD),
    "match_lead: four e-mails": ({"match_lead": {"email": ["a", "b", "c", "d"]}}, EMAILS),
    "match_lead: four phones": ({"match_lead": {"phone": ["1", "2", "3", "4"]}}, PHONES),
    "insights: unknown property": ({"insights": {"properties": ["domain", "x"]}}, PROPERTY),
    "insights: delimiter of white space": ({"insights": scan("a", delimiter=" ")}, DELIMITER_SPACE),
    "insights: white space within": ({"insights": scan("a", delimiter="|\t|")}, DELIMITER_SPACE),
    "insights: empty delimiter": ({"insights": scan("a", delimiter="")}, DELIMITER_LENGTH),
    "insights: delimiter of 11": ({"insights": scan("a", delimiter="|" * 11)}, DELIMITER_LENGTH),
}


@pytest.mark.parametrize(("request_body", "reason"), rows(A7_ERRORS))
async def test_a7_error_is_answered_400_with_its_reason_and_nothing_is_done(
    world: World, request_body: Any, reason: str
) -> None:
    response = await call(world, await recorded(world), request_body)
    await assert_refused(world, response, 400, reason)


@pytest.mark.parametrize("make_id", [mobile_id, meta_id])
async def test_a7_match_lead_requires_a_web_certificate(world: World, make_id: Any) -> None:
    cert_id = await recorded(world, make_id())
    response = await call(world, cert_id, {"match_lead": LEAD, "retain": {}})
    await assert_refused(world, response, 422, WEB_ONLY)


async def test_a7_no_recorded_fingerprints_are_a_failure_and_retain_happens(world: World) -> None:
    body = await told(world, await world.certificate(), {"match_lead": LEAD, "retain": {}})
    assert body["outcome"] == "failure"
    assert "fingerprint" in body["reason"].lower()
    assert body["match_lead"]["result"] == dict.fromkeys(["success", "email_match", "phone_match"])
    assert body["retain"]["results"]["previously_retained"] is False


async def test_a7_without_recorded_page_text_the_scan_is_null_and_fails(world: World) -> None:
    body = await told(world, await world.certificate(), {"insights": scan("a", "b")})
    assert (body["outcome"], body["reason"] in (None, SCANS)) == ("failure", False)
    assert body["insights"]["scans"]["result"]["success"] is None


NOT_FOUND = "TrustedForm certificate has expired or could not be found"
A8_ERRORS: dict[str, tuple[str, str, int, str]] = {
    "400": ("malformed", "good", 400, "Malformed certificate id"),
    "401": ("held", "unknown", 401, "Unauthorized"),
    "402": ("held", "suspended", 402, "Account is inactive"),
    "404": ("unheld", "good", 404, NOT_FOUND),
    "404 past its window": ("old", "good", 404, NOT_FOUND),
}


@pytest.mark.parametrize(("which", "key", "status", "reason"), rows(A8_ERRORS))
async def test_a8_whole_call_is_refused_and_nothing_is_done(
    world: World, which: str, key: str, status: int, reason: str
) -> None:
    cert_id, caller = "malformed" if which == "malformed" else web_id(), await world.company()
    if which in {"held", "old"}:
        await recorded(world, cert_id, created=timedelta(days=-94 if which == "old" else -1))
    if key == "suspended":
        await world.suspend(caller)
    headers = basic("unknown") if key == "unknown" else caller.headers
    response = await world.client.post(f"/{cert_id}", headers=headers, json=WHOLE)
    await assert_refused(world, response, status, reason, detail=False)


async def test_a8_verify_is_unavailable_and_nothing_else_is_done(world: World) -> None:
    response = await call(world, await recorded(world), {**WHOLE, "verify": {}})
    await assert_refused(world, response, 403, UNAVAILABLE, detail=False)


async def test_a12_retained_certificate_past_its_window_is_not_found(world: World) -> None:
    buyer, cert_id = await world.company(), await recorded(world)
    await told(world, cert_id, WHOLE, buyer)
    await world.certificate(cert_id, created=timedelta(days=-94))
    assert (await call(world, cert_id, WHOLE, buyer)).status_code == 404


A9_MATCHES: dict[str, tuple[dict[str, Any], bool | None, bool | None]] = {
    "e-mail": ({"email": MAIL}, True, None),
    "e-mail in capitals": ({"email": MAIL.upper()}, True, None),
    "e-mail in white space": ({"email": f" {MAIL}\n"}, True, None),
    "another e-mail": ({"email": "jane@example.com"}, False, None),
    "e-mail in hex": ({"email": sha1(MAIL)}, True, None),
    "e-mail in hex capitals": ({"email": sha1(MAIL).upper()}, True, None),
    "e-mail in base64": ({"email": base64_sha1(MAIL)}, True, None),
    "phone": ({"phone": PHONE}, None, True),
    "phone in parentheses": ({"phone": "(512) 555-1234"}, None, True),
    "phone in brackets": ({"phone": "[512]-555-1234"}, None, True),
    "phone with all white space": ({"phone": " 512\t555\u00a012 34\n"}, None, True),
    "phone with dots": ({"phone": "512.555.1234"}, None, True),
    "phone in E.164": ({"phone": "+15125551234"}, None, True),
    "phone with a leading 1": ({"phone": "15125551234"}, None, True),
    "phone of another country": ({"phone": "+5125551234"}, None, False),
    "phone in published hex": ({"phone": "31D46DEF73EA933393B074E35FF94B3F07FCE491"}, None, True),
    "hash of the phone as written": ({"phone": sha1("(512) 555-1234")}, None, False),
    "phone in base64": ({"phone": base64_sha1(PHONE)}, None, True),
    "both": ({"email": MAIL, "phone": PHONE}, True, True),
    "either will do: e-mail": ({"email": MAIL, "phone": "5125550000"}, True, False),
    "either will do: phone": ({"email": "a@example.com", "phone": PHONE}, False, True),
    "neither": ({"email": "a@example.com", "phone": "5125550000"}, False, False),
    "phone null": ({"email": MAIL, "phone": None}, True, None),
    "phone blank": ({"email": MAIL, "phone": " "}, True, None),
    "no e-mails": ({"email": [], "phone": PHONE}, None, True),
    "any of three": ({"email": ["a@b.example", sha1("c"), MAIL.upper()]}, True, None),
    "none of three": ({"phone": ["1", "2", "3"], "email": [MAIL]}, True, False),
}


@pytest.mark.parametrize(("lead", "email", "phone"), rows(A9_MATCHES))
async def test_a9_lead_matches_by_its_normalised_fingerprint(
    world: World, lead: dict[str, Any], email: bool | None, phone: bool | None
) -> None:
    body = await told(world, await recorded(world), {"match_lead": lead})
    success = bool(email or phone)
    result = {"success": success, "email_match": email, "phone_match": phone}
    assert body["match_lead"].pop("result") == result
    assert body["match_lead"] == lead
    expected = ("success", None) if success else ("failure", NO_MATCH)
    assert (body["outcome"], body["reason"]) == expected


A11_TERMS: dict[str, tuple[str, str | None, bool]] = {
    "text": ("By clicking I agree", None, True),
    "text that is not there": ("free", None, False),
    "case does not count": ("HOME security SYSTEM", None, True),
    "case beyond ASCII does not count": ("café OLÉ", None, True),
    "runs of white space are equal": ("protect  your\n home with", None, True),
    "missing space counts": ("home securitysystem", None, False),
    "added space counts": ("pro tect", None, False),
    "white space at the ends does not count": (" \tsystem! ", None, True),
    "punctuation counts": ("system.", None, False),
    "punctuation is exact": ("(Terms apply: a.c, 50% off.)", None, True),
    "dot is no wildcard": ("a.re", None, False),
    "star alone is no wildcard": ("home * security", None, False),
    "published wildcard": ("on behalf of {{*}} at the telephone number", None, True),
    "wildcard whose end is missing": ("on behalf of {{*}} at the fax number", None, False),
    "order around a wildcard": ("telephone number {{*}} on behalf of", None, False),
    "several wildcards": ("protect {{*}} system! {{*}} number", None, True),
    "delimiter |": ("on behalf of |*| at the telephone number", "|", True),
    "delimiter ==": ("on behalf of ==*== at the telephone number", "==", True),
    "delimiter |||": ("on behalf of |||*||| at the telephone number", "|||", True),
    "delimiter of ten": ("behalf of ~~~~~~~~~~*~~~~~~~~~~ at the", "~" * 10, True),
    "delimiter of a pattern's characters": ("on behalf of (.*(. at the", "(.", True),
    "same on both sides: |* is text": ("on behalf of |* at the telephone number", "|", False),
    "same on both sides: |*|| of ||": ("on behalf of |*|| at the telephone", "||", False),
}


@pytest.mark.parametrize("as_list", [False, True], ids=["string", "list"])
@pytest.mark.parametrize("kind", ["required", "forbidden"])
@pytest.mark.parametrize(("term", "delimiter", "found"), rows(A11_TERMS))
async def test_a11_term_is_found_and_echoed_as_it_was_sent(
    world: World, term: str, delimiter: str | None, found: bool, kind: str, as_list: bool
) -> None:
    sent = {kind: [term] if as_list else term}
    request = {"insights": scan(**sent, delimiter=delimiter)}
    body = await told(world, await recorded(world), request)
    scans = body["insights"]["scans"]
    result = scans.pop("result")
    assert scans == {"required": [], "forbidden": [], **request["insights"]["scans"]}
    lists = {"found": [term] if found else [], "not_found": [] if found else [term]}
    nothing: dict[str, list[str]] = {"found": [], "not_found": []}
    success = found == (kind == "required")
    assert result == {"success": success, "required": nothing, "forbidden": nothing, kind: lists}
    expected = ("success", None) if success else ("failure", SCANS)
    assert (body["outcome"], body["reason"]) == expected


@pytest.mark.parametrize(
    ("required", "forbidden", "success"),
    [(["home", "system"], ["free", "ipad"], True), (["home", "free"], ["ipad"], False),
     (["home"], ["ipad", "system"], False), (["free"], ["home"], False)],
)  # fmt: skip
async def test_a11_success_is_every_required_and_no_forbidden_term(
    world: World, required: list[str], forbidden: list[str], success: bool
) -> None:
    body = await told(world, await recorded(world), {"insights": scan(required, forbidden)})
    assert body["insights"]["scans"]["result"]["success"] is success


@pytest.mark.parametrize(
    "scans", [{}, {"delimiter": "|"}, {"required": "", "forbidden": [" \t"]}], ids=str
)
async def test_a11_success_is_null_without_terms(world: World, scans: Any) -> None:
    request = {"insights": {"properties": [], "scans": scans}}
    body = await told(world, await recorded(world), request)
    assert (body["outcome"], body["reason"]) == ("success", None)
    assert body["insights"]["scans"]["result"]["success"] is None


async def test_a11_blank_terms_are_passed_over_and_echoed(world: World) -> None:
    request = {"insights": scan(["", "home", " \t"], " ")}
    scans = (await told(world, await recorded(world), request))["insights"]["scans"]
    nothing: list[str] = []
    assert scans.pop("result") == {
        "success": True,
        "required": {"found": ["home"], "not_found": nothing},
        "forbidden": {"found": nothing, "not_found": nothing},
    }
    assert scans == request["insights"]["scans"]


async def test_a11_a_hundred_terms_are_scanned_for(world: World) -> None:
    terms = [f"term {number}" for number in range(100)]
    body = await told(world, await recorded(world), {"insights": scan(forbidden=terms)})
    assert body["insights"]["scans"]["result"]["forbidden"]["not_found"] == terms


@pytest.mark.parametrize("make_id", [mobile_id, meta_id])
async def test_a11_mobile_and_meta_certificates_are_scanned(world: World, make_id: Any) -> None:
    body = await told(world, await recorded(world, make_id()), {"insights": scan("system", "x-y")})
    assert body["insights"]["scans"]["result"]["success"] is True


async def retained(world: World, cert_id: str, by: Company, **labels: Any) -> dict[str, Any]:
    body = await told(world, cert_id, {"match_lead": LEAD, "retain": labels}, by)
    return body["retain"]["results"]


async def labels_of(world: World, account: Company) -> list[tuple[str | None, ...]]:
    labels = "SELECT reference, vendor, campaign_id FROM retained_certificate"
    return [tuple(row) for row in await world.fetch(f"{labels} WHERE account_id = $1", account.id)]


@pytest.mark.parametrize(
    ("operations", "reason"), [({**UNMATCHED}, NO_MATCH), ({**MATCHED, **UNFOUND}, SCANS)]
)
async def test_retain_happens_when_match_lead_or_page_scans_fail(
    world: World, operations: dict[str, Any], reason: str
) -> None:
    buyer, cert_id = await world.company(), await recorded(world)
    body = await told(world, cert_id, {**operations, "retain": {"vendor": "v"}}, buyer)
    assert (body["outcome"], body["reason"]) == ("failure", reason)
    assert body["retain"]["results"]["previously_retained"] is False
    assert await labels_of(world, buyer) == [(None, "v", None)]


async def test_retain_is_once_per_account_and_certificate(world: World) -> None:
    one, other = await world.company(), await world.company()
    first, second = await recorded(world), await recorded(world)
    calls = itertools.product([first, second], [one, other, one])
    results = [await retained(world, cert_id, by) for cert_id, by in calls]
    assert [each["previously_retained"] for each in results] == [False, False, True] * 2
    assert await world.fetch("SELECT count(*) FROM retained_certificate") == [(4,)]


@pytest.mark.parametrize("empty", [{}, {"vendor": None}, {"vendor": ""}])
async def test_retain_fills_a_label_that_was_empty(world: World, empty: Any) -> None:
    buyer, cert_id = await world.company(), await recorded(world)
    await retained(world, cert_id, buyer, reference="r", **empty)
    results = await retained(world, cert_id, buyer, vendor="v", campaign_id="c")
    assert not results.get("kept")
    assert await labels_of(world, buyer) == [("r", "v", "c")]
    await retained(world, cert_id, buyer, **empty)
    assert await labels_of(world, buyer) == [("r", "v", "c")]


@pytest.mark.parametrize("label", ["reference", "vendor", "campaign_id"])
async def test_retain_never_replaces_a_label_and_names_the_one_it_kept(
    world: World, label: str
) -> None:
    buyer, cert_id = await world.company(), await recorded(world)
    noted = {"reference": "r", "vendor": "v", "campaign_id": "c"}
    await retained(world, cert_id, buyer, **noted)
    results = await retained(world, cert_id, buyer, **{**noted, label: "another"})
    assert results["kept"] == {label: noted[label]}
    assert await labels_of(world, buyer) == [("r", "v", "c")]


async def test_retain_labels_are_private_to_the_account(world: World) -> None:
    one, other, cert_id = await world.company(), await world.company(), await recorded(world)
    await retained(world, cert_id, one, vendor="Secret", reference="Secret", campaign_id="Secret")
    request = {"match_lead": LEAD, "retain": {"vendor": "mine"}}
    response = await call(world, cert_id, request, other)
    assert "Secret" not in response.text
    assert not response.json()["retain"]["results"].get("kept")
    assert await labels_of(world, other) == [(None, "mine", None)]


async def test_accounts_that_retain_in_one_statement_each_keep_their_own_labels(
    world: World,
) -> None:
    cert_id, vendors = await recorded(world), ["one", "other"]
    questions = []
    for vendor in vendors:
        company = await world.company()
        body = json.dumps({"match_lead": LEAD, "retain": {"vendor": vendor}}).encode()
        asked = asked_of(cert_id, body, has_vendor=False, retains_locally=True)
        questions.append(question_of(digest_of(company.key), cert_id, asked))
    answers = await confirmed_owner(world.database.answering, questions)
    assert [answer.retained and answer.retained.vendor for answer in answers] == vendors
    assert [answer.previously_retained for answer in answers] == [False, False]


def test_retain_without_a_vendor_is_refused_unless_the_operator_chose_to_keep_labels() -> None:
    body = json.dumps({"match_lead": LEAD, "retain": {"vendor": "Acme"}}).encode()
    with pytest.raises(ProductUnavailable, match=r"^Unavailable product requested: Retain$"):
        asked_of(web_id(), body, has_vendor=False)
    for has_vendor, retains_locally in ((True, False), (False, True)):
        asked = asked_of(web_id(), body, has_vendor=has_vendor, retains_locally=retains_locally)
        assert asked.labels


@pytest.mark.parametrize(("sent", "noted"), [(12345, "12345"), (1.5, "1.5"), (-7, "-7")])
async def test_label_that_is_a_number_is_noted_as_text_and_echoed_as_it_is(
    world: World, sent: float, noted: str
) -> None:
    buyer, cert_id = await world.company(), await recorded(world)
    request = {"match_lead": LEAD, "retain": {"reference": sent}}
    body = await told(world, cert_id, request, buyer)
    assert body["retain"]["reference"] == sent
    assert await labels_of(world, buyer) == [(noted, None, None)]


async def test_retain_fifty_times_at_once_is_the_first_exactly_once(world: World) -> None:
    buyer, cert_id = await world.company(), await recorded(world)
    vendors = [f"vendor {number}" for number in range(50)]
    calls = (retained(world, cert_id, buyer, vendor=vendor) for vendor in vendors)
    results = await asyncio.gather(*calls)
    (first,) = [index for index, each in enumerate(results) if not each["previously_retained"]]
    assert await labels_of(world, buyer) == [(None, vendors[first], None)]
    assert [index for index, each in enumerate(results) if not each.get("kept")] == [first]


A2_VALIDATE: dict[str, tuple[str, str, str]] = {
    "web": (web_id(), "success", "This is a valid Web certificate id"),
    "mobile": (mobile_id(), "success", "This is a valid Mobile certificate id"),
    "mobile of 40": ("Mobile_" + "z" * 33, "success", "This is a valid Mobile certificate id"),
    "meta": (meta_id(), "success", "This is a valid Facebook certificate id"),
    "invalid": ("malformed", "failure", "This is an invalid certificate id"),
}


async def validate(world: World, cert_id: str, headers: dict[str, str]) -> tuple[int, Any]:
    response = await world.client.get(f"/{cert_id}/validate", headers=headers)
    return response.status_code, response.json()


@pytest.mark.parametrize(("cert_id", "outcome", "reason"), rows(A2_VALIDATE))
async def test_a2_validate_tells_the_kind_of_an_id(
    world: World, cert_id: str, outcome: str, reason: str
) -> None:
    caller = await world.company()
    if outcome == "success":
        await world.certificate(cert_id)
    body = {"outcome": outcome, "reason": reason}
    assert await validate(world, cert_id, caller.headers) == (200, body)


async def test_a2_validate_tells_that_a_certificate_is_too_old(world: World) -> None:
    caller, cert_id = await world.company(), await world.certificate(created=timedelta(days=-94))
    body = {"outcome": "failure", "reason": "Certificate is more than 90 days old"}
    assert await validate(world, cert_id, caller.headers) == (200, body)


async def test_a2_validate_needs_a_key(world: World) -> None:
    unauthorized = {"outcome": "error", "reason": "Unauthorized"}
    for headers in ({}, basic("unknown")):
        assert await validate(world, web_id(), headers) == (401, unauthorized)
