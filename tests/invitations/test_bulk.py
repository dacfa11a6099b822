"""Bulk invitations: one failure doesn't affect the rest."""

from typing import Any

import pytest

from service.accounts.accounts import checked_email
from service.errors import Conflict
from service.invitations import invitations, queries
from service.invitations.invitations import PER_RECIPIENT
from tests.builders import World
from tests.parties import INVITATIONS, MEMBERS, Party, partners, party


async def traces(world: World, company: Party) -> dict[str, Any]:
    """Everything that inviting leaves behind: invitations, counts, events, mails, and send jobs."""
    found = {}
    for what, statement in {
        "invitations": "SELECT email, reason, state FROM invitation",
        "requests": "SELECT count(*) FROM grant_request",
        "counted": "SELECT what, whose, used FROM allowance",
        "events": "SELECT action, detail::jsonb ->> 'email' FROM event",
        "mails": "SELECT kind, recipient, state FROM mail",
        "jobs": "SELECT count(*) FROM pgqueuer",
    }.items():
        rows = await world.fetch(statement)
        found[what] = sorted(str(tuple(row)).replace(str(company.id), "it") for row in rows)
    return found


@pytest.mark.parametrize(
    ("fails", "status"),
    [("before anything is done", 422), ("at the limit", 429), ("once all is done", 409)],
)
@pytest.mark.parametrize("path", [INVITATIONS, MEMBERS])
async def test_address_that_fails_amid_others_leaves_nothing_behind(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str, fails: str, status: int
) -> None:
    """Not even a record that an earlier invitation ended."""
    more = {"reason": "receive_leads"} if path == INVITATIONS else {}
    bad = "no address" if fails == "before anything is done" else "b@x.example"
    insert = queries.insert_invitation

    async def insert_and_fail(connection: Any, invitation_id: Any, *values: Any) -> None:
        await insert(connection, invitation_id, *values)
        if bad in values:
            raise Conflict("not this one")

    async def invited(*emails: str) -> tuple[list[int], dict[str, Any]]:
        await world.reset()
        company = await party(world)
        await company.do("POST", path, {"emails": ["b@x.example"], **more})
        await world.fetch("UPDATE invitation SET expires_at = now()")
        if fails == "at the limit":
            statement = "UPDATE allowance SET used = $1 WHERE what = 'invitations to'"
            await world.fetch(statement, PER_RECIPIENT)
        with monkeypatch.context() as patched:
            if fails == "once all is done":
                patched.setattr(queries, "insert_invitation", insert_and_fail)
            response = await company.do("POST", path, {"emails": emails, **more})
        statuses = [item.get("status_code") for item in response.json()["items"]]
        return statuses, await traces(world, company)

    _, expected = await invited("a@x.example", "c@x.example")
    statuses, left = await invited("a@x.example", bad, "c@x.example")
    assert statuses == [201, status, 201]
    assert left == expected


async def test_partner_asked_too_often_amid_others_is_not_asked(world: World) -> None:
    buyer, seller, path = await partners(world)
    for _ in range(3):
        for method in ("POST", "DELETE"):
            await buyer.do(method, f"{path}/grant-request")
    before = await traces(world, buyer)
    response = await buyer.invite(seller.email, "z@x.example", reason="confirm_domain_ownership")
    assert [item["status_code"] for item in response.json()["items"]] == [429, 201]
    assert (await buyer.see(path))["asked_at"] is None
    after = await traces(world, buyer)
    assert after["requests"] == before["requests"]
    assert len(after["mails"]) == len(before["mails"]) + 1
    assert len(after["events"]) == len(before["events"]) + 1


async def test_addresses_that_are_invited_already_are_not_checked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def noted(text: str) -> str:
        checked.append(text)
        return checked_email(text)

    buyer = await party(world)
    emails = [f"jo{number}@example.com" for number in range(3)]
    invited = await buyer.invite(*emails)
    monkeypatch.setattr(invitations, "checked_email", noted)
    again = await buyer.invite(" JO0@Example.com ", *emails[1:])
    assert again.status_code == 200
    assert [each["id"] for each in again.json()["items"]] == [
        each["id"] for each in invited.json()["items"]
    ]
    assert checked == []
    mixed = await buyer.invite("\0", "jo@\u212aelvin.example", *emails)
    assert [each.get("status_code") for each in mixed.json()["items"]] == [422, 201, 200, 200, 200]
