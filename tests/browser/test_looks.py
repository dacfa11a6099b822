"""Every page, in light and dark, on a phone and a wide screen: whole, readable, and of our own.

Screenshots go to STATE_DIR/screenshots, to be looked at.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page

from service.connections import grants
from service.mail.letters import Tokens, html, letter_of
from service.ownership import claims
from service.settings import load_settings
from tests.batches.parts import answered
from tests.builders import World, by, member_of
from tests.running import ROOT

AXE = ROOT / "tests" / "node" / "node_modules" / "axe-core" / "axe.min.js"
# Each scheme and each screen once: what one of them breaks, it breaks on the other, too.
LOOKED_INTO = {("light", "desktop"), ("dark", "phone")}
SCREENS = {"phone": (390, 844), "desktop": (1280, 800)}
MOST_BYTES = 100_000
# Text scaled to 200 % on a screen of 640 pixels leaves 320 (WCAG 2.2, 1.4.4 and 1.4.10).
NARROW = 320


@dataclass(frozen=True)
class Places:
    """Where the pages of an account are that has one of everything."""

    session: str
    paths: dict[str, str]


@pytest.fixture(scope="module")
async def places(stage: World) -> Places:
    us = await stage.company("Harbor Insurance Group", "al@harbor.example")
    bright = await stage.company("BrightQuote Media", "jo@brightquote.example")
    long = await stage.company(
        "The Consolidated Northern Lead Generation and Comparison Company of Wisconsin",
        "sam@consolidated.example",
    )
    gone, asking = await stage.company("Gone Leads"), await stage.company("Asking Partners")
    inviting = await stage.company("Inviting Partners")
    await stage.permit(bright, us)
    await stage.connect(us, long)
    await stage.connect(asking, us)
    await stage.connect(us, gone)
    await stage.disconnect(us, gone)
    await stage.own(bright, "brightquote.example", covers_subdomains=True)
    await stage.own(us, "harbor.example")
    await stage.invite(inviting, us.email)
    for email in (
        "ann@leads.example",
        "very.long.address.of.somebody@a-rather-long-domain.example",
    ):
        await stage.invite(us, email)
    await member_of(stage, us, "member@harbor.example")
    async with stage.database.general.transaction() as connection:
        await claims.add(connection, us.id, "harbor-quotes.example", by(us), covers_subdomains=True)
        await grants.request_grant(
            connection, owner_id=us.id, viewer_id=asking.id, actor=by(asking)
        )
    for domain in ("www.brightquote.example", "unknown.example", "harbor.example"):
        for _ in range(3):
            await stage.ask(us, await stage.certificate(domain=domain), "confirmed_owner")
    file = await answered(
        stage,
        us,
        b"vendor,site,day\nOne,brightquote.example,2026-03-03\n"
        + b"Two,nobody.example,2026-03-04\n" * 20
        + b"Three,a-very-long-host-name-that-nobody-owns.some-department.example,2026-03-05\n",
        name="leads-of-march.csv",
    )
    (answer,) = await stage.fetch("SELECT id FROM answer WHERE status = 'named' LIMIT 1")
    connections = {
        row["id"]: row["seller_id"]
        for row in await stage.fetch("SELECT id, seller_id FROM connection")
    }
    (with_bright,) = [str(each) for each, seller in connections.items() if seller == bright.id]
    return Places(
        await stage.session(us.email),
        {
            "home": "/",
            "connections": "/connections",
            "pending": "/connections/pending",
            "ended": "/connections/ended",
            "invite": "/connections/invite",
            "connection": f"/connections/{with_bright}",
            "domains": "/domains",
            "domain": "/domains/harbor-quotes.example",
            "check": "/check",
            "file": f"/check/{file['id']}",
            "answers": "/answers",
            "answer": f"/answers/{answer['id']}",
            "receipts": "/receipts",
            "activity": "/activity",
            "settings": "/settings",
            "members": "/settings/members",
            "keys": "/keys",
            "you": "/memberships",
            "opt_outs": "/opt-outs",
            "guides": "/guides",
            "guide": "/guides/buyers",
            "styleguide": "/styleguide",
            "missing": "/nothing-here",
        },
    )


@pytest.fixture(params=["light", "dark"])
async def context(
    request: Any, browser: Browser, stage: World, places: Places
) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(color_scheme=request.param)
    await context.add_cookies(
        [{"name": "session", "value": places.session, "url": str(stage.client.base_url)}]
    )
    yield context
    await context.close()


async def test_every_page_is_whole_on_every_screen_and_open_to_everyone(
    context: BrowserContext, stage: World, places: Places, request: Any
) -> None:
    scheme = request.node.callspec.params["context"]
    shots = load_settings().state_dir / "screenshots"
    shots.mkdir(parents=True, exist_ok=True)
    page = await context.new_page()
    faults: list[str] = []
    page.on(
        "console",
        lambda message: (
            faults.append(f"{page.url}: {message.text}")
            if message.type in ("error", "warning") and "404" not in message.text
            else None
        ),
    )
    page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
    page.on(
        "request",
        lambda sent: (
            faults.append(f"asks {sent.url}")
            if not sent.url.startswith(str(stage.client.base_url))
            else None
        ),
    )
    for name, path in places.paths.items():
        response = await page.goto(f"{stage.client.base_url}{path}")
        assert response is not None
        assert len(await response.body()) < MOST_BYTES, path
        for screen, (width, height) in SCREENS.items():
            await page.set_viewport_size({"width": width, "height": height})
            await page.screenshot(path=shots / f"{name}-{scheme}-{screen}.png", full_page=True)
            if (scheme, screen) in LOOKED_INTO:
                faults += await violations(page, f"{path} {scheme} {screen}")
        await page.set_viewport_size({"width": NARROW, "height": 640})
        wide = await page.evaluate("document.documentElement.scrollWidth")
        if wide > NARROW:
            faults.append(f"{path} is {wide} wide")
    assert not faults, "\n".join(faults)


INVITES = {
    "inviter": "Harbor Insurance Group",
    "reason": "domain_ownership_visibility",
    "note": "Nice to meet you.",
    "is_reminder": False,
    "expires_at": "2026-12-24T00:00:00Z",
}
ASKS = {"partner": "Harbor Insurance Group", "own": "BrightQuote Media", "connection_id": "1"}


@pytest.mark.parametrize(("kind", "params"), [("invitation", INVITES), ("grant_requested", ASKS)])
async def test_email_is_readable_in_light_and_dark(
    context: BrowserContext, kind: str, params: dict[str, Any], request: Any
) -> None:
    letter = letter_of(kind, params, "http://service", Tokens("token", "stop"))
    page = await context.new_page()
    await page.set_content(html(letter))
    shots = load_settings().state_dir / "screenshots"
    scheme = request.node.callspec.params["context"]
    await page.screenshot(path=shots / f"email-{kind}-{scheme}.png", full_page=True)
    # Without what is about the frame of a page, which is the mail program's.
    assert await violations(page, f"{kind} {scheme}", "wcag2a", "wcag2aa", "wcag21aa") == []


async def violations(page: Page, where: str, *rules: str) -> list[str]:
    """What axe finds wrong with a page, by all of its rules or those with these tags."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE.read_text())
    found = await page.evaluate("(rules) => axe.run(rules.length ? {runOnly: rules} : {})", rules)
    return [
        f"{where}: {each['id']}: {each['help']}: {[node['html'] for node in each['nodes']][:3]}"
        for each in found["violations"]
    ]
