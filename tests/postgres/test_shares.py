"""One account that calls a lot waits for itself, and leaves connections to the others."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.builders import Company, World, until
from tests.parties import party
from tests.surfer import Surfer


@asynccontextmanager
async def turn_of(world: World, company: Company) -> AsyncIterator[None]:
    """Another process changes something for a company, and takes its time."""
    async with world.database.general.transaction() as connection:
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('turn of ' || $1, 0))", str(company.id)
        )
        yield


async def test_many_changes_of_one_account_that_wait_leave_the_others_alone(world: World) -> None:
    busy, other = await party(world), await party(world)
    async with turn_of(world, busy):
        waiting = [
            asyncio.create_task(busy.invite(f"jo{number}@example.com")) for number in range(80)
        ]

        async def all_wait() -> bool:
            return (await busy.do("GET", "/v1/account")).status_code == 200

        await until(all_wait)
        started = time.monotonic()
        assert (await other.do("GET", "/v1/account")).status_code == 200
        assert (await other.invite("jo@example.com")).status_code == 201
        assert (await busy.do("GET", "/v1/account")).status_code == 200
        assert (await world.client.get("/ready")).status_code == 200
        assert time.monotonic() - started < 1
        refused = await asyncio.gather(*waiting)
    assert {response.status_code for response in refused} == {429}
    assert {response.json()["code"] for response in refused} == {"too_many_calls"}
    assert {response.headers["Retry-After"] for response in refused} == {"1"}
    assert (await busy.invite("jo1@example.com")).status_code == 201


async def test_slow_reads_of_one_account_leave_connections_to_the_others(world: World) -> None:
    busy, other = await party(world), await party(world)
    async with world.database.general.transaction() as connection:
        await connection.execute("LOCK TABLE certificate_usage IN ACCESS EXCLUSIVE MODE")
        reading = [asyncio.create_task(busy.do("GET", "/v1/account")) for _ in range(20)]
        await asyncio.sleep(0.1)
        started = time.monotonic()
        assert (await other.do("GET", "/v1/account/keys")).status_code == 200
        assert (await other.invite("jo@example.com")).status_code == 201
        assert time.monotonic() - started < 1
    assert {each.status_code for each in await asyncio.gather(*reading)} <= {200, 429}


async def test_what_is_done_already_waits_for_no_turn(world: World) -> None:
    company = await party(world)
    emails = [f"jo{number}@example.com" for number in range(5)]
    invited = await company.invite(*emails)
    keyed = await company.invite("al@example.com", key="once")
    domains = {"names": ["example.com", "example.org"]}
    added = await company.do("POST", "/v1/domains", domains)
    async with turn_of(world, company):
        again = await company.invite(*emails)
        assert again.status_code == 200
        assert [each["id"] for each in again.json()["items"]] == [
            each["id"] for each in invited.json()["items"]
        ]
        repeated = await company.invite("al@example.com", key="once")
        assert (repeated.status_code, repeated.content) == (201, keyed.content)
        same = await company.do("POST", "/v1/domains", domains)
        assert same.status_code == 200
        assert [each["name"] for each in same.json()["items"]] == [
            each["name"] for each in added.json()["items"]
        ]


async def test_unknown_callers_together_leave_connections_to_the_known(world: World) -> None:
    company = await party(world)
    async with world.database.general.transaction() as connection:
        # Everything that asks for a link to sign in waits.
        await connection.execute("LOCK TABLE allowance IN ACCESS EXCLUSIVE MODE")

        async def asks() -> None:
            surfer = Surfer(world.client)
            await surfer.go("/sign-in")
            await surfer.send("/sign-in", email="jo@example.com")

        asking = [asyncio.create_task(asks()) for _ in range(20)]
        await asyncio.sleep(0.2)
        started = time.monotonic()
        assert (await company.do("GET", "/v1/account/keys")).status_code == 200
        assert time.monotonic() - started < 1
    await asyncio.gather(*asking, return_exceptions=True)
