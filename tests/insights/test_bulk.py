"""Many certificates or sites in one call, now or as of a past instant."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.builders import NO_VERIFIED, VERIFIED, Company, World, mobile_id, web_id
from tests.insights.vendor import Stage, Vendor
from tests.parties import problem

INSIGHTS = "/v1/insights"


async def post(world: World, viewer: Company, items: list[Any], **more: Any) -> httpx.Response:
    return await world.client.post(INSIGHTS, headers=viewer.headers, json={"items": items, **more})


async def told(world: World, viewer: Company, items: list[Any], **more: Any) -> list[Any]:
    response = await post(world, viewer, items, **more)
    assert response.status_code == 200, response.text
    results: list[Any] = response.json()["results"]
    return results


async def owners(world: World, viewer: Company, items: list[Any], **more: Any) -> list[str | None]:
    """The `confirmed_owner` of each item, or the code of its error."""
    return [
        each["error"]["code"]
        if "error" in each
        else each["insights"]["properties"]["confirmed_owner"]
        for each in await told(world, viewer, items, **more)
    ]


@pytest.fixture
async def scene(world: World) -> tuple[Company, dict[str, Any]]:
    """A viewer, and one item of every kind of answer."""
    viewer, shown, hidden = (
        await world.company(),
        await world.company("Shown"),
        await world.company(),
    )
    await world.own(shown, "shown.example", covers_subdomains=True)
    await world.own(hidden, "hidden.example")
    await world.permit(shown, viewer)
    items = {
        "Shown": {"cert_id": await world.certificate(domain="a.shown.example")},
        VERIFIED: {"cert_id": await world.certificate(domain="hidden.example")},
        NO_VERIFIED: {"cert_id": await world.certificate(domain="nobody.example")},
        "certificate_not_found": {"cert_id": web_id()},
        "invalid_certificate_id": {"cert_id": "not an id"},
    }
    return viewer, items


async def test_each_item_gets_what_it_would_get_alone_in_order_and_on_record(
    world: World, scene: tuple[Company, dict[str, Any]]
) -> None:
    viewer, items = scene
    assert await owners(world, viewer, list(items.values())) == list(items)
    rows = await world.fetch("SELECT id, cert_id, status FROM answer ORDER BY cert_id")
    assert len(rows) == 3
    results = await told(world, viewer, list(items.values()))
    assert [each.get("cert_id") for each in results] == [each["cert_id"] for each in items.values()]
    on_record = {str(row["id"]) for row in await world.fetch("SELECT id FROM answer")}
    assert {each["answer_id"] for each in results if "answer_id" in each} <= on_record
    for wanted, item in list(items.items())[:3]:
        assert await world.confirmed_owner(viewer, item["cert_id"]) == wanted


async def test_site_is_asked_about_without_a_certificate(
    world: World, scene: tuple[Company, dict[str, Any]]
) -> None:
    viewer, _ = scene
    items: list[Any] = [
        {"host": "www.A.Shown.example"},
        {"page_url": "https://hidden.example:8443/quote?x=1"},
        {"host": "nobody.example"},
        {"host": "192.0.2.1"},
        {"host": "two words"},
        {"page_url": "ftp://shown.example/"},
        {"page_url": "shown.example"},
    ]
    assert await owners(world, viewer, items) == [
        "Shown", VERIFIED, NO_VERIFIED, NO_VERIFIED, "invalid_value", "invalid_value",
        "invalid_value",
    ]  # fmt: skip
    rows = await world.fetch("SELECT cert_id, domain FROM answer ORDER BY domain")
    assert [tuple(row) for row in rows] == [
        (None, "192.0.2.1"),
        (None, "a.shown.example"),
        (None, "hidden.example"),
        (None, "nobody.example"),
    ]
    (result,) = await told(world, viewer, [{"host": "x.shown.example"}], properties=[
        "confirmed_owner_detail", "domain", "page_url",
    ])  # fmt: skip
    properties = result["insights"]["properties"]
    assert (properties["domain"], properties["page_url"]) == ("x.shown.example", None)
    assert properties["confirmed_owner_detail"]["covered_by"] == "shown.example"
    assert properties["confirmed_owner_detail"]["answer_id"] == result["answer_id"]


async def test_expired_certificate_is_answered_and_marked(world: World) -> None:
    viewer = await world.company()
    old = await world.certificate(domain="nobody.example", created=timedelta(days=-400))
    young = await world.certificate(domain="nobody.example")
    assert (await world.ask(viewer, old)).status_code == 404
    results = await told(world, viewer, [{"cert_id": old}, {"cert_id": young}])
    assert [each.get("expired") for each in results] == [True, None]
    assert await owners(world, viewer, [{"cert_id": old}]) == [NO_VERIFIED]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "items"),
        ({"items": []}, 422, "items"),
        ({"items": [{"host": "a.example"}] * 1001}, 422, "items"),
        ({"items": [{"host": "a.example"}], "properties": []}, 422, "properties"),
        ({"items": [{"hots": "a.example"}]}, 422, "items[0].hots"),
        ({"items": [{"host": "a.example"}], "as_of": "2026-03-01"}, 422, "as_of"),
        ({"items": [{"host": "a.example"}], "as_of": "2999-01-01T00:00:00Z"}, 422, "as_of"),
        ({"items": [{"host": "a.example"}], "as_of": "2000-01-01T00:00:00Z"}, 422, "as_of"),
        ({"items": [{"host": "a.example"}], "max_purchases": 101}, 422, "max_purchases"),
    ],
)
async def test_call_that_can_not_be_carried_out_is_refused_as_a_whole(
    world: World, body: Any, status: int, field: str
) -> None:
    viewer = await world.company()
    response = await world.client.post(INSIGHTS, headers=viewer.headers, json=body)
    assert problem(response, status)["field"] == field
    assert await world.fetch("SELECT FROM answer") == []


async def test_unknown_property_is_refused_by_name(world: World) -> None:
    response = await post(
        world, await world.company(), [{"host": "a.example"}], properties=["confirmed_ownr"]
    )
    refused = problem(response, 422, "confirmed_ownr")
    assert "is not a property; use age_seconds, " in refused["detail"]


@pytest.mark.parametrize("item", [{}, {"host": "a.example", "cert_id": "a" * 40}])
async def test_item_that_is_none_or_two_things_fails_alone(world: World, item: Any) -> None:
    viewer = await world.company()
    both = await owners(world, viewer, [item, {"host": "a.example"}])
    assert both == ["missing_value", NO_VERIFIED]


async def test_account_sees_its_own_imports_and_nobody_elses(world: World) -> None:
    viewer, other = await world.company(), await world.company()
    cert_id = web_id()
    line = f'{{"cert_id": "{cert_id}", "insights": {{"properties": {{"domain": "a.example"}}}}}}'
    await world.client.post(
        "/v1/certificates",
        headers={**viewer.headers, "Content-Type": "application/x-ndjson"},
        content=line.encode(),
    )
    assert await owners(world, viewer, [{"cert_id": cert_id}]) == [NO_VERIFIED]
    assert await owners(world, other, [{"cert_id": cert_id}]) == ["certificate_not_found"]


async def test_certificate_without_a_site_is_answered_by_its_account(world: World) -> None:
    viewer = await world.company("Own Name")
    mine = await world.certificate(mobile_id(), account=viewer)
    nobodys = await world.certificate(mobile_id(), ip="::1")
    items = [{"cert_id": mine}, {"cert_id": nobodys}]
    assert await owners(world, viewer, items) == ["Own Name", None]


async def test_a_thousand_items_are_one_call(world: World) -> None:
    viewer, owner = await world.company(), await world.company()
    await world.own(owner, "site7.example")
    items = [{"host": f"site{number % 500}.example"} for number in range(1000)]
    answers = await owners(world, viewer, items)
    assert [n for n, answer in enumerate(answers) if answer == VERIFIED] == [7, 507]
    (row,) = await world.fetch(
        "SELECT count(*) AS all, count(DISTINCT answered_at) AS instants FROM answer"
    )
    assert (row["all"], row["instants"]) == (1000, 1)


async def test_order_and_duplicates_change_no_answer(
    world: World, scene: tuple[Company, dict[str, Any]]
) -> None:
    viewer, items = scene
    sites = {"Shown": {"host": "shown.example"}, VERIFIED: {"page_url": "https://hidden.example/"}}
    expected = [*items.items(), *sites.items()]
    draw = random.Random(13)
    for _ in range(20):
        drawn = draw.choices(expected, k=draw.randint(1, 30))
        assert await owners(world, viewer, [item for _, item in drawn]) == [
            answer for answer, _ in drawn
        ]


# As of


async def test_as_of_tells_what_a_call_would_have_been_told_then(world: World) -> None:
    viewer, seller = await world.company(), await world.company("First Name")
    cert_id = await world.certificate(domain="seller.example")
    seen: list[tuple[datetime, str]] = []

    async def note(expected: str) -> None:
        assert await world.confirmed_owner(viewer, cert_id) == expected
        seen.append((await world.instant(), expected))

    await note(NO_VERIFIED)
    await world.own(seller, "seller.example")
    await note(VERIFIED)
    await world.permit(seller, viewer)
    await note("First Name")
    await world.rename(seller, "Second Name")
    await note("Second Name")
    await world.suspend(seller)
    await note(NO_VERIFIED)
    await world.reinstate(seller)
    await note("Second Name")
    await world.revoke(seller, viewer)
    await note(VERIFIED)
    await world.grant(seller, viewer)
    await note("Second Name")
    await world.disconnect(viewer, seller)
    await note(VERIFIED)
    await world.disown("seller.example")
    await note(NO_VERIFIED)
    for at, expected in seen:
        (answer,) = await owners(world, viewer, [{"cert_id": cert_id}], as_of=at.isoformat())
        assert answer == expected
    response = await post(world, viewer, [{"cert_id": cert_id}], as_of=seen[3][0].isoformat())
    assert datetime.fromisoformat(response.json()["as_of"]) == seen[3][0]
    rows = await world.fetch("SELECT as_of FROM answer WHERE as_of IS NOT NULL")
    assert {row["as_of"] for row in rows} == {at for at, _ in seen}


async def test_as_of_shows_a_name_to_whom_it_was_shown_then_and_to_nobody_else(
    world: World,
) -> None:
    viewer, other, seller = (
        await world.company(),
        await world.company(),
        await world.company("Then"),
    )
    await world.own(seller, "seller.example")
    await world.permit(seller, viewer)
    then = await world.instant()
    await world.permit(seller, other)
    items = [{"host": "seller.example"}]
    assert await owners(world, viewer, items, as_of=then.isoformat()) == ["Then"]
    assert await owners(world, other, items, as_of=then.isoformat()) == [VERIFIED]
    assert await owners(world, other, items) == ["Then"]


async def test_instant_on_record_begins_with_the_first_event(world: World) -> None:
    viewer = await world.company()
    items = [{"host": "seller.example"}]
    (row,) = await world.fetch("SELECT min(at) AS at FROM event")
    assert await owners(world, viewer, items, as_of=row["at"].isoformat()) == [NO_VERIFIED]
    before = row["at"] - timedelta(microseconds=1)
    refused = problem(await post(world, viewer, items, as_of=before.isoformat()), 422)
    assert row["at"].isoformat() in refused["detail"]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    refused = problem(await post(world, viewer, items, as_of=tomorrow.isoformat()), 422)
    assert "must be in the past" in refused["detail"]


# The vendor


async def test_nothing_is_bought_unless_asked_for_and_no_more_than_said(
    stage: Stage, vendor: Vendor
) -> None:
    items: list[Any] = [{"cert_id": web_id()} for _ in range(3)]
    items.append(items[0])
    unknown = await owners(stage.world, stage.viewer, items)
    assert unknown == ["certificate_not_found"] * 4
    assert vendor.requests == []
    bought = await owners(stage.world, stage.viewer, items, fetch=True, max_purchases=2)
    assert bought[2] == "certificate_not_found"
    assert bought[0] == bought[1] == bought[3] != "certificate_not_found"
    assert len(vendor.requests) == 2
    again = await owners(stage.world, stage.viewer, items, fetch=True, max_purchases=0)
    assert again == bought
    assert len(vendor.requests) == 2


async def test_past_instant_is_not_asked_of_the_vendor(stage: Stage) -> None:
    response = await post(
        stage.world,
        stage.viewer,
        [{"cert_id": web_id()}],
        fetch=True,
        max_purchases=1,
        as_of=datetime.now(UTC).isoformat(),
    )
    assert problem(response, 422)["field"] == "fetch"
