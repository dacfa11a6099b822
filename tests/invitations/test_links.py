"""Only the link in an invitation's latest mail works."""

import pytest

from service.invitations.acceptance import terms_of
from tests.builders import World, link_of
from tests.surfer import Surfer

SELLER = "jo@seller.example"


@pytest.mark.parametrize("is_over", [False, True])
@pytest.mark.parametrize("path", ["", "/accept", "/decline", "/sign-in"])
async def test_replaced_link_is_good_for_nothing_and_the_new_one_for_all(
    world: World, path: str, is_over: bool
) -> None:
    buyer = await world.company()
    first = await world.invite(buyer, SELLER)
    surfer = Surfer(world.client)
    await surfer.go(link_of(first))
    if is_over:
        await world.fetch("UPDATE invitation SET expires_at = now()")
    resend = f"/v1/invitations/{first.id}/resend"
    assert (await world.client.post(resend, headers=buyer.headers)).status_code == 200
    again = await world.invitation(first)
    form = {"company": "S Leads", "your_name": "Jo"}
    for link, status in ((link_of(first), 404), (link_of(again), 200)):
        if not path:
            response = await surfer.go(link)
        else:
            response = await surfer.send(f"{link}{path}", terms=terms_of(again), **form)
        assert response.status_code == status
        if status == 404:
            assert await world.invitation(first) == again
            assert await world.mails("sign_in") == []
            await surfer.go(link_of(again))
