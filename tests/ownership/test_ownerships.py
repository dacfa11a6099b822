"""Ownership periods never overlap, even with concurrent attestations."""

import asyncio

import pytest

from service.errors import Conflict, InvalidHostname
from service.ownership import ownerships
from tests.builders import World


async def periods(world: World, domain: str = "example.com") -> list[tuple[object, ...]]:
    rows = await world.fetch(
        """
        SELECT account.name, ownership.covers_subdomains, ownership.end_reason
        FROM ownership JOIN account ON account.id = ownership.account_id
        WHERE domain = $1 ORDER BY started_at, ended_at
        """,
        domain,
    )
    return [tuple(row) for row in rows]


async def test_attesting_what_stands_changes_nothing(world: World) -> None:
    owner = await world.company("Acme, Inc.")
    for spelling in ("example.com", "WWW.Example.com.", "example.com"):
        await world.own(owner, spelling)
    assert await periods(world) == [("Acme, Inc.", False, None)]
    events = await world.fetch("SELECT 1 FROM event WHERE action = 'ownership.started'")
    assert len(events) == 1


async def test_other_coverage_is_another_period_with_the_same_time_of_verification(
    world: World,
) -> None:
    owner = await world.company("Acme, Inc.")
    await world.own(owner, "example.com")
    await world.own(owner, "example.com", covers_subdomains=True)
    assert await periods(world) == [
        ("Acme, Inc.", False, "Coverage changed"),
        ("Acme, Inc.", True, None),
    ]
    rows = await world.fetch("SELECT verified_at, started_at, ended_at FROM ownership ORDER BY 2")
    assert rows[0]["verified_at"] == rows[1]["verified_at"]
    assert rows[0]["ended_at"] == rows[1]["started_at"]


async def test_former_owner_is_superseded_and_both_have_an_event(world: World) -> None:
    former, latter = await world.company("Former Owner"), await world.company("Latter Owner")
    await world.own(former, "example.com")
    await world.own(latter, "example.com")
    assert await periods(world) == [
        ("Former Owner", False, "Superseded"),
        ("Latter Owner", False, None),
    ]
    rows = await world.fetch(
        "SELECT action, account_id, detail FROM event WHERE action LIKE 'ownership%' ORDER BY id"
    )
    assert [(row["action"], row["account_id"]) for row in rows] == [
        ("ownership.started", former.id),
        ("ownership.ended", former.id),
        ("ownership.started", latter.id),
    ]
    # Neither account's events reveal who the other is.
    assert str(latter.id) not in rows[1]["detail"]
    assert latter.name not in rows[1]["detail"]
    assert str(former.id) not in rows[2]["detail"]


async def test_removal_ends_the_period_with_its_reason(world: World) -> None:
    owner = await world.company("Acme, Inc.")
    await world.own(owner, "example.com")
    await world.disown("example.com")
    assert await periods(world) == [("Acme, Inc.", False, "Removed")]


async def test_refused_domain_leaves_nothing_behind(world: World) -> None:
    owner = await world.company()
    async with world.database.general.transaction() as connection:
        with pytest.raises(InvalidHostname):
            await ownerships.attest(connection, owner.id, "co.uk", covers_subdomains=False)
    assert await world.fetch("SELECT 1 FROM ownership") == []


async def test_domain_has_one_live_owner_and_no_overlap_however_many_race(world: World) -> None:
    racers = [await world.company() for _ in range(4)]
    # More than there are connections, and not so many that the last wait too long on a slow machine.
    places = asyncio.Semaphore(12)

    async def race(number: int) -> None:
        async with places:
            await world.own(racers[number % 4], "example.com", covers_subdomains=number % 3 == 0)

    await asyncio.gather(*(race(number) for number in range(60)))
    live = await world.fetch("SELECT 1 FROM ownership WHERE ended_at IS NULL")
    assert len(live) == 1
    overlaps = await world.fetch(
        """
        SELECT 1 FROM ownership AS one JOIN ownership AS other ON one.id < other.id
        AND tstzrange(one.started_at, one.ended_at) && tstzrange(other.started_at, other.ended_at)
        """
    )
    assert overlaps == []


async def test_attested_domain_is_taken_from_another_account_only_when_that_is_meant(
    world: World,
) -> None:
    former, latter = await world.company("Acme, Inc."), await world.company("Other, Inc.")
    await world.own(former, "example.com")
    async with world.database.general.transaction() as connection:
        with pytest.raises(Conflict, match=r"attested to Acme, Inc.; use --replace"):
            await ownerships.attest(connection, latter.id, "example.com", covers_subdomains=False)
    assert await periods(world) == [("Acme, Inc.", False, None)]
    assert await world.mails("domain_reassigned") == []
    async with world.database.general.transaction() as connection:
        await ownerships.attest(
            connection, latter.id, "example.com", covers_subdomains=False, replace=True
        )
    assert await periods(world) == [
        ("Acme, Inc.", False, "Superseded"),
        ("Other, Inc.", False, None),
    ]
    assert await world.mails("domain_reassigned") == [(former.email, "queued")]
