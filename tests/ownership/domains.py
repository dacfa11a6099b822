"""Add and verify domains for accounts, and let time pass for them."""

import itertools
from datetime import timedelta
from typing import Any
from uuid import UUID

from service.ownership import claims
from tests.builders import Company, World
from tests.ownership.authority import Authority

_numbers = itertools.count()


def fresh_name() -> str:
    return f"seller{next(_numbers)}.example"


async def call(
    stage: World, company: Company, method: str, path: str = "", json: Any = None
) -> tuple[int, Any]:
    response = await stage.client.request(
        method, f"/v1/domains{path}", headers=company.headers, json=json
    )
    return response.status_code, response.json() if response.content else None


async def add(stage: World, company: Company, name: str, **more: Any) -> Any:
    status, body = await call(stage, company, "POST", json={"names": [name], **more})
    assert status == 201, body
    return body["items"][0]


async def verify(stage: World, company: Company, name: str) -> Any:
    status, body = await call(stage, company, "POST", f"/{name}/verification")
    assert status == 200, body
    return body


async def own(stage: World, zone: Authority, company: Company, name: str, **more: Any) -> Any:
    """Add a domain, publish its code in the DNS, and verify it."""
    added = await add(stage, company, name, **more)
    record = added["records"][0]
    zone.txt[record["host"]] = [*zone.txt.get(record["host"], []), record["value"]]
    verified = await verify(stage, company, name)
    assert verified["status"] == "verified", verified
    return verified


async def claim_id(stage: World, company: Company, name: str) -> UUID:
    (row,) = await stage.fetch(
        "SELECT id FROM domain_claim WHERE account_id = $1 AND name = $2 AND removed_at IS NULL",
        company.id,
        name,
    )
    found: UUID = row["id"]
    return found


async def check_again(stage: World, zone: Authority, company: Company, name: str) -> Any:
    """Check a claim as a job does."""
    await claims.check(stage.database, [zone.server], await claim_id(stage, company, name))
    return (await call(stage, company, "GET", f"/{name}"))[1]


async def earlier(stage: World, by: timedelta) -> None:
    """Backdate everything that happened to claims."""
    await stage.fetch(
        """
        UPDATE domain_claim SET begun_at = begun_at - $1::interval,
            failing_since = failing_since - $1::interval, warned_at = warned_at - $1::interval,
            last_checked_at = last_checked_at - $1::interval,
            last_verified_at = last_verified_at - $1::interval,
            next_check_at = next_check_at - $1::interval
        """,
        by,
    )


async def lose_code(stage: World, zone: Authority, seller: Company, name: str) -> list[str]:
    """Own a domain, remove its code from the DNS, and return the removed values."""
    await own(stage, zone, seller, name)
    zone.addresses.add(name)
    values = [str(value) for value in zone.txt.pop(name)]
    await check_again(stage, zone, seller, name)
    return values


async def lapse(stage: World, zone: Authority, seller: Company, name: str) -> None:
    """Own a domain, and lose it after three days without its code."""
    await lose_code(stage, zone, seller, name)
    for hours in (48, 24):
        await earlier(stage, timedelta(hours=hours))
        await check_again(stage, zone, seller, name)
