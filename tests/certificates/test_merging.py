"""Merging records of a certificate, in any order and concurrently."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.certificates import queries
from service.certificates.facts import Certificate
from service.certificates.imports import import_lines, parse_line
from service.certificates.merging import merged, record_told
from tests.builders import World, web_id

CERT_ID = "a" * 40


def encoded(line: object) -> bytes:
    return json.dumps(line).encode()


hosts = st.sampled_from(["one.example", "two.example", None])
texts = st.sampled_from(["one", "two", None])
times = st.integers(1, 9).map(lambda day: f"2031-01-0{day}T00:00:00Z") | st.none()
# A property may have a value, be null, or be missing.
properties = st.fixed_dictionaries(
    {},
    optional={
        "domain": hosts,
        "page_url": hosts.map(lambda host: host and f"https://{host}/"),
        "ip": texts,
        "is_framed": st.booleans() | st.none(),
        "os": st.sampled_from([{"name": "iOS"}, {"name": "Android"}, None]),
        "created_at": times,
        "expires_at": times,
        "seconds_on_page": st.integers(0, 99) | st.none(),
    },
)
lines = st.builds(
    lambda told, **more: {
        "cert_id": CERT_ID,
        "insights": {"properties": told},
        **{name: value for name, value in more.items() if value != "left out"},
    },
    properties,
    page_text=texts | st.just("left out"),
    fingerprints=st.sampled_from([["a" * 40], ["b" * 40], [], None, "left out"]),
).filter(
    lambda line: (
        bool(line["insights"]["properties"])
        or line.get("page_text") is not None
        or line.get("fingerprints") is not None
    )
)


def told_of(line: dict[str, Any]) -> dict[str, Any]:
    """The values in a line that aren't null."""
    told = {**line["insights"]["properties"], **line}
    return {
        name: value
        for name, value in told.items()
        if value not in (None, []) and name not in ("cert_id", "insights")
    }


def recorded_in(certificate: Certificate) -> dict[str, Any]:
    columns = {
        "created_at": certificate.created_at,
        "expires_at": certificate.expires_at,
        "seconds_on_page": certificate.seconds_on_page,
        "page_text": certificate.page_text,
        "fingerprints": certificate.fingerprints,
    }
    return {
        **certificate.facts,
        **{
            name: value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value
            for name, value in columns.items()
            if value is not None
        },
    }


@given(st.lists(lines, min_size=1, max_size=6))
def test_import_replaces_what_it_tells_and_never_empties_anything(
    imported: Sequence[dict[str, Any]],
) -> None:
    certificate: Certificate | None = None
    expected: dict[str, Any] = {}
    known: set[str] = set()
    for line in imported:
        certificate = merged(certificate, parse_line(encoded(line)), None, None)
        told = told_of(line)
        for name in ("expires_at", "seconds_on_page"):
            # Windows get extended and consumers stay active, so the later value wins.
            if name in told and name in expected:
                told[name] = max(told[name], expected[name])
        expected |= told
        held = recorded_in(certificate)
        assert {name: held.get(name) for name in expected} == expected
        known |= line["insights"]["properties"].keys()
        # A null property is known to be null, and stays known.
        assert known <= set(certificate.known)


@given(st.lists(lines, min_size=1, max_size=4))
def test_importing_once_more_changes_nothing(imported: Sequence[dict[str, Any]]) -> None:
    certificate: Certificate | None = None
    for line in imported:
        certificate = merged(certificate, parse_line(encoded(line)), None, None)
    assert merged(certificate, parse_line(encoded(imported[-1])), None, None) == certificate


async def test_account_of_a_certificate_is_kept_where_a_line_names_none(world: World) -> None:
    company, cert_id = await world.company(), web_id()
    await world.import_lines({"cert_id": cert_id, "account": company.name})
    await world.import_lines({"cert_id": cert_id, "page_text": "later"})
    (row,) = await world.fetch("SELECT account_id FROM certificate")
    assert row["account_id"] == company.id


FACTS: dict[str, object] = {"ip": "192.0.2.1", "os": {"name": "iOS"}, "is_framed": False}


def meeting(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make this many recordings read the record before any of them writes."""
    select, read, all_have_read = queries.select_certificates, [0], asyncio.Event()

    async def select_and_wait(*arguments: Any) -> dict[str, Certificate]:
        found = await select(*arguments)
        read[0] += 1
        if read[0] >= number:
            all_have_read.set()
        await all_have_read.wait()
        return found

    monkeypatch.setattr(queries, "select_certificates", select_and_wait)


async def tell(world: World, cert_id: str, name: str) -> None:
    async with world.database.general.connection() as connection:
        await record_told(connection, cert_id, {name: FACTS[name]}, datetime.now(UTC))


async def facts_of(world: World, cert_id: str) -> dict[str, object]:
    async with world.database.general.connection() as connection:
        found = await queries.select_certificates(connection, [cert_id], None)
    assert FACTS.keys() <= set(found[cert_id].known)
    return found[cert_id].facts


@pytest.mark.parametrize("is_new", [False, True])
async def test_recordings_of_one_certificate_at_once_add_up(
    world: World, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    """As if several processes each learned something different about the certificate."""
    cert_id = web_id()
    if not is_new:
        await world.import_lines({"cert_id": cert_id, "page_text": "kept"})
    with monkeypatch.context() as patched:
        meeting(patched, len(FACTS))
        await asyncio.gather(*(tell(world, cert_id, name) for name in FACTS))
    assert await facts_of(world, cert_id) == FACTS
    (row,) = await world.fetch("SELECT page_text FROM certificate")
    assert row["page_text"] == (None if is_new else "kept")


@pytest.mark.parametrize("is_new", [False, True])
async def test_imports_of_one_certificate_at_once_add_up(world: World, is_new: bool) -> None:
    cert_id = web_id()
    if not is_new:
        await world.import_lines({"cert_id": cert_id, "page_text": "x"})

    async def import_fact(name: str) -> None:
        line = {"cert_id": cert_id, "insights": {"properties": {name: FACTS[name]}}}
        (result,) = await world.import_lines(line)
        assert not result.error

    await asyncio.gather(*(import_fact(name) for name in FACTS))
    assert await facts_of(world, cert_id) == FACTS


async def test_imports_of_one_importer_take_turns_and_hold_up_no_other(world: World) -> None:
    """Otherwise imports that list the same certificates in different orders would deadlock."""
    other = await world.company()
    async with world.database.general.transaction() as connection:
        await import_lines(connection, [(1, encoded({"cert_id": web_id(), "page_text": "x"}))])
        importing = asyncio.create_task(world.import_lines({"cert_id": web_id(), "page_text": "x"}))
        response = await world.client.post(
            "/v1/certificates",
            headers={**other.headers, "Content-Type": "application/x-ndjson"},
            content=encoded({"cert_id": web_id(), "page_text": "x"}),
        )
        assert response.status_code == 200
        done, _ = await asyncio.wait({importing}, timeout=0.1)
        assert not done
    (result,) = await importing
    assert result.result == "created"


@pytest.mark.parametrize("is_later", [False, True])
async def test_later_of_two_ages_the_vendor_told_counts(world: World, is_later: bool) -> None:
    cert_id, now = web_id(), datetime.now(UTC).replace(microsecond=0)
    ages = (60, 10) if is_later else (10, 60)
    async with world.database.general.connection() as connection:
        for age in ages:
            await record_told(connection, cert_id, {"age_seconds": age}, now)
    (row,) = await world.fetch("SELECT last_event_at FROM certificate")
    assert row["last_event_at"] == now - timedelta(seconds=10)
