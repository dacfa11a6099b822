"""From invitation to visible name and back, with a real service, mail server, and browser."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.builders import NO_VERIFIED, VERIFIED, Company, World
from tests.mailbox import Mailbox, link_in, text_of
from tests.ownership.authority import Authority

REQUEST = {"reason": "domain_ownership_visibility", "note": "Nice to meet you.\nThe buyers"}


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    # Phone-sized, without JavaScript.
    context = await browser.new_context(
        java_script_enabled=False, viewport={"width": 360, "height": 640}
    )
    page = await context.new_page()
    yield page
    await context.close()


async def invite(stage: World, buyer: Company, email: str, **request: Any) -> Any:
    response = await stage.client.post(
        "/v1/invitations", headers=buyer.headers, json={**REQUEST, **request, "emails": [email]}
    )
    assert response.status_code == 201, response.text
    return response.json()["items"][0]


async def now(stage: World, buyer: Company, invitation: Any) -> Any:
    path = f"/v1/invitations/{invitation['id']}"
    return (await stage.client.get(path, headers=buyer.headers)).json()


async def sign_in_by_mail(box: Mailbox, page: Page, email: str) -> None:
    """Open the link that was mailed when an invitation was accepted."""
    await expect(page.get_by_role("main")).to_contain_text(f"sent a sign-in link to {email}")
    assert await fits(page)
    await page.goto(link_in(box.mail_to(email, "sign-in link")))
    await page.get_by_role("button", name="Sign in").click()


async def fits(page: Page) -> bool:
    """Whether the page fits a phone's screen."""
    box = await page.locator("main").bounding_box()
    return box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 360


async def test_seller_accepts_with_a_new_account_and_takes_it_back(
    stage: World, box: Mailbox, page: Page
) -> None:
    buyer = await stage.company("Harbor Insurance", "al@buyer.example")
    cert_id = await stage.certificate(domain="seller.example")
    assert await stage.confirmed_owner(buyer, cert_id) == NO_VERIFIED
    invitation = await invite(stage, buyer, "jo@seller.example")
    mail = box.mail_to("jo@seller.example", "invited you to connect")
    assert "Harbor Insurance" in text_of(mail)
    assert "> Nice to meet you." in text_of(mail)

    await page.goto(link_in(mail))
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Harbor Insurance invited")
    await expect(page.get_by_role("main")).to_contain_text("Nice to meet you.")
    assert await fits(page)
    await page.get_by_label("Company name").fill("BrightQuote Media")
    await page.get_by_label("Your name").fill("Jo Seller")
    await page.get_by_role("button", name="Create account and accept").click()
    await sign_in_by_mail(box, page, "jo@seller.example")
    await expect(page.get_by_role("status")).to_contain_text("Invitation accepted")
    assert await fits(page)

    shown = await now(stage, buyer, invitation)
    assert (shown["state"], shown["delivery"], shown["sent_count"]) == (
        "accepted",
        {"state": "sent"},
        1,
    )
    (row,) = await stage.fetch("SELECT id FROM account WHERE name = 'BrightQuote Media'")
    seller = Company(row["id"], "BrightQuote Media", "", row["id"], "jo@seller.example")
    await stage.own(seller, "seller.example")
    assert await stage.confirmed_owner(buyer, cert_id) == "BrightQuote Media"
    accepted = box.mail_to("al@buyer.example", "accepted your invitation")
    assert "BrightQuote Media" in text_of(accepted)

    await page.goto(link_in(box.mail_to("jo@seller.example", "You’re connected")))
    await page.get_by_role("button", name="Hide our name").click()
    show = page.get_by_role("button", name="Show our name to Harbor Insurance")
    await expect(show).to_be_visible()
    assert await stage.confirmed_owner(buyer, cert_id) == VERIFIED
    withdrawn = box.mail_to("al@buyer.example", "no longer shows you its name")
    assert "BrightQuote Media" in text_of(withdrawn)

    await show.click()
    assert await stage.confirmed_owner(buyer, cert_id) == "BrightQuote Media"
    await page.locator("summary", has_text="Disconnect").click()
    await page.get_by_role("button", name="Disconnect from Harbor Insurance").click()
    await expect(page.get_by_role("main")).to_contain_text("No connections yet")
    assert await stage.confirmed_owner(buyer, cert_id) == VERIFIED
    for address in ("jo@seller.example", "al@buyer.example"):
        assert "BrightQuote Media disconnected" in text_of(
            box.mail_to(address, "no longer connected")
        )


async def test_known_seller_signs_in_by_mail_and_chooses_the_account(
    stage: World, box: Mailbox, page: Page
) -> None:
    buyer = await stage.company()
    one = await stage.company("One Seller", "sam@sellers.example")
    async with stage.database.general.connection() as connection:
        await connection.execute(
            """
            WITH another AS (
                INSERT INTO account (id, name)
                VALUES (gen_random_uuid(), 'Another Seller') RETURNING id
            )
            INSERT INTO membership (account_id, user_id, role)
            SELECT another.id, app_user.id, 'admin' FROM another, app_user WHERE email = $1
            """,
            one.email,
        )
    await stage.own(one, "sellers.example")
    await invite(stage, buyer, one.email, reason="confirm_domain_ownership")
    await page.goto(link_in(box.mail_to(one.email)))
    await page.get_by_role("button", name="Email me a sign-in link").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Check your email")
    link = link_in(box.mail_to(one.email, "Your sign-in link"))
    await page.goto(link)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("main")).to_contain_text("sellers.example")
    await page.get_by_label("One Seller").check()
    await page.get_by_role("button", name="Accept").click()
    await expect(page.get_by_role("status")).to_be_visible()
    cert_id = await stage.certificate(domain="sellers.example")
    assert await stage.confirmed_owner(buyer, cert_id) == "One Seller"
    await page.goto(f"{stage.client.base_url}/memberships")
    await page.get_by_role("button", name="Sign out everywhere").click()
    await page.goto(link)
    await expect(page.get_by_role("alert")).to_contain_text("already used")


async def test_seller_declines_and_wants_no_more_without_an_account(
    stage: World, box: Mailbox, page: Page
) -> None:
    buyer, email = await stage.company(), "ann@else.example"
    first = await invite(stage, buyer, email)
    await page.goto(link_in(box.mail_to(email)))
    await page.get_by_role("button", name="Decline").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Invitation declined")
    assert (await now(stage, buyer, first))["state"] == "declined"
    assert email in text_of(box.mail_to(buyer.email, "declined"))
    second = await invite(stage, buyer, email)
    await page.goto(link_in(box.mail_to(email)))
    await page.get_by_role("link", name="Stop invitations").click()
    await expect(page.get_by_label(f"From {buyer.name}")).to_be_checked()
    await page.get_by_role("button", name="Stop invitations").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(
        f"Invitations from {buyer.name} stopped"
    )
    assert (await now(stage, buyer, second))["state"] == "declined"
    third = await invite(stage, buyer, email)
    assert third["delivery"] == {"state": "suppressed"}
    await page.goto(link_in(box.mail_to(email, "You stopped")))
    await page.get_by_role("button", name="Allow invitations again").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Invitations allowed again")


async def test_what_can_not_be_had_is_said_beside_the_form_and_nothing_typed_is_lost(
    stage: World, box: Mailbox, page: Page
) -> None:
    buyer = await stage.company("Paypal Leads")
    await invite(stage, buyer, "kim@else.example", reason="confirm_domain_ownership")
    await page.goto(link_in(box.mail_to("kim@else.example")))
    let = "Show our name to Paypal Leads"
    await page.get_by_label("Company name").fill("PaypaI Leads")
    await page.get_by_label("Your name").fill("Kim")
    await page.get_by_label(let).uncheck()
    await page.get_by_role("button", name="Create account and accept").click()
    await expect(page.get_by_role("alert")).to_contain_text(
        "different from every other account's name"
    )
    await expect(page.get_by_label("Your name")).to_have_value("Kim")
    await expect(page.get_by_label(let)).not_to_be_checked()
    await page.get_by_label("Company name").fill("Quite Other Leads")
    await page.get_by_role("button", name="Create account and accept").click()
    await sign_in_by_mail(box, page, "kim@else.example")
    await expect(page.get_by_role("button", name=let)).to_be_visible()


async def test_seller_who_confirms_its_domains_is_led_to_their_proof(
    stage: World, box: Mailbox, zone: Authority, page: Page
) -> None:
    buyer = await stage.company()
    await invite(stage, buyer, "lee@fresh.example", reason="confirm_domain_ownership")
    await page.goto(link_in(box.mail_to("lee@fresh.example")))
    await page.get_by_label("Company name").fill("Fresh Leads")
    await page.get_by_label("Your name").fill("Lee")
    await page.get_by_role("button", name="Create account and accept").click()
    await sign_in_by_mail(box, page, "lee@fresh.example")
    await page.get_by_role("link", name="verify your domains").click()
    await page.get_by_label("Domains", exact=True).fill("https://fresh.example/page")
    await page.get_by_role("button", name="Add domains").click()
    await expect(page.get_by_role("alert")).to_contain_text("only the host name: fresh.example")
    await page.get_by_label("Domains", exact=True).fill("fresh.example")
    await page.get_by_label("Verify all subdomains, too").check()
    await page.get_by_role("button", name="Add domains").click()
    code = await page.locator("dd code", has_text="activeprospect-").first.inner_text()
    zone.txt["fresh.example"] = [f'"{code}"']
    look = page.get_by_role("button", name="Verify now")
    await look.click()
    await expect(page.get_by_text("remove the quotation marks")).to_be_visible()
    zone.txt["fresh.example"] = [code]
    await look.click()
    await expect(page.get_by_text("All subdomains are verified, too.")).to_be_visible()
    assert await fits(page)
    cert_id = await stage.certificate(domain="quotes.fresh.example")
    assert await stage.confirmed_owner(buyer, cert_id) == "Fresh Leads"
    assert "fresh.example is verified" in text_of(
        box.mail_to("lee@fresh.example", "is verified")
    ).replace("\u200b", "")
    await page.get_by_text("Remove", exact=True).click()
    await page.get_by_role("button", name="Remove fresh.example").click()
    await expect(page.get_by_role("heading", name="No domains yet")).to_be_visible()
    assert await stage.confirmed_owner(buyer, cert_id) == NO_VERIFIED


async def test_colleague_joins_by_mail(stage: World, box: Mailbox, page: Page) -> None:
    company = await stage.company()
    response = await stage.client.post(
        "/v1/account/members",
        headers=company.headers,
        json={"emails": ["new@colleague.example"], "role": "admin"},
    )
    assert response.status_code == 201
    await page.goto(link_in(box.mail_to("new@colleague.example", "to join its account")))
    await page.get_by_label("Your name").fill("New Colleague")
    await page.get_by_role("button", name=f"Join {company.name}").click()
    await sign_in_by_mail(box, page, "new@colleague.example")
    await expect(page.get_by_role("banner")).to_contain_text(company.name)
    response = await stage.client.get("/v1/account/members", headers=company.headers)
    assert [(each["email"], each["role"]) for each in response.json()["items"]] == [
        (company.email, "admin"),
        ("new@colleague.example", "admin"),
    ]
