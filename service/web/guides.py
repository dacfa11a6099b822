"""The guides: Markdown files in the package, readable in the repository and served as pages."""

from functools import cache
from importlib.resources import files
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import PathParameter
from markdown_it import MarkdownIt
from markdown_it.token import Token

from service.errors import NotFound
from service.web.pages import Page, page_router, rendered

# In the order they are listed.
GUIDES = (
    "buyers",
    "compliance",
    "sellers",
    "api",
    "errors",
    "operators",
    "growing",
    "how-it-works",
)


class Guide(msgspec.Struct, frozen=True):
    """A guide as a page; `html` is trusted because it is made from our own file."""

    name: str
    title: str
    html: str


@get("/guides")
async def list_guides() -> Page:
    """List the guides."""
    return rendered("guides", {"guides": [guide_called(name) for name in GUIDES]})


@get("/guides/{name:str}")
async def show_guide(name: Annotated[str, PathParameter()]) -> Page:
    """Show a guide. Raises `NotFound`."""
    return rendered("guide", {"guide": guide_called(name)})


def guide_called(name: str) -> Guide:
    """Return the guide of that name. Raises `NotFound`."""
    if name not in GUIDES:
        raise NotFound("guide", name)
    return _read(name)


@cache
def _read(name: str) -> Guide:
    text = files("service").joinpath("guides", f"{name}.md").read_text("utf-8")
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _anchor(tokens[index + 1].content))
        if token.type == "table_open":
            # Where it is wider than the screen, it scrolls, also by keyboard.
            token.attrSet("tabindex", "0")
        for child in token.children or ():
            _lead_to_page(child)
    html = markdown.renderer.render(tokens, markdown.options, {})
    return Guide(name, tokens[1].content, html)


def _anchor(heading: str) -> str:
    """Return a heading's anchor as code hosts make it: lowercase, a hyphen for each space."""
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _lead_to_page(token: Token) -> None:
    """Point a link to another guide's file at the page that serves it."""
    target, hash_sign, anchor = str(token.attrGet("href") or "").partition("#")
    if token.type == "link_open" and target.endswith(".md"):
        token.attrSet("href", f"/guides/{target.removesuffix('.md')}{hash_sign}{anchor}")


routes = [page_router(list_guides, show_guide)]
