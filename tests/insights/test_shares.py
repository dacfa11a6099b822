"""What one account asks costs no other account its answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from service.accounts.accounts import set_limits
from service.app import create_app
from service.insights import operations, page_scan
from service.postgres.pools import Database
from tests.builders import Company, World, until, web_id
from tests.conftest import SETTINGS, living
from tests.insights.vendor import Stage, Vendor, ask, check_error, says

BODY = {"insights": {"properties": ["confirmed_owner"]}}
NDJSON = {"Content-Type": "application/x-ndjson"}


async def limit(world: World, company: Company, **limits: int | None) -> None:
    async with world.database.general.transaction() as connection:
        await set_limits(connection, company.id, limits)


@asynccontextmanager
async def answers_waiting(world: World) -> AsyncIterator[None]:
    """No answer can be recorded during the block."""
    async with world.database.general.transaction() as connection:
        await connection.execute("LOCK TABLE answer IN ACCESS EXCLUSIVE MODE")
        yield


async def test_calls_beyond_an_accounts_share_are_refused_at_once_and_others_are_not(
    world: World,
) -> None:
    busy, other = await world.company(), await world.company()
    cert_id = await world.certificate(domain="example.com")
    await limit(world, busy, calls=3)
    async with answers_waiting(world):
        calls = [asyncio.create_task(world.ask(busy, cert_id)) for _ in range(3)]
        await asyncio.sleep(0.1)
        neighbour = asyncio.create_task(world.ask(other, cert_id))
        refused = await asyncio.wait_for(world.ask(busy, cert_id), 0.25)
    check_error(refused, 429, "you have 3 calls in progress, the limit")
    assert refused.headers["Retry-After"] == "1"
    policy = '"calls in progress";q=3;qu="concurrent-requests"'
    assert refused.headers["RateLimit-Policy"] == policy
    assert refused.headers["RateLimit"] == '"calls in progress";r=0;t=1'
    assert [each.status_code for each in await asyncio.gather(*calls, neighbour)] == [200] * 4
    assert (await world.ask(busy, cert_id)).status_code == 200


async def test_processes_share_an_accounts_limit(
    migrated_url: str, shared_database: Database, world: World
) -> None:
    company = await world.company()
    cert_id = await world.certificate(domain="example.com")
    await limit(world, company, calls=4)
    settings = msgspec.structs.replace(SETTINGS, workers=4)
    async with living(create_app(migrated_url, settings)) as client:
        one_of_four = World(shared_database, client)
        async with answers_waiting(world):
            call = asyncio.create_task(one_of_four.ask(company, cert_id))
            await asyncio.sleep(0.1)
            assert (await one_of_four.ask(company, cert_id)).status_code == 429
        assert (await call).status_code == 200


@pytest.mark.parametrize("key", ["nokey", None])
async def test_nobody_without_a_key_makes_us_wait_for_a_body(world: World, key: str | None) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        sent += 1
        yield b"{"
        await asyncio.sleep(60)

    headers = httpx.Headers({"Content-Length": "100", "Content-Type": "application/json"})
    auth = None if key is None else httpx.BasicAuth("X", key)
    for path in (f"/{web_id()}", "/v1/certificates"):
        request = world.client.build_request("POST", path, content=body(), headers=headers)
        response = await asyncio.wait_for(world.client.send(request, auth=auth), 1)
        assert response.status_code == 401
    assert sent == 0


async def test_certificate_that_is_heavy_already_does_no_harm_to_neighbours(
    world: World,
) -> None:
    """As one could be imported before there were bounds."""
    heavy, other = await world.company(), await world.company()
    ids = [await world.certificate(domain="example.com") for _ in range(2)]
    await world.fetch(
        """
        UPDATE certificate SET fingerprints = ARRAY(
            SELECT lpad(to_hex(n), 40, '0') FROM generate_series(1, 130000) AS n
        ) WHERE cert_id = $1
        """,
        ids[0],
    )
    lead: Any = {"match_lead": {"email": "jo@example.com"}, "insights": {"properties": ["domain"]}}
    load = [world.client.post(f"/{ids[0]}", headers=heavy.headers, json=lead) for _ in range(16)]
    attack = [asyncio.create_task(call) for call in load]
    for _ in range(5):
        answer = await asyncio.wait_for(world.ask(other, ids[1]), 2)
        assert answer.status_code == 200
    for refused in await asyncio.gather(*attack):
        check_error(refused, 422)
        assert "import it again" in refused.json()["errors"]["detail"]
    # Imported again within the bounds, it is answered.
    await world.import_lines({"cert_id": ids[0], "fingerprints": ["a" * 40]})
    again = await world.client.post(f"/{ids[0]}", headers=heavy.headers, json=lead)
    assert again.status_code == 200


async def test_budget_for_the_vendor_is_an_accounts_own(stage: Stage, vendor: Vendor) -> None:
    other = await stage.world.company()
    await stage.world.permit(other, stage.viewer)
    await limit(stage.world, other, purchases=2)
    for _ in range(2):
        assert (await stage.call(web_id(), ask("ip"), other)).status_code == 200
    refused = await stage.call(web_id(), ask("ip"), other)
    check_error(refused, 429)
    assert "2 calls to the vendor per day" in refused.json()["reason"]
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.headers["RateLimit-Policy"] == '"calls to the vendor";q=2;w=86400'
    client = stage.world.client
    check_error(await client.get(f"/{web_id()}/validate", headers=other.headers), 429)
    assert len(vendor.requests) == 2
    assert await stage.told(web_id(), "ip")
    account = await client.get("/v1/account", headers=other.headers)
    assert account.json()["used"]["purchases"] == 2


async def test_what_the_vendor_fails_at_for_one_account_stays_available_to_others(
    fresh: Stage, vendor: Vendor
) -> None:
    other = await fresh.world.company()
    for _ in range(5):
        vendor.script = [says(500)]
        body = {"verify": {}, "insights": {"properties": ["ip"]}}
        await fresh.call(web_id(), body, other)
    check_error(await fresh.call(web_id(), ask("ip"), other), 503)
    assert await fresh.told(web_id(), "ip")


async def test_vendor_out_of_reach_is_so_for_everyone(fresh: Stage, vendor: Vendor) -> None:
    other = await fresh.world.company()
    for _ in range(5):
        vendor.script = [httpx.ConnectError("no route")] * 2
        await fresh.call(web_id(), ask("ip"), other)
    vendor.requests.clear()
    check_error(await fresh.call(web_id(), ask("ip")), 503)
    assert vendor.requests == []


async def scanned(world: World, viewer: Company, cert_id: str, terms: list[str]) -> httpx.Response:
    body = {"insights": {"properties": ["domain"], "scans": {"required": terms}}}
    return await world.client.post(f"/{cert_id}", headers=viewer.headers, json=body)


async def test_more_terms_than_a_long_page_allows_are_refused_and_say_how_many_it_does(
    world: World,
) -> None:
    viewer, cert_id = await world.company(), web_id()
    await world.import_lines({"cert_id": cert_id, "page_text": "a" * 1_000_000})
    terms = [f"b{number}" for number in range(51)]
    refused = await scanned(world, viewer, cert_id, terms)
    check_error(refused, 422)
    assert "1000000 characters" in refused.json()["errors"]["detail"]
    assert "at most 50 different terms" in refused.json()["errors"]["detail"]
    assert (await scanned(world, viewer, cert_id, terms[:50])).status_code == 200
    assert (await scanned(world, viewer, cert_id, terms[:1] * 100)).status_code == 200


async def test_one_accounts_scans_wait_for_each_other_and_not_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, other, cert_id = await world.company(), await world.company(), web_id()
    await world.import_lines({"cert_id": cert_id, "page_text": "a" * 1_000_000})
    hostile = [f"b{number:02}" + "a" * 300 for number in range(50)]
    under_way: list[int] = []
    most = 0
    scan_page = page_scan.scan_page

    def counted(*arguments: Any) -> Any:
        nonlocal most
        under_way.append(1)
        most = max(most, len(under_way))
        try:
            return scan_page(*arguments)
        finally:
            under_way.pop()

    monkeypatch.setattr(operations, "scan_page", counted)
    attack = [asyncio.create_task(scanned(world, busy, cert_id, hostile)) for _ in range(6)]
    await until(lambda: asyncio.sleep(0, most))
    await asyncio.sleep(0.1)
    assert most == 1
    response = await asyncio.wait_for(scanned(world, other, cert_id, ["a"]), 2)
    assert response.status_code == 200
    assert json.loads(response.content)["insights"]["scans"]["result"]["required"]["found"]
    for each in attack:
        each.cancel()
    await asyncio.gather(*attack, return_exceptions=True)
