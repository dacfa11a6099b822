"""The management API as a program meets it: what it does, what it tells, and what it does not."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.invitations.invitations import PER_DOMAIN, PER_INVITER, PER_RECIPIENT
from service.mail.mails import Mailer, send_mail
from tests.builders import SECRET, VERIFIED, Company, World
from tests.conftest import SETTINGS

INVITATIONS, CONNECTIONS, EVENTS = "/v1/invitations", "/v1/connections", "/v1/events"
ACCOUNT, MEMBERS, VISIBILITY = "/v1/account", "/v1/account/members", "/v1/account/visibility"
NAMING = ("domain_ownership_visibility", "confirm_domain_ownership")
REASONS = ("receive_leads", "send_leads", "share_lead_quality_reports", *NAMING)
ID_ROUTES = [
    ("GET", "/v1/invitations/{invitation}"),
    *(("POST", f"/v1/invitations/{{invitation}}/{do}") for do in ("resend", "cancel")),
    *(("POST", f"/v1/invitations/{{invitation}}/{do}") for do in ("accept", "decline")),
    *((method, "/v1/connections/{connection}") for method in ("GET", "DELETE")),
    *((method, "/v1/connections/{connection}/grant") for method in ("PUT", "DELETE")),
    *((method, "/v1/connections/{connection}/grant-request") for method in ("POST", "DELETE")),
    *((method, "/v1/account/members/{member}") for method in ("PATCH", "DELETE")),
    ("GET", "/v1/account/visibility?as={connection}"),
]
ROUTES = [
    *(("GET", path) for path in (INVITATIONS, CONNECTIONS, VISIBILITY, ACCOUNT, MEMBERS, EVENTS)),
    *(("POST", path) for path in (INVITATIONS, MEMBERS)),
    ("PATCH", ACCOUNT),
    *ID_ROUTES,
]


@dataclass(frozen=True)
class Party(Company):
    """A company that calls the API."""

    world: World

    async def do(
        self, method: str, path: str, body: Any = None, key: str | None = None
    ) -> httpx.Response:
        headers = {**self.headers, **({"Idempotency-Key": key} if key else {})}
        return await self.world.client.request(method, path, headers=headers, json=body)

    async def see(self, path: str) -> Any:
        response = await self.do("GET", path)
        assert response.status_code == 200, response.text
        return response.json()

    async def pages(self, path: str) -> list[Any]:
        """All items of a list, two at a time."""
        items: list[Any] = []
        path += f"{'&' if '?' in path else '?'}limit=2"
        page = await self.see(path)
        while page["next"]:
            assert len(page["items"]) == 2
            items += page["items"]
            page = await self.see(f"{path}&cursor={page['next']}")
        return items + page["items"]

    async def invite(
        self, *emails: str, reason: str = "receive_leads", key: str | None = None, **more: Any
    ) -> httpx.Response:
        body = {"emails": emails, "reason": reason, **more}
        return await self.do("POST", INVITATIONS, body, key)

    async def invited(self, email: str, reason: str = "receive_leads", **more: Any) -> str:
        """The path of a new invitation."""
        response = await self.invite(email, reason=reason, **more)
        assert response.status_code == 201, response.text
        return f"{INVITATIONS}/{response.json()['items'][0]['id']}"

    async def connection(self) -> Any:
        """The only one it has."""
        (only,) = (await self.see(CONNECTIONS))["items"]
        return only

    async def user_id(self) -> str:
        return str((await self.see(MEMBERS))["items"][0]["user_id"])

    async def certificate(self) -> str:
        """Of a lead from a domain that is its own."""
        domain = f"d{uuid4().hex}.example"
        await self.world.own(self, domain)
        return await self.world.certificate(domain=domain)

    async def member(self, email: str, role: str = "member") -> str:
        """The path of one more user of the account."""
        (user,) = await self.world.fetch(
            "INSERT INTO app_user (id, email) VALUES (gen_random_uuid(), $1) RETURNING id", email
        )
        statement = "INSERT INTO membership (account_id, user_id, role) VALUES ($1, $2, $3)"
        await self.world.fetch(statement, self.id, user["id"], role)
        return f"{MEMBERS}/{user['id']}"


async def party(world: World, name: str | None = None) -> Party:
    return Party(**vars(await world.company(name)), world=world)


async def two(world: World) -> tuple[Party, Party]:
    return await party(world), await party(world)


async def partners(world: World) -> tuple[Party, Party, str]:
    """A buyer, its seller, and the path of their connection."""
    buyer, seller = await two(world)
    await world.connect(buyer, seller)
    return buyer, seller, f"{CONNECTIONS}/{(await buyer.connection())['id']}"


async def end(inviter: Party, recipient: Party, invitation: str, state: str) -> None:
    """Bring a pending invitation into another state."""
    if state == "expired":
        statement = "UPDATE invitation SET expires_at = now() WHERE id::text = $1"
        await inviter.world.fetch(statement, invitation.rpartition("/")[2])
    else:
        who = inviter if state == "cancelled" else recipient
        action = {"accepted": "accept", "declined": "decline", "cancelled": "cancel"}[state]
        response = await who.do("POST", f"{invitation}/{action}")
        assert (response.status_code, response.json()["state"]) == (200, state)


def problem(response: httpx.Response, status: int, field: str | None = None) -> Any:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert field is None or body["field"] == field, body
    return body


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
    assert (new["status"], new["state"], new["email"]) == (201, "pending", "new@x.example")
    assert (bad["status"], bad["error"]["status"], bad["error"]["field"]) == (422, 422, "email")
    assert "no address" in bad["error"]["detail"]
    assert (same["status"], f"{INVITATIONS}/{same['id']}") == (200, known)
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


BAD_VALUES: dict[str, list[object]] = {
    "emails": [[], [f"jo{number}@x.example" for number in range(51)], "jo@x.example", None],
    "emails[0]": [[7]],
    "reason": ["be_friends", 7, None],
    "note": ["See https://x.example/offer", "See www.x.example", "n" * 501, ["n"]],
    "vendor_label": [7],
    "colour": ["red"],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field in BAD_VALUES for value in BAD_VALUES[field]]
)
async def test_bad_unknown_or_missing_field_is_refused_by_its_name(
    world: World, field: str, value: object
) -> None:
    company = await party(world)
    body: dict[str, object] = {"emails": ["jo@x.example"], "reason": "receive_leads"}
    body[field.removesuffix("[0]")] = value
    body = {name: value for name, value in body.items() if value is not None}
    problem(await company.do("POST", INVITATIONS, body), 422, field)
    assert await company.pages(INVITATIONS) == []


@pytest.mark.parametrize(
    "path",
    [
        *(f"{INVITATIONS}?{name}=x" for name in ("state", "reason", "direction", "cursor")),
        *(f"{INVITATIONS}?limit={limit}" for limit in (0, 101)),
        f"{CONNECTIONS}?role=friend",
        f"{VISIBILITY}?as=x",
        f"{EVENTS}?cursor=x",
    ],
)
async def test_bad_query_is_refused_by_its_name(world: World, path: str) -> None:
    name = path.partition("?")[2].partition("=")[0]
    problem(await (await party(world)).do("GET", path), 422, name)


@pytest.mark.parametrize("reason", REASONS)
async def test_inviting_a_partner_asks_for_its_name_or_conflicts(world: World, reason: str) -> None:
    buyer, seller, _ = await partners(world)
    inviter, partner = (seller, buyer) if reason == "send_leads" else (buyer, seller)
    response = await inviter.invite(partner.email, "new@x.example", reason=reason)
    mine, other = response.json()["items"]
    assert (other["status"], other["state"]) == (201, "pending")
    asked_at = (await partner.connection())["asked_by_partner_at"]
    if reason in NAMING:
        assert mine["grant_requested"]["id"] == (await inviter.connection())["id"]
        assert mine["grant_requested"]["asked_at"] == asked_at is not None
    else:
        assert response.status_code == 207
        assert mine["status"] == mine["error"]["status"] == 409
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
    assert (sent["sent_count"], sent["delivery"]) == (1, {"state": "sent"})
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
    assert again.status_code == (409 if ending == "granted" else 201)


async def test_visibility_equals_what_the_partner_is_told(world: World) -> None:
    buyer, seller, path = await partners(world)
    await world.own(seller, "wide.example", covers_subdomains=True)
    await world.own(seller, "narrow.example")
    await world.own(seller, "lapsed.example")
    await world.lapse("lapsed.example")
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


@pytest.mark.parametrize("at_once", [False, True])
async def test_request_with_the_same_key_is_carried_out_once(world: World, at_once: bool) -> None:
    buyer, _, path = await partners(world)
    resend = f"{await buyer.invited('jo@one.example')}/resend"
    invite = {"emails": ["jo@two.example", "bad"], "reason": "receive_leads"}
    for target, body in ((INVITATIONS, invite), (resend, None), (f"{path}/grant-request", None)):
        calls = [buyer.do("POST", target, body, f"key of {target}") for _ in range(2)]
        if at_once:
            one, other = await asyncio.gather(*calls)
        else:
            one, other = [await each for each in calls]
        assert one.status_code < 300, one.text
        assert (other.status_code, other.content) == (one.status_code, one.content), target
    mails = [to for to, _ in await world.mails("invitation")]
    assert mails == ["jo@one.example", "jo@one.example", "jo@two.example"]
    actions = [event["action"] for event in await buyer.pages(EVENTS)]
    assert actions.count("invitation.created") == 2
    assert actions.count("invitation.resent") == actions.count("grant.requested") == 1


async def test_key_is_for_one_request_of_one_account(world: World) -> None:
    one, other = await two(world)
    first = await one.invite("jo@x.example", key="k")
    invitation = f"{INVITATIONS}/{first.json()['items'][0]['id']}"
    problem(await one.invite("al@x.example", key="k"), 409)
    problem(await one.do("POST", f"{invitation}/resend", key="k"), 409)
    theirs = await other.invite("jo@x.example", key="k")
    assert theirs.status_code == 201
    assert theirs.json()["items"][0]["inviter"]["id"] == str(other.id)
    await one.do("POST", f"{invitation}/cancel")
    again = await one.invite("jo@x.example", key="k")
    assert (again.status_code, again.json()) == (201, first.json())
    assert len(await one.pages(INVITATIONS)) == 1


async def test_rename_is_shown_with_the_next_call_and_done_once_in_seven_days(world: World) -> None:
    buyer, seller, path = await partners(world)
    cert_id = await seller.certificate()
    await world.grant(seller, buyer)
    same = await seller.do("PATCH", ACCOUNT, {"name": seller.name})
    assert (same.status_code, same.json()["renamed_at"]) == (200, None)
    for _ in range(2):
        renamed = await seller.do("PATCH", ACCOUNT, {"name": "Bright Quotes"})
        assert (renamed.status_code, renamed.json()["name"]) == (200, "Bright Quotes")
        assert await world.confirmed_owner(buyer, cert_id) == "Bright Quotes"
    assert (await buyer.see(path))["partner"]["name"] == "Bright Quotes"
    problem(await seller.do("PATCH", ACCOUNT, {"name": "Dim Quotes"}), 409)
    assert (await seller.see(ACCOUNT))["name"] == "Bright Quotes"
    assert [event["action"] for event in await seller.pages(EVENTS)].count("account.renamed") == 1
    await world.fetch("UPDATE account SET renamed_at = renamed_at - interval '7 days'")
    assert (await seller.do("PATCH", ACCOUNT, {"name": "Dim Quotes"})).status_code == 200
    assert await world.confirmed_owner(buyer, cert_id) == "Dim Quotes"


@pytest.mark.parametrize(
    "name",
    [
        "HARBOR  INSURANCE",
        "H\N{CYRILLIC SMALL LETTER A}rbor Insurance",
        "Harbor\N{ZERO WIDTH SPACE} Insurance",
        "activeprospect verified account",
        "\N{CYRILLIC CAPITAL LETTER A}ctiveProspect Verified Account",
        "No Verified ActiveProspect Account Identified.",
        "",
        7,
    ],
)
async def test_name_that_could_pass_for_another_is_refused(world: World, name: object) -> None:
    await party(world, "Harbor Insurance")
    company = await party(world)
    problem(await company.do("PATCH", ACCOUNT, {"name": name}), 422, "name")
    account = await company.see(ACCOUNT)
    assert (account["name"], account["renamed_at"]) == (company.name, None)


async def test_members_are_changed_and_removed_but_the_last_admin(world: World) -> None:
    company = await party(world)
    admin = f"{MEMBERS}/{await company.user_id()}"
    other = await company.member("al@x.example")
    roles = {each["email"]: each["role"] for each in (await company.see(MEMBERS))["items"]}
    assert roles == {company.email: "admin", "al@x.example": "member"}
    problem(await company.do("PATCH", admin, {"role": "member"}), 409)
    problem(await company.do("DELETE", admin), 409)
    problem(await company.do("PATCH", other, {"role": "boss"}), 422, "role")
    promoted = await company.do("PATCH", other, {"role": "admin"})
    assert (promoted.status_code, promoted.json()["role"]) == (200, "admin")
    removals = await asyncio.gather(company.do("DELETE", admin), company.do("DELETE", other))
    assert sorted(response.status_code for response in removals) == [204, 409]
    (left,) = (await company.see(MEMBERS))["items"]
    assert left["role"] == "admin"


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


async def test_each_party_sees_who_did_what_but_not_the_partners_people(world: World) -> None:
    inviter, acceptor = await two(world)
    third = await party(world)
    invitation = await inviter.invited(acceptor.email, "domain_ownership_visibility")
    await acceptor.do("POST", f"{invitation}/accept")
    path = f"{CONNECTIONS}/{(await inviter.connection())['id']}"
    await acceptor.do("DELETE", f"{path}/grant")
    await inviter.do("POST", f"{path}/grant-request")
    await inviter.do("DELETE", path)
    invitation_id = invitation.rpartition("/")[2]
    for who, partner in ((inviter, acceptor), (acceptor, inviter)):
        events = await who.pages(EVENTS)
        ids = [event["id"] for event in events]
        assert ids == sorted(set(ids), reverse=True)
        trail = {event["action"]: event for event in events}
        for action, doer, origin in (
            ("invitation.accepted", acceptor, invitation_id),
            ("connection.started", acceptor, invitation_id),
            ("grant.started", acceptor, invitation_id),
            ("grant.ended", acceptor, None),
            ("grant.requested", inviter, None),
            ("connection.ended", inviter, None),
        ):
            own = {"kind": "key", "key_id": str(who.key_id)}
            assert trail[action]["by"] == (own if who is doer else {"kind": "partner"}), action
            assert trail[action]["detail"].get("invitation_id") == origin, action
        for secret in (str(partner.key_id), partner.key, await partner.user_id()):
            assert secret not in str(events)
        assert who is inviter or inviter.email not in str(events)
        filtered = await who.see(f"{EVENTS}?action=grant.started")
        assert filtered["items"] == [trail["grant.started"]]
    seen = str(await third.pages(EVENTS))
    for word in (invitation_id, inviter.name, acceptor.name, str(inviter.id), str(acceptor.id)):
        assert word not in seen


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_nothing_is_done_or_told_without_a_key(world: World, method: str, path: str) -> None:
    buyer, _, connection = await partners(world)
    path = path.format(
        invitation=(await buyer.invited("jo@x.example")).rpartition("/")[2],
        connection=connection.rpartition("/")[2],
        member=await buyer.user_id(),
    )
    without = await world.client.request(method, path)
    unknown = await world.client.request(method, path, auth=("X", "no such key"))
    assert problem(without, 401) == problem(unknown, 401)
    assert "www-authenticate" in without.headers


@pytest.mark.parametrize(("method", "path"), ID_ROUTES)
async def test_ids_of_others_are_like_unknown_ones(world: World, method: str, path: str) -> None:
    buyer, _, connection = await partners(world)
    stranger = await party(world)
    ids = {
        "invitation": (await buyer.invited("jo@x.example")).rpartition("/")[2],
        "connection": connection.rpartition("/")[2],
        "member": await buyer.user_id(),
    }
    unknown = str(uuid4())
    body = {"role": "member"} if method == "PATCH" else None
    of_other = await stranger.do(method, path.format(**ids), body)
    of_nobody = await stranger.do(method, path.format(**dict.fromkeys(ids, unknown)), body)
    problem(of_other, 404)
    problem(of_nobody, 404)
    (other,) = [each for each in ids.values() if each in path.format(**ids)]
    assert of_other.text.replace(other, unknown) == of_nobody.text


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
        ("invitations by", PER_INVITER, "any@two.example"),
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
    assert item["status"] == item["error"]["status"] == 429
    assert 0 < int(over.headers["retry-after"]) <= 86400
    problem(await company.do("POST", f"{invitation}/resend"), 429)
    assert len(await company.pages(INVITATIONS)) == 2
    others = 201 if what == "invitations by" else 429
    response = await other.invite(beyond, "al@three.example")
    assert [item["status"] for item in response.json()["items"]] == [others, 201]
