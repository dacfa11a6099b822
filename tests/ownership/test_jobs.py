"""Check jobs: which checks are due, who takes them, and how failures stay isolated."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest

from service.errors import Unavailable
from service.ownership import claims
from service.ownership.dns_txt import Finding, look_up
from service.ownership.jobs import enqueue_due_checks, jobs
from service.processes.jobs import Entrypoint
from service.settings import DnsServer
from tests.builders import NO_VERIFIED, Company, World, by
from tests.conftest import SETTINGS
from tests.ownership.authority import Authority
from tests.ownership.domains import add, call, check_again, claim_id, earlier, fresh_name, own

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


async def due(stage: World, number: int) -> list[UUID]:
    """Create claims with due checks, longest due first."""
    company = await stage.company()
    names = [fresh_name() for _ in range(number)]
    await call(stage, company, "POST", json={"names": names})
    ids = [await claim_id(stage, company, name) for name in names]
    for minutes, each in enumerate(reversed(ids), start=1):
        await stage.fetch(
            """
            UPDATE domain_claim SET begun_at = now(), reason = 'Verification pending',
                next_check_at = now() - make_interval(mins => $2)
            WHERE id = $1
            """,
            each,
            minutes,
        )
    return ids


async def take(stage: World, limit: int = 100) -> list[UUID]:
    async with stage.database.general.transaction() as connection:
        return await claims.take_due(connection, limit)


async def test_two_takers_at_once_share_what_is_due_and_wait_for_each_other_not(
    stage: World,
) -> None:
    ids = await due(stage, 6)
    async with (
        stage.database.general.transaction() as one,
        stage.database.general.transaction() as other,
    ):
        await other.execute("SET LOCAL lock_timeout = '200ms'")
        first = await claims.take_due(one, 4)
        second = await claims.take_due(other, 4)
    assert sorted(first) == sorted(ids[:4])
    assert sorted(second) == sorted(ids[4:])
    assert await take(stage) == []


async def test_what_was_taken_is_due_again_after_half_an_hour_should_nothing_become_of_it(
    stage: World,
) -> None:
    ids = await due(stage, 2)
    assert sorted(await take(stage)) == sorted(ids)
    await earlier(stage, 30 * MINUTE - 20 * SECOND)
    assert await take(stage) == []
    await earlier(stage, 20 * SECOND)
    assert sorted(await take(stage)) == sorted(ids)


async def test_what_a_taker_took_that_failed_is_due_as_before(stage: World) -> None:
    ids = await due(stage, 2)
    with pytest.raises(RuntimeError):  # noqa: PT012 - raising rolls back
        async with stage.database.general.transaction() as connection:
            await claims.take_due(connection, 2)
            raise RuntimeError
    assert sorted(await take(stage)) == sorted(ids)


async def test_only_what_is_due_and_has_begun_and_is_still_there_is_taken(
    stage: World, zone: Authority
) -> None:
    seller = await stage.company()
    waiting, begun, gone = [fresh_name() for _ in range(3)]
    for name in (waiting, begun, gone):
        await add(stage, seller, name)
    for name in (begun, gone):
        await call(stage, seller, "POST", f"/{name}/verification")
    await call(stage, seller, "DELETE", f"/{gone}")
    assert await take(stage) == []
    await earlier(stage, 5 * MINUTE)
    await stage.fetch("UPDATE domain_claim SET next_check_at = now() WHERE removed_at IS NOT NULL")
    assert await take(stage) == [await claim_id(stage, seller, begun)]


async def test_suspended_account_is_not_checked_and_takes_no_domain_until_it_is_reinstated(
    stage: World, zone: Authority
) -> None:
    suspended, owner = await stage.company(), await stage.company()
    name = fresh_name()
    zone.txt[name] = [(await add(stage, suspended, name))["records"][0]["value"]]
    async with stage.database.general.transaction() as connection:
        await claims.begin(connection, suspended.id, name, by(suspended))
    await stage.suspend(suspended)
    await own(stage, zone, owner, name)
    cert_id = await stage.certificate(domain=name)
    claim = await claim_id(stage, suspended, name)
    await earlier(stage, timedelta(minutes=31))
    assert await take(stage) == []
    (row,) = await stage.fetch("SELECT now() AS now")
    # It may have been queued before.
    await do_job(stage, zone, [claim], row["now"])
    assert await stage.confirmed_owner(owner, cert_id) == owner.name
    (row,) = await stage.fetch("SELECT last_checked_at FROM domain_claim WHERE id = $1", claim)
    assert row["last_checked_at"] is None
    await stage.reinstate(suspended)
    assert await take(stage) == [claim]


async def test_what_a_suspended_account_has_proven_still_lapses_without_its_code(
    stage: World, zone: Authority
) -> None:
    suspended, name = await stage.company(), fresh_name()
    await own(stage, zone, suspended, name)
    cert_id = await stage.certificate(domain=name)
    await stage.suspend(suspended)
    zone.txt.pop(name)
    zone.addresses.add(name)
    for days in (1, 2, 1):
        await earlier(stage, timedelta(days=days))
        (claim,) = await take(stage)
        (row,) = await stage.fetch("SELECT now() AS now")
        await do_job(stage, zone, [claim], row["now"])
    await stage.reinstate(suspended)
    assert await stage.confirmed_owner(suspended, cert_id) == NO_VERIFIED


async def test_many_that_are_due_are_put_into_jobs_each_once(stage: World) -> None:
    ids = await due(stage, 20)
    for _ in range(2):
        await enqueue_due_checks(stage.database)
    rows = await stage.fetch("SELECT payload FROM pgqueuer WHERE entrypoint = 'check_domains'")
    queued = [each for row in rows for each in msgspec.json.decode(row["payload"], type=list[UUID])]
    assert sorted(queued) == sorted(ids)


async def test_no_more_checks_are_queued_than_are_soon_done(
    stage: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.ownership.jobs._DUE_AT_A_TIME", 2)
    monkeypatch.setattr("service.ownership.jobs._JOBS_WAITING", 3)
    await due(stage, 20)
    await enqueue_due_checks(stage.database)
    queued = await stage.fetch("SELECT FROM pgqueuer WHERE entrypoint = 'check_domains'")
    assert len(queued) == 3


async def do_job(
    stage: World, zone: Authority, claim_ids: Sequence[UUID], created: datetime
) -> None:
    """Do a job that checks these claims and was queued at this time."""
    settings = msgspec.structs.replace(SETTINGS, dns_resolvers=(zone.server,))
    (entrypoint,) = [
        each for each in jobs(stage.database, settings) if isinstance(each, Entrypoint)
    ]
    job = SimpleNamespace(created=created, payload=msgspec.json.encode(claim_ids))
    await entrypoint.work(cast("Any", job))


async def checked_at(stage: World, company: Company, name: str) -> datetime:
    (row,) = await stage.fetch(
        "SELECT last_checked_at FROM domain_claim WHERE id = $1",
        await claim_id(stage, company, name),
    )
    at: datetime = row["last_checked_at"]
    return at


@pytest.mark.parametrize(
    ("created", "is_checked"),
    [(-MINUTE, False), (timedelta(0), False), (SECOND, True), (MINUTE, True)],
)
async def test_what_was_checked_since_a_job_was_created_is_not_checked_by_it(
    stage: World, zone: Authority, created: timedelta, is_checked: bool
) -> None:
    """This happens when somebody requests the check while the job waits, or the job runs twice."""
    seller, name = await stage.company(), fresh_name()
    await own(stage, zone, seller, name)
    other = fresh_name()
    await add(stage, seller, other)
    async with stage.database.general.transaction() as connection:
        await claims.begin(connection, seller.id, other, by(seller))
    before = await checked_at(stage, seller, name)
    zone.asked.clear()
    ids = [await claim_id(stage, seller, each) for each in (name, other)]
    await do_job(stage, zone, ids, before + created)
    asked = {each for each, _, _ in zone.asked}
    assert (name in asked) == is_checked
    assert (await checked_at(stage, seller, name) > before) == is_checked
    # A claim that was never checked gets its check, whenever the job was created.
    assert other in asked


@pytest.mark.parametrize("error", [Unavailable("no database"), ValueError("a mistake of ours")])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_check_that_fails_stops_no_other_of_its_job_and_has_its_turn_again(
    stage: World,
    zone: Authority,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    place: int,
) -> None:
    seller, names = await stage.company(), [fresh_name() for _ in range(3)]
    for name in names:
        zone.txt[name] = [(await add(stage, seller, name))["records"][0]["value"]]
        async with stage.database.general.transaction() as connection:
            await claims.begin(connection, seller.id, name, by(seller))

    async def look_up_or_fail(resolvers: Sequence[DnsServer], name: str, code: str) -> Finding:
        if name == names[place]:
            raise error
        return await look_up(resolvers, name, code)

    monkeypatch.setattr(claims, "look_up", look_up_or_fail)
    ids = [await claim_id(stage, seller, name) for name in names]
    (row,) = await stage.fetch("SELECT now() AS now")
    await do_job(stage, zone, ids, row["now"])
    rows = await stage.fetch("SELECT name FROM domain_claim WHERE NOT is_verified")
    assert [row["name"] for row in rows] == [names[place]]
    await earlier(stage, 30 * MINUTE)
    assert await take(stage) == [ids[place]]


async def test_other_name_servers_bring_the_next_check_forward_to_a_minute(
    stage: World, zone: Authority
) -> None:
    seller, name = await stage.company(), fresh_name()
    zone.ns[name] = ["ns1.old.example"]
    await own(stage, zone, seller, name)
    zone.ns[name] = ["ns1.new.example"]
    await check_again(stage, zone, seller, name)
    (row,) = await stage.fetch("SELECT next_check_at - last_checked_at AS wait FROM domain_claim")
    assert row["wait"] == MINUTE
