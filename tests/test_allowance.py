"""Rate limits: what counts, for how long, and what clients are told."""

import asyncio
import math
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal

import pytest

from service import allowance
from service.errors import LimitReached, http_headers
from service.postgres.pools import Connection
from tests.builders import World, link_of
from tests.parties import ACCOUNT, INVITATIONS, MEMBERS, Party, partners, party
from tests.surfer import Surfer

Period = Literal["hour", "day"]

# A count beyond every limit.
MANY = 1_000_000


LASTS: dict[Period, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}


def begin_of(per: Period, now: datetime) -> datetime:
    """The start of the hour or the day (UTC)."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    return hour if per == "hour" else hour.replace(hour=0)


def left_of(per: Period, now: datetime) -> int:
    """How many seconds are left in the hour or the day (UTC)."""
    return math.ceil((begin_of(per, now) + LASTS[per] - now).total_seconds())


async def now_of(connection: Connection) -> datetime:
    """The database's current time, the only one that counts."""
    now: datetime = await connection.fetchval("SELECT now()")
    return now


async def reach(world: World, what: str, whose: str, per: Period) -> None:
    """Use up a limit."""
    await world.fetch(
        "INSERT INTO allowance VALUES (date_trunc($4, now(), 'UTC'), $1, $2, $3)",
        what,
        whose,
        MANY,
        per,
    )


# Hours don't start at the same time everywhere: India is half an hour off.
@pytest.mark.parametrize("time_zone", ["UTC", "Asia/Kolkata"])
@pytest.mark.parametrize("per", ["hour", "day"])
async def test_limit_that_is_reached_says_when_its_hour_or_day_ends(
    world: World, per: Period, time_zone: str
) -> None:
    # In one transaction, because the database's clock stands still there.
    async with world.database.general.transaction() as connection:
        await connection.execute(f"SET LOCAL TIME ZONE '{time_zone}'")
        for _ in range(3):
            await allowance.take(connection, "test", "me", 3, per=per)
        with pytest.raises(LimitReached) as raised:
            await allowance.take(connection, "test", "me", 3, per=per)
        now = await now_of(connection)
        assert await connection.fetchval("SELECT since FROM allowance") == begin_of(per, now)
    left = left_of(per, now)
    assert raised.value.retry_after == left
    assert http_headers(raised.value) == {"Retry-After": str(left)}


@pytest.mark.parametrize("per", ["hour", "day"])
async def test_next_hour_or_day_begins_anew(world: World, per: Period) -> None:
    async with world.database.general.transaction() as connection:
        await allowance.take(connection, "test", "me", 1, per=per)
        await connection.execute("UPDATE allowance SET since = since - $1::interval", LASTS[per])
        await allowance.take(connection, "test", "me", 1, per=per)


async def test_each_counts_for_itself(world: World) -> None:
    async with world.database.general.transaction() as connection:
        for what in ("one", "other"):
            for whose in ("me", "you"):
                await allowance.take(connection, what, whose, 1)
                with pytest.raises(LimitReached):
                    await allowance.take(connection, what, whose, 1)


async def test_what_was_rolled_back_was_not_done(world: World) -> None:
    async with world.database.general.connection() as connection:
        with suppress(ZeroDivisionError):
            async with connection.transaction():
                await allowance.take(connection, "test", "me", 1)
                raise ZeroDivisionError
        await allowance.take(connection, "test", "me", 1)


async def test_of_many_at_once_no_more_than_the_limit_go_through(world: World) -> None:
    async def one() -> bool:
        async with world.database.general.transaction() as connection:
            try:
                await allowance.take(connection, "test", "me", 3)
            except LimitReached:
                return False
        return True

    assert sum(await asyncio.gather(*(one() for _ in range(8)))) == 3


@pytest.mark.parametrize("per", ["hour", "day"])
async def test_limit_that_is_reached_stays_so_after_a_purge(world: World, per: Period) -> None:
    async with world.database.general.transaction() as connection:
        await allowance.take(connection, "test", "me", 1, per=per)
        await allowance.purge(connection)
        with pytest.raises(LimitReached):
            await allowance.take(connection, "test", "me", 1, per=per)


@pytest.mark.parametrize(
    ("age", "is_kept"),
    [
        # The age of a day's count in the last second of that day.
        (timedelta(days=1) - timedelta(seconds=1), True),
        (timedelta(days=1), True),
        (timedelta(days=1, seconds=1), False),
    ],
)
async def test_counts_are_forgotten_once_their_day_is_over(
    world: World, age: timedelta, is_kept: bool
) -> None:
    async with world.database.general.transaction() as connection:
        await connection.execute(
            "INSERT INTO allowance VALUES (now() - $1::interval, 'a', 'b', 1)", age
        )
        await allowance.purge(connection)
        assert bool(await connection.fetch("SELECT FROM allowance")) is is_kept


async def test_what_was_counted_yesterday_is_purged(world: World) -> None:
    async with world.database.general.transaction() as connection:
        await allowance.take(connection, "test", "me", 1)
        await connection.execute("UPDATE allowance SET since = since - interval '1 day'")
        await allowance.take(connection, "test", "me", 1)
        await allowance.purge(connection)
        (row,) = await connection.fetch(
            "SELECT since = date_trunc('day', now(), 'UTC') AS today FROM allowance"
        )
    assert row["today"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (1, "1 min"),
        (60, "1 min"),
        (61, "2 min"),
        (3540, "59 min"),
        (3541, "1 h 0 min"),
        (86_400, "24 h 0 min"),
    ],
)
def test_time_to_wait_is_told_in_minutes_that_are_enough(seconds: int, told: str) -> None:
    assert f" in {told}" in str(LimitReached(seconds))


LIMITED: dict[str, tuple[Period, str, str, str, object]] = {
    "rename": ("day", "tries to rename it", "PATCH", ACCOUNT, {"name": "Another Name"}),
    "invite": (
        "day",
        "invitations",
        "POST",
        INVITATIONS,
        {"emails": ["al@x.example"], "reason": "receive_leads"},
    ),
    "invite a member": (
        "day",
        "invitations",
        "POST",
        MEMBERS,
        {"emails": ["al@x.example"], "role": "member"},
    ),
    "add domains": ("hour", "new domains", "POST", "/v1/domains", {"names": ["b.example"]}),
    "check a domain": ("hour", "domain checks", "POST", "/v1/domains/a.example/verification", None),
    "resend": ("day", "invitations", "POST", "{invitation}/resend", None),
    "ask for a name": ("day", "requests for this name", "POST", "{connection}/grant-request", None),
}  # fmt: skip


async def prepared(world: World) -> tuple[Party, dict[str, str], dict[str, str]]:
    """A buyer ready for every limited call, the paths to call, and counts that aren't its own."""
    buyer, seller, connection = await partners(world)
    await buyer.do("POST", "/v1/domains", {"names": ["a.example"]})
    paths = {"invitation": await buyer.invited("jo@x.example"), "connection": connection}
    await world.fetch("DELETE FROM allowance")
    return buyer, paths, {"requests for this name": f"{buyer.id} {seller.id}"}


@pytest.mark.parametrize("limited", LIMITED)
async def test_retry_after_leads_to_the_end_of_the_hour_or_day(world: World, limited: str) -> None:
    buyer, paths, whose = await prepared(world)
    per, what, method, path, body = LIMITED[limited]
    await reach(world, what, whose.get(what, str(buyer.id)), per)
    (before,) = await world.fetch("SELECT now()")
    response = await buyer.do(method, path.format(**paths), body)
    (after,) = await world.fetch("SELECT now()")
    assert response.status_code == 429, response.text
    told = int(response.headers["retry-after"])
    assert left_of(per, after["now"]) <= told <= left_of(per, before["now"])
    await world.fetch("DELETE FROM allowance")
    assert (await buyer.do(method, path.format(**paths), body)).status_code < 300


async def test_page_that_is_beyond_a_limit_says_when_it_ends(world: World) -> None:
    invitation = await world.invite(await party(world), "jo@x.example")
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    await reach(world, "sign-ups with this invitation", str(invitation.id), "day")
    (before,) = await world.fetch("SELECT now()")
    response = await surfer.send(f"{link_of(invitation)}/accept", company="S", your_name="Jo")
    (after,) = await world.fetch("SELECT now()")
    assert response.status_code == 429
    told = int(response.headers["retry-after"])
    assert left_of("day", after["now"]) <= told <= left_of("day", before["now"])
