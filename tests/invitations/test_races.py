"""Races: one consistent outcome, and one trail of events."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from service.connections import connections, grants
from service.errors import Conflict, NotFound, Unavailable
from service.invitations import acceptance, invitations, opt_outs
from service.invitations.records import Invitation
from service.postgres.pools import Connection
from tests.builders import SECRET, Company, World, by
from tests.parties import two

Act = Callable[[Connection], Awaitable[object]]


@pytest.fixture
async def buyer(world: World) -> Company:
    return await world.company()


@pytest.fixture
async def seller(world: World) -> Company:
    return await world.company()


@pytest.fixture
async def invitation(world: World, buyer: Company, seller: Company) -> Invitation:
    return await world.invite(buyer, seller.email)


async def race(world: World, *acts: Act) -> int:
    """Run all acts concurrently, each in its own transaction, and return how many succeed."""

    async def one(act: Act) -> bool:
        with suppress(Conflict, NotFound):
            # Retry if no connection is free in time, as callers do.
            for _ in range(20):
                with suppress(Unavailable):
                    async with world.database.general.transaction() as connection:
                        await act(connection)
                    return True
        return False

    return sum(await asyncio.gather(*(one(act) for act in acts)))


def accepting(invitation: Invitation, seller: Company) -> Act:
    return lambda connection: acceptance.accept(connection, invitation.id, seller.id, by(seller))


async def actions(world: World, company: Company) -> list[str]:
    rows = await world.fetch(
        """
        SELECT action FROM event WHERE account_id = $1 AND action !~ '^(account|key)' ORDER BY id
        """,
        company.id,
    )
    return [row["action"] for row in rows]


async def live(world: World, table: str) -> int:
    return len(await world.fetch(f"SELECT FROM {table} WHERE ended_at IS NULL"))


async def consistent(world: World, invitation: Invitation) -> str:
    """Check that everything agrees with the invitation's state, and return that state."""
    now = await world.invitation(invitation)
    accepted = int(now.state == "accepted")
    assert len(await world.fetch("SELECT FROM connection")) == accepted
    assert len(await world.fetch("SELECT FROM visibility_grant")) == accepted
    ends = await world.fetch(
        "SELECT action FROM event WHERE account_id = $1 AND action ~ '^invitation' ORDER BY id",
        invitation.inviter_id,
    )
    assert [row["action"] for row in ends if row["action"] != "invitation.resent"] == [
        "invitation.created",
        *([] if now.state == "pending" else [f"invitation.{now.state}"]),
    ]
    return now.state


async def test_a_hundred_acceptances_make_one_connection_one_grant_and_one_trail(
    world: World, buyer: Company, seller: Company, invitation: Invitation
) -> None:
    assert await race(world, *[accepting(invitation, seller)] * 100) == 100
    assert await consistent(world, invitation) == "accepted"
    assert await actions(world, seller) == [
        "connection.started",
        "grant.started",
        "invitation.accepted",
    ]
    assert await world.mails("accepted") == [(buyer.email, "queued")]
    assert await world.mails("connected") == [(seller.email, "queued")]


@pytest.mark.parametrize(
    ("change", "refusal"),
    [("name = 'Renamed'", "review it again"), ("suspended_at = now()", "is suspended")],
)
async def test_inviter_that_changes_during_acceptance_is_not_accepted(
    world: World, change: str, refusal: str
) -> None:
    buyer, seller = await two(world)
    path = await buyer.invited(seller.email)
    terms = (await seller.see(path))["terms"]
    async with world.database.general.transaction() as connection:
        await connection.execute(f"UPDATE account SET {change} WHERE id = $1", buyer.id)
        accepting = asyncio.create_task(seller.do("POST", f"{path}/accept", {"terms": terms}))
        await asyncio.sleep(0.2)
        assert not accepting.done()
    response = await accepting
    assert response.status_code == 409
    assert refusal in response.text
    assert await world.fetch("SELECT FROM connection") == []


async def test_of_several_accounts_that_accept_one_does(
    world: World, invitation: Invitation
) -> None:
    others = [await world.company() for _ in range(8)]
    assert await race(world, *(accepting(invitation, each) for each in others)) == 1
    assert await consistent(world, invitation) == "accepted"


@pytest.mark.parametrize("other", ["cancel", "decline", "expire", "resend", "opt_out"])
async def test_acceptance_and_its_opposite_end_as_one_of_them(world: World, other: str) -> None:
    states = set()
    for _ in range(6):
        await world.reset()
        buyer, seller = await world.company(), await world.company()
        invitation = await world.invite(buyer, seller.email)
        if other == "expire":
            await world.fetch("UPDATE invitation SET expires_at = now() + interval '20 ms'")

        async def opposite(
            connection: Connection, invitation: Invitation = invitation, buyer: Company = buyer
        ) -> None:
            match other:
                case "cancel":
                    await invitations.cancel(connection, buyer.id, invitation.id, by(buyer))
                case "decline":
                    await invitations.decline(connection, invitation.id)
                case "opt_out":
                    await opt_outs.opt_out(connection, SECRET.encode(), invitation, of_all=True)
                case "resend":
                    await invitations.resend(
                        connection, SECRET.encode(), buyer.id, invitation.id, by(buyer)
                    )
                case _:
                    await asyncio.sleep(0.01)
                    await invitations.expire_due(connection)

        accept = accepting(invitation, seller)
        await race(world, *[accept, opposite] * 4)
        if other == "expire":
            await asyncio.sleep(0.03)
            await race(world, opposite)
        states.add(await consistent(world, invitation))
        sendable = [
            state
            for _, state in await world.mails("invitation")
            if state in ("queued", "sending", "retrying")
        ]
        assert sendable == []
    assert states <= {"accepted", "cancelled", "declined", "expired"}


async def test_sending_again_before_accepting_leaves_one_good_link(
    world: World, buyer: Company, seller: Company, invitation: Invitation
) -> None:
    def again(connection: Connection) -> Coroutine[Any, Any, object]:
        return invitations.resend(connection, SECRET.encode(), buyer.id, invitation.id, by(buyer))

    assert await race(world, *[again] * 4) == 4
    mails = [state for _, state in await world.mails("invitation")]
    assert sorted(mails) == ["cancelled"] * 4 + ["queued"]
    assert await race(world, accepting(invitation, seller)) == 1


async def test_inviting_at_once_makes_one_invitation(
    world: World, buyer: Company, seller: Company
) -> None:
    def invite(connection: Connection) -> Coroutine[Any, Any, object]:
        return invitations.invite(
            connection, SECRET.encode(), buyer.id, by(buyer), seller.email, "receive_leads"
        )

    assert await race(world, *[invite] * 20) == 20
    assert len(await world.fetch("SELECT FROM invitation")) == 1
    assert len(await world.mails("invitation")) == 1


async def test_crossing_invitations_accepted_at_once_meet_in_one_connection(
    world: World,
) -> None:
    for _ in range(5):
        await world.reset()
        buyer, seller = await world.company(), await world.company()
        one = await world.invite(buyer, seller.email, "receive_leads")
        other = await world.invite(seller, buyer.email, "send_leads")
        await race(world, accepting(one, seller), accepting(other, buyer))
        assert await live(world, "connection") == 1
        for invitation in (one, other):
            assert (await world.invitation(invitation)).state == "accepted"
        assert (await actions(world, buyer)).count("connection.started") == 1


async def test_grant_never_outlives_its_connection(
    world: World, buyer: Company, seller: Company
) -> None:
    cert_id = await world.certificate(domain="seller.example")
    await world.own(seller, "seller.example")
    for _ in range(5):
        await world.connect(buyer, seller)

        def show(connection: Connection) -> Coroutine[Any, Any, object]:
            return grants.grant(
                connection, owner_id=seller.id, viewer_id=buyer.id, actor=by(seller)
            )

        def end(connection: Connection) -> Coroutine[Any, Any, object]:
            return connections.disconnect(
                connection, buyer_id=buyer.id, seller_id=seller.id, actor=by(buyer)
            )

        await race(world, *[show, end] * 4)
        assert await live(world, "connection") == 0
        assert await live(world, "visibility_grant") == 0
        assert await world.confirmed_owner(buyer, cert_id) != seller.name
    done = await actions(world, seller)
    assert done.count("grant.started") == done.count("grant.ended")


async def test_last_admin_stays_however_many_leave_at_once(world: World, buyer: Company) -> None:
    for number in range(4):
        invitation = await world.invite(buyer, f"c{number}@example.com", "join_account")
        async with world.database.general.transaction() as connection:
            await acceptance.join(connection, invitation.id, None, f"Colleague {number}")
    await world.fetch("UPDATE membership SET role = 'admin'")
    rows = await world.fetch("SELECT user_id FROM membership")
    responses = await asyncio.gather(
        *(
            world.client.delete(f"/v1/account/members/{row['user_id']}", headers=buyer.headers)
            for row in rows
        )
    )
    assert sorted(response.status_code for response in responses) == [204] * 4 + [409]
    assert len(await world.fetch("SELECT FROM membership")) == 1
