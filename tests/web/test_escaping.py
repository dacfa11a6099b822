"""Whatever people, files, and DNS servers write stays text on every page, and in every email."""

from collections.abc import Sequence
from contextlib import suppress
from html.parser import HTMLParser
from typing import Any, cast
from urllib.parse import quote

import pytest

from service.errors import ServiceError
from tests.batches.parts import do_jobs
from tests.batches.test_pages import upload
from tests.builders import Company, World, member_of
from tests.ownership.authority import authority
from tests.surfer import Surfer, signed_in

HOSTILE = (
    "<evil>",
    '"><evil>',
    "'><evil x='",
    "</textarea></title></script><evil>",
    "<img src=x onerror=evil()>",
    "<svg/onload=evil()>",
    '" onfocus=evil() autofocus x="',
    "javascript:evil()",
    "{{7*7}}{%evil%}",
    "<!--<evil>",
    "]]><evil>",
    "&lt;evil&gt;<evil>",
)


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.wrong: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            leads = name in ("href", "src", "action", "formaction")
            if name.startswith("on") or name == "style":
                self.wrong.append(f"{tag} {name}")
            elif leads and not (value or "").startswith(("/", "#", "http://service/")):
                self.wrong.append(f"{tag} {name}={value}")
        if tag == "evil":
            self.wrong.append(tag)

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"comment {data}")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def assert_harmless(surfer: Surfer, *shown: str) -> None:
    """Check that a page is ours alone, and that it shows these texts as they are."""
    assert surfer.page is not None
    page = Page(surfer.page.text)
    assert page.wrong == [], surfer.page.url
    text = " ".join("".join(page.words).split())
    for each in shown:
        assert " ".join(each.split()) in text, surfer.page.url


@pytest.fixture
async def us(world: World) -> Company:
    return await world.company("Harbor Insurance Group", "al@harbor.example")


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_is_typed_into_a_form_comes_back_as_text(
    world: World, us: Company, text: str
) -> None:
    surfer = await signed_in(world, us.email)
    for path, fields in (
        ("/connections/invite", {"emails": text, "note": text, "do": "send"}),
        ("/connections/invite", {"emails": "jo@x.example", "note": text, "do": "preview",
                                 "reason": "receive_leads"}),
        ("/connections/invite", {"emails": f"{text}@x.example", "do": "send",
                                 "reason": "receive_leads"}),
        ("/domains", {"names": text}),
        ("/check", {"items": text}),
        ("/check", {"items": text, "as_of": text}),
        ("/settings", {"name": text, "do": "rename"}),
        ("/settings", {"do": text}),
        ("/settings/members", {"email": text, "role": text, "do": "invite"}),
        ("/keys", {"name": text, "do": "create"}),
        ("/receipts", {"receipt": text}),
        ("/opt-outs", {"inviter": text}),
        ("/account", {"account_id": text}),
        ("/sign-in", {"email": text, "next": text}),
    ):  # fmt: skip
        await surfer.go("/check")
        await surfer.send(path, **fields)
        assert_harmless(surfer)
    for path in (
        "/connections?q=", "/connections/invite?reason=", "/answers?q=", "/answers?status=",
        "/answers?from=", "/activity?about=", "/domains?after=", "/sign-in?next=", "/domains/",
        "/guides/", "/connections/", "/invitations/", "/",
    ):  # fmt: skip
        await surfer.go(path + quote(text, safe=""))
        assert_harmless(surfer)
    await surfer.go("/keys")
    assert_harmless(surfer, text)


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_files_have_comes_back_as_text(world: World, us: Company, text: str) -> None:
    surfer = await signed_in(world, us.email)
    await surfer.go("/check")
    cell = '"' + text.replace('"', '""') + '"'
    content = f"vendor,site\n{cell},nobody.example\n{cell},other.example\n".encode()
    await upload(surfer, content, name=f"{text.replace('/', '')}.csv")
    assert surfer.page is not None
    path = surfer.page.url.path
    await do_jobs(world)
    await surfer.go(path)
    assert_harmless(surfer, text)
    await surfer.go("/check")
    assert_harmless(surfer)
    header = f"{cell},site\n1,nobody.example\n".encode()
    await upload(surfer, header, column=text)
    await do_jobs(world)
    assert surfer.page is not None
    await surfer.go(surfer.page.url.path)
    assert_harmless(surfer)
    await surfer.go("/activity")
    assert_harmless(surfer)


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_dns_and_partners_say_comes_back_as_text(
    world: World, us: Company, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seller = await world.company("BrightQuote Media", "jo@brightquote.example")
    await world.connect(us, seller)
    await member_of(world, seller, "sam@brightquote.example")
    with suppress(ServiceError):
        await world.rename(seller, f"Bright {text} Media")
    surfer = await signed_in(world, us.email)
    with authority() as zone:
        zone.txt["harbor.example"] = [text]
        app = cast("Any", world.client._transport).app
        monkeypatch.setattr(app.state, "resolvers", [zone.server])
        await surfer.go("/domains")
        await surfer.send("/domains", names="harbor.example")
        await surfer.send("/domains/harbor.example", do="verify")
    assert_harmless(surfer, text)
    await world.fetch("UPDATE app_user SET name = $1", text)
    for path in ("/", "/connections", "/connections/ended", "/settings/members", "/memberships",
                 "/activity", "/domains"):  # fmt: skip
        await surfer.go(path)
        assert_harmless(surfer)
    await surfer.go("/settings/members")
    assert_harmless(surfer, text)
