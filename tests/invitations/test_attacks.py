"""Attacks on invitations."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service.errors import Forbidden, LimitReached
from service.invitations import acceptance, invitations, opt_outs
from service.mail.mails import Mailer, send_mail
from service.tokens import stop_token
from tests.builders import SECRET, Company, World, by, link_of, make_member
from tests.parties import party
from tests.surfer import ORIGIN, Surfer, sign_in_link, signed_in

SELLER = "jo@seller.example"


async def events(world: World, company: Company, action: str) -> list[Any]:
    response = await world.client.get(f"/v1/events?action={action}", headers=company.headers)
    items: list[Any] = response.json()["items"]
    return items


async def test_account_to_which_the_recipient_also_belongs_can_not_answer_for_it(
    world: World,
) -> None:
    buyer, victim, evil = await world.company(), await world.company(), await world.company()
    await make_member(world, evil, victim, "member")
    invitation = await world.invite(buyer, victim.email)
    listed = await world.client.get("/v1/invitations?direction=received", headers=evil.headers)
    assert listed.json()["items"] == []
    for what in ("accept", "decline"):
        response = await world.client.post(
            f"/v1/invitations/{invitation.id}/{what}", headers=evil.headers
        )
        assert response.status_code == 404
    assert (await world.invitation(invitation)).state == "pending"


@pytest.mark.parametrize("end", ["accept", "decline", "cancel"])
async def test_later_name_of_an_inviter_is_not_for_who_was_invited_once(
    world: World, end: str
) -> None:
    buyer, seller = await world.company("Former Name"), await world.company()
    invitation = await world.invite(buyer, seller.email)
    who = buyer if end == "cancel" else seller
    response = await world.client.post(
        f"/v1/invitations/{invitation.id}/{end}", headers=who.headers
    )
    assert response.status_code == 200
    if end == "accept":
        await world.disconnect(buyer, seller)
    await world.rename(buyer, "Secret New Name")
    listed = await world.client.get("/v1/invitations?direction=received", headers=seller.headers)
    assert "Former Name" in listed.text
    page = await Surfer(world.client).go(link_of(invitation))
    for text in (listed.text, page.text):
        assert "Secret New Name" not in text


async def test_terms_that_have_changed_are_not_accepted_by_key_either(world: World) -> None:
    buyer, seller = await world.company(), await world.company()
    invitation = await world.invite(buyer, seller.email)
    path = f"/v1/invitations/{invitation.id}"
    terms = (await world.client.get(path, headers=seller.headers)).json()["terms"]
    await world.rename(buyer, "Evil Competitor")
    response = await world.client.post(
        f"{path}/accept", headers=seller.headers, json={"terms": terms}
    )
    assert response.status_code == 409
    terms = (await world.client.get(path, headers=seller.headers)).json()["terms"]
    response = await world.client.post(
        f"{path}/accept", headers=seller.headers, json={"terms": terms}
    )
    assert response.status_code == 200


async def test_form_waits_for_who_changes_its_invitation_and_then_looks_again(
    world: World,
) -> None:
    buyer = await world.company()
    invitation = await world.invite(buyer, SELLER)
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    async with world.database.general.transaction() as connection:
        await invitations.resend(connection, SECRET.encode(), buyer.id, invitation.id, by(buyer))
        sending = asyncio.create_task(
            surfer.send(f"{link_of(invitation)}/accept", company="S Leads", your_name="Jo")
        )
        await asyncio.sleep(0.2)
        assert not sending.done()
    assert (await sending).status_code == 410
    assert (await world.invitation(invitation)).state == "pending"


@pytest.mark.parametrize("reason", ["join_account", "domain_ownership_visibility"])
async def test_forwarded_link_lets_nobody_in_as_a_user_there_is(world: World, reason: Any) -> None:
    """Not even if the user was created after the page was opened."""
    buyer = await world.company()
    invitation = await world.invite(buyer, SELLER, reason)
    await world.company(email=SELLER)
    async with world.database.general.transaction() as connection:
        letting_in = (
            acceptance.join(connection, invitation.id, None, "Mallory")
            if reason == "join_account"
            else acceptance.sign_up(connection, invitation.id, None, "M Leads", "Mallory")
        )
        with pytest.raises(Forbidden, match="sign in"):
            await letting_in
    (row,) = await world.fetch("SELECT name FROM app_user WHERE email = $1", SELLER)
    assert row["name"] is None
    assert (await world.invitation(invitation)).state == "pending"


async def test_suspended_company_does_not_come_back_by_an_invitation(world: World) -> None:
    buyer, bad = await world.company(), await world.company()
    invitation = await world.invite(buyer, bad.email)
    await world.suspend(bad)
    surfer = await signed_in(world, bad.email)
    await surfer.go(link_of(invitation))
    assert "is suspended" in surfer.text
    await surfer.send(f"{link_of(invitation)}/accept", company="New Co", your_name="B")
    assert (await world.invitation(invitation)).state == "pending"
    assert len(await world.fetch("SELECT FROM account")) == 2


async def test_who_declined_is_not_told_by_how_it_is_recorded(world: World) -> None:
    buyer, seller = await world.company(), await world.company()
    one, two = await world.invite(buyer, seller.email), await world.invite(buyer, SELLER)
    response = await world.client.post(f"/v1/invitations/{one.id}/decline", headers=seller.headers)
    assert response.status_code == 200
    async with world.database.general.transaction() as connection:
        await invitations.decline(connection, two.id)
    told = await events(world, buyer, "invitation.declined")
    assert [event["by"] for event in told] == [{"kind": "recipient"}] * 2


async def test_invitation_under_way_is_not_mailed_to_who_has_opted_out_meanwhile(
    world: World, tmp_path: Any
) -> None:
    one, two = await world.company(), await world.company()
    first = await world.invite(one, SELLER)
    second = await world.invite(two, SELLER, "receive_leads")
    await world.opt_out(first, of_all=True)
    # As if the second mail had been queued at the same moment.
    await world.fetch("UPDATE mail SET state = 'queued' WHERE id = $1", second.mail_id)
    mailer = Mailer("http://service", SECRET.encode(), "us@service.example", None, tmp_path / "out")
    await send_mail(world.database, mailer, second.mail_id, is_last=False)
    assert not (tmp_path / "out").exists()
    assert (await world.invitation(second)).delivery == "suppressed"


@pytest.mark.parametrize(("is_stopped", "delivery"), [(True, "suppressed"), (False, "written")])
async def test_who_opts_out_of_one_inviter_is_mailed_by_others_alone(
    world: World, tmp_path: Path, is_stopped: bool, delivery: str
) -> None:
    one, other = await world.company(), await world.company()
    invitation = await world.invite(one, SELLER)
    stopped = one if is_stopped else other
    await world.fetch(
        "INSERT INTO invitation_opt_out (email, inviter_id) VALUES ($1, $2)", SELLER, stopped.id
    )
    mailer = Mailer("http://service", SECRET.encode(), "us@service.example", None, tmp_path / "out")
    await send_mail(world.database, mailer, invitation.mail_id, is_last=False)
    assert (await world.invitation(invitation)).delivery == delivery


async def test_one_account_alone_keeps_no_other_from_inviting_an_address(world: World) -> None:
    hog, other = await world.company(), await world.company()
    for _ in range(30):
        with suppress(LimitReached):
            invitation = await world.invite(hog, SELLER)
            async with world.database.general.transaction() as connection:
                await invitations.cancel(connection, hog.id, invitation.id, by(hog))
    assert (await world.invite(other, SELLER)).state == "pending"


async def test_colleague_is_not_invited_in_two_roles(world: World) -> None:
    company = await world.company()
    for role, status in (("admin", 201), ("admin", 200), ("member", 409)):
        response = await world.client.post(
            "/v1/account/members",
            headers=company.headers,
            json={"emails": [SELLER], "role": role},
        )
        assert response.status_code == status


async def test_link_to_unsubscribe_can_do_nothing_else(world: World) -> None:
    """Mail providers, gateways, and sending services handle and log it."""
    buyer = await world.company()
    invitation = await world.invite(buyer, SELLER)
    link = f"/invitations/{stop_token(SECRET.encode(), invitation.mail_id)}"
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    for path in ("", "/"):
        assert (await Surfer(world.client).go(f"{link}{path}")).status_code == 404
    for path in ("/accept", "/decline", "/sign-in"):
        sent = await surfer.send(f"{link}{path}", company="Fresh Leads GmbH", your_name="Mallory")
        assert sent.status_code == 404
        await surfer.go(link_of(invitation))
    assert (await world.invitation(invitation)).state == "pending"
    assert (await surfer.go(f"{link}/unsubscribe")).status_code == 200
    one_click = await world.client.post(
        f"{link}/unsubscribe", data={"List-Unsubscribe": "One-Click"}
    )
    assert one_click.status_code == 200
    assert (await world.invitation(invitation)).state == "declined"


@pytest.mark.parametrize("reason", ["domain_ownership_visibility", "join_account"])
async def test_opener_of_a_forwarded_first_invitation_does_not_become_its_recipient(
    world: World, reason: Any
) -> None:
    buyer = await world.company()
    invitation = await world.invite(buyer, SELLER, reason)
    forwarded = Surfer(world.client)
    await forwarded.go(link_of(invitation))
    before = forwarded.cookie
    await forwarded.send(f"{link_of(invitation)}/accept", company="Fresh Leads", your_name="Mal")
    assert (await world.invitation(invitation)).state == "accepted"
    assert forwarded.cookie == before
    for path in ("/connections", "/keys", "/domains", "/memberships", link_of(invitation)):
        page = await forwarded.go(path)
        assert "Sign out" not in page.text
    assert await world.fetch("SELECT FROM user_session") == []
    # The mailbox decides.
    recipient = Surfer(world.client)
    path = await sign_in_link(world, SELLER)
    await recipient.go(path)
    await recipient.send(path)
    assert SELLER in (await recipient.go("/memberships")).text


@pytest.mark.parametrize(
    ("opted_out", "invited", "is_same"),
    [
        ("jo@seller.example", "jo+leads@seller.example", True),
        ("jo+1@seller.example", "jo+2@seller.example", True),
        ("jo.do@gmail.com", "jodo+x@googlemail.com", True),
        ("jo.do@seller.example", "jodo@seller.example", False),
        ("jo@seller.example", "jo@other.example", False),
        ("+jo@seller.example", "+al@seller.example", False),
    ],
)
async def test_opt_out_is_a_mailboxs_however_its_address_is_spelled(
    world: World, opted_out: str, invited: str, is_same: bool
) -> None:
    first, second = await world.company(), await world.company()
    open_invitation = await world.invite(first, invited)
    await world.opt_out(await world.invite(second, opted_out), of_all=True)
    assert ((await world.invitation(open_invitation)).state == "declined") is is_same
    later = await world.invite(await world.company(), invited)
    assert (later.delivery == "suppressed") is is_same
    async with world.database.general.transaction() as connection:
        stopped = await opt_outs.opt_outs_of(connection, invited)
        assert bool(stopped) is is_same
        for each in stopped:
            await opt_outs.allow_again(connection, invited, each.inviter_id)
        assert await opt_outs.opt_outs_of(connection, invited) == []


async def test_limits_follow_the_mailbox(world: World) -> None:
    company = await party(world)
    spellings = [f"target+{number}@seller.example" for number in range(8)]
    response = await company.invite(*spellings)
    assert response.status_code == 207
    statuses = [item["status_code"] for item in response.json()["items"]]
    assert sorted(statuses) == [201] * 5 + [429] * 3


async def test_account_that_invites_itself_finds_out_no_more_names_than_it_may_try(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptance, "NAMES_REFUSED_A_DAY", 3)
    attacker, victim = await world.company(), await world.company("Victim Seller")
    statuses = []
    for number in range(3):
        invitation = await world.invite(attacker, f"own{number}@attacker.example")
        surfer = Surfer(world.client)
        for _ in range(2):
            await surfer.go(link_of(invitation))
            sent = await surfer.send(
                f"{link_of(invitation)}/accept", company=victim.name, your_name="Mal"
            )
            statuses.append(sent.status_code)
    assert statuses == [422] * 3 + [429] * 3


async def test_suspended_accounts_invitation_is_not_mailed(world: World, tmp_path: Path) -> None:
    buyer = await world.company()
    invitation = await world.invite(buyer, SELLER)
    await world.suspend(buyer)
    mailer = Mailer("http://service", SECRET.encode(), "us@service.example", None, tmp_path)
    await send_mail(world.database, mailer, invitation.mail_id, is_last=False)
    now = await world.invitation(invitation)
    assert (now.delivery, now.delivery_error) == (
        "failed",
        "your account was suspended; send it again",
    )


@pytest.mark.parametrize(
    ("headers", "acts"),
    [
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": ORIGIN}, True),
        ({}, True),
    ],
)
async def test_key_that_a_browser_remembers_does_nothing_for_another_site(
    world: World, headers: dict[str, str], acts: bool
) -> None:
    buyer, seller = await world.company(), await world.company()
    invitation = await world.invite(buyer, seller.email)
    response = await world.client.post(
        f"/v1/invitations/{invitation.id}/accept",
        headers={**seller.headers, "Content-Type": "text/plain", **headers},
    )
    assert response.status_code == (200 if acts else 403)
    assert (await world.invitation(invitation)).state == ("accepted" if acts else "pending")
