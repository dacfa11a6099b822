"""The management API for invitations."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from service.invitations.invitations import PER_DOMAIN, PER_INVITER, PER_RECIPIENT
from service.mail.mails import Mailer, send_mail
from tests.builders import SECRET, VERIFIED, World
from tests.conftest import SETTINGS
from tests.parties import (
    CONNECTIONS,
    EVENTS,
    INVITATIONS,
    MEMBERS,
    Party,
    partners,
    party,
    problem,
    two,
)

NAMING = ("domain_ownership_visibility", "confirm_domain_ownership")


REASONS = ("receive_leads", "send_leads", "share_lead_quality_reports", *NAMING)


async def end(inviter: Party, recipient: Party, invitation: str, state: str) -> None:
    """Move a pending invitation to another state."""
    if state == "expired":
        statement = "UPDATE invitation SET expires_at = now() WHERE id::text = $1"
        await inviter.world.fetch(statement, invitation.rpartition("/")[2])
    else:
        who = inviter if state == "cancelled" else recipient
        action = {"accepted": "accept", "declined": "decline", "cancelled": "cancel"}[state]
        response = await who.do("POST", f"{invitation}/{action}")
        assert (response.status_code, response.json()["state"]) == (200, state)


@pytest.mark.parametrize("reason", REASONS)
async def test_accepting_connects_and_names_as_the_reason_says(world: World, reason: str) -> None:
    inviter, acceptor = await two(world)
    cert_id = await acceptor.certificate()
    note = "n" * 500
    invitation = await inviter.invited(acceptor.email, reason, note=note, vendor_label="Vendor 7")
    (received,) = (await acceptor.see(f"{INVITATIONS}?direction=received"))["items"]
    assert received["inviter"] == {"id": str(inviter.id), "name": inviter.name}
    assert (received["reason"], received["state"], received["note"]) == (reason, "pending", note)
    assert await world.confirmed_owner(inviter, cert_id) == VERIFIED
    first, again = [await acceptor.do("POST", f"{invitation}/accept") for _ in range(2)]
    assert (first.status_code, first.json()["state"]) == (200, "accepted")
    assert (again.status_code, again.json()) == (200, first.json())
    shown = acceptor.name if reason in NAMING else VERIFIED
    assert await world.confirmed_owner(inviter, cert_id) == shown
    mine, theirs = await inviter.connection(), await acceptor.connection()
    assert mine["id"] == theirs["id"] == first.json()["connection_id"]
    roles = ("seller", "buyer") if reason == "send_leads" else ("buyer", "seller")
    assert (mine["role"], theirs["role"]) == roles
    assert (mine["partner"]["name"], theirs["partner"]["name"]) == (acceptor.name, inviter.name)
    assert mine["partner_name_shown_since"] == theirs["name_shown_since"]
    assert (theirs["name_shown_since"] is not None) == (reason in NAMING)
    assert mine["name_shown_since"] is theirs["partner_name_shown_since"] is None
    assert (await inviter.see(invitation))["vendor_label"] == "Vendor 7"
    assert "Vendor 7" not in str([await acceptor.see(path) for path in (invitation, EVENTS)])


@pytest.mark.parametrize("shows_name", [True, False])
@pytest.mark.parametrize("reason", NAMING)
async def test_name_is_not_shown_against_the_acceptors_word(
    world: World, reason: str, shows_name: bool
) -> None:
    inviter, acceptor = await two(world)
    cert_id = await acceptor.certificate()
    invitation = await inviter.invited(acceptor.email, reason)
    response = await acceptor.do("POST", f"{invitation}/accept", {"shows_name": shows_name})
    connects = shows_name or reason == "confirm_domain_ownership"
    assert response.status_code == (200 if connects else 422)
    assert len((await inviter.see(CONNECTIONS))["items"]) == connects
    shown = acceptor.name if shows_name else VERIFIED
    assert await world.confirmed_owner(inviter, cert_id) == shown


async def test_each_address_has_its_result_in_order(world: World) -> None:
    company = await party(world)
    known = await company.invited("known@x.example")
    emails = ("new@x.example", "no address", "Known@X.example", "new@x.example")
    response = await company.invite(*emails)
    assert response.status_code == 207
    new, bad, same, twice = response.json()["items"]
    assert (new["status_code"], new["state"], new["email"]) == (201, "pending", "new@x.example")
    assert (bad["status_code"], bad["error"]["status"], bad["error"]["field"]) == (
        422,
        422,
        "email",
    )
    assert "no address" in bad["error"]["detail"]
    assert (same["status_code"], f"{INVITATIONS}/{same['id']}") == (200, known)
    assert twice["id"] == new["id"]
    assert len(await company.pages(INVITATIONS)) == 2
    assert [to for to, _ in await world.mails("invitation")].count("new@x.example") == 1


async def test_answer_is_200_when_all_are_pending_and_422_when_all_are_bad(world: World) -> None:
    company = await party(world)
    emails = [f"jo{number}@x.example" for number in range(50)]
    assert (await company.invite(*emails)).status_code == 201
    again = await company.invite(*emails)
    assert again.status_code == 200
    assert [item["email"] for item in again.json()["items"]] == emails
    assert (await company.invite(emails[0], reason="send_leads")).status_code == 201
    body = problem(await company.invite("jo@", "@x.example"), 422)
    assert [item["error"]["field"] for item in body["items"]] == ["email", "email"]


@pytest.mark.parametrize("reason", REASONS)
async def test_inviting_a_partner_asks_for_its_name_or_conflicts(world: World, reason: str) -> None:
    buyer, seller, _ = await partners(world)
    inviter, partner = (seller, buyer) if reason == "send_leads" else (buyer, seller)
    response = await inviter.invite(partner.email, "new@x.example", reason=reason)
    mine, other = response.json()["items"]
    assert (other["status_code"], other["state"]) == (201, "pending")
    asked_at = (await partner.connection())["asked_by_partner_at"]
    if reason in NAMING:
        assert mine["grant_requested"]["id"] == (await inviter.connection())["id"]
        assert mine["grant_requested"]["asked_at"] == asked_at is not None
    else:
        assert response.status_code == 207
        assert mine["status_code"] == mine["error"]["status"] == 409
        assert asked_at is None
        problem(await inviter.invite(partner.email, reason=reason), 409)
    assert len(await inviter.pages(INVITATIONS)) == 1


@pytest.mark.parametrize("state", ["accepted", "declined", "cancelled", "expired"])
async def test_invitation_that_ended_stays_so(world: World, state: str) -> None:
    inviter, recipient = await two(world)
    invitation = await inviter.invited(recipient.email)
    await end(inviter, recipient, invitation, state)
    for who in (inviter, recipient):
        assert (await who.see(invitation))["state"] == state
    for who, action, own_state in (
        (recipient, "accept", "accepted"),
        (recipient, "decline", "declined"),
        (inviter, "cancel", "cancelled"),
        (inviter, "resend", "expired"),
    ):
        if state != own_state:
            problem(await who.do("POST", f"{invitation}/{action}"), 409)
    if state != "accepted":
        assert (await inviter.see(CONNECTIONS))["items"] == []
        assert await inviter.invited(recipient.email) != invitation


async def test_resending_renews_and_mails_again(world: World, tmp_path: Path) -> None:
    mailer = Mailer("http://service", SECRET.encode(), SETTINGS.mail_from, None, tmp_path)

    async def deliver() -> None:
        for row in await world.fetch("SELECT id FROM mail WHERE state = 'queued'"):
            await send_mail(world.database, mailer, row["id"], is_last=False)

    inviter, recipient = await two(world)
    invitation = await inviter.invited(recipient.email)
    before = await inviter.see(invitation)
    assert (before["sent_count"], before["delivery"]) == (0, {"state": "queued"})
    problem(await recipient.do("POST", f"{invitation}/resend"), 404)
    await deliver()
    sent = await inviter.see(invitation)
    assert (sent["sent_count"], sent["delivery"]) == (1, {"state": "written"})
    for number in (2, 3):
        if number == 3:
            await end(inviter, recipient, invitation, "expired")
        resent = await inviter.do("POST", f"{invitation}/resend")
        assert resent.json()["state"] == "pending"
        assert resent.json()["expires_at"] > sent["expires_at"]
        await deliver()
        (now,) = (await inviter.see(INVITATIONS))["items"]
        assert (now["id"], now["sent_count"]) == (sent["id"], number)
        assert now["last_sent_at"] > sent["last_sent_at"]
        sent = now
    assert (await recipient.do("POST", f"{invitation}/accept")).status_code == 200


async def test_lists_are_filtered_and_their_pages_hold_each_item_once(world: World) -> None:
    company, recipient = await two(world)
    sent = {reason: await company.invited(recipient.email, reason) for reason in REASONS}
    received = [*sent.values()][::-1]
    other = await company.invited("jo@x.example")
    states = ("accepted", "declined", "cancelled", "expired")
    ended = dict(zip(states, [*received[:3], other], strict=True))
    for state, invitation in ended.items():
        await end(company, recipient, invitation, state)

    async def listed(query: str, who: Party = company) -> list[str]:
        return [f"{INVITATIONS}/{i['id']}" for i in await who.pages(f"{INVITATIONS}?{query}")]

    assert await listed("direction=sent") == [other, *received]
    assert await listed("direction=received", recipient) == received
    assert await listed("direction=received") == await listed("", recipient) == []
    for state, invitation in ended.items():
        assert await listed(f"state={state}") == [invitation]
    assert await listed("state=pending") == received[3:]
    assert await listed("reason=receive_leads") == [other, sent["receive_leads"]]
    assert await listed("email=JO@x.example") == [other]
    assert await listed("reason=receive_leads&state=expired&email=jo@x.example") == [other]


@pytest.mark.parametrize("role", ["admin", "member"])
async def test_account_answers_what_was_sent_to_any_of_its_members(world: World, role: str) -> None:
    inviter, recipient = await two(world)
    await recipient.member("al@x.example", role)
    one, other = [await inviter.invited("al@x.example", reason) for reason in REASONS[:2]]
    assert (await recipient.do("POST", f"{one}/accept")).status_code == 200
    assert (await recipient.do("POST", f"{other}/decline")).status_code == 200


async def test_account_answers_for_nobody_else(world: World) -> None:
    inviter, recipient = await two(world)
    own = await inviter.invited(inviter.email)
    assert (await inviter.do("POST", f"{own}/accept")).status_code == 409
    former = await recipient.member("al@x.example", "admin")
    invitation = await inviter.invited("al@x.example")
    assert (await recipient.do("DELETE", former)).status_code == 204
    for action in ("accept", "decline"):
        problem(await recipient.do("POST", f"{invitation}/{action}"), 404)
        problem(await (await party(world)).do("POST", f"{invitation}/{action}"), 404)
    assert (await inviter.see(CONNECTIONS))["items"] == []


@pytest.mark.parametrize("at_once", [False, True])
async def test_crossing_invitations_end_in_one_connection(world: World, at_once: bool) -> None:
    one, other = await two(world)
    to_other = await one.invited(other.email, "receive_leads")
    to_one = await other.invited(one.email, "send_leads")
    accepts = [other.do("POST", f"{to_other}/accept")]
    if at_once:
        accepts.append(one.do("POST", f"{to_one}/accept"))
    assert {response.status_code for response in await asyncio.gather(*accepts)} == {200}
    made = await one.connection()
    assert (made["role"], made["id"]) == ("buyer", (await other.connection())["id"])
    for who, invitation in ((one, to_other), (other, to_one)):
        seen = await who.see(invitation)
        assert (seen["state"], seen["connection_id"]) == ("accepted", made["id"])


async def test_colleague_is_invited_and_joins_by_no_other_accounts_key(world: World) -> None:
    company, stranger = await two(world)
    body = {"emails": [stranger.email], "role": "admin"}
    response, again = [await company.do("POST", MEMBERS, body) for _ in range(2)]
    assert (response.status_code, again.status_code) == (201, 200)
    (item,) = response.json()["items"]
    assert (item["reason"], item["role"], item["state"]) == ("join_account", "admin", "pending")
    assert [to for to, _ in await world.mails("invitation")] == [stranger.email]
    problem(await company.do("POST", MEMBERS, {"emails": [company.email]}), 409)
    problem(await stranger.do("POST", f"{INVITATIONS}/{item['id']}/accept"), 404)
    assert len((await company.see(MEMBERS))["items"]) == 1


async def test_address_of_a_strangers_user_is_like_one_of_nobody(world: World) -> None:
    company, stranger = await two(world)
    await stranger.certificate()

    def alike(items: list[dict[str, Any]]) -> bool:
        for item in items:
            for differs in ("id", "email", "created_at", "expires_at"):
                del item[differs]
        return items[0] == items[1]

    for reason in REASONS:
        emails = (stranger.email, "nobody@example.com")
        answers = [await company.invite(email, reason=reason) for email in emails]
        assert [response.status_code for response in answers] == [201, 201]
        assert alike([response.json()["items"][0] for response in answers])
        assert alike((await company.see(f"{INVITATIONS}?reason={reason}"))["items"])


@pytest.mark.parametrize(
    ("what", "limit", "beyond"),
    [
        ("invitations", PER_INVITER, "any@two.example"),
        ("invitations to", PER_RECIPIENT, "jo@one.example"),
        ("invitations to domain", PER_DOMAIN, "any@one.example"),
    ],
)
async def test_invitations_are_limited(world: World, what: str, limit: int, beyond: str) -> None:
    company, other = await two(world)
    invitation = await company.invited("jo@one.example")
    await world.fetch("UPDATE allowance SET used = $2 WHERE what = $1", what, limit - 1)
    await company.invited(beyond, "send_leads")
    over = await company.invite(beyond, reason="confirm_domain_ownership")
    (item,) = problem(over, 429)["items"]
    assert item["status_code"] == item["error"]["status"] == 429
    assert 0 < int(over.headers["retry-after"]) <= 86400
    problem(await company.do("POST", f"{invitation}/resend"), 429)
    assert len(await company.pages(INVITATIONS)) == 2
    others = 201 if what == "invitations" else 429
    response = await other.invite(beyond, "al@three.example")
    assert [item["status_code"] for item in response.json()["items"]] == [others, 201]


async def test_address_is_found_as_it_was_invited(world: World) -> None:
    inviter = await party(world)
    await inviter.invited("jo@bücher.example")
    for email in ("jo@bücher.example", "JO@xn--bcher-kva.example", " jo@bücher.example"):
        listed = await inviter.do("GET", f"{INVITATIONS}?email={email}")
        assert len(listed.json()["items"]) == 1
    assert (await inviter.do("GET", f"{INVITATIONS}?email=nobody")).json()["items"] == []
