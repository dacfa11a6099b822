"""A buyer, a compliance officer, and a seller do their work, with JavaScript, without, by keyboard."""

import json
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from tests.answers.logs import seal_all
from tests.builders import NO_VERIFIED, VERIFIED, World
from tests.mailbox import Mailbox, link_in
from tests.ownership.authority import Authority

# What the element that has the focus is called: a field by its label, in brackets.
FOCUSED = """(() => {
  const focused = document.activeElement;
  const label = focused.labels?.[0];
  return label ? `[${label.innerText.trim()}]` : (focused.innerText ?? "").trim();
})()"""


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
async def page(
    browser: Browser, stage: World, request: pytest.FixtureRequest
) -> AsyncIterator[Page]:
    await stage.reset()
    context = await browser.new_context(
        java_script_enabled=request.param, base_url=str(stage.client.base_url)
    )
    context.set_default_timeout(15_000)
    yield await context.new_page()
    await context.close()


async def sign_in(box: Mailbox, page: Page, email: str) -> None:
    await page.goto("/")
    await page.get_by_role("link", name="Sign in").first.click()
    await page.get_by_label("Email address").fill(email)
    await page.get_by_role("main").get_by_role("button").click()
    await page.goto(link_in(box.mail_to(email, "sign-in link")))
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Home")


async def open_in_menu(page: Page, name: str) -> None:
    await page.get_by_role("navigation", name="Main").get_by_role("link", name=name).click()


async def until_shown(page: Page, text: str) -> None:
    """Wait until a page that looks again by itself shows a text; without JavaScript, reload it."""
    for _ in range(40):
        try:
            await expect(page.get_by_role("main")).to_contain_text(text, timeout=500)
        except AssertionError:
            await page.reload()
        else:
            return
    await expect(page.get_by_role("main")).to_contain_text(text)


async def test_buyer_invites_checks_and_makes_a_key(stage: World, box: Mailbox, page: Page) -> None:
    buyer = await stage.company("Harbor Insurance Group", "al@harbor.example")
    seller = await stage.company("BrightQuote Media", "jo@brightquote.example")
    await stage.own(seller, "brightquote.example")
    cert_id = await stage.certificate(domain="brightquote.example")
    await sign_in(box, page, buyer.email)
    main = page.get_by_role("main")

    await main.get_by_role("link", name="Invite vendors").click()
    await page.get_by_label("Email addresses").fill(
        "Jo <jo@brightquote.example>; sam@leads.example\nnobody"
    )
    await page.get_by_role("button", name="Preview email").click()
    await expect(main).to_contain_text("2 addresses: jo@brightquote.example, sam@leads.example")
    await page.get_by_role("button", name="Send invitations").click()
    await expect(main).to_contain_text("jo@brightquote.example")
    mail = box.mail_to("jo@brightquote.example", "invited you to connect")
    assert "Harbor Insurance Group" in mail["Subject"]
    await open_in_menu(page, "Connections")
    await main.get_by_role("link", name="Pending").click()
    await page.get_by_role("button", name="Cancel the invitation to sam@leads.example").click()
    await expect(main).not_to_contain_text("sam@leads.example")

    await open_in_menu(page, "Check")
    await page.get_by_role("textbox", name="Certificates or sites").first.fill(cert_id)
    await page.get_by_role("button", name="Check", exact=True).click()
    await expect(main).to_contain_text(VERIFIED)
    await stage.permit(seller, buyer)
    await page.get_by_role("button", name="Check", exact=True).click()
    await expect(main).to_contain_text("BrightQuote Media")

    await open_in_menu(page, "Settings")
    await page.get_by_role("link", name="API keys").click()
    await page.get_by_label("Name").fill("Lead intake")
    await page.get_by_role("button", name="Create key").click()
    call = await page.locator("pre").inner_text()
    key = call.split("X:")[1].split()[0]
    response = await stage.client.post(
        f"/{cert_id}",
        auth=("X", key),
        json={"insights": {"properties": ["confirmed_owner"]}},
    )
    assert response.json()["insights"]["properties"]["confirmed_owner"] == "BrightQuote Media"


async def test_compliance_officer_finds_an_answer_and_proves_it_and_checks_a_file(
    stage: World, box: Mailbox, page: Page
) -> None:
    buyer = await stage.company("Harbor Insurance Group", "al@harbor.example")
    for domain in ("one.example", "two.example"):
        await stage.confirmed_owner(buyer, await stage.certificate(domain=domain))
    await stage.fetch(
        "UPDATE answer SET answered_at = '2026-03-03 12:00Z' WHERE domain = 'one.example'"
    )
    await seal_all(stage)
    await sign_in(box, page, buyer.email)
    main = page.get_by_role("main")

    await open_in_menu(page, "Answers")
    await page.get_by_label("Certificate or site").fill("one.example")
    await page.get_by_label("From").fill("2026-03-03")
    await page.get_by_label("To").fill("2026-03-03")
    await page.get_by_role("button", name="Search").click()
    await expect(main).not_to_contain_text("two.example")
    await main.get_by_role("link", name=NO_VERIFIED).click()
    await expect(main).to_contain_text("March 3, 2026, 12:00 PM UTC")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download receipt").click()
    receipt = (await (await download.value).path()).read_text()

    await open_in_menu(page, "Answers")
    await page.get_by_role("link", name="Verify a receipt").click()
    await page.get_by_role("textbox").fill(receipt)
    await page.get_by_role("button", name="Verify").click()
    await expect(page.get_by_role("status")).to_contain_text("one.example")
    forged = json.loads(receipt) | {"leaf_index": 1}
    await page.get_by_role("textbox").fill(json.dumps(forged))
    await page.get_by_role("button", name="Verify").click()
    await expect(page.get_by_role("status")).not_to_contain_text("one.example")

    await open_in_menu(page, "Check")
    await page.locator("input[type=file]").set_input_files(
        {
            "name": "march.csv",
            "mimeType": "text/csv",
            "buffer": b"vendor,site\nOne,one.example\nTwo,two.example\n",
        }
    )
    await page.get_by_role("button", name="Check file").click()
    await until_shown(page, "What was told about 2 rows")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="CSV").click()
    assert (await (await download.value).path()).read_text().count(NO_VERIFIED) == 2
    await page.get_by_role("link", name="Answers and receipts").click()
    await expect(main.get_by_role("row")).to_have_count(3)


async def test_seller_proves_a_domain_and_decides_who_sees_its_name(
    stage: World, box: Mailbox, zone: Authority, page: Page
) -> None:
    buyer = await stage.company("Harbor Insurance Group", "al@harbor.example")
    seller = await stage.company("BrightQuote Media", "jo@brightquote.example")
    await stage.connect(buyer, seller)
    cert_id = await stage.certificate(domain="brightquote.example")
    await sign_in(box, page, seller.email)
    main = page.get_by_role("main")

    await main.get_by_role("link", name="Add your domains").first.click()
    await page.get_by_role("textbox", name="Domains").fill("brightquote.example, co.uk")
    await page.get_by_role("button", name="Add domains").click()
    await expect(page.get_by_role("alert")).to_contain_text("co.uk")
    await main.get_by_role("link", name="brightquote.example").click()
    code = await page.locator(".copy code").nth(2).inner_text()
    await page.get_by_role("button", name="Verify now").click()
    await expect(main).to_contain_text("Unverified")
    zone.txt["brightquote.example"] = [code]
    await page.get_by_role("button", name="Verify now").click()
    await expect(main).to_contain_text("Verified")
    assert await stage.confirmed_owner(buyer, cert_id) == VERIFIED

    await open_in_menu(page, "Connections")
    await main.get_by_role("link", name="Harbor Insurance Group").click()
    await page.get_by_role("button", name="Show our name to Harbor Insurance Group").click()
    await expect(page.get_by_role("button", name="Hide our name")).to_be_visible()
    assert await stage.confirmed_owner(buyer, cert_id) == seller.name
    await open_in_menu(page, "Home")
    await expect(main).to_contain_text("Harbor Insurance Group")
    await main.get_by_role("link", name="Harbor Insurance Group").click()
    await page.get_by_role("button", name="Hide our name").click()
    await expect(
        page.get_by_role("button", name="Show our name to Harbor Insurance Group")
    ).to_be_visible()
    assert await stage.confirmed_owner(buyer, cert_id) == VERIFIED
    await open_in_menu(page, "Activity")
    await page.get_by_label("About").select_option("Names shown and hidden")
    await page.get_by_role("button", name="Filter").click()
    await expect(main).to_contain_text("Your name was hidden from Harbor Insurance Group")
    await expect(main).not_to_contain_text("was added")


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until the link, button, or field of that name has the focus."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        focused = await page.evaluate(FOCUSED)
        if focused == name:
            return
    raise AssertionError(f"Tab leads to no {name} on {page.url}")


@pytest.mark.parametrize("page", [True], ids=["with JavaScript"], indirect=True)
async def test_everything_can_be_reached_and_done_by_keyboard(
    stage: World, box: Mailbox, zone: Authority, page: Page
) -> None:
    buyer = await stage.company("Harbor Insurance Group", "al@harbor.example")
    seller = await stage.company("BrightQuote Media", "jo@brightquote.example")
    await stage.connect(buyer, seller)
    keyboard = page.keyboard
    await page.goto("/sign-in")
    await tab_to(page, "[Email address]")
    await keyboard.type(seller.email)
    await keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_contain_text("Check your email")
    await page.goto(link_in(box.mail_to(seller.email, "sign-in link")))
    await tab_to(page, "Sign in")
    await keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Home")

    await keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.innerText") == "Skip to content"
    await tab_to(page, "Domains")
    await keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Domains")
    await tab_to(page, "[Domains]")
    await keyboard.type("brightquote.example")
    await tab_to(page, "Add domains")
    await keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("brightquote.example")

    await tab_to(page, "Connections")
    await keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Connections")
    await tab_to(page, "Harbor Insurance Group")
    await keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Harbor Insurance Group")
    await tab_to(page, "Show our name to Harbor Insurance Group")
    await keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Hide our name")).to_be_visible()
    await tab_to(page, "Disconnect")
    await keyboard.press("Enter")
    await tab_to(page, "Disconnect from Harbor Insurance Group")
    await keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_contain_text("No connections yet")


async def test_what_is_done_in_place_is_said(browser: Browser, stage: World, box: Mailbox) -> None:
    await stage.reset()
    buyer = await stage.company("Harbor Insurance Group", "al@harbor.example")
    await stage.invite(buyer, "jo@brightquote.example")
    context = await browser.new_context(base_url=str(stage.client.base_url))
    page = await context.new_page()
    await sign_in(box, page, buyer.email)
    for path, button, said in (
        ("/connections/pending", "Resend to jo@brightquote.example", "Sent again"),
        ("/memberships", "Save", "Saved"),
    ):
        await page.goto(path)
        await page.get_by_role("button", name=button).click()
        await expect(page.locator(".toast")).to_have_text(said)
        assert page.url.endswith(path)
    await context.close()


async def test_what_is_done_on_another_page_is_said_there_and_a_double_click_does_one_thing(
    browser: Browser, stage: World, box: Mailbox
) -> None:
    await stage.reset()
    buyer = await stage.company("Harbor Insurance Group", "al@harbor.example")
    await stage.connect(buyer, await stage.company("BrightQuote Media"))
    context = await browser.new_context(base_url=str(stage.client.base_url))
    page = await context.new_page()
    await sign_in(box, page, buyer.email)
    await open_in_menu(page, "Connections")
    await page.get_by_role("link", name="BrightQuote Media").click()
    await page.get_by_role("button", name="Ask to see their name").dblclick()
    await expect(page.locator(".toast")).to_contain_text("Request sent")
    await expect(page.get_by_role("button", name="Withdraw request")).to_be_visible()
    await page.locator("summary", has_text="Disconnect").click()
    await page.get_by_role("button", name="Disconnect from BrightQuote Media").press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Connections")
    await expect(page.locator(".toast")).to_have_text("Disconnected from BrightQuote Media")
    await page.reload()
    await expect(page.locator(".toast")).to_have_count(0)
    await context.close()


async def test_rules_of_a_company_name_are_checked_while_it_is_typed(
    browser: Browser, stage: World, box: Mailbox
) -> None:
    await stage.reset()
    company = await stage.company("Harbor Insurance Group", "al@harbor.example")
    context = await browser.new_context(base_url=str(stage.client.base_url))
    page = await context.new_page()
    await sign_in(box, page, company.email)
    await page.goto("/settings")
    field = page.get_by_role("textbox", name="Company name")
    said = page.locator("#name-check")
    await expect(said).to_be_hidden()
    await field.fill("Harbor www.harbor.example")
    await expect(said).to_contain_text("without web addresses")
    await expect(field).to_have_attribute("aria-invalid", "true")
    await field.fill("Harbor")
    await expect(said).to_be_hidden()
    await expect(field).to_have_attribute("aria-invalid", "false")
    await context.close()
