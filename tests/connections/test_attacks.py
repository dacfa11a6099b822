"""What an attacker's eye found, or looked for: each is a way in that has to stay closed."""

import asyncio
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from service.accounts import members
from service.accounts.members import NOTICES_A_DAY
from service.accounts.sign_in import find_session, request_link, sign_in, sign_out
from service.audit import Actor
from service.errors import Forbidden, LimitReached
from service.invitations import invitations
from service.mail.mails import Mailer, send_mail
from service.tokens import link_token
from tests.builders import SECRET, Company, World, link_of
from tests.surfer import Surfer, signed_in

SELLER = "jo@seller.example"


def by(company: Company) -> Actor:
    return Actor("key", company.id, company.key_id)


async def make_member(world: World, account: Company, company: Company, role: str) -> UUID:
    """Let the admin of a company belong to another's account, too."""
    (row,) = await world.fetch(
        """
        INSERT INTO membership (account_id, user_id, role)
        SELECT $1, id, $3 FROM app_user WHERE email = $2 RETURNING user_id
        """,
        account.id,
        company.email,
        role,
    )
    user_id: UUID = row["user_id"]
    return user_id


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
    assert (await sending).status_code == 404
    assert (await world.invitation(invitation)).state == "pending"


@pytest.mark.parametrize("reason", ["join_account", "domain_ownership_visibility"])
async def test_forwarded_link_lets_nobody_in_as_a_user_there_is(world: World, reason: Any) -> None:
    """Also where the user came to be after the page was opened."""
    buyer = await world.company()
    invitation = await world.invite(buyer, SELLER, reason)
    await world.company(email=SELLER)
    async with world.database.general.transaction() as connection:
        letting_in = (
            invitations.join(connection, invitation.id, None, "Mallory")
            if reason == "join_account"
            else invitations.sign_up(connection, invitation.id, None, "M Leads", "Mallory")
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
    assert "is not active" in surfer.text
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
    async with world.database.general.transaction() as connection:
        await invitations.opt_out(connection, first.id, of_all=True)
    # As if the second had been written at the same time.
    await world.fetch("UPDATE mail SET state = 'queued' WHERE id = $1", second.mail_id)
    mailer = Mailer("http://service", SECRET.encode(), "us@service.example", None, tmp_path / "out")
    await send_mail(world.database, mailer, second.mail_id, is_last=False)
    assert not (tmp_path / "out").exists()
    assert (await world.invitation(second)).delivery == "suppressed"


async def test_signing_out_everywhere_waits_for_who_is_signing_in(world: World) -> None:
    company = await world.company()
    async with world.database.general.transaction() as connection:
        for _ in range(2):
            await request_link(connection, SECRET.encode(), company.email)
    rows = await world.fetch("SELECT mail_id FROM sign_in_link")
    first, second = (link_token(SECRET.encode(), row["mail_id"]) for row in rows)
    async with world.database.general.transaction() as connection:
        token = (await sign_in(connection, first, None)).token
    async with world.database.general.connection() as connection:
        session = await find_session(connection, token)
    assert session is not None

    async def everywhere() -> None:
        async with world.database.general.transaction() as connection:
            await sign_out(connection, session, everywhere=True)

    async with world.database.general.transaction() as connection:
        begun = await sign_in(connection, second, None)
        leaving = asyncio.create_task(everywhere())
        await asyncio.sleep(0.2)
        assert not leaving.done()
    await leaving
    async with world.database.general.connection() as connection:
        assert await find_session(connection, begun.token) is None


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


async def test_body_that_does_not_arrive_holds_no_connection_to_the_database(
    world: World,
) -> None:
    company = await world.company()

    async def stalled() -> Any:
        await asyncio.sleep(1.5)
        yield b"{}"

    headers = {**company.headers, "Idempotency-Key": "k", "Content-Type": "application/json"}
    path = f"/v1/invitations/{company.id}/resend"
    stalling = [
        asyncio.create_task(world.client.post(path, headers=headers, content=stalled()))
        for _ in range(12)
    ]
    await asyncio.sleep(0.1)
    response = await asyncio.wait_for(world.client.get("/ready"), 1)
    assert response.status_code == 200
    assert {each.status_code for each in await asyncio.gather(*stalling)} == {404}


async def test_one_account_alone_keeps_no_other_from_inviting_an_address(world: World) -> None:
    hog, other = await world.company(), await world.company()
    for _ in range(30):
        with suppress(LimitReached):
            invitation = await world.invite(hog, SELLER)
            async with world.database.general.transaction() as connection:
                await invitations.cancel(connection, hog.id, invitation.id, by(hog))
    assert (await world.invite(other, SELLER)).state == "pending"


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


async def test_nul_in_a_filter_is_bad_input(world: World) -> None:
    company = await world.company()
    for path in ("/v1/invitations?email=%00", "/v1/events?action=a%00", "/v1/domains?cursor=%00"):
        response = await world.client.get(path, headers=company.headers)
        assert response.status_code == 422
        assert "NUL" in response.json()["detail"]


async def test_misspelt_filter_filters_nothing_and_is_refused(world: World) -> None:
    company = await world.company()
    response = await world.client.get("/v1/invitations?sate=pending", headers=company.headers)
    assert response.status_code == 422
    assert "sate" in response.json()["detail"]


async def test_colleague_is_not_invited_in_two_roles(world: World) -> None:
    company = await world.company()
    for role, status in (("admin", 201), ("admin", 200), ("member", 409)):
        response = await world.client.post(
            "/v1/account/members",
            headers=company.headers,
            json={"emails": [SELLER], "role": role},
        )
        assert response.status_code == status


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
