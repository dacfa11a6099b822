"""Every page, in light and dark, on a phone and a wide screen: whole, readable, and of our own.

Screenshots go to STATE_DIR/screenshots, to be looked at.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request

from service.accounts import sign_in
from service.accounts.sign_in import LinkRequest
from service.connections import grants
from service.mail.letters import Tokens, html, letter_of
from service.ownership import claims
from service.settings import load_settings
from tests.batches.parts import answered
from tests.builders import World, by, member_of
from tests.mailbox import Mailbox, link_in
from tests.running import ROOT

AXE = ROOT / "tests" / "node" / "node_modules" / "axe-core" / "axe.min.js"
SCREENS = {"phone": (390, 844), "desktop": (1280, 800)}
# The looks of a page, in the order in which it changes the least from one to the next, and whether
# axe looks, too: at each scheme and each screen once. What one breaks, it breaks on the other, too.
LOOKS: tuple[tuple[Literal["light", "dark"], str, bool], ...] = (
    ("light", "desktop", True),
    ("light", "phone", False),
    ("dark", "phone", True),
    ("dark", "desktop", False),
)
MOST_BYTES = 100_000
# Text scaled to 200 % on a screen of 640 pixels leaves 320 (WCAG 2.2, 1.4.4 and 1.4.10).
NARROW = 320


@dataclass(frozen=True)
class Place:
    """A page, and what is typed into its form, whose answer is shown instead of the page."""

    path: str
    button: str | None = None
    status: int = 200
    typed: Mapping[str, str] = field(default_factory=dict)


Places: TypeAlias = dict[str | None, dict[str, Place]]
"""Pages by name, of each person by email address. Nobody is signed in at None."""


@pytest.fixture(scope="module")
async def places(stage: World, box: Mailbox) -> Places:
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
    await stage.fetch(
        "INSERT INTO app_user (id, email) VALUES (gen_random_uuid(), 'new@x.example')"
    )
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
    invited = await stage.invite(us, "new@seller.example")
    invitation = path_in(box, invited.email, "invited you")
    async with stage.database.general.transaction() as connection:
        await sign_in.request_link(connection, LinkRequest(us.email), browser="any", network=None)
    admins = {
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
    }
    members = ("connections", "pending", "connection", "domain", "file", "settings", "members")
    invite = {"Email addresses": "Jo <jo@leads.example>", "Personal note (optional)": "Hi!"}
    pasted = "www.brightquote.example\nunknown.example\nco.uk\n" + "a-long-name" * 20
    return {
        us.email: {name: Place(path) for name, path in admins.items()}
        | {"missing": Place("/nothing-here", status=404)}
        | {
            "checked": Place("/check", "Check", typed={"Certificates or sites": pasted}),
            "verified": Place("/receipts", "Verify", typed={"Receipt": "{}"}),
            "preview": Place(
                "/connections/invite?reason=receive_leads", "Preview email", typed=invite
            ),
            "misnamed": Place("/settings", "Save name", typed={"Company name": "TrustedForm"}),
            "key": Place("/keys", "Create key", typed={"Name": "Lead intake"}),
        },
        "member@harbor.example": {f"member_{name}": Place(admins[name]) for name in members},
        "new@x.example": {"without_account": Place("/"), "no_domains": Place("/domains")},
        None: {
            "welcome": Place("/"),
            "sign_in": Place("/sign-in"),
            "link_sent": Place("/sign-in", "Email me a link", typed={"Email address": us.email}),
            "confirm_sign_in": Place(path_in(box, us.email, "sign-in link")),
            "bad_link": Place("/sign-in/nothing", status=404),
            "invitation": Place(invitation),
            "stop": Place(f"{invitation}/unsubscribe"),
        },
    }


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    # Colors change at once.
    context = await browser.new_context(reduced_motion="reduce")
    yield context
    await context.close()


@pytest.fixture
async def looker(context: BrowserContext, stage: World) -> AsyncIterator["Looker"]:
    """Finds what is wrong with each page it looks at, and fails the test for it at the end."""
    looker = Looker(await context.new_page(), str(stage.client.base_url))
    yield looker
    assert not looker.faults, "\n".join(looker.faults)


class Looker:
    """Looks at pages in every scheme and on every screen, and takes screenshots."""

    def __init__(self, page: Page, site: str) -> None:
        self.page, self.site = page, site
        self.faults: list[str] = []
        self.shots = load_settings().state_dir / "screenshots"
        self.shots.mkdir(parents=True, exist_ok=True)
        page.on("console", self._logged)
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("request", self._asked)

    async def open(self, place: Place) -> None:
        await self.page.set_viewport_size({"width": 1280, "height": 800})
        response = await self.page.goto(f"{self.site}{place.path}")
        assert response is not None
        assert response.status == place.status, place
        assert len(await response.body()) < MOST_BYTES, place
        for label, text in place.typed.items():
            await self.page.get_by_role("textbox", name=label).first.fill(text)
        if place.button is not None:
            await self.page.get_by_role("button", name=place.button, exact=True).click()
            await self.page.wait_for_load_state()

    async def look(self, name: str) -> None:
        """Look at the page that is open."""
        for scheme, screen, is_looked_into in LOOKS:
            width, height = SCREENS[screen]
            await self.page.emulate_media(color_scheme=scheme)
            await self.page.set_viewport_size({"width": width, "height": height})
            shot = self.shots / f"{name}-{scheme}-{screen}.png"
            await self.page.screenshot(path=shot, full_page=True)
            if is_looked_into:
                self.faults += await violations(self.page, f"{name} {scheme} {screen}")
        await self.page.set_viewport_size({"width": NARROW, "height": 640})
        wide = await self.page.evaluate("document.documentElement.scrollWidth")
        if wide > NARROW:
            self.faults.append(f"{name} is {wide} wide")

    def _logged(self, message: ConsoleMessage) -> None:
        # Pages that say what is wrong have a status that browsers log.
        if message.type in ("error", "warning") and "status of 4" not in message.text:
            self.faults.append(f"{self.page.url}: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(self.site):
            self.faults.append(f"asks {request.url}")


async def test_every_page_is_whole_on_every_screen_and_open_to_everyone(
    looker: Looker, stage: World, places: Places
) -> None:
    for email, own in places.items():
        await looker.page.context.clear_cookies()
        if email is not None:
            token = await stage.session(email)
            await looker.page.context.add_cookies(
                [{"name": "session", "value": token, "url": looker.site}]
            )
        for name, place in own.items():
            await looker.open(place)
            await looker.look(name)


async def test_pages_that_are_shown_once_are_whole_and_open_to_everyone(
    looker: Looker, stage: World, box: Mailbox
) -> None:
    buyer = await stage.company()
    for email in ("sam@once.example", "jo@once.example"):
        await stage.invite(buyer, email)
    await looker.open(Place(path_in(box, "sam@once.example", "invited you"), "Decline"))
    await looker.look("declined")
    typed = {"Company name": "Once Leads", "Your name": "Jo"}
    invitation = path_in(box, "jo@once.example", "invited you")
    await looker.open(Place(invitation, "Create account and accept", typed=typed))
    await looker.look("accepted")
    await looker.open(Place(path_in(box, "jo@once.example", "sign-in link"), "Sign in"))
    await looker.look("connected")
    await looker.open(Place("/", "Sign out"))
    await looker.look("signed_out")


def path_in(box: Mailbox, email: str, subject: str) -> str:
    """The path of the link in a mail."""
    return urlsplit(link_in(box.mail_to(email, subject))).path


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
    context: BrowserContext, kind: str, params: dict[str, Any]
) -> None:
    letter = letter_of(kind, params, "http://service", Tokens("token", "stop"))
    page = await context.new_page()
    await page.set_content(html(letter))
    shots = load_settings().state_dir / "screenshots"
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme)
        await page.screenshot(path=shots / f"email-{kind}-{scheme}.png", full_page=True)
        # Without what is about the frame of a page, which is the mail program's.
        assert await violations(page, f"{kind} {scheme}", "wcag2a", "wcag2aa", "wcag21aa") == []


async def violations(page: Page, where: str, *rules: str) -> list[str]:
    """What axe finds wrong with a page, by all of its rules or those with these tags."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE.read_text())
    found = await page.evaluate(
        "(rules) => axe.run({resultTypes: ['violations'], ...(rules.length && {runOnly: rules})})",
        rules,
    )
    return [
        f"{where}: {each['id']}: {each['help']}: {[node['html'] for node in each['nodes']][:3]}"
        for each in found["violations"]
    ]
