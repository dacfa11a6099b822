"""People see which accounts they belong to, are told of changes, choose, and leave."""

import pytest

from service.accounts import members
from tests.builders import Company, World, make_member, member_of
from tests.parties import EVENTS, INVITATIONS, MEMBERS, Party, party
from tests.surfer import Surfer, signed_in


async def changed(surfer: Surfer, company: Company, do: str) -> int:
    """Send one of the forms about an account, and return its status."""
    await surfer.go("/memberships")
    response = await surfer.send("/memberships", account_id=str(company.id), do=do)
    return response.status_code


async def received(company: Party) -> list[str]:
    items = await company.pages(f"{INVITATIONS}?direction=received")
    return [item["inviter"]["name"] for item in items]


async def test_role_that_an_account_gives_lets_its_key_speak_for_nobody(world: World) -> None:
    """A customer makes the admin of another company its own admin, to answer for her."""
    attacker, victim, buyer = [await party(world) for _ in range(3)]
    user_id = await make_member(world, attacker, victim, "member")
    path = await buyer.invited(victim.email, note="secret terms")
    changed_role = await attacker.do("PATCH", f"{MEMBERS}/{user_id}", {"role": "admin"})
    assert changed_role.status_code == 200
    assert await received(attacker) == []
    for answer in ("accept", "decline"):
        assert (await attacker.do("POST", f"{path}/{answer}")).status_code == 404
    surfer = await signed_in(world, victim.email)
    assert "Its API keys can’t read or answer" in (await surfer.go("/memberships")).text
    assert await changed(surfer, victim, "choose") == 200
    assert await received(victim) == [buyer.name]
    assert await received(attacker) == []


async def test_member_is_told_of_a_changed_role_and_of_being_removed(world: World) -> None:
    company = await party(world)
    member = await company.member("al@x.example")
    await company.do("PATCH", member, {"role": "admin"})
    await company.do("PATCH", member, {"role": "admin"})
    await company.do("DELETE", member)
    assert await world.mails("role_changed") == [("al@x.example", "queued")]
    assert await world.mails("removed") == [("al@x.example", "queued")]


async def test_member_leaves_an_account_alone_and_at_once(world: World) -> None:
    company = await party(world)
    await member_of(world, company, "al@x.example", "admin")
    surfer = await signed_in(world, "al@x.example")
    assert company.name in (await surfer.go("/memberships")).text
    assert await changed(surfer, company, "leave") == 200
    assert "You don’t belong to any account" in surfer.text
    assert len(await company.pages(MEMBERS)) == 1
    (event, *_) = await company.pages(EVENTS)
    assert (event["action"], event["by"]["kind"]) == ("member.left", "user")


async def test_last_admin_does_not_leave_an_account_without_one(world: World) -> None:
    company = await party(world)
    surfer = await signed_in(world, company.email)
    assert await changed(surfer, company, "leave") == 422
    assert "only admin" in surfer.text
    assert len(await company.pages(MEMBERS)) == 1


@pytest.mark.parametrize("do", ["leave", "choose"])
async def test_nobody_changes_a_membership_that_is_not_there(world: World, do: str) -> None:
    company, other = await world.company(), await world.company()
    surfer = await signed_in(world, company.email)
    await surfer.go("/memberships")
    response = await surfer.send("/memberships", account_id=str(other.id), do=do)
    assert response.status_code == 422
    response = await surfer.send("/memberships", account_id="nonsense", do=do)
    assert response.status_code == 422


async def test_choice_ends_with_the_membership(world: World) -> None:
    first, second = await party(world), await party(world)
    await make_member(world, second, first, "admin")
    surfer = await signed_in(world, first.email)
    assert await changed(surfer, second, "choose") == 200
    assert await changed(surfer, second, "leave") == 200
    buyer = await party(world)
    await buyer.invited(first.email)
    assert await received(first) == [buyer.name]
    assert await received(second) == []


async def test_admin_gets_no_emails_about_what_it_muted(world: World) -> None:
    us, partner = await world.company(), await world.company()
    await member_of(world, us, "other@admin.example", "admin")
    surfer = await signed_in(world, us.email)
    await surfer.go("/memberships")
    await surfer.send("/memberships", account_id=str(us.id), do="notify", domains="yes")
    assert 'name="domains" value="yes" checked' in surfer.text
    assert 'name="connections" value="yes">' in surfer.text
    await world.connect(partner, us)
    (row,) = await world.fetch("SELECT id FROM connection")
    grant = f"/v1/connections/{row['id']}"
    await world.client.post(f"{grant}/grant-request", headers=partner.headers)
    assert await world.mails("grant_requested") == [("other@admin.example", "queued")]
    async with world.database.general.transaction() as connection:
        await members.mail_admins(
            connection, us.id, "domain_superseded", "us.example", domain="us.example"
        )
    assert {to for to, _ in await world.mails("domain_superseded")} == {
        us.email,
        "other@admin.example",
    }
    await surfer.send(
        "/memberships", account_id=str(us.id), do="notify", domains="yes", connections="yes"
    )
    await world.client.delete(grant, headers=partner.headers)
    assert {to for to, _ in await world.mails("disconnected")} >= {us.email, "other@admin.example"}


async def test_choice_of_emails_is_for_ones_own_membership(world: World) -> None:
    us, other = await world.company(), await world.company()
    surfer = await signed_in(world, us.email)
    await surfer.go("/memberships")
    response = await surfer.send("/memberships", account_id=str(other.id), do="notify")
    assert response.status_code == 422
    assert [row["muted"] for row in await world.fetch("SELECT muted FROM membership")] == [[], []]
