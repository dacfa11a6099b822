"""Attacks on connections and grants."""

import asyncio

from service.accounts import members
from service.accounts.members import NOTICES_A_DAY
from tests.builders import World, by, make_member
from tests.surfer import signed_in


async def test_admin_who_is_removed_meanwhile_grants_nothing(world: World) -> None:
    buyer, seller = await world.company(), await world.company()
    await world.connect(buyer, seller)
    (row,) = await world.fetch("SELECT id FROM connection")
    surfer = await signed_in(world, seller.email)
    await surfer.go(f"/connections/{row['id']}")
    other = await world.company()
    await make_member(world, seller, other, "admin")
    (user,) = await world.fetch("SELECT id FROM app_user WHERE email = $1", seller.email)
    async with world.database.general.transaction() as connection:
        await members.remove_member(connection, seller.id, user["id"], by(seller))
        sending = asyncio.create_task(
            surfer.send(f"/connections/{row['id']}", account_id=str(seller.id), do="show")
        )
        await asyncio.sleep(0.2)
        assert not sending.done()
    assert (await sending).status_code == 403
    assert await world.fetch("SELECT FROM visibility_grant") == []


async def test_partner_that_changes_its_mind_all_day_keeps_no_other_notice_away(
    world: World,
) -> None:
    buyer, one, two = await world.company(), await world.company(), await world.company()
    for seller in (one, two):
        await world.connect(buyer, seller)
    (first, second) = await world.fetch("SELECT id FROM connection ORDER BY started_at")
    for _ in range(NOTICES_A_DAY + 3):
        for method in ("PUT", "DELETE"):
            await world.client.request(
                method, f"/v1/connections/{first['id']}/grant", headers=one.headers
            )
    assert len(await world.mails("grant_given")) == NOTICES_A_DAY
    await world.client.put(f"/v1/connections/{second['id']}/grant", headers=two.headers)
    assert len(await world.mails("grant_given")) == NOTICES_A_DAY + 1


async def test_declining_a_partners_request_leaves_ones_own(world: World) -> None:
    one, two = await world.company(), await world.company()
    await world.connect(one, two)
    (row,) = await world.fetch("SELECT id FROM connection")
    path = f"/v1/connections/{row['id']}"
    for company in (one, two):
        response = await world.client.post(f"{path}/grant-request", headers=company.headers)
        assert response.status_code == 201
    surfer = await signed_in(world, two.email)
    await surfer.go(f"/connections/{row['id']}")
    await surfer.send(f"/connections/{row['id']}", account_id=str(two.id), do="decline")
    shown = (await world.client.get(path, headers=two.headers)).json()
    assert shown["asked_by_partner_at"] is None
    assert shown["asked_at"] is not None
