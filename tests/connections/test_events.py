"""Both sides get one event for each start and end of a connection or grant."""

from collections.abc import Awaitable, Callable

import pytest

from tests.builders import World
from tests.parties import EVENTS, Party, partners

Change = Callable[[Party, Party, str], Awaitable[object]]


def calls(*steps: tuple[str, str, str]) -> Change:
    """Make API calls. A step is the caller, the method, and the path below the connection."""

    async def change(buyer: Party, seller: Party, path: str) -> None:
        for who, method, below in steps:
            party = buyer if who == "buyer" else seller
            response = await party.do(method, f"{path}{below}")
            assert response.status_code in (200, 201, 204), response.text

    return change


SHOW, HIDE = ("seller", "PUT", "/grant"), ("seller", "DELETE", "/grant")
ASK, WITHDRAW = ("buyer", "POST", "/grant-request"), ("buyer", "DELETE", "/grant-request")
DECLINE = ("seller", "DELETE", "/grant-request")
SHOW_BACK, END, END_TOO = (
    ("buyer", "PUT", "/grant"),
    ("buyer", "DELETE", ""),
    ("seller", "DELETE", ""),
)

# The calls to make, and the action and actor of each expected event.
CHANGES: dict[str, tuple[Change, list[tuple[str, str]]]] = {
    "shown": (calls(SHOW), [("grant.started", "seller")]),
    "shown twice": (calls(SHOW, SHOW), [("grant.started", "seller")]),
    "hidden": (calls(SHOW, HIDE), [("grant.started", "seller"), ("grant.ended", "seller")]),
    "hidden twice": (
        calls(SHOW, HIDE, HIDE),
        [("grant.started", "seller"), ("grant.ended", "seller")],
    ),
    "asked for": (calls(ASK, ASK), [("grant.requested", "buyer")]),
    "asked for and shown": (
        calls(ASK, SHOW),
        [("grant.requested", "buyer"), ("grant.started", "seller")],
    ),
    "declined": (
        calls(ASK, DECLINE, DECLINE),
        [("grant.requested", "buyer"), ("grant.request_declined", "seller")],
    ),
    "withdrawn": (
        calls(ASK, WITHDRAW),
        [("grant.requested", "buyer"), ("grant.request_withdrawn", "buyer")],
    ),
    "disconnected": (calls(END), [("connection.ended", "buyer")]),
    "disconnected by the seller": (calls(END_TOO), [("connection.ended", "seller")]),
    "disconnected with a grant": (
        calls(SHOW, END),
        [("grant.started", "seller"), ("grant.ended", "buyer"), ("connection.ended", "buyer")],
    ),
    "disconnected with both grants": (
        calls(SHOW, SHOW_BACK, END_TOO),
        [
            ("grant.started", "seller"),
            ("grant.started", "buyer"),
            ("grant.ended", "seller"),
            ("grant.ended", "seller"),
            ("connection.ended", "seller"),
        ],
    ),
}


@pytest.mark.parametrize(
    ("change", "told"), [pytest.param(*change, id=name) for name, change in CHANGES.items()]
)
async def test_every_change_is_told_to_both_sides_with_who_did_it(
    world: World, change: Change, told: list[tuple[str, str]]
) -> None:
    buyer, seller, path = await partners(world)
    await change(buyer, seller, path)
    for own, side, partner in ((buyer, "buyer", seller), (seller, "seller", buyer)):
        # The operator connected them.
        assert await world.events(own) == [
            ("connection.started", "operator"),
            *((action, "key" if who == side else "partner") for action, who in told),
        ]
        for event in await own.pages(EVENTS):
            if not event["action"].startswith(("account.", "key.")):
                assert event["detail"]["partner"] == {"id": str(partner.id), "name": partner.name}


async def test_what_the_operator_ends_is_told_to_both_as_its_doing(world: World) -> None:
    owner, viewer = await world.company(), await world.company()
    await world.permit(owner, viewer)
    await world.revoke(owner, viewer)
    await world.grant(owner, viewer)
    await world.disconnect(viewer, owner)
    for company in (owner, viewer):
        assert await world.events(company) == [
            ("connection.started", "operator"),
            ("grant.started", "operator"),
            ("grant.ended", "operator"),
            ("grant.started", "operator"),
            ("grant.ended", "operator"),
            ("connection.ended", "operator"),
        ]


async def test_event_of_a_grant_says_whose_name_is_shown_to_whom(world: World) -> None:
    buyer, seller, path = await partners(world)
    await calls(SHOW, HIDE)(buyer, seller, path)
    for own in (buyer, seller):
        for event in await own.pages(f"{EVENTS}?action=grant.started"):
            assert event["detail"]["owner_id"] == str(seller.id)
            assert event["detail"]["viewer_id"] == str(buyer.id)
