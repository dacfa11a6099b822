"""Every change to an invitation leaves the right event for each side."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.accounts import keys
from service.invitations import invitations
from tests.builders import Company, World, link_of, member_of
from tests.parties import Party, two
from tests.surfer import Surfer, signed_in

Events = list[tuple[str, str]]
Change = Callable[[Party, Party, str], Awaitable[object]]


async def is_over(inviter: Party, invitation: str) -> None:
    await inviter.world.fetch(
        "UPDATE invitation SET expires_at = now() WHERE id::text = $1",
        invitation.rpartition("/")[2],
    )


async def accept(inviter: Party, recipient: Party, invitation: str) -> None:
    assert (await recipient.do("POST", f"{invitation}/accept")).status_code == 200


async def accept_crossing(inviter: Party, recipient: Party, invitation: str) -> None:
    await recipient.invited(inviter.email, "send_leads")
    await accept(inviter, recipient, invitation)


async def decline(inviter: Party, recipient: Party, invitation: str) -> None:
    assert (await recipient.do("POST", f"{invitation}/decline")).status_code == 200


async def cancel(inviter: Party, recipient: Party, invitation: str) -> None:
    assert (await inviter.do("POST", f"{invitation}/cancel")).status_code == 200


async def resend(inviter: Party, recipient: Party, invitation: str) -> None:
    assert (await inviter.do("POST", f"{invitation}/resend")).status_code == 200


async def expire(inviter: Party, recipient: Party, invitation: str) -> None:
    await is_over(inviter, invitation)
    async with inviter.world.database.general.transaction() as connection:
        assert await invitations.expire_due(connection) == 1


async def resend_expired(inviter: Party, recipient: Party, invitation: str) -> None:
    await expire(inviter, recipient, invitation)
    await resend(inviter, recipient, invitation)


async def invite_after_its_end(inviter: Party, recipient: Party, invitation: str) -> None:
    await is_over(inviter, invitation)
    assert await inviter.invited(recipient.email) != invitation


async def opt_out(inviter: Party, recipient: Party, invitation: str) -> None:
    await inviter.invited(recipient.email, "send_leads")
    (row,) = await inviter.world.fetch(
        "SELECT id FROM invitation WHERE id::text = $1", invitation.rpartition("/")[2]
    )
    async with inviter.world.database.general.connection() as connection:
        invited = await invitations.existing(connection, row["id"])
    await inviter.world.opt_out(invited, of_all=True)


CREATED = ("invitation.created", "key")
# The change to make, and the further events that the inviter and the recipient see.
CHANGES: dict[str, tuple[Change, Events, Events]] = {
    "accepted": (
        accept,
        [("connection.started", "partner"), ("invitation.accepted", "partner")],
        [("connection.started", "key"), ("invitation.accepted", "key")],
    ),
    "accepted, with one that crosses it": (
        accept_crossing,
        [("connection.started", "partner"), *[("invitation.accepted", "partner")] * 2],
        [CREATED, ("connection.started", "key"), *[("invitation.accepted", "key")] * 2],
    ),
    "declined": (decline, [("invitation.declined", "recipient")], []),
    "cancelled": (cancel, [("invitation.cancelled", "key")], []),
    "sent again": (resend, [("invitation.resent", "key")], []),
    "expired": (expire, [("invitation.expired", "service")], []),
    "sent again when expired": (
        resend_expired,
        [("invitation.expired", "service"), ("invitation.resent", "key")],
        [],
    ),
    "made anew after its end": (
        invite_after_its_end,
        [("invitation.expired", "service"), CREATED],
        [],
    ),
    "opted out of": (
        opt_out,
        [
            CREATED,
            *[("invitation.opted_out", "recipient")] * 2,
            ("recipient.opted_out", "recipient"),
        ],
        [],
    ),
}


@pytest.mark.parametrize(
    ("change", "of_inviter", "of_recipient"),
    [pytest.param(*change, id=name) for name, change in CHANGES.items()],
)
async def test_every_change_is_told_to_whom_it_concerns_and_to_nobody_else(
    world: World, change: Change, of_inviter: Events, of_recipient: Events
) -> None:
    inviter, recipient = await two(world)
    bystander = await world.company()
    invitation = await inviter.invited(recipient.email)
    await change(inviter, recipient, invitation)
    assert await world.events(inviter) == [CREATED, *of_inviter]
    assert await world.events(recipient) == of_recipient
    assert await world.events(bystander) == []


@pytest.mark.parametrize("again", ["accept", "decline", "cancel"])
async def test_what_is_done_again_is_not_told_again(world: World, again: str) -> None:
    inviter, recipient = await two(world)
    invitation = await inviter.invited(recipient.email)
    who = inviter if again == "cancel" else recipient
    for _ in range(2):
        assert (await who.do("POST", f"{invitation}/{again}")).status_code == 200
    told = [*await world.events(inviter), *await world.events(recipient)]
    actions = [action for action, _ in told if action.startswith("invitation")]
    assert len(actions) == (3 if again == "accept" else 2)


async def test_name_that_an_acceptance_shows_is_told_to_both(world: World) -> None:
    inviter, recipient = await two(world)
    await accept(
        inviter, recipient, await inviter.invited(recipient.email, "confirm_domain_ownership")
    )
    assert ("grant.started", "partner") in await world.events(inviter)
    assert ("grant.started", "key") in await world.events(recipient)


async def detail(world: World, company: Company, action: str) -> Any:
    response = await world.client.get(f"/v1/events?action={action}", headers=company.headers)
    (event,) = response.json()["items"]
    return event


@pytest.mark.parametrize("has_account", [False, True])
async def test_joining_is_told_to_the_account_that_is_joined_and_to_no_other(
    world: World, has_account: bool
) -> None:
    company, other = await world.company(), await world.company()
    email = other.email if has_account else "new@colleague.example"
    invitation = await world.invite(company, email, "join_account")
    surfer = await signed_in(world, email) if has_account else Surfer(world.client)
    await surfer.go(link_of(invitation))
    await surfer.send(f"{link_of(invitation)}/accept", your_name="Jo")
    assert (await world.invitation(invitation)).state == "accepted"
    assert await world.events(company) == [
        CREATED,
        ("member.added", "user"),
        ("invitation.accepted", "user"),
    ]
    for action in ("member.added", "invitation.accepted"):
        assert (await detail(world, company, action))["by"]["email"] == email
    assert await world.events(other) == []


async def test_member_who_joins_once_more_is_not_added_again(world: World) -> None:
    company = await world.company()
    invitation = await world.invite(company, "al@colleague.example", "join_account")
    await member_of(world, company, "al@colleague.example", "admin")
    surfer = await signed_in(world, "al@colleague.example")
    await surfer.go(link_of(invitation))
    await surfer.send(f"{link_of(invitation)}/accept", your_name="Al")
    assert await world.events(company) == [CREATED, ("invitation.accepted", "user")]


async def test_account_made_by_an_invitation_is_told_of_what_its_founder_accepted(
    world: World,
) -> None:
    buyer = await world.company()
    invitation = await world.invite(buyer, "jo@seller.example")
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    await surfer.send(f"{link_of(invitation)}/accept", company="Seller Leads", your_name="Jo")
    (row,) = await world.fetch("SELECT id FROM account WHERE name = 'Seller Leads'")
    async with world.database.general.transaction() as connection:
        key_id, key = await keys.create_key(connection, row["id"])
    seller = Company(row["id"], "Seller Leads", key, key_id, "jo@seller.example")
    for company, who in ((seller, "user"), (buyer, "partner")):
        told = [each for each in await world.events(company) if each != CREATED]
        assert told[-1] == ("invitation.accepted", who)
        assert ("connection.started", who) in told
    accepted = await detail(world, buyer, "invitation.accepted")
    assert accepted["detail"]["partner"] == {"id": str(seller.id), "name": seller.name}
    # The inviter doesn't learn which of the partner's people did it.
    assert accepted["by"] == {"kind": "partner"}


async def test_event_of_a_partner_keeps_the_name_it_had(world: World) -> None:
    inviter, recipient = await two(world)
    await accept(inviter, recipient, await inviter.invited(recipient.email))
    await world.rename(recipient, "A Name Since")
    event = await detail(world, inviter, "invitation.accepted")
    assert event["detail"]["partner"]["name"] == recipient.name
