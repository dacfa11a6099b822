"""Invitation pages, in a browser without JavaScript."""

import asyncio
import re

import pytest

from service.invitations import invitations
from service.invitations.opt_outs import CONFIRMATIONS_A_DAY
from service.tokens import link_token
from tests.builders import NO_VERIFIED, SECRET, VERIFIED, Company, World, link_of, member_of
from tests.surfer import ORIGIN, Surfer, sign_in_link, signed_in

SELLER = "jo@seller.example"


async def terms(world: World, email: str, path: str) -> str:
    """The hidden `terms` value in the form that the recipient sees."""
    surfer = await signed_in(world, email)
    await surfer.go(path)
    found = re.search(r'name="terms" value="(\w+)"', surfer.text)
    assert found
    return found[1]


async def test_recipient_without_an_account_makes_one_and_signs_in_by_the_mailbox(
    world: World,
) -> None:
    buyer = await world.company()
    invitation = await world.invite(buyer, SELLER)
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    assert buyer.name in surfer.text
    assert SELLER in surfer.text
    response = await surfer.send(
        f"{link_of(invitation)}/accept", company="Seller Leads", your_name="Jo"
    )
    # Whoever opened the link accepted, but is nobody yet: the email may have been forwarded.
    assert (response.status_code, response.url.path) == (200, f"{link_of(invitation)}/accept")
    assert f"sign-in link to <strong>{SELLER}</strong>" in surfer.text
    assert (await surfer.go("/connections")).url.path == "/sign-in"
    path = await sign_in_link(world, SELLER)
    await surfer.go(path)
    assert (await surfer.send(path)).url.path.startswith("/connections/")
    assert "Seller Leads" in surfer.text
    now = await world.invitation(invitation)
    assert now.state == "accepted"
    (account,) = await world.fetch("SELECT id FROM account WHERE id <> $1", buyer.id)
    assert now.acceptor_id == account["id"]
    (user,) = await world.fetch("SELECT name FROM app_user WHERE email = $1", SELLER)
    assert user["name"] == "Jo"


async def test_looking_at_an_invitation_changes_nothing(world: World) -> None:
    buyer = await world.company()
    invitation = await world.invite(buyer, SELLER)
    for path in ("", "/unsubscribe"):
        assert (await Surfer(world.client).go(link_of(invitation) + path)).status_code == 200
    for path in ("/accept", "/decline", "/stop"):
        assert (await Surfer(world.client).go(link_of(invitation) + path)).status_code in (404, 405)
    assert await world.invitation(invitation) == invitation
    assert await world.fetch("SELECT FROM invitation_opt_out") == []


async def test_recipient_with_an_account_has_to_sign_in(world: World) -> None:
    buyer, seller = await world.company(), await world.company()
    invitation = await world.invite(buyer, seller.email)
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    response = await surfer.send(
        f"{link_of(invitation)}/accept",
        terms=await terms(world, invitation.email, link_of(invitation)),
        company="Another Company",
        your_name="Thief",
        account_id=str(seller.id),
    )
    assert response.status_code == 409
    assert (await world.invitation(invitation)).state == "pending"
    assert len(await world.fetch("SELECT FROM account")) == 2


async def test_link_to_sign_in_leads_back_to_the_invitation(world: World) -> None:
    buyer, seller = await world.company(), await world.company()
    await world.own(seller, "seller.example", covers_subdomains=True)
    invitation = await world.invite(buyer, seller.email)
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    await surfer.send(f"{link_of(invitation)}/sign-in")
    path = await sign_in_link(world, seller.email)
    await surfer.go(path)
    response = await surfer.send(path)
    assert response.url.path == link_of(invitation)
    assert f"will see “{seller.name}”" in surfer.text
    assert "seller.example and its subdomains" in surfer.text
    await surfer.send(f"{link_of(invitation)}/accept", account_id=str(seller.id))
    assert f"{buyer.name} sees" in surfer.text
    cert_id = await world.certificate(domain="shop.seller.example")
    assert await world.confirmed_owner(buyer, cert_id) == seller.name


async def test_somebody_else_who_is_signed_in_is_told_and_accepts_nothing(world: World) -> None:
    buyer, seller, other = await world.company(), await world.company(), await world.company()
    for email in (seller.email, SELLER):
        invitation = await world.invite(buyer, email)
        surfer = await signed_in(world, other.email)
        await surfer.go(link_of(invitation))
        assert f"you’re signed in as {other.email}" in surfer.text
        await surfer.send(
            f"{link_of(invitation)}/accept",
            account_id=str(other.id),
            company="Stolen Leads",
            your_name="Thief",
        )
        assert (await world.invitation(invitation)).state == "pending"
    assert await world.fetch("SELECT FROM connection") == []


async def test_account_of_somebody_else_can_not_be_chosen(world: World) -> None:
    buyer, seller, other = await world.company(), await world.company(), await world.company()
    invitation = await world.invite(buyer, seller.email)
    surfer = await signed_in(world, seller.email)
    await surfer.go(link_of(invitation))
    assert other.name not in surfer.text
    response = await surfer.send(f"{link_of(invitation)}/accept", account_id=str(other.id))
    assert response.status_code == 422
    assert (await world.invitation(invitation)).state == "pending"


async def test_member_who_is_no_admin_is_told_to_ask_one(world: World) -> None:
    buyer, seller = await world.company(), await world.company()
    await member_of(world, seller, SELLER)
    invitation = await world.invite(buyer, SELLER)
    surfer = await signed_in(world, SELLER)
    await surfer.go(link_of(invitation))
    assert "Only an admin" in surfer.text
    response = await surfer.send(f"{link_of(invitation)}/accept", account_id=str(seller.id))
    assert response.status_code == 409
    assert (await world.invitation(invitation)).state == "pending"


async def test_own_account_can_not_accept_and_is_not_offered(world: World) -> None:
    buyer, seller = await world.company(), await world.company()
    await member_of(world, buyer, SELLER, "admin")
    invitation = await world.invite(buyer, SELLER)
    surfer = await signed_in(world, SELLER)
    await surfer.go(link_of(invitation))
    assert "an invitation from your own account" in surfer.text
    await member_of(world, seller, SELLER, "admin")
    await surfer.go(link_of(invitation))
    assert seller.name in surfer.text
    response = await surfer.send(f"{link_of(invitation)}/accept", account_id=str(buyer.id))
    assert response.status_code == 422
    assert await world.fetch("SELECT FROM connection") == []


async def test_suspended_account_is_not_offered(world: World) -> None:
    buyer, seller = await world.company(), await world.company()
    await member_of(world, seller, SELLER, "admin")
    other = await world.company(email="o@example.com")
    await member_of(world, other, SELLER, "admin")
    await world.suspend(other)
    invitation = await world.invite(buyer, SELLER)
    surfer = await signed_in(world, SELLER)
    await surfer.go(link_of(invitation))
    assert seller.name in surfer.text
    assert other.name not in surfer.text


async def test_what_was_displayed_is_what_is_accepted(world: World) -> None:
    buyer = await world.company("Honest Leads")
    invitation = await world.invite(buyer, SELLER)
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    await world.rename(buyer, "Other Leads")
    accept = f"{link_of(invitation)}/accept"
    response = await surfer.send(accept, company="Seller Leads", your_name="Jo")
    assert response.status_code == 409
    assert "changed since" in surfer.text
    assert "Other Leads" in surfer.text
    assert await world.fetch("SELECT FROM connection") == []
    response = await surfer.send(accept, company="Seller Leads", your_name="Jo")
    assert "You’re connected to Other Leads" in surfer.text


async def test_link_is_replaced_by_sending_again(world: World) -> None:
    buyer = await world.company()
    first = await world.invite(buyer, SELLER)
    surfer = Surfer(world.client)
    await surfer.go(link_of(first))
    path = f"/v1/invitations/{first.id}/resend"
    assert (await world.client.post(path, headers=buyer.headers)).status_code == 200
    again = await world.invitation(first)
    assert link_of(again) != link_of(first)
    response = await surfer.send(f"{link_of(first)}/accept", company="S Leads", your_name="Jo")
    assert response.status_code == 410
    assert (await surfer.go(link_of(again))).status_code == 200
    assert await world.mails("invitation") == [(SELLER, "cancelled"), (SELLER, "queued")]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("accepted", "Invitation accepted"),
        ("declined", "Invitation declined"),
        ("cancelled", "Invitation canceled"),
        ("expired", "Invitation expired"),
    ],
)
async def test_invitation_that_is_over_says_why_and_can_not_be_accepted(
    world: World, state: str, says: str
) -> None:
    buyer, seller = await world.company(), await world.company()
    invitation = await world.invite(buyer, SELLER)
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    await world.fetch(
        """
        UPDATE invitation SET state = CASE WHEN $1 = 'expired' THEN 'pending' ELSE $1 END,
            ended_at = CASE WHEN $1 <> 'expired' THEN now() END,
            expires_at = CASE WHEN $1 = 'expired' THEN now() ELSE expires_at END,
            acceptor_id = CASE WHEN $1 = 'accepted' THEN $2::uuid END,
            inviter_name = CASE WHEN $1 <> 'expired' THEN 'As it was called' END
        """,
        state,
        seller.id,
    )
    for response in (
        await surfer.send(f"{link_of(invitation)}/accept", company="S Leads", your_name="Jo"),
        await surfer.go(link_of(invitation)),
    ):
        assert response.status_code == 410
        assert says in surfer.text
    await surfer.go("/sign-in")
    if state != "declined":
        assert (await surfer.send(f"{link_of(invitation)}/decline")).status_code == 410
    assert len(await world.fetch("SELECT FROM account")) == 2


async def test_double_click_makes_one_account_and_one_connection(world: World) -> None:
    buyer = await world.company()
    invitation = await world.invite(buyer, SELLER)
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    form = {"company": "Seller Leads", "your_name": "Jo"}
    await asyncio.gather(*(surfer.send(f"{link_of(invitation)}/accept", **form) for _ in range(5)))
    assert len(await world.fetch("SELECT FROM account")) == 2
    assert len(await world.fetch("SELECT FROM connection")) == 1
    assert len(await world.fetch("SELECT FROM visibility_grant")) == 1


async def test_invitation_of_a_suspended_account_can_not_be_accepted(world: World) -> None:
    buyer = await world.company()
    invitation = await world.invite(buyer, SELLER)
    await world.suspend(buyer)
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    response = await surfer.send(f"{link_of(invitation)}/accept", company="S Leads", your_name="Jo")
    assert response.status_code == 409
    assert "is suspended" in surfer.text
    assert len(await world.fetch("SELECT FROM account")) == 1


async def test_names_can_be_tried_a_number_of_times_with_one_invitation(world: World) -> None:
    buyer = await world.company("Taken Leads")
    invitation = await world.invite(buyer, SELLER)
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    for _ in range(20):
        response = await surfer.send(
            f"{link_of(invitation)}/accept", company="Taken Leads", your_name="Jo"
        )
        assert response.status_code == 422
    response = await surfer.send(
        f"{link_of(invitation)}/accept", company="Free Leads", your_name="Jo"
    )
    assert response.status_code == 429


async def test_one_click_in_a_mail_program_ends_invitations_for_good(world: World) -> None:
    one, two = await world.company(), await world.company()
    first, second = await world.invite(one, SELLER), await world.invite(two, SELLER)
    response = await world.client.post(
        f"{link_of(first)}/unsubscribe", data={"List-Unsubscribe": "One-Click"}
    )
    assert response.status_code == 200
    assert (await world.invitation(first)).state == "declined"
    assert (await world.invitation(second)).state == "declined"
    third = await world.invite(one, SELLER)
    assert third.delivery == "suppressed"
    assert (SELLER, "queued") not in await world.mails("invitation")


async def test_forwarded_invitation_can_not_be_answered_by_someone_else_who_is_signed_in(
    world: World,
) -> None:
    buyer, recipient, other = [await world.company() for _ in range(3)]
    invitation = await world.invite(buyer, recipient.email)
    link = link_of(invitation)
    surfer = await signed_in(world, other.email)
    response = await surfer.go(link)
    assert response.status_code == 200
    assert "Decline" not in surfer.text
    assert "Stop invitations" not in surfer.text
    mails = await world.fetch("SELECT FROM mail")
    for path, fields in (
        ("/decline", {}),
        ("/stop", {"scope": "inviter"}),
        ("/stop", {"scope": "all"}),
        ("/sign-in", {}),
        ("/unsubscribe", {"List-Unsubscribe": "One-Click"}),
    ):
        await surfer.go(link)
        assert (await surfer.send(link + path, **fields)).status_code == 403
        assert recipient.email in surfer.text
    assert (await surfer.go(f"{link}/unsubscribe")).status_code == 403
    assert await world.invitation(invitation) == invitation
    assert await world.fetch("SELECT FROM invitation_opt_out") == []
    assert await world.fetch("SELECT FROM mail") == mails
    assert await world.events(buyer) == [("invitation.created", "key")]


async def test_opting_out_is_confirmed_and_says_what_it_does(world: World) -> None:
    invitation = await world.invite(await world.company(), SELLER)
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    assert f"{link_of(invitation)}/unsubscribe" in surfer.text
    assert f"{link_of(invitation)}/stop" not in surfer.text
    await surfer.go(f"{link_of(invitation)}/unsubscribe")
    for scope in ("", "else", None):
        response = await surfer.send(f"{link_of(invitation)}/stop", scope=scope)
        assert response.status_code == 422
        await surfer.go(f"{link_of(invitation)}/unsubscribe")
    assert await world.invitation(invitation) == invitation


@pytest.mark.parametrize("of_all", [False, True])
@pytest.mark.parametrize("by_mail", [False, True])
async def test_opting_out_is_undone_by_its_addressee(
    world: World, of_all: bool, by_mail: bool
) -> None:
    buyer, seller, other = [await world.company() for _ in range(3)]
    invitation = await world.invite(buyer, seller.email)
    await world.opt_out(invitation, of_all=of_all)
    await world.opt_out(invitation, of_all=of_all)
    assert await world.mails("opted_out") == [(seller.email, "queued")]
    assert (await world.invite(buyer, seller.email)).delivery == "suppressed"
    if by_mail:
        (mail,) = await world.fetch("SELECT id FROM mail WHERE kind = 'opted_out'")
        path = f"/opt-outs/{link_token(SECRET.encode(), mail['id'])}"
        thief = await signed_in(world, other.email)
        assert (await thief.go(path)).status_code == 403
        await thief.go("/opt-outs")
        assert (await thief.send(path)).status_code == 403
        surfer = Surfer(world.client)
        await surfer.go(path)
        assert len(await world.fetch("SELECT FROM invitation_opt_out")) == 1
        await surfer.send(path)
        assert "allowed again" in surfer.text
        assert (await surfer.go(path)).status_code == 404
    else:
        thief = await signed_in(world, other.email)
        for whom in (str(buyer.id), "everyone"):
            await thief.go("/opt-outs")
            await thief.send("/opt-outs", inviter=whom)
        assert len(await world.fetch("SELECT FROM invitation_opt_out")) == 1
        surfer = await signed_in(world, seller.email)
        await surfer.go("/opt-outs")
        assert ("Everyone" if of_all else buyer.name) in surfer.text
        await surfer.send("/opt-outs", inviter="everyone" if of_all else str(buyer.id))
        assert "No stopped invitations" in surfer.text
    assert (await world.invite(buyer, seller.email, "receive_leads")).delivery == "queued"
    told = [("recipient.opted_out", "recipient"), ("recipient.allowed_again", "recipient")]
    seen = [each for each in await world.events(buyer) if each[0].startswith("recipient.")]
    assert seen == told[: 1 if of_all else 2]


async def test_later_name_of_an_inviter_is_not_for_who_opted_out_of_it(world: World) -> None:
    buyer = await world.company("Old Known Name Ltd")
    invitation = await world.invite(buyer, SELLER)
    async with world.database.general.transaction() as connection:
        await invitations.decline(connection, invitation.id)
    await world.rename(buyer, "Secret New Brand")
    await world.opt_out(await world.invitation(invitation), of_all=False)
    (mail,) = await world.fetch("SELECT id, params FROM mail WHERE kind = 'opted_out'")
    assert "Old Known Name Ltd" in mail["params"]
    surfer = Surfer(world.client)
    await surfer.go(f"/opt-outs/{link_token(SECRET.encode(), mail['id'])}")
    assert "Old Known Name Ltd" in surfer.text
    assert "Secret" not in surfer.text + mail["params"]


async def test_undoing_one_opt_out_says_that_another_still_stands(world: World) -> None:
    invitation = await world.invite(await world.company(), SELLER)
    await world.opt_out(invitation, of_all=False)
    (mail,) = await world.fetch("SELECT id FROM mail WHERE kind = 'opted_out'")
    await world.opt_out(invitation, of_all=True)
    surfer, path = Surfer(world.client), f"/opt-outs/{link_token(SECRET.encode(), mail['id'])}"
    await surfer.go(path)
    await surfer.send(path)
    assert "still gets no invitations" in surfer.text


@pytest.mark.parametrize("of_all", [False, True])
async def test_opting_out_of_partners_spares_invitations_of_colleagues(
    world: World, of_all: bool
) -> None:
    buyer = await world.company()
    joining = await world.invite(buyer, SELLER, "join_account")
    await world.opt_out(await world.invite(buyer, SELLER), of_all=of_all)
    assert (await world.invitation(joining)).state == "pending"
    assert (await world.invite(await world.company(), SELLER, "join_account")).delivery == "queued"


async def test_opting_out_by_an_invitation_to_join_is_from_that_account_alone(
    world: World,
) -> None:
    company, other = await world.company(), await world.company()
    joining = await world.invite(company, SELLER, "join_account")
    response = await world.client.post(
        f"{link_of(joining)}/unsubscribe", data={"List-Unsubscribe": "One-Click"}
    )
    assert response.status_code == 200
    assert (await world.invitation(joining)).state == "declined"
    assert (await world.invite(company, SELLER, "join_account")).delivery == "suppressed"
    assert (await world.invite(company, SELLER)).delivery == "suppressed"
    assert (await world.invite(other, SELLER, "join_account")).delivery == "queued"
    assert (await world.invite(other, SELLER)).delivery == "queued"


async def test_only_so_many_opt_outs_are_confirmed_by_mail(world: World) -> None:
    for _ in range(CONFIRMATIONS_A_DAY + 2):
        await world.opt_out(await world.invite(await world.company(), SELLER), of_all=False)
    assert len(await world.mails("opted_out")) == CONFIRMATIONS_A_DAY
    assert len(await world.fetch("SELECT FROM invitation_opt_out")) == CONFIRMATIONS_A_DAY + 2


async def test_stopping_one_inviter_leaves_others(world: World) -> None:
    one, two = await world.company(), await world.company()
    first, second = await world.invite(one, SELLER), await world.invite(two, SELLER)
    surfer = Surfer(world.client)
    await surfer.go(link_of(first))
    await surfer.send(f"{link_of(first)}/stop", scope="inviter")
    assert one.name in surfer.text
    assert (await world.invitation(first)).state == "declined"
    assert (await world.invitation(second)).state == "pending"
    assert (await world.invite(one, SELLER, "receive_leads")).delivery == "suppressed"
    assert (await world.invite(two, SELLER, "receive_leads")).delivery == "queued"


@pytest.mark.parametrize("path", ["/accept", "/decline", "/stop", "/sign-in"])
async def test_forms_of_an_invitation_are_taken_from_its_page_alone(
    world: World, path: str
) -> None:
    buyer = await world.company()
    invitation = await world.invite(buyer, SELLER)
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    fields = {"company": "Seller Leads", "your_name": "Jo"}
    for response in (
        await surfer.send(
            link_of(invitation) + path, headers={"Origin": "https://evil.example"}, **fields
        ),
        await surfer.send(link_of(invitation) + path, form_token="x", **fields),
        await Surfer(world.client).send(
            link_of(invitation) + path, headers={"Origin": ORIGIN}, **fields
        ),
    ):
        assert response.status_code == 403
    assert await world.invitation(invitation) == invitation


async def test_what_companies_wrote_is_text_on_pages(world: World) -> None:
    buyer = await world.company("<b>Bold & Co</b>")
    response = await world.client.post(
        "/v1/invitations",
        headers=buyer.headers,
        json={
            "emails": [SELLER],
            "reason": "receive_leads",
            "note": "<img src=x onerror=alert(1)> \"'",
        },
    )
    assert response.status_code == 201
    (row,) = await world.fetch("SELECT mail_id FROM invitation")
    page = await Surfer(world.client).go(
        f"/invitations/{link_token(SECRET.encode(), row['mail_id'])}"
    )
    assert "<b>Bold" not in page.text
    assert "<img src=x" not in page.text
    assert "&lt;b&gt;Bold &amp; Co&lt;/b&gt;" in page.text


async def test_invitation_to_join_is_for_its_recipient(world: World) -> None:
    company, other = await world.company(), await world.company()
    invitation = await world.invite(company, other.email, "join_account")
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    await surfer.send(f"{link_of(invitation)}/accept", your_name="Thief")
    assert (await world.invitation(invitation)).state == "pending"
    surfer = await signed_in(world, other.email)
    await surfer.go(link_of(invitation))
    await surfer.send(f"{link_of(invitation)}/accept", your_name="Other One")
    assert company.name in surfer.text
    assert other.name in surfer.text
    rows = await world.fetch(
        "SELECT role FROM membership WHERE account_id = $1 ORDER BY role", company.id
    )
    assert [row["role"] for row in rows] == ["admin", "member"]


async def test_forwarded_invitation_to_join_is_not_for_whoever_is_signed_in(world: World) -> None:
    company, recipient, other = [await world.company() for _ in range(3)]
    invitation = await world.invite(company, recipient.email, "join_account")
    surfer = await signed_in(world, other.email)
    await surfer.go(link_of(invitation))
    response = await surfer.send(
        f"{link_of(invitation)}/accept",
        terms=await terms(world, recipient.email, link_of(invitation)),
        your_name="Thief",
    )
    assert response.status_code == 409
    assert "You can't accept this invitation." in surfer.text
    assert (await world.invitation(invitation)).state == "pending"
    assert len(await world.fetch("SELECT FROM membership")) == 3


async def test_only_one_click_unsubscribes_from_outside_of_pages(world: World) -> None:
    """RFC 8058, section 3.2: the body says so, and nothing else counts."""
    invitation = await world.invite(await world.company(), SELLER)
    for body in ({}, {"List-Unsubscribe": "Two-Clicks"}):
        response = await world.client.post(f"{link_of(invitation)}/unsubscribe", data=body)
        assert response.status_code == 422
    assert (await world.invitation(invitation)).state == "pending"


async def test_removed_member_can_do_nothing_from_then_on(world: World) -> None:
    buyer, seller = await world.company(), await world.company()
    await member_of(world, seller, SELLER, "admin")
    await world.permit(seller, buyer)
    (row,) = await world.fetch("SELECT id FROM connection")
    surfer = await signed_in(world, SELLER)
    await surfer.go(f"/connections/{row['id']}")
    (user,) = await world.fetch("SELECT id FROM app_user WHERE email = $1", SELLER)
    response = await world.client.delete(
        f"/v1/account/members/{user['id']}", headers=seller.headers
    )
    assert response.status_code == 204
    response = await surfer.send(
        f"/connections/{row['id']}", account_id=str(seller.id), do="disconnect"
    )
    assert response.status_code == 403


async def test_unticked_name_is_not_shown(world: World) -> None:
    buyer = await world.company()
    invitation = await world.invite(buyer, SELLER, "confirm_domain_ownership")
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    await surfer.send(f"{link_of(invitation)}/accept", company="Seller Leads", your_name="Jo")
    (row,) = await world.fetch("SELECT id FROM account WHERE name = 'Seller Leads'")
    seller = Company(row["id"], "Seller Leads", "", row["id"], SELLER)
    cert_id = await world.certificate(domain="seller.example")
    assert await world.confirmed_owner(buyer, cert_id) == NO_VERIFIED
    await world.own(seller, "seller.example")
    assert await world.confirmed_owner(buyer, cert_id) == VERIFIED
