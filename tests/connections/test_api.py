"""The management API for connections and grants."""

import pytest

from tests.builders import VERIFIED, World
from tests.parties import ACCOUNT, CONNECTIONS, EVENTS, VISIBILITY, partners, party, problem


async def test_connections_are_listed_by_role_and_in_pages(world: World) -> None:
    company = await party(world)
    others = [await party(world) for _ in range(5)]
    for number, other in enumerate(others):
        await (world.connect(company, other) if number < 3 else world.connect(other, company))
    await world.grant(others[0], company)
    names = [other.name for other in others][::-1]
    for query, expected in (("", names), ("?role=buyer", names[2:]), ("?role=seller", names[:2])):
        items = await company.pages(f"{CONNECTIONS}{query}")
        assert [item["partner"]["name"] for item in items] == expected
    items = await company.pages(CONNECTIONS)
    assert [item["partner_name_shown_since"] is not None for item in items] == [False] * 4 + [True]


@pytest.mark.parametrize("side", [0, 1])
async def test_either_side_ends_all_between_them_at_once(world: World, side: int) -> None:
    buyer, seller, path = await partners(world)
    of_buyer, of_seller = await buyer.certificate(), await seller.certificate()
    for who in (buyer, seller):
        assert (await who.do("PUT", f"{path}/grant")).status_code == 200
    assert await world.confirmed_owner(buyer, of_seller) == seller.name
    assert await world.confirmed_owner(seller, of_buyer) == buyer.name
    assert (await (buyer, seller)[side].do("DELETE", path)).status_code == 204
    assert await world.confirmed_owner(buyer, of_seller) == VERIFIED
    assert await world.confirmed_owner(seller, of_buyer) == VERIFIED
    for who in (buyer, seller):
        problem(await who.do("DELETE", path), 404)
        assert (await who.see(VISIBILITY))["items"] == []
    await world.connect(buyer, seller)
    assert await world.confirmed_owner(buyer, of_seller) == VERIFIED


async def test_grant_is_effective_at_once_and_repeating_it_changes_nothing(world: World) -> None:
    buyer, seller, path = await partners(world)
    cert_id = await seller.certificate()
    for _ in range(2):
        first, again = [await seller.do("PUT", f"{path}/grant") for _ in range(2)]
        assert await world.confirmed_owner(buyer, cert_id) == seller.name
        assert first.json() == again.json()
        (shown,) = (await seller.see(VISIBILITY))["items"]
        assert shown["partner"] == {"id": str(buyer.id), "name": buyer.name}
        for _ in range(2):
            assert (await seller.do("DELETE", f"{path}/grant")).status_code == 204
            assert await world.confirmed_owner(buyer, cert_id) == VERIFIED
    actions = [event["action"] for event in await buyer.pages(EVENTS)]
    assert (actions.count("grant.started"), actions.count("grant.ended")) == (2, 2)


@pytest.mark.parametrize("ending", ["granted", "withdrawn", "declined"])
async def test_request_is_open_until_either_side_ends_it(world: World, ending: str) -> None:
    buyer, seller, path = await partners(world)
    cert_id = await seller.certificate()
    asked = [await buyer.do("POST", f"{path}/grant-request") for _ in range(2)]
    assert [response.status_code for response in asked] == [201, 200]
    asked_at = (await buyer.see(path))["asked_at"]
    assert asked_at == (await seller.see(path))["asked_by_partner_at"] is not None
    if ending == "granted":
        assert (await seller.do("PUT", f"{path}/grant")).status_code == 200
    else:
        who = buyer if ending == "withdrawn" else seller
        assert (await who.do("DELETE", f"{path}/grant-request")).status_code == 204
    assert (await buyer.see(path))["asked_at"] is None
    assert (await seller.see(path))["asked_by_partner_at"] is None
    shown = seller.name if ending == "granted" else VERIFIED
    assert await world.confirmed_owner(buyer, cert_id) == shown
    again = await buyer.do("POST", f"{path}/grant-request")
    assert again.status_code == {"granted": 409, "withdrawn": 201, "declined": 429}[ending]


async def test_visibility_equals_what_the_partner_is_told(world: World) -> None:
    buyer, seller, path = await partners(world)
    await world.own(seller, "wide.example", covers_subdomains=True)
    await world.own(seller, "narrow.example")
    await world.own(seller, "lapsed.example")
    await world.disown("lapsed.example")
    await world.own(await party(world), "sub.wide.example")
    query = f"{VISIBILITY}?as={path.rpartition('/')[2]}"

    async def agrees(expected: str) -> None:
        items = (await seller.see(query))["items"]
        told = {item["domain"]: item["confirmed_owner"] for item in items}
        assert told.items() >= {"wide.example": expected, "narrow.example": expected}.items()
        assert told.keys() <= {"wide.example", "narrow.example", "lapsed.example"}
        for domain, name in told.items():
            cert_id = await world.certificate(domain=domain)
            assert await world.confirmed_owner(buyer, cert_id) == name

    await agrees(VERIFIED)
    await seller.do("PUT", f"{path}/grant")
    await agrees(seller.name)
    await seller.do("PATCH", ACCOUNT, {"name": "A Name Since"})
    await agrees("A Name Since")
    await seller.do("DELETE", f"{path}/grant")
    await agrees(VERIFIED)
