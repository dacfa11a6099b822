"""Texts cached for scanning belong to the right certificate and are up to date."""

import asyncio
import json
from typing import Any

import pytest

from service.insights.page_scan import ScanText, scan
from tests.builders import Company, World, web_id

# Too long to scan inline, so scanned in a thread, one at a time.
LONG = 60_000


async def scanned(world: World, company: Company, cert_id: str, *terms: str) -> list[str]:
    """The terms that are found in a certificate's text."""
    response = await world.client.post(
        f"/{cert_id}",
        headers=company.headers,
        json={"insights": {"properties": [], "scans": {"forbidden": terms}}},
    )
    assert response.status_code == 200, response.text
    found: list[str] = response.json()["insights"]["scans"]["result"]["forbidden"]["found"]
    return found


async def record(world: World, cert_id: str, text: str | None, by: Company | None = None) -> None:
    """Record a text as the operator, or as an account for itself alone."""
    line: dict[str, Any] = {
        "cert_id": cert_id,
        "page_text": text,
        "insights": {"properties": {"ip": None}},
    }
    if by is None:
        (result,) = await world.import_lines(line)
        assert not result.error
        return
    response = await world.client.post(
        "/v1/certificates",
        headers={**by.headers, "Content-Type": "application/x-ndjson"},
        content=json.dumps(line).encode(),
    )
    assert response.status_code == 200, response.text


def text_with(word: str, length: int) -> str:
    return f"{'filling ' * (length // 8)} {word}"


LENGTHS = pytest.mark.parametrize("length", [0, LONG], ids=["short", "long"])


@LENGTHS
async def test_each_certificate_is_scanned_for_what_is_on_its_own_page(
    world: World, length: int
) -> None:
    caller = await world.company()
    ids = {word: web_id() for word in ("apple", "banana", "cherry")}
    for word, cert_id in ids.items():
        await record(world, cert_id, text_with(word, length))
    # Twice: first from the record, then from the cache.
    for _ in range(2):
        for word, cert_id in ids.items():
            assert await scanned(world, caller, cert_id, *ids) == [word]
    found = await asyncio.gather(
        *(scanned(world, caller, cert_id, *ids) for cert_id in ids.values())
    )
    assert found == [[word] for word in ids]


@LENGTHS
async def test_text_that_is_replaced_is_scanned_as_it_is_now(world: World, length: int) -> None:
    caller, cert_id, words = await world.company(), web_id(), ("apple", "banana", "cherry")
    for word in words:
        await record(world, cert_id, text_with(word, length))
        for _ in range(2):
            assert await scanned(world, caller, cert_id, *words) == [word]
    # A record without a text leaves the text unchanged.
    await record(world, cert_id, None)
    assert await scanned(world, caller, cert_id, *words) == ["cherry"]


@LENGTHS
async def test_certificate_that_comes_back_after_a_purge_has_no_former_text(
    world: World, length: int
) -> None:
    caller, cert_id = await world.company(), web_id()
    await record(world, cert_id, text_with("apple", length))
    assert await scanned(world, caller, cert_id, "apple", "banana") == ["apple"]
    await world.fetch("DELETE FROM certificate")
    await record(world, cert_id, text_with("banana", length))
    assert await scanned(world, caller, cert_id, "apple", "banana") == ["banana"]


@LENGTHS
async def test_texts_that_accounts_recorded_of_one_certificate_are_their_own(
    world: World, length: int
) -> None:
    one, other, cert_id = await world.company(), await world.company(), web_id()
    await record(world, cert_id, text_with("apple", length), one)
    await record(world, cert_id, text_with("banana", length), other)
    for _ in range(2):
        assert await scanned(world, one, cert_id, "apple", "banana") == ["apple"]
        assert await scanned(world, other, cert_id, "apple", "banana") == ["banana"]
    # The operator's record takes precedence over both.
    await record(world, cert_id, text_with("cherry", length))
    for caller in (one, other):
        assert await scanned(world, caller, cert_id, "apple", "banana", "cherry") == ["cherry"]


# Whatever the delimiter, two parts of a term never match the same character.
@pytest.mark.parametrize(
    ("recorded", "term", "is_found"),
    [
        ("aba", "ab{{*}}ba", False),
        ("abba", "ab{{*}}ba", True),
        ("abxba", "ab{{*}}ba", True),
        ("a", "a{{*}}a", False),
        ("aa", "a{{*}}a", True),
        ("aaa", "aa{{*}}aa", False),
        ("aaaa", "aa{{*}}aa", True),
        ("abcab", "ab{{*}}bc{{*}}ab", False),
        ("abbcab", "ab{{*}}bc{{*}}ab", True),
        ("one two", "one {{*}} two", False),
        ("one  two", "one {{*}} two", False),
        ("one or two", "one {{*}} two", True),
        ("ba ab", "ab{{*}}ba", False),
        ("ab", "ab{{*}}", True),
        ("ab", "{{*}}ab{{*}}{{*}}", True),
    ],
)
def test_parts_of_a_term_stand_one_after_the_other(
    recorded: str, term: str, is_found: bool
) -> None:
    text = ScanText.of(recorded)
    assert bool(scan(text, [term]).found) == is_found
    assert bool(scan(text, [term.replace("{{*}}", "|*|")], "|").found) == is_found
