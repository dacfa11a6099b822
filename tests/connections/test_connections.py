"""Connections and grants: at most one of each at a time, and no grant without a connection."""

import asyncio
from contextlib import suppress

import pytest

from service.audit import Actor
from service.connections.connections import connect
from service.errors import Conflict, NotFound
from tests.builders import World
from tests.parties import partners, problem, two


async def live(world: World, table: str) -> int:
    return len(await world.fetch(f"SELECT 1 FROM {table} WHERE ended_at IS NULL"))


async def test_connecting_twice_is_connecting_once(world: World) -> None:
    buyer, seller = await world.company(), await world.company()
    await world.connect(buyer, seller)
    await world.connect(buyer, seller)
    assert await live(world, "connection") == 1
    events = await world.fetch("SELECT account_id FROM event WHERE action = 'connection.started'")
    assert {row["account_id"] for row in events} == {buyer.id, seller.id}
    assert len(events) == 2


async def test_two_may_buy_from_each_other(world: World) -> None:
    one, other = await world.company(), await world.company()
    await world.connect(one, other)
    await world.connect(other, one)
    assert await live(world, "connection") == 2


async def test_account_is_not_connected_to_itself(world: World) -> None:
    company = await world.company()
    with pytest.raises(Conflict):
        await world.connect(company, company)


async def test_granting_needs_a_connection(world: World) -> None:
    owner, viewer = await world.company(), await world.company()
    with pytest.raises(Conflict):
        await world.grant(owner, viewer)
    await world.connect(viewer, owner)
    await world.disconnect(viewer, owner)
    with pytest.raises(Conflict):
        await world.grant(owner, viewer)


async def test_granting_twice_is_granting_once(world: World) -> None:
    owner, viewer = await world.company(), await world.company()
    await world.permit(owner, viewer)
    await world.grant(owner, viewer)
    assert await live(world, "visibility_grant") == 1


async def test_disconnecting_ends_the_grants_between_the_two_and_no_others(world: World) -> None:
    one, other, third = await world.company(), await world.company(), await world.company()
    await world.permit(one, other)
    await world.grant(other, one)
    await world.permit(one, third)
    await world.disconnect(other, one)
    assert await live(world, "visibility_grant") == 1
    events = await world.fetch("SELECT account_id FROM event WHERE action = 'grant.ended'")
    assert sorted(row["account_id"] for row in events) == sorted([one.id, other.id] * 2)
    await world.connect(other, one)
    assert await live(world, "visibility_grant") == 1


async def test_disconnecting_ends_requests_for_grants_too(world: World) -> None:
    buyer, seller = await world.company(), await world.company()
    await world.connect(buyer, seller)
    (row,) = await world.fetch("SELECT id FROM connection")
    response = await world.client.post(
        f"/v1/connections/{row['id']}/grant-request", headers=buyer.headers
    )
    assert response.status_code == 201
    await world.disconnect(buyer, seller)
    await world.connect(buyer, seller)
    (shown,) = (await world.client.get("/v1/connections", headers=buyer.headers)).json()["items"]
    assert shown["asked_at"] is None
    (request,) = await world.fetch("SELECT outcome FROM grant_request")
    assert request["outcome"] == "disconnected"


async def test_ending_what_is_not_there_is_told(world: World) -> None:
    owner, viewer = await world.company(), await world.company()
    with pytest.raises(NotFound):
        await world.disconnect(viewer, owner)
    with pytest.raises(NotFound):
        await world.revoke(owner, viewer)
    await world.permit(owner, viewer)
    with pytest.raises(NotFound):
        await world.disconnect(owner, viewer)


async def test_races_leave_no_second_connection_and_no_grant_without_one(world: World) -> None:
    one, other = await world.company(), await world.company()

    async def change(number: int) -> None:
        with suppress(Conflict, NotFound):
            match number % 4:
                case 0:
                    await world.connect(one, other)
                case 1:
                    await world.grant(other, one)
                case 2:
                    await world.disconnect(one, other)
                case 3:
                    await world.revoke(other, one)

    for _ in range(5):
        await asyncio.gather(*(change(number) for number in range(24)))
        assert await live(world, "connection") <= 1
        assert await live(world, "visibility_grant") <= await live(world, "connection")


async def test_partner_is_mailed_what_the_other_side_changes(world: World) -> None:
    buyer, seller, path = await partners(world)
    await seller.do("PUT", f"{path}/grant")
    assert await world.mails("grant_given") == [(buyer.email, "queued")]
    await seller.do("DELETE", f"{path}/grant")
    assert await world.mails("grant_withdrawn") == [(buyer.email, "queued")]
    await seller.do("DELETE", path)
    assert await world.mails("disconnected") == sorted(
        (each.email, "queued") for each in (buyer, seller)
    )


async def test_accepting_is_mailed_once_and_says_that_the_name_is_shown(world: World) -> None:
    inviter, acceptor = await two(world)
    invitation = await inviter.invited(acceptor.email, "domain_ownership_visibility")
    await acceptor.do("POST", f"{invitation}/accept")
    assert await world.mails("accepted") == [(inviter.email, "queued")]
    assert await world.mails("grant_given") == []


async def test_name_can_be_asked_for_three_times_a_day(world: World) -> None:
    buyer, _, path = await partners(world)
    for _ in range(3):
        assert (await buyer.do("POST", f"{path}/grant-request")).status_code == 201
        await buyer.do("DELETE", f"{path}/grant-request")
    problem(await buyer.do("POST", f"{path}/grant-request"), 429)


async def test_declined_request_for_a_name_can_be_repeated_after_a_month(world: World) -> None:
    buyer, seller, path = await partners(world)
    assert (await buyer.do("POST", f"{path}/grant-request")).status_code == 201
    await seller.do("DELETE", f"{path}/grant-request")
    for days, status in ((29, 429), (2, 201)):
        await world.fetch(
            "UPDATE grant_request SET requested_at = requested_at - make_interval(days => $1),"
            " ended_at = ended_at - make_interval(days => $1) WHERE ended_at IS NOT NULL",
            days,
        )
        assert (await buyer.do("POST", f"{path}/grant-request")).status_code == status


async def test_ending_one_of_two_connections_tells_of_that_one(world: World) -> None:
    one, other, path = await partners(world)
    async with world.database.general.transaction() as connection:
        second = await connect(
            connection, buyer_id=other.id, seller_id=one.id, actor=Actor("operator")
        )
    assert (await one.do("DELETE", path)).status_code == 204
    assert len(await world.mails("one_connection_ended")) == 2
    assert await world.mails("disconnected") == []
    assert (await one.do("DELETE", f"/v1/connections/{second}")).status_code == 204
    assert len(await world.mails("disconnected")) == 2
