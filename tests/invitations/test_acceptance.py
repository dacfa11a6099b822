"""What accepting an invitation does, and who gets an account from it."""

import pytest

from service.accounts import members
from service.accounts.records import User
from service.errors import Conflict, Forbidden, NoLongerOpen
from service.invitations import acceptance
from service.invitations.invitations import ASK_FOR_NAME
from tests.builders import World, by, link_of, member_of
from tests.parties import INVITATIONS, Party, party, two
from tests.surfer import signed_in

AL = "al@buyer.example"


async def spoil(world: World, buyer: Party, crossing: str, how: str) -> None:
    """Make a crossing invitation no longer count as one."""
    if how == "past its end":
        await world.fetch(
            "UPDATE invitation SET expires_at = now() WHERE id::text = $1",
            crossing.rpartition("/")[2],
        )
    elif how == "declined":
        assert (await buyer.do("POST", f"{crossing}/decline")).status_code == 200
    elif how == "to one who has left":
        (row,) = await world.fetch("SELECT id FROM app_user WHERE email = $1", AL)
        response = await buyer.do("DELETE", f"/v1/account/members/{row['id']}")
        assert response.status_code == 204
    elif how == "to one who also belongs elsewhere":
        await member_of(world, await party(world), AL)
    else:
        assert how == "open"


@pytest.mark.parametrize(
    ("how", "state"),
    [
        ("open", "accepted"),
        ("past its end", "expired"),
        ("declined", "declined"),
        ("to one who has left", "pending"),
        ("to one who also belongs elsewhere", "pending"),
    ],
)
async def test_crossing_invitation_is_accepted_along_if_it_could_be_by_itself(
    world: World, how: str, state: str
) -> None:
    buyer, seller = await two(world)
    await member_of(world, buyer, AL)
    crossing = await seller.invited(AL, "send_leads")
    invitation = await buyer.invited(seller.email)
    await spoil(world, buyer, crossing, how)
    response = await seller.do("POST", f"{invitation}/accept")
    assert response.status_code == 200
    seen = await seller.see(crossing)
    assert seen["state"] == state
    made = response.json()["connection_id"]
    assert seen.get("connection_id") == (made if state == "accepted" else None)
    # An accepted invitation no longer needs its mail; an open one does.
    sent = "queued" if state in ("pending", "expired") else "cancelled"
    assert (AL, sent) in await world.mails("invitation")


async def test_crossing_invitations_go_along_as_far_as_they_ask_for_the_same(world: World) -> None:
    buyer, seller = await two(world)
    other = await party(world)
    for reason in ("receive_leads", "share_lead_quality_reports", "domain_ownership_visibility"):
        await buyer.invited(seller.email, reason)
    await buyer.invited(seller.email, "send_leads")
    await buyer.invited(other.email)
    await other.invited(seller.email)
    accepted = await seller.invited(buyer.email, "send_leads")
    assert (await buyer.do("POST", f"{accepted}/accept")).status_code == 200
    states = {
        (item["reason"], item["email"]): item["state"] for item in await buyer.pages(INVITATIONS)
    }
    assert states == {
        ("receive_leads", seller.email): "accepted",
        ("share_lead_quality_reports", seller.email): "accepted",
        ("domain_ownership_visibility", seller.email): "pending",
        ("send_leads", seller.email): "pending",
        ("receive_leads", other.email): "pending",
    }
    (left,) = await other.pages(INVITATIONS)
    assert left["state"] == "pending"


@pytest.mark.parametrize("role", ["admin", "member"])
@pytest.mark.parametrize("is_suspended", [False, True])
async def test_who_belongs_to_an_account_makes_no_other_by_an_invitation(
    world: World, role: str, is_suspended: bool
) -> None:
    """Not even if they opened the page before they belonged to it."""
    buyer, seller = await two(world)
    email = "jo@seller.example"
    invitation = await world.invite(buyer, email)
    await member_of(world, seller, email, role)
    if is_suspended:
        await world.suspend(seller)
    (row,) = await world.fetch("SELECT id FROM app_user WHERE email = $1", email)
    with pytest.raises(Forbidden):
        async with world.database.general.transaction() as connection:
            await acceptance.sign_up(
                connection, invitation.id, User(row["id"], email, None), "New Leads", "Jo"
            )
    assert len(await world.fetch("SELECT FROM account")) == 2
    assert (await world.invitation(invitation)).state == "pending"


async def test_page_opened_before_one_joined_an_account_makes_no_other(world: World) -> None:
    buyer, seller = await two(world)
    leaving, email = await world.company(), "jo@seller.example"
    await member_of(world, leaving, email)
    invitation = await world.invite(buyer, email)
    surfer = await signed_in(world, email)
    await world.fetch(
        "DELETE FROM membership WHERE account_id = $1 AND role = 'member'", leaving.id
    )
    await surfer.go(link_of(invitation))
    assert 'name="company"' in surfer.text
    await member_of(world, seller, email)
    response = await surfer.send(f"{link_of(invitation)}/accept", company="New", your_name="Jo")
    assert response.status_code == 409
    assert len(await world.fetch("SELECT FROM account")) == 3
    assert (await world.invitation(invitation)).state == "pending"


async def test_invitation_to_join_is_accepted_by_no_account(world: World) -> None:
    company, other = await two(world)
    invitation = await world.invite(company, other.email, "join_account")
    async with world.database.general.transaction() as connection:
        with pytest.raises(Conflict, match="only the invited person"):
            await acceptance.accept(connection, invitation.id, other.id, by(other))
    assert (await world.invitation(invitation)).state == "pending"


@pytest.mark.parametrize("how", ["cancelled", "expired"])
async def test_invitation_to_join_that_is_over_lets_nobody_in(world: World, how: str) -> None:
    company, other = await two(world)
    invitation = await world.invite(company, other.email, "join_account")
    if how == "cancelled":
        await company.do("POST", f"{INVITATIONS}/{invitation.id}/cancel")
    else:
        await world.fetch("UPDATE invitation SET expires_at = now()")
    (user,) = await world.fetch(
        "SELECT id, email, name FROM app_user WHERE email = $1", other.email
    )
    async with world.database.general.transaction() as connection:
        with pytest.raises(NoLongerOpen):
            await acceptance.join(connection, invitation.id, User(*user), "Jo")
    assert len(await world.fetch("SELECT FROM membership")) == 2


@pytest.mark.parametrize("reason", sorted(ASK_FOR_NAME))
async def test_crossing_invitation_that_asks_for_a_name_stays_open(
    world: World, reason: str
) -> None:
    buyer, seller = await two(world)
    asking = await buyer.invited(seller.email, reason)
    offering = await seller.invited(buyer.email, "send_leads")
    assert (await buyer.do("POST", f"{offering}/accept")).status_code == 200
    assert (await buyer.see(asking))["state"] == "pending"
    assert await world.fetch("SELECT FROM visibility_grant") == []


async def test_what_an_account_sends_to_itself_is_not_among_what_it_received(world: World) -> None:
    company = await party(world)
    await company.invited(company.email)
    assert await company.pages(f"{INVITATIONS}?direction=received") == []


async def test_person_of_several_accounts_is_spoken_for_by_the_one_that_person_chose(
    world: World,
) -> None:
    buyer, first, second = await party(world), await party(world), await party(world)
    for company in (first, second):
        await member_of(world, company, "jo@both.example", "admin")
    path = await buyer.invited("jo@both.example")
    received = f"{INVITATIONS}?direction=received"

    async def choose(company: Party | None) -> None:
        async with world.database.general.transaction() as connection:
            user = await members.find_user(connection, "jo@both.example")
            assert user is not None
            await members.choose_speaker(connection, user, company.id if company else None)

    async def none_speaks(*companies: Party) -> None:
        for company in companies:
            assert await company.pages(received) == []
            for answer in ("accept", "decline"):
                assert (await company.do("POST", f"{path}/{answer}")).status_code == 404

    await none_speaks(first, second)
    await choose(first)
    await none_speaks(second)
    (seen,) = await first.pages(received)
    assert seen["state"] == "pending"
    await choose(None)
    await none_speaks(first, second)
    await choose(first)
    assert (await first.do("POST", f"{path}/accept")).status_code == 200
    (seen,) = await first.pages(received)
    assert seen["state"] == "accepted"
    await choose(second)
    await none_speaks(second)
