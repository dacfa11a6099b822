"""The pages for connections."""

import re

from service import audit
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


async def shown_in(surfer: Surfer, path: str) -> list[str]:
    """The partners in the table of a page."""
    await surfer.go(path)
    return re.findall(r'<th scope="row">(?:<a[^>]*>)?([^<]+)<', surfer.text)


async def test_connections_are_searched_and_listed_page_by_page_each_once(world: World) -> None:
    us = await world.company()
    for number in range(53):
        await world.connect(us, await world.company(f"Partner Number {number:02}"))
    surfer = await signed_in(world, us.email)
    first = await shown_in(surfer, "/connections")
    before = surfer.text.partition('href="/connections?before=')[2].partition("&")[0]
    second = await shown_in(surfer, f"/connections?before={before}")
    assert (len(first), len(second), len({*first, *second})) == (50, 3, 53)
    assert await shown_in(surfer, "/connections?q=number%2007") == ["Partner Number 07"]
    assert await shown_in(surfer, "/connections?q=%25") == []
    assert "contains “%”" in surfer.text
    assert await shown_in(surfer, f"/connections?q={'x' * 200}") == []


async def test_ended_connections_are_listed_under_the_names_of_then(world: World) -> None:
    us, gone, other = [await world.company(name) for name in ("Us", "Gone Leads", "Other")]
    await world.connect(us, gone)
    await world.connect(other, gone)
    await world.disconnect(us, gone)
    await world.rename(gone, "Renamed Leads")
    surfer = await signed_in(world, us.email)
    assert await shown_in(surfer, "/connections/ended") == ["Gone Leads"]
    assert "Renamed Leads" not in surfer.text
    assert await shown_in(surfer, "/connections") == []
    assert await shown_in(await signed_in(world, other.email), "/connections/ended") == []


async def test_history_of_a_partner_is_what_happened_with_it_alone(world: World) -> None:
    us, partner, other = [await world.company(name) for name in ("Us", "Partner", "Other")]
    await world.permit(us, partner)
    await world.permit(us, other)
    await world.permit(other, partner)
    await world.revoke(us, other)
    async with world.database.general.connection() as connection:
        last = await audit.last_with(connection, us.id, [partner.id, other.id, us.id])
    events = await world.fetch(
        "SELECT at, detail #>> '{partner,name}' AS name FROM event WHERE account_id = $1", us.id
    )
    for company in (partner, other):
        assert last[company.id] == max(row["at"] for row in events if row["name"] == company.name)
    assert us.id not in last
    surfer = await signed_in(world, us.email)
    await surfer.go("/connections")
    path = re.findall(r'href="(/connections/[0-9a-f-]+)">Partner<', surfer.text)[0]
    await surfer.go(path)
    history = surfer.text.partition("<h2>History</h2>")[2]
    assert "Your name became visible to Partner" in history
    assert "You and Partner connected" in history
    assert "Other" not in history
    assert "hidden" not in history
