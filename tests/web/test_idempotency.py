"""Idempotency keys: which answers are remembered, and for how long."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.web import idempotency
from tests.builders import World
from tests.parties import INVITATIONS, MEMBERS, Party, partners, party, problem

INVITE = {"emails": ["jo@x.example"], "reason": "receive_leads"}
DOMAINS = "/v1/domains"


@pytest.mark.parametrize(("hours", "is_remembered"), [(23, True), (24, True), (25, False)])
async def test_key_is_remembered_for_a_day(world: World, hours: int, is_remembered: bool) -> None:
    company = await party(world)
    async with world.database.general.transaction() as connection:
        await idempotency.remember(
            connection, company.id, "k", b"a request", idempotency.Answered(201, b"{}")
        )
        # In one transaction, because the database's clock stands still there.
        await connection.execute(
            "UPDATE idempotent_request SET created_at = now() - $1::interval",
            timedelta(hours=hours),
        )
        await idempotency.purge(connection)
        kept = await idempotency.answered_before(connection, company.id, "k", b"a request")
    assert kept == (idempotency.Answered(201, b"{}") if is_remembered else None)


@pytest.mark.parametrize(("hours", "is_remembered"), [(23, True), (25, False)])
async def test_request_is_done_once_within_a_day_and_anew_after_it(
    world: World, hours: int, is_remembered: bool
) -> None:
    company = await party(world)
    first = await company.invite("jo@x.example", key="k")
    item = first.json()["items"][0]
    await company.do("POST", f"{INVITATIONS}/{item['id']}/cancel")
    await world.fetch(
        "UPDATE idempotent_request SET created_at = created_at - $1::interval",
        timedelta(hours=hours),
    )
    async with world.database.general.transaction() as connection:
        await idempotency.purge(connection)
    again = await company.invite("jo@x.example", key="k")
    assert again.status_code == 201
    assert (again.content == first.content) is is_remembered
    assert len(await company.pages(INVITATIONS)) == (1 if is_remembered else 2)


@pytest.mark.parametrize(
    ("path", "body", "what"),
    [
        (INVITATIONS, INVITE, "invitations"),
        (MEMBERS, {"emails": ["jo@x.example"], "role": "member"}, "invitations"),
        (DOMAINS, {"names": ["new.example"]}, "new domains"),
        ("{connection}/grant-request", None, "requests for this name"),
        ("{invitation}/resend", None, "invitations"),
    ],
)
async def test_request_beyond_a_limit_can_be_repeated_with_its_key(
    world: World, path: str, body: Any, what: str
) -> None:
    buyer, seller, connection = await partners(world)
    invitation = await buyer.invited("al@x.example")
    path = path.format(connection=connection, invitation=invitation)
    per = "hour" if path == DOMAINS else "day"
    whose = f"{buyer.id} {seller.id}" if what == "requests for this name" else str(buyer.id)
    await world.fetch("DELETE FROM allowance")
    await world.fetch(
        f"INSERT INTO allowance VALUES (date_trunc('{per}', now(), 'UTC'), $1, $2, 1000000)",
        what,
        whose,
    )
    problem(await buyer.do("POST", path, body, "k"), 429)
    await world.fetch("DELETE FROM allowance")
    await can_be_repeated(buyer, path, body)


async def can_be_repeated(company: Party, path: str, body: Any) -> None:
    """Check that a request sent before with its key is done now, and only once."""
    done = await company.do("POST", path, body, "k")
    assert done.status_code in (200, 201), done.text
    again = await company.do("POST", path, body, "k")
    assert (again.status_code, again.content) == (done.status_code, done.content)
    assert again.headers["content-type"] == done.headers["content-type"]


async def test_invitation_that_changed_nothing_can_be_repeated_with_its_key(world: World) -> None:
    company = await party(world)
    pending = await company.invited("jo@x.example")
    assert (await company.do("POST", INVITATIONS, INVITE, "k")).status_code == 200
    await company.do("POST", f"{pending}/cancel")
    await can_be_repeated(company, INVITATIONS, INVITE)
    assert len(await company.pages(f"{INVITATIONS}?state=pending")) == 1


async def test_invitation_that_was_refused_can_be_repeated_with_its_key(world: World) -> None:
    buyer, seller, connection = await partners(world)
    invite = {"emails": [seller.email], "reason": "receive_leads"}
    problem(await buyer.do("POST", INVITATIONS, invite, "k"), 409)
    await buyer.do("DELETE", connection)
    await can_be_repeated(buyer, INVITATIONS, invite)


async def test_domain_that_was_there_already_can_be_added_again_with_its_key(world: World) -> None:
    company = await party(world)
    body = {"names": ["a.example"]}
    await company.do("POST", DOMAINS, body)
    assert (await company.do("POST", DOMAINS, body, "k")).status_code == 200
    await company.do("DELETE", f"{DOMAINS}/a.example")
    await can_be_repeated(company, DOMAINS, body)
    assert len((await company.see(DOMAINS))["items"]) == 1


async def test_request_for_a_name_that_was_open_can_be_repeated_with_its_key(world: World) -> None:
    buyer, _, connection = await partners(world)
    path = f"{connection}/grant-request"
    assert (await buyer.do("POST", path)).status_code == 201
    assert (await buyer.do("POST", path, key="k")).status_code == 200
    await buyer.do("DELETE", path)
    await can_be_repeated(buyer, path, None)
    assert len(await world.fetch("SELECT FROM grant_request WHERE ended_at IS NULL")) == 1


async def test_of_many_of_which_some_were_done_the_answer_is_remembered(world: World) -> None:
    company = await party(world)
    await company.invited("old@x.example")
    body = {"emails": ["old@x.example", "bad", "new@x.example"], "reason": "receive_leads"}
    first = await company.do("POST", INVITATIONS, body, "k")
    assert [item["status_code"] for item in first.json()["items"]] == [200, 422, 201]
    await world.fetch("DELETE FROM allowance")
    again = await company.do("POST", INVITATIONS, body, "k")
    assert (again.status_code, again.content) == (207, first.content)


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb"])
async def test_key_that_can_not_be_one_is_refused_by_its_name(world: World, key: str) -> None:
    company = await party(world)
    headers = httpx.Headers({**company.headers, "Idempotency-Key": key}, encoding="utf-8")
    response = await world.client.post(INVITATIONS, headers=headers, json=INVITE)
    problem(response, 422, "Idempotency-Key")
    assert await company.pages(INVITATIONS) == []


async def test_longest_key_is_one(world: World) -> None:
    company = await party(world)
    for key in ("x" * 255, " ~!", "k"):
        first = await company.invite(f"jo{len(key)}@x.example", key=key)
        assert first.status_code == 201, first.text
        again = await company.invite(f"jo{len(key)}@x.example", key=key)
        assert again.content == first.content


async def test_key_that_was_used_at_one_address_is_refused_at_another(world: World) -> None:
    company = await party(world)
    first, second = [await company.invited(f"{name}@x.example") for name in ("jo", "al")]
    assert (await company.do("POST", f"{first}/resend", key="k")).status_code == 200
    problem(await company.do("POST", f"{second}/resend", key="k"), 409)
