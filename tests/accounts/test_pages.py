"""The pages of settings and activity: for members to see, and for admins to change."""

import csv
import io
import re

import pytest

from tests.builders import Company, World, member_of
from tests.surfer import Surfer, signed_in

MEMBERS = "/settings/members"


@pytest.fixture
async def us(world: World) -> Company:
    return await world.company("Harbor Insurance Group", "al@harbor.example")


@pytest.fixture
async def surfer(world: World, us: Company) -> Surfer:
    return await signed_in(world, us.email)


async def id_of(world: World, email: str) -> str:
    (row,) = await world.fetch("SELECT id FROM app_user WHERE email = $1", email)
    return str(row["id"])


async def test_colleague_is_invited_promoted_and_removed(
    world: World, us: Company, surfer: Surfer
) -> None:
    await surfer.go(MEMBERS)
    await surfer.send(MEMBERS, do="invite", email="Kim@Harbor.example", role="member")
    assert "kim@harbor.example" in surfer.text.partition("Invited")[2]
    await surfer.send(MEMBERS, do="invite", email="kim@harbor.example", role="member")
    assert len(await world.fetch("SELECT FROM invitation")) == 1
    await member_of(world, us, "sam@harbor.example")
    sam = await id_of(world, "sam@harbor.example")
    member = await signed_in(world, "sam@harbor.example")
    await member.go(MEMBERS)
    assert "Only admins" in member.text
    assert "Make admin" not in member.text
    await surfer.go(MEMBERS)
    await surfer.send(MEMBERS, do="make_admin", user_id=sam)
    await member.go(MEMBERS)
    assert "Make member" in member.text
    await surfer.send(MEMBERS, do="remove", user_id=sam)
    assert "sam@harbor.example" not in surfer.text
    await member.go(MEMBERS)
    assert us.name not in member.text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"do": "invite", "email": "kim", "role": "member"}, "email"),
        ({"do": "invite", "email": "kim@harbor.example", "role": "owner"}, "admin or member"),
        ({"do": "invite", "email": "al@harbor.example", "role": "member"}, "already"),
        ({"do": "remove", "user_id": "x"}, "the id of a member"),
        ({"do": "remove", "user_id": "{al}"}, "admin"),
        ({"do": "make_member", "user_id": "{al}"}, "admin"),
        ({"do": "x"}, "invite, resend, cancel"),
    ],
)
async def test_what_can_not_be_done_with_members_is_said(
    world: World, surfer: Surfer, fields: dict[str, str], said: str
) -> None:
    await surfer.go(MEMBERS)
    al = await id_of(world, "al@harbor.example")
    sent = {name: text.format(al=al) for name, text in fields.items()}
    response = await surfer.send(MEMBERS, **sent)
    assert response.status_code == 422
    assert said in surfer.text.partition('role="alert"')[2].partition("</p>")[0]
    if "email" in fields:
        assert f'value="{fields["email"]}"' in surfer.text


async def test_account_is_renamed_by_the_rules_of_names(world: World, surfer: Surfer) -> None:
    await world.company("BrightQuote Media")
    for name in ("", "BrightQuote  Media, Inc.", "ActiveProspect Verified Account", "x" * 300):
        await surfer.go("/settings")
        response = await surfer.send("/settings", do="rename", name=name)
        assert response.status_code == 422
        assert 'role="alert"' in surfer.text
        assert "Harbor Insurance Group" in surfer.text
    await surfer.send("/settings", do="rename", name="Harbor Group")
    assert "Harbor Group" in surfer.text
    response = await surfer.send("/settings", do="rename", name="Harbor Again")
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Harbor Insurance Group", ""),
        ("Harbor www.harbor.example", "without web addresses"),
        ("ActiveProspect Verified Account", "unlike the vendor’s"),
        ("x" * 121, "1 to 120 characters"),
        ("", "1 to 120 characters"),
        ("Har\u200bbor", "without invisible characters"),
        ("Taken Leads", ""),
    ],
)
async def test_name_is_checked_while_typed_without_telling_who_has_an_account(
    world: World, name: str, problem: str
) -> None:
    await world.company("Taken Leads")
    response = await world.client.get("/names/check", params={"name": name})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert problem in response.text
    assert bool(response.text) == bool(problem)


async def test_activity_is_filtered_and_listed_page_by_page_each_once(
    world: World, us: Company, surfer: Surfer
) -> None:
    other = await world.company("BrightQuote Media")
    await world.permit(us, other)
    for number in range(60):
        await world.own(us, f"d{number}.example")
    await surfer.go("/activity?about=grant")
    main = surfer.text.partition("<main")[2]
    assert "Your name became visible to BrightQuote Media" in main
    assert "connected" not in main
    assert "became yours" not in main
    seen: list[str] = []
    path = "/activity?about=ownership"
    while path:
        await surfer.go(path)
        seen += re.findall(r"(d\d+\.example) became yours", surfer.text)
        before = surfer.text.partition("about=ownership&before=")[2].partition('"')[0]
        path = before and f"/activity?about=ownership&before={before}"
    assert sorted(seen) == sorted(f"d{number}.example" for number in range(60))
    await surfer.go("/activity?about=nothing")
    assert "Nothing to show" in surfer.text


async def test_activity_is_downloaded_whole_or_of_one_kind(
    world: World, us: Company, surfer: Surfer
) -> None:
    await world.permit(us, await world.company("BrightQuote Media"))
    await world.permit(await world.company("Else"), await world.company("Another"))
    await surfer.go("/keys")
    await surfer.send("/keys", do="create", name="=HYPERLINK(1)")
    lines = list(csv.DictReader(io.StringIO((await surfer.go("/activity/download")).text)))
    shown = await world.client.get("/v1/events?limit=100", headers=us.headers)
    assert [line["id"] for line in lines] == [item["id"] for item in shown.json()["items"]]
    assert lines[0]["email"] == us.email
    assert "Else" not in str(lines)
    grants = (await surfer.go("/activity/download?about=grant")).text
    assert {line["action"] for line in csv.DictReader(io.StringIO(grants))} == {"grant.started"}


async def test_another_accounts_activity_is_not_shown(world: World, surfer: Surfer) -> None:
    await world.own(await world.company("BrightQuote Media"), "brightquote.example")
    await surfer.go("/activity")
    assert "brightquote.example" not in surfer.text
