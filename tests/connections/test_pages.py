"""The pages for connections."""

from tests.builders import VERIFIED, World, member_of
from tests.surfer import Surfer, signed_in

SELLER = "jo@seller.example"


async def test_connection_page_is_for_members_and_its_changes_for_admins(world: World) -> None:
    buyer, seller, other = await world.company(), await world.company(), await world.company()
    await world.own(seller, "seller.example")
    await world.permit(seller, buyer)
    (row,) = await world.fetch("SELECT id FROM connection")
    path = f"/connections/{row['id']}"
    assert (await Surfer(world.client).go(path)).url.path == "/sign-in"
    stranger = await signed_in(world, other.email)
    assert (await stranger.go(path)).status_code == 404
    await member_of(world, seller, SELLER)
    member, admin = await signed_in(world, SELLER), await signed_in(world, seller.email)
    cert_id = await world.certificate(domain="seller.example")
    for someone, account, status in (
        (stranger, seller, 403),
        (stranger, other, 404),
        (member, seller, 403),
        (admin, buyer, 403),
    ):
        await someone.go("/connections")
        response = await someone.send(path, account_id=str(account.id), do="disconnect")
        assert response.status_code == status
    assert await world.confirmed_owner(buyer, cert_id) == seller.name
    assert "Only admins of" in (await member.go(path)).text
    await admin.go(path)
    await admin.send(path, account_id=str(seller.id), do="hide")
    assert await world.confirmed_owner(buyer, cert_id) == VERIFIED
    await admin.send(path, account_id=str(seller.id), do="hide")
    await admin.send(path, account_id=str(seller.id), do="show")
    assert await world.confirmed_owner(buyer, cert_id) == seller.name
    assert (await admin.send(path, account_id=str(seller.id), do="x")).status_code == 422


async def test_request_for_a_grant_is_declined_on_the_connections_page(world: World) -> None:
    buyer, seller = await world.company(), await world.company()
    await world.connect(buyer, seller)
    (row,) = await world.fetch("SELECT id FROM connection")
    ask = f"/v1/connections/{row['id']}/grant-request"
    assert (await world.client.post(ask, headers=buyer.headers)).status_code == 201
    assert await world.mails("grant_requested") == [(seller.email, "queued")]
    surfer = await signed_in(world, seller.email)
    await surfer.go(f"/connections/{row['id']}")
    assert "asked to see your company name" in surfer.text
    await surfer.send(f"/connections/{row['id']}", account_id=str(seller.id), do="decline")
    assert "asked to see your company name" not in surfer.text
    (request,) = await world.fetch("SELECT outcome FROM grant_request")
    assert request["outcome"] == "declined"
