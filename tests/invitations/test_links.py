"""Only the link in an invitation's latest mail works, but for opting out, which all of them do."""

import pytest

from service.invitations.acceptance import terms_of
from tests.builders import World, link_of
from tests.surfer import Surfer

SELLER = "jo@seller.example"


@pytest.mark.parametrize("is_over", [False, True])
@pytest.mark.parametrize("path", ["", "/accept", "/decline", "/sign-in"])
async def test_replaced_link_is_good_for_opting_out_alone_and_the_new_one_for_all(
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
    for link, status in ((link_of(first), 410), (link_of(again), 200)):
        if not path:
            response = await surfer.go(link)
        else:
            response = await surfer.send(f"{link}{path}", terms=terms_of(again), **form)
        assert response.status_code == status
        if status == 410:
            assert "Open the link in the newest email." in surfer.text
            assert await world.invitation(first) == again
            assert await world.mails("sign_in") == []
            await surfer.go(link_of(again))


@pytest.mark.parametrize("then", ["reminded", "cancelled", "declined", "expired", "accepted"])
async def test_one_click_of_any_mail_ever_sent_unsubscribes(world: World, then: str) -> None:
    buyer, seller = await world.company(), await world.company()
    first = await world.invite(buyer, seller.email)
    match then:
        case "reminded":
            for _ in range(2):
                await world.client.post(f"/v1/invitations/{first.id}/resend", headers=buyer.headers)
        case "cancelled":
            await world.client.post(f"/v1/invitations/{first.id}/cancel", headers=buyer.headers)
        case "declined" | "accepted":
            path = f"/v1/invitations/{first.id}/{then.removesuffix('d').removesuffix('e')}"
            path = path.replace("declin", "decline")
            await world.client.post(path, headers=seller.headers)
        case _:
            await world.fetch("UPDATE invitation SET expires_at = now()")
    response = await world.client.post(
        f"{link_of(first)}/unsubscribe", data={"List-Unsubscribe": "One-Click"}
    )
    assert response.status_code == 200
    other = await world.company()
    assert (await world.invite(other, seller.email, "receive_leads")).delivery == "suppressed"
    assert (await world.invitation(first)).state != "pending"
    assert ("recipient.opted_out", "recipient") in await world.events(buyer)
