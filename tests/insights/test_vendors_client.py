"""What the vendor's own integration sends, and what it derives from our answers.

Its requests and derivations are those of its public tests, in words of our own: it reads `outcome` and
`reason`, the results of each operation, and how many scanned terms were found.
"""

import hashlib
from typing import Any

import pytest

from tests.builders import World, basic, web_id

PAGE = "Make a claim on Production. By pressing Submit you agree to be called."


def amount(found: list[str], not_found: list[str]) -> str:
    """All, some, or none of the terms were found; “none” also if there were none."""
    if not found:
        return "none"
    return "some" if not_found else "all"


def derived(status: int, body: dict[str, Any]) -> dict[str, Any]:
    """What the integration appends to a lead."""
    if status >= 500:
        return {"outcome": "error", "reason": "unable to parse response"}
    told: dict[str, Any] = {"outcome": body["outcome"], "reason": body["reason"]}
    match = body.get("match_lead", {}).get("result")
    if match is not None:
        told |= {name: match[name] for name in ("success", "email_match", "phone_match")}
    retained = body.get("retain", {}).get("results")
    if retained is not None:
        told["is_retained"] = True
    insights = body.get("insights", {})
    scans = insights.get("scans")
    if scans is not None:
        for kind in ("required", "forbidden"):
            # It derives nothing from a list that isn't echoed.
            if isinstance(scans.get(kind), list | str):
                lists = scans["result"][kind]
                told[f"amount_{kind}_matched"] = amount(lists["found"], lists["not_found"])
    return told | insights.get("properties", {})


SCAN_ALONE = {
    "insights": {"properties": [], "scans": {"required": ["make a claim on"], "delimiter": "|"}}
}
RECORDED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "scan alone": (
        SCAN_ALONE,
        {"amount_required_matched": "all", "amount_forbidden_matched": "none"},
    ),
    "scan with a wildcard and a forbidden term": (
        {
            "insights": {
                "properties": ["domain"],
                "scans": {
                    "required": ["by pressing |*| you agree", "no such text"],
                    "forbidden": ["free"],
                    "delimiter": "|",
                },
            }
        },
        {
            "outcome": "failure",
            "reason": "Insights page scans unsuccessful",
            "amount_required_matched": "some",
            "amount_forbidden_matched": "none",
            "domain": "example.com",
        },
    ),
    "lead and insights": (
        {
            "match_lead": {"email": "jane@example.com", "phone": "5125551234"},
            "insights": {"properties": ["domain", "page_url", "age_seconds"]},
        },
        {"success": True, "email_match": True, "phone_match": False, "domain": "example.com"},
    ),
    "retain": (
        {
            "match_lead": {"email": "jane@example.com"},
            "retain": {"reference": "https://next.leadconduit.com/events/5", "vendor": "Acme"},
        },
        {"success": True, "email_match": True, "phone_match": None, "is_retained": True},
    ),
    "lead that does not match": (
        {"match_lead": {"email": "else@example.com"}},
        {"outcome": "failure", "reason": "No matches found", "success": False},
    ),
}


async def sent(world: World, cert_id: str, body: dict[str, Any]) -> dict[str, Any]:
    caller = await world.company()
    response = await world.client.post(
        f"/{cert_id}",
        headers={
            **basic(caller.key, "X"),
            "api-version": "4.0",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "CPL-Token": "x",
        },
        json=body,
    )
    return derived(response.status_code, response.json())


@pytest.mark.parametrize(
    ("body", "expected"), [pytest.param(*each, id=name) for name, each in RECORDED.items()]
)
async def test_integration_derives_from_our_answer_what_it_does_from_the_vendors(
    world: World, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    cert_id = await world.certificate(domain="example.com", page_url="https://example.com/f")
    digest = hashlib.sha1(b"jane@example.com", usedforsecurity=False).hexdigest()
    await world.import_lines({"cert_id": cert_id, "page_text": PAGE, "fingerprints": [digest]})
    told = await sent(world, cert_id, body)
    expected = {"outcome": "success", "reason": None, **expected}
    assert {name: told.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("cert_id", "body", "outcome"),
    [
        (web_id(), SCAN_ALONE, "error"),
        (web_id(), {}, "error"),
        ("not-an-id", SCAN_ALONE, "error"),
        (web_id() + "/validate", SCAN_ALONE, "error"),
    ],
)
async def test_integration_never_takes_a_refusal_for_success(
    world: World, cert_id: str, body: dict[str, Any], outcome: str
) -> None:
    told = await sent(world, cert_id, body)
    assert told["outcome"] == outcome
    assert told["reason"]
