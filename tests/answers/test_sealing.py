"""Every answer is sealed once, whatever happens meanwhile, and months of old ones can be dropped."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from service.answers import audit_log, queries, sealing
from service.answers.checkpoints import Dropped, Signer
from service.answers.months import keep_months
from service.answers.receipts import verified
from service.answers.sealing import BrokenLog, seal
from service.errors import Unavailable
from service.postgres.pools import Connection, open_database
from tests.answers.logs import (
    KEY,
    ORIGIN,
    OTHER_SEED,
    SEED,
    checkpoint,
    found,
    log_keys,
    receipt,
    record,
    seal_all,
    sealed_ids,
)
from tests.builders import World

OTHER_KEY = Signer(ORIGIN, OTHER_SEED).key


async def instant(world: World, ago: timedelta) -> datetime:
    return await world.instant() - ago


async def checkpoints(world: World) -> list[int]:
    return [row["size"] for row in await world.fetch("SELECT size FROM log_checkpoint ORDER BY 1")]


async def test_without_answers_nothing_is_signed(world: World) -> None:
    assert await seal_all(world) == await seal_all(world) == 0
    for path in ("checkpoint", "key"):
        assert (await world.client.get(f"/v1/log/{path}")).status_code == 404
    assert await found(world) == []


async def test_answers_are_sealed_once(world: World) -> None:
    ids = await record(world, 3)
    assert await seal_all(world) == 3
    assert await seal_all(world) == 0
    ids += await record(world, 2, at=await instant(world, timedelta(minutes=5)))
    # It is of a time that was sealed, and not recorded since by a clock that is a bit behind.
    assert await seal_all(world) == 0
    ids = ids[:3] + await record(world, 2, at=await instant(world, timedelta(seconds=30)))
    assert await seal_all(world) == 2
    assert set(await sealed_ids(world)) == set(ids)
    assert await checkpoints(world) == [3, 5]


async def test_nothing_is_added_to_a_log_that_is_not_as_it_was_signed(world: World) -> None:
    """Otherwise, the next checkpoint would sign what somebody changed."""
    await record(world, 3)
    await seal_all(world)
    await world.fetch("UPDATE log_tile SET hashes = overlay(hashes PLACING '\\x00' FROM 1)")
    await record(world, 1, at=await instant(world, timedelta(seconds=30)))
    with pytest.raises(BrokenLog):
        await seal_all(world)
    assert await checkpoints(world) == [3]


@pytest.mark.parametrize("at_once", [1, 7, 255, 256, 300])
async def test_groups_of_any_size_make_the_same_log(
    world: World, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(sealing, "_AT_ONCE", at_once)
    monkeypatch.setattr(sealing, "_RESTS", 0)
    monkeypatch.setattr(audit_log, "_AT_ONCE", 256)
    count = 20 if at_once == 1 else 600
    await record(world, count)
    assert await seal_all(world) == count
    assert await checkpoints(world) == [count]
    assert await found(world) == []
    ids = await sealed_ids(world)
    for position in (0, 11, count - 1):
        statement, _ = verified(await receipt(world, ids[position]), [KEY])
        assert statement.answer_id == ids[position]


async def test_answers_of_many_times_are_sealed_in_their_order(world: World) -> None:
    seconds = [10**9, 10**7 + 1, 10**7, 9000, 90, 30, 2]
    ago = [timedelta(seconds=each) for each in seconds]
    ids = [(await record(world, 1, at=await instant(world, each)))[0] for each in ago]
    assert await seal_all(world) == len(ids)
    assert await sealed_ids(world) == ids
    assert await found(world) == []


async def test_long_backlog_is_not_looked_through_for_each_second_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[timedelta] = []
    select = queries.select_next_answer

    async def noted(connection: Connection, since: datetime, until: datetime) -> datetime | None:
        looked.append(until - since)
        return await select(connection, since, until)

    monkeypatch.setattr(queries, "select_next_answer", noted)
    for seconds in range(20, 0, -1):
        await record(world, 1, at=await instant(world, timedelta(days=1, seconds=1.5 * seconds)))
    assert await seal_all(world) == 20
    long = [each for each in looked if each > timedelta(minutes=1)]
    # Those before the first answer, and after the last.
    assert len(long) < 30
    assert len(looked) < 100


async def test_two_that_seal_at_once_seal_each_answer_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "_AT_ONCE", 10)
    monkeypatch.setattr(sealing, "_RESTS", 0)
    ids = await record(world, 95)
    ids += await record(world, 45, at=await instant(world, timedelta(minutes=5)))
    counts = await asyncio.gather(*(seal_all(world) for _ in range(4)))
    assert sum(counts) == len(ids)
    assert set(await sealed_ids(world)) == set(ids)
    assert await found(world) == []
    assert (await checkpoints(world))[-1] == len(ids)


class Killed(BaseException):
    """As if the process were gone."""


@pytest.mark.parametrize("step", ["insert_sealed", "select_unsealed", "insert_checkpoint"])
@pytest.mark.parametrize("after", [False, True])
async def test_sealing_goes_on_where_it_was_killed(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    monkeypatch.setattr(sealing, "_AT_ONCE", 10)
    monkeypatch.setattr(sealing, "_RESTS", 0)
    ids = await record(world, 35)
    ids += await record(world, 5, at=await instant(world, timedelta(minutes=10)))
    original: Callable[..., Any] = getattr(queries, step)
    calls = 0

    async def killed(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        fatal = calls == (1 if step == "insert_checkpoint" else 3)
        if fatal and not after:
            raise Killed
        done = await original(*arguments)
        if fatal:
            raise Killed
        return done

    with monkeypatch.context() as patched:
        patched.setattr(queries, step, killed)
        with pytest.raises(Killed):
            await seal_all(world)
    before = len(await sealed_ids(world))
    assert before == (40 if step == "insert_checkpoint" else 20)
    assert await seal_all(world) == len(ids) - before
    assert set(await sealed_ids(world)) == set(ids)
    assert await checkpoints(world) == [40]
    assert await found(world) == []


async def test_answer_of_a_transaction_that_is_still_open_is_waited_for(
    world: World, migrated_url: str
) -> None:
    insert = """
        INSERT INTO answer (id, account_id, api_key_id, answered_at)
        VALUES (uuidv7(), gen_random_uuid(), gen_random_uuid(), now()) RETURNING id
    """
    async with open_database(migrated_url) as another:
        async with another.general.transaction() as connection:
            late: UUID = await connection.fetchval(insert)
            (row,) = await world.fetch(insert)
            await asyncio.sleep(1.1)
            # Neither is sealed: the transaction that began first has not ended.
            assert await seal_all(world) == 0
        assert await seal_all(world) == 2
    assert await sealed_ids(world) == [late, row["id"]]
    assert await found(world) == []


@pytest.mark.parametrize("seconds", [3, 15, 100])
async def test_answer_from_a_clock_that_was_set_back_is_sealed(world: World, seconds: int) -> None:
    await record(world, 1, at=await instant(world, timedelta(seconds=2)))
    await seal_all(world)
    (late,) = await record(world, 1, at=await instant(world, timedelta(seconds=seconds)))
    assert await found(world) == []
    assert await seal_all(world) == 1
    assert (await sealed_ids(world))[-1] == late
    assert await found(world) == []


async def test_answers_of_a_clock_that_was_set_back_by_an_hour_are_sealed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(world, 1)
    await seal_all(world)

    async def an_hour_ago(connection: Connection) -> datetime:
        del connection
        return await instant(world, timedelta(hours=1))

    (late,) = await record(world, 1, at=await instant(world, timedelta(hours=1, seconds=20)))
    with monkeypatch.context() as patched:
        patched.setattr(queries, "select_horizon", an_hour_ago)
        assert await seal_all(world) == 1
    (later,) = await record(world, 1, at=await instant(world, timedelta(minutes=59)))
    assert await seal_all(world) == 1
    assert (await sealed_ids(world))[-2:] == [late, later]


async def test_key_is_replaced_and_what_the_former_signed_still_holds(world: World) -> None:
    first, *_ = await record(world, 2)
    await seal_all(world)
    former, kept = await receipt(world, first), await checkpoint(world)
    (second,) = await record(world, 1, at=await instant(world, timedelta(seconds=10)))
    await seal_all(world, OTHER_SEED)
    # The latest first.
    assert await log_keys(world) == [OTHER_KEY, KEY]
    assert verified(former, [KEY])[0].answer_id == first
    for answer_id in (first, second):
        assert verified(await receipt(world, answer_id), [OTHER_KEY])[0].answer_id == answer_id
    assert await found(world, [], [kept]) == []
    assert await found(world, [KEY, OTHER_KEY], [kept]) == []
    for key in (KEY, OTHER_KEY):
        assert any("can't be trusted" in each for each in await found(world, [key]))


# Months long ago and to come, which no other test has answers of.
NOW = datetime.now(UTC)


def month(number: int) -> datetime:
    """The middle of the month that is so many months from now."""
    year, at = divmod(NOW.year * 12 + NOW.month - 1 + number, 12)
    return datetime(year, at + 1, 15, 12, tzinfo=UTC)


async def partitions(world: World) -> set[str]:
    rows = await world.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
        " WHERE inhparent = 'answer'::regclass"
    )
    return {row["name"] for row in rows}


async def tear_down(world: World, kept: set[str]) -> None:
    await world.reset()
    for name in await partitions(world) - kept:
        await world.fetch(f"DROP TABLE {name}")


@pytest.fixture
async def own_months(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[int], None]]:
    """Sets what month it is: so many after the real one. Months that are made are undone."""
    kept = await partitions(world)

    def in_month(number: int) -> None:
        async def then(connection: Connection) -> datetime:
            del connection
            return month(number)

        monkeypatch.setattr(queries, "select_horizon", then)

    yield in_month
    monkeypatch.undo()
    await tear_down(world, kept)


async def test_months_are_made_in_the_month_that_began_before_there_were_any(
    world: World, own_months: Callable[[int], None]
) -> None:
    before = await partitions(world)
    own_months(0)
    await keep_months(world.database, None, SEED)
    # This month's answers are with those of all former months.
    assert await partitions(world) == before
    own_months(1)
    await keep_months(world.database, None, SEED)
    assert await partitions(world) == before | {f"answer_{month(3):%Y_%m}"}


async def test_months_are_made_ahead_and_only_once(
    world: World, own_months: Callable[[int], None]
) -> None:
    own_months(30)
    await keep_months(world.database, None, SEED)
    made = await partitions(world)
    assert {f"answer_{month(number):%Y_%m}" for number in (30, 31, 32)} < made
    await keep_months(world.database, None, SEED)
    assert await partitions(world) == made


async def test_answers_without_a_month_move_into_it_when_it_is_made(
    world: World, own_months: Callable[[int], None]
) -> None:
    (early,) = await record(world, 1, at=month(30))
    (other,) = await record(world, 1, at=month(40))
    await keep_months(world.database, None, SEED)
    own_months(29)
    await keep_months(world.database, None, SEED)
    rows = await world.fetch("SELECT id, tableoid::regclass::text AS place FROM answer")
    assert {row["id"]: row["place"] for row in rows} == {
        early: f"answer_{month(30):%Y_%m}",
        other: "answer_other",
    }


@pytest.fixture
async def kept_by_month(world: World, own_months: Callable[[int], None]) -> list[UUID]:
    """Sealed answers, two of each of three months, in a log whose clock is in the last of them."""
    own_months(30)
    await keep_months(world.database, None, SEED)
    ids = []
    for number in (30, 31, 32):
        ids += await record(world, 2, at=month(number) - timedelta(days=5))
    own_months(32)
    assert await seal_all(world) == 6
    return await sealed_ids(world)


async def test_old_months_are_dropped_and_the_log_still_verifies(
    world: World, own_months: Callable[[int], None], kept_by_month: list[UUID]
) -> None:
    ids, kept = kept_by_month, await checkpoint(world)
    former = await receipt(world, ids[0])
    await keep_months(world.database, 2, SEED)
    assert len(await world.fetch("SELECT FROM answer")) == 6
    await keep_months(world.database, 1, SEED)
    assert f"answer_{month(30):%Y_%m}" not in await partitions(world)
    rows = await world.fetch("SELECT id FROM answer")
    assert {row["id"] for row in rows} == set(ids[2:])
    assert await found(world, [KEY], [kept]) == []
    assert await extent(world) == (6, 2)
    assert verified(former, [KEY])[0].answer_id == ids[0]
    rows = await world.fetch("SELECT detail FROM event WHERE action = 'answers.dropped'")
    assert any('"answers": 2' in row["detail"] for row in rows)
    # The next month goes, under another key.
    own_months(33)
    await keep_months(world.database, 1, OTHER_SEED)
    assert await extent(world, both=True) == (6, 4)
    findings = await found(world, [KEY, OTHER_KEY], [kept])
    assert findings == [f"the key {OTHER_KEY} is given, but not on record"]


async def extent(world: World, *, both: bool = False) -> tuple[int, int]:
    async with world.database.general.connection() as connection:
        read = await audit_log.extent_of(connection, [KEY, OTHER_KEY] if both else [])
    return read.answers, read.dropped


async def test_month_with_an_answer_that_is_not_sealed_is_kept(
    world: World, own_months: Callable[[int], None], kept_by_month: list[UUID]
) -> None:
    # Of a batch that began in that month, and was answered in the next.
    (late,) = await record(world, 1, at=month(30))
    await world.fetch(
        "UPDATE answer SET answered_at = $2 WHERE id = $1", late, month(32) + timedelta(minutes=1)
    )
    await keep_months(world.database, 1, SEED)
    assert len(await world.fetch("SELECT FROM answer")) == len(kept_by_month) + 1
    own_months(33)
    await seal_all(world)
    own_months(32)
    await keep_months(world.database, 1, SEED)
    assert len(await world.fetch("SELECT FROM answer")) == len(kept_by_month) - 2
    assert await extent(world) == (7, 3)
    assert await found(world, [KEY]) == []


@pytest.mark.usefixtures("own_months")
async def test_deleted_answer_can_not_pass_for_dropped(
    world: World, kept_by_month: list[UUID]
) -> None:
    ids = kept_by_month
    await keep_months(world.database, 1, SEED)
    assert await found(world) == []
    await world.fetch("DELETE FROM answer WHERE id = $1", ids[3])
    named = f"answer {ids[3]} is missing (number 3 of the log)"
    assert await found(world) == [named]
    forged = Signer(ORIGIN, OTHER_SEED).note_of_dropped(Dropped(9, UUID(int=2**128 - 1)))
    await world.fetch("INSERT INTO log_drop VALUES ($1, $2)", uuid4(), forged)
    assert named in await found(world)
    await world.fetch("UPDATE log_drop SET before = $1 WHERE note = $2", UUID(int=1), forged)
    assert named in await found(world)
    await world.fetch("DELETE FROM log_drop WHERE note = $1", forged)
    await world.fetch("INSERT INTO log_drop SELECT gen_random_uuid(), note FROM log_drop")
    (twice, missing) = await found(world)
    assert "two notes" in twice
    assert missing == named
    await world.fetch("DELETE FROM log_drop WHERE before <> ALL ($1)", [UUID(int=0)])
    assert len(await found(world)) == 3


@pytest.mark.usefixtures("own_months")
async def test_deleted_answer_can_not_pass_for_dropped_under_another_id(
    world: World, kept_by_month: list[UUID]
) -> None:
    ids = kept_by_month
    await keep_months(world.database, 1, SEED)
    await world.fetch("DELETE FROM answer WHERE id = $1", ids[3])
    await world.fetch(
        "UPDATE sealed_answer SET answer_id = $1 WHERE answer_id = $2", UUID(int=1), ids[3]
    )
    (finding,) = await found(world)
    assert finding.startswith("1 answers from before")
    assert "of the 3 that are not there, only 2 were dropped" in finding


@pytest.mark.usefixtures("own_months")
async def test_month_that_someone_reads_is_dropped_another_night(
    world: World, migrated_url: str, kept_by_month: list[UUID]
) -> None:
    async with (
        open_database(migrated_url) as another,
        another.general.transaction() as connection,
    ):
        await connection.fetch("SELECT FROM answer")
        with pytest.raises(Unavailable):
            await keep_months(world.database, 1, SEED)
    assert await found(world) == []
    assert len(await world.fetch("SELECT FROM answer")) == len(kept_by_month)
    await keep_months(world.database, 1, SEED)
    assert await extent(world) == (6, 2)


async def test_sealing_that_no_key_can_sign_changes_nothing(world: World) -> None:
    await record(world, 1)
    with pytest.raises(ValueError, match="32"):
        await seal(world.database, ORIGIN, b"short")
    assert await checkpoints(world) == []
    await seal_all(world)
    assert await checkpoints(world) == [1]
