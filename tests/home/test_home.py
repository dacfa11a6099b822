"""The home page tells what waits for an answer, what was checked, and who sees the name."""

import re

import pytest

from service.answers.overview import LATEST, overview_of
from tests.builders import Company, World, make_member
from tests.surfer import Surfer, signed_in


@pytest.fixture
async def buyer(world: World) -> Company:
    return await world.company("Harbor Insurance Group", "al@harbor.example")


def shares(text: str) -> list[tuple[str, str]]:
    """The shares on the page, in percent, and how many answers each is."""
    return re.findall(r'class="figure">(\d+)%</p>\s*<p class="hint">([\d,]+) of', text)


async def test_visitor_is_told_what_this_is_and_how_to_call_it(world: World) -> None:
    surfer = Surfer(world.client)
    await surfer.go("/")
    assert "curl" in surfer.text
    assert 'href="/sign-in"' in surfer.text
    assert "not affiliated" in surfer.text


async def test_new_account_is_told_what_to_do_first(world: World, buyer: Company) -> None:
    surfer = await signed_in(world, buyer.email)
    await surfer.go("/")
    for text in ("You buy leads", "You sell leads", "Create an API key", "Add your domains"):
        assert text in surfer.text
    assert "To do" not in surfer.text


async def test_counts_are_those_of_the_answers_and_sites_without_owner_are_ranked(
    world: World, buyer: Company
) -> None:
    named, hidden = await world.company("BrightQuote Media"), await world.company("Hidden Leads")
    await world.own(named, "named.example")
    await world.own(hidden, "hidden.example")
    await world.permit(named, buyer)
    for domain, times in (
        ("named.example", 1),
        ("hidden.example", 1),
        ("a.example", 2),
        ("b.example", 4),
    ):
        for _ in range(times):
            await world.ask(buyer, await world.certificate(domain=domain), "confirmed_owner")
    await world.ask(named, await world.certificate(domain="else.example"), "confirmed_owner")
    surfer = await signed_in(world, buyer.email)
    await surfer.go("/")
    assert shares(surfer.text) == [("12", "1"), ("12", "1"), ("75", "6")]
    rows = re.findall(r'<th scope="row">([^<]+)</th><td class="number"[^>]*>(\d+)', surfer.text)
    assert rows == [("b.example", "4"), ("a.example", "2")]
    assert "else.example" not in surfer.text
    assert "Hidden Leads" not in surfer.text


async def test_only_the_latest_answers_are_counted(world: World, buyer: Company) -> None:
    await world.fetch(
        """
        INSERT INTO answer (id, account_id, api_key_id, domain, status, answered_at)
        SELECT gen_random_uuid(), $1, $1, 'a.example', 'none', now() - interval '1 day' * (n % 40)
        FROM generate_series(1, $2) AS n
        """,
        buyer.id,
        LATEST + 5,
    )
    async with world.database.general.connection() as connection:
        seen = await overview_of(connection, buyer.id)
    assert (seen.total, seen.is_all, seen.counts["none"]) == (LATEST, False, LATEST)
    assert seen.unowned == [("a.example", LATEST)]
    assert len({bar.day for bar in seen.bars}) == 30
    assert all(0 <= bar.y <= bar.y + bar.height <= 120.001 for bar in seen.bars)
    assert all(0 <= bar.x <= 600 for bar in seen.bars)


async def test_vendors_whose_leads_come_from_sites_without_an_owner_are_ranked(
    world: World, buyer: Company
) -> None:
    seller = await world.company("BrightQuote Media")
    await world.own(seller, "owned.example")
    for vendor, domain in (
        ("Acme", "a.example"),
        ("Zeta", "a.example"),
        ("Acme", "b.example"),
        ("Acme & <Söhne>" * 30, "b.example"),
        ("Honest", "owned.example"),
        (None, "c.example"),
    ):
        response = await world.client.post(
            f"/{await world.certificate(domain=domain)}",
            headers=buyer.headers,
            json={
                "match_lead": {"email": "jane@example.com"},
                "insights": {"properties": ["confirmed_owner"]},
                "retain": {} if vendor is None else {"vendor": vendor},
            },
        )
        assert response.status_code == 200, response.text
    async with world.database.general.connection() as connection:
        seen = await overview_of(connection, buyer.id)
        other = await overview_of(connection, seller.id)
    assert seen.vendors == [("Acme", 2), ("Acme & <Söhne>" * 30, 1), ("Zeta", 1)]
    assert other.vendors == []
    surfer = await signed_in(world, buyer.email)
    await surfer.go("/")
    vendors = surfer.text.partition("Vendors whose leads")[2]
    assert "Acme" in vendors
    assert "Invite" in vendors
    assert "Honest" not in vendors
    for path in re.findall(r'href="(/connections/invite\?[^"]+about=[^"]+)"', surfer.text):
        assert (await surfer.go(path)).status_code == 200
        assert "You’re inviting the company behind" in surfer.text


async def test_what_waits_for_an_answer_is_listed_until_it_is_answered(
    world: World, buyer: Company
) -> None:
    seller, asking = await world.company("BrightQuote Media"), await world.company("Asking Leads")
    await world.connect(asking, buyer)
    await world.invite(seller, buyer.email)
    (row,) = await world.fetch("SELECT id FROM connection")
    path = f"/v1/connections/{row['id']}"
    await world.client.post(f"{path}/grant-request", headers=asking.headers)
    surfer = await signed_in(world, buyer.email)
    await surfer.go("/")
    assert "BrightQuote Media wants to" in re.sub("<[^>]+>", "", surfer.text)
    assert "Asking Leads asked to see your name" in re.sub("<[^>]+>", "", surfer.text)
    link = surfer.text.partition('href="/invitations/')[2].partition('"')[0]
    await surfer.go(f"/invitations/{link}")
    await surfer.send(f"/invitations/{link}/decline")
    await world.client.put(f"{path}/grant", headers=buyer.headers)
    await surfer.go("/")
    assert "BrightQuote Media" not in surfer.text
    assert "To do" not in surfer.text
    assert "Asking Leads" in surfer.text.partition("Who sees our name")[2]


async def test_invitation_of_a_colleague_is_not_linked_for_others(
    world: World, buyer: Company
) -> None:
    seller = await world.company("BrightQuote Media")
    await world.invite(seller, buyer.email)
    other = await world.company("Another", "kim@another.example")
    await make_member(world, buyer, other, "admin")
    surfer = await signed_in(world, other.email)
    await surfer.send("/account", account_id=str(buyer.id))
    await surfer.go("/")
    assert "/invitations/" not in surfer.text


async def test_account_that_is_shown_is_switched_and_stays(world: World, buyer: Company) -> None:
    other = await world.company("BrightQuote Media", "jo@brightquote.example")
    await make_member(world, other, buyer, "member")
    await world.own(other, "brightquote.example")
    surfer = await signed_in(world, buyer.email)
    for account, name in ((other, other.name), (buyer, buyer.name)):
        await surfer.go("/")
        await surfer.send("/account", account_id=str(account.id))
        await surfer.go("/domains")
        shown = surfer.text.partition("<summary>")[2].partition("</summary>")[0]
        assert name in shown
        assert ("brightquote.example" in surfer.text) is (account is other)
    stranger = await world.company("Stranger")
    await surfer.go("/")
    assert (await surfer.send("/account", account_id=str(stranger.id))).status_code in (
        403,
        404,
        422,
    )
    surfer._client.cookies.set("account", str(stranger.id), domain="service.local", path="/")
    await surfer.go("/domains")
    assert "Stranger" not in surfer.text


async def test_form_is_answered_in_the_frame_of_the_account_it_was_made_for(
    world: World, buyer: Company
) -> None:
    other = await world.company("BrightQuote Media", "jo@brightquote.example")
    await make_member(world, other, buyer, "admin")
    surfer = await signed_in(world, buyer.email)
    await surfer.send("/account", account_id=str(other.id))
    await surfer.go("/keys")
    another_tab = surfer.page
    await surfer.send("/account", account_id=str(buyer.id))
    surfer.page = another_tab
    await surfer.send("/keys", do="create", name="Lead intake")
    assert "Copy the key" in surfer.text
    shown = surfer.text.partition("<summary>")[2].partition("</summary>")[0]
    assert other.name in shown
