"""The guides: every one is a page, its links work, and its examples are correct."""

import re
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from service.web.guides import GUIDES
from tests.running import ROOT

DIRECTORY = ROOT / "service" / "guides"
LINK = re.compile(r"\]\(([^)\s]+)\)")


class Links(HTMLParser):
    """A page's links and anchors."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a":
            self.targets.append(given["href"] or "")
        if given.get("id"):
            self.anchors.add(given["id"] or "")


def test_every_guide_is_listed() -> None:
    assert {path.stem for path in DIRECTORY.iterdir()} == set(GUIDES)


async def test_list_of_guides_leads_to_each(client: httpx.AsyncClient) -> None:
    response = await client.get("/guides")
    assert response.status_code == 200
    assert [f"/guides/{name}" for name in GUIDES] == [
        target for target in Links(response.text).targets if target.startswith("/guides/")
    ]


@pytest.mark.parametrize("name", GUIDES)
async def test_guide_is_a_page_and_its_links_lead_to_pages(
    client: httpx.AsyncClient, name: str
) -> None:
    response = await client.get(f"/guides/{name}")
    assert response.status_code == 200
    assert "<table" in response.text or name == "errors"
    for target in Links(response.text).targets:
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        found = await client.get(path)
        assert found.status_code in (200, 303), target
        assert not anchor or anchor in Links(found.text).anchors, target


@pytest.mark.parametrize("path", [*DIRECTORY.iterdir(), ROOT / "README.md"], ids=lambda p: p.name)
def test_links_of_files_lead_to_files(path: Path) -> None:
    for target in LINK.findall(path.read_text()):
        if not target.startswith(("http", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), target


async def test_guide_that_is_none_is_not_found(client: httpx.AsyncClient) -> None:
    for name in ("nothing", "..%2Fapp", "buyers.md"):
        assert (await client.get(f"/guides/{name}")).status_code == 404
