"""The management API for accounts: names, members, and events."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from service.accounts.accounts import find_account, rename_account
from service.errors import Conflict
from tests.builders import World, by, member_of
from tests.parties import ACCOUNT, CONNECTIONS, EVENTS, MEMBERS, partners, party, problem, two


async def test_rename_is_shown_with_the_next_call_and_done_once_in_seven_days(world: World) -> None:
    buyer, seller, path = await partners(world)
    cert_id = await seller.certificate()
    await world.grant(seller, buyer)
    same = await seller.do("PATCH", ACCOUNT, {"name": seller.name})
    assert (same.status_code, same.json()["renamed_at"]) == (200, None)
    for _ in range(2):
        renamed = await seller.do("PATCH", ACCOUNT, {"name": "Bright Quotes"})
        assert (renamed.status_code, renamed.json()["name"]) == (200, "Bright Quotes")
        assert await world.confirmed_owner(buyer, cert_id) == "Bright Quotes"
    assert (await buyer.see(path))["partner"]["name"] == "Bright Quotes"
    problem(await seller.do("PATCH", ACCOUNT, {"name": "Dim Quotes"}), 409)
    assert (await seller.see(ACCOUNT))["name"] == "Bright Quotes"
    assert [event["action"] for event in await seller.pages(EVENTS)].count("account.renamed") == 1
    await world.fetch("UPDATE account SET renamed_at = renamed_at - interval '7 days'")
    assert (await seller.do("PATCH", ACCOUNT, {"name": "Dim Quotes"})).status_code == 200
    assert await world.confirmed_owner(buyer, cert_id) == "Dim Quotes"


@pytest.mark.parametrize(
    "name",
    [
        "HARBOR  INSURANCE",
        "H\N{CYRILLIC SMALL LETTER A}rbor Insurance",
        "Harbor\N{ZERO WIDTH SPACE} Insurance",
        "activeprospect verified account",
        "\N{CYRILLIC CAPITAL LETTER A}ctiveProspect Verified Account",
        "No Verified ActiveProspect Account Identified.",
        "",
        7,
    ],
)
async def test_name_that_could_pass_for_another_is_refused(world: World, name: object) -> None:
    await party(world, "Harbor Insurance")
    company = await party(world)
    problem(await company.do("PATCH", ACCOUNT, {"name": name}), 422, "name")
    account = await company.see(ACCOUNT)
    assert (account["name"], account["renamed_at"]) == (company.name, None)


async def test_members_are_changed_and_removed_but_the_last_admin(world: World) -> None:
    company = await party(world)
    admin = f"{MEMBERS}/{await company.user_id()}"
    other = await company.member("al@x.example")
    roles = {each["email"]: each["role"] for each in (await company.see(MEMBERS))["items"]}
    assert roles == {company.email: "admin", "al@x.example": "member"}
    problem(await company.do("PATCH", admin, {"role": "member"}), 409)
    problem(await company.do("DELETE", admin), 409)
    problem(await company.do("PATCH", other, {"role": "boss"}), 422, "role")
    promoted = await company.do("PATCH", other, {"role": "admin"})
    assert (promoted.status_code, promoted.json()["role"]) == (200, "admin")
    removals = await asyncio.gather(company.do("DELETE", admin), company.do("DELETE", other))
    assert sorted(response.status_code for response in removals) == [204, 409]
    (left,) = (await company.see(MEMBERS))["items"]
    assert left["role"] == "admin"


async def test_each_party_sees_who_did_what_but_not_the_partners_people(world: World) -> None:
    inviter, acceptor = await two(world)
    third = await party(world)
    invitation = await inviter.invited(acceptor.email, "domain_ownership_visibility")
    await acceptor.do("POST", f"{invitation}/accept")
    path = f"{CONNECTIONS}/{(await inviter.connection())['id']}"
    await acceptor.do("DELETE", f"{path}/grant")
    await inviter.do("POST", f"{path}/grant-request")
    await inviter.do("DELETE", path)
    invitation_id = invitation.rpartition("/")[2]
    for who, partner in ((inviter, acceptor), (acceptor, inviter)):
        events = await who.pages(EVENTS)
        times = [event["at"] for event in events]
        assert times == sorted(times, reverse=True)
        assert len({event["id"] for event in events}) == len(events)
        trail = {event["action"]: event for event in events}
        for action, doer, origin in (
            ("invitation.accepted", acceptor, invitation_id),
            ("connection.started", acceptor, invitation_id),
            ("grant.started", acceptor, invitation_id),
            ("grant.ended", acceptor, None),
            ("grant.requested", inviter, None),
            ("connection.ended", inviter, None),
        ):
            own = {"kind": "key", "key_id": str(who.key_id)}
            assert trail[action]["by"] == (own if who is doer else {"kind": "partner"}), action
            assert trail[action]["detail"].get("invitation_id") == origin, action
        for secret in (str(partner.key_id), partner.key, await partner.user_id()):
            assert secret not in str(events)
        assert who is inviter or inviter.email not in str(events)
        filtered = await who.see(f"{EVENTS}?action=grant.started")
        assert filtered["items"] == [trail["grant.started"]]
    seen = str(await third.pages(EVENTS))
    for word in (invitation_id, inviter.name, acceptor.name, str(inviter.id), str(acceptor.id)):
        assert word not in seen


async def test_twenty_attempts_to_rename_a_day_are_taken_whatever_came_of_them(
    world: World,
) -> None:
    taken, other = await party(world, "Taken Leads"), await party(world)
    company = await party(world)
    for _ in range(20):
        problem(await company.do("PATCH", ACCOUNT, {"name": taken.name}), 422, "name")
    for name in (taken.name, "Free Leads"):
        assert "retry-after" in (await company.do("PATCH", ACCOUNT, {"name": name})).headers
        problem(await company.do("PATCH", ACCOUNT, {"name": name}), 429)
    assert (await company.see(ACCOUNT))["name"] == company.name
    assert (await other.do("PATCH", ACCOUNT, {"name": "Other Leads"})).status_code == 200
    await world.fetch("UPDATE allowance SET since = since - interval '1 day'")
    assert (await company.do("PATCH", ACCOUNT, {"name": "Free Leads"})).status_code == 200


@pytest.mark.parametrize(
    ("age", "may"),
    [(timedelta(days=7), True), (timedelta(days=7) - timedelta(seconds=1), False)],
)
async def test_name_that_an_account_gave_itself_stands_for_seven_days(
    world: World, age: timedelta, may: bool
) -> None:
    company = await world.company()
    async with world.database.general.transaction() as connection:
        # In one transaction, because the database's clock stands still there.
        await connection.execute("UPDATE account SET renamed_at = now() - $1::interval", age)
        account = await find_account(connection, str(company.id))
        if may:
            await rename_account(connection, account, "Later Leads", by(company))
        else:
            with pytest.raises(Conflict):
                await rename_account(connection, account, "Later Leads", by(company))
        # The operator can rename at any time, and doesn't use up the account's own renaming.
        await rename_account(connection, account, "Given Leads")
        (row,) = await connection.fetch(
            "SELECT name, renamed_at = now() - $1::interval AS same FROM account", age
        )
    assert (row["name"], row["same"]) == ("Given Leads", not may)


async def test_ids_of_events_do_not_count_what_others_do(world: World) -> None:
    one, other = await two(world)
    for _ in range(3):
        await other.do("PATCH", "/v1/account", {"name": "x" * 200})
    (event,) = [each for each in await one.pages(EVENTS) if each["action"] == "key.created"]
    assert UUID(event["id"]).version == 4


async def test_members_and_visibility_have_pages_like_every_list(world: World) -> None:
    company = await party(world)
    for number in range(3):
        await member_of(world, company, f"m{number}@x.example", "member")
    emails: list[str] = []
    path = "/v1/account/members?limit=2"
    while True:
        body = (await company.do("GET", path)).json()
        assert len(body["items"]) <= 2
        emails += [item["email"] for item in body["items"]]
        if body["next"] is None:
            break
        assert isinstance(body["next"], str)
        path = f"/v1/account/members?limit=2&cursor={body['next']}"
    assert emails == [company.email, "m0@x.example", "m1@x.example", "m2@x.example"]
    gone = await company.do("GET", "/v1/account/members?cursor=gone")
    assert gone.json() == {"items": [], "next": None}
    assert (await company.do("GET", "/v1/account/visibility?limit=1")).json()["next"] is None
