"""Whoever can write the database can't change what was told without being found out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import msgspec
import pytest

from service.answers.audit_log import differences
from service.answers.checkpoints import Signer
from service.answers.merkle import Frontier
from service.answers.receipts import InvalidReceipt, Receipt, verified
from service.postgres.pools import Connection
from tests.answers.logs import (
    KEY,
    ORIGIN,
    OTHER_SEED,
    SEED,
    checkpoint,
    found,
    receipt,
    record,
    seal_all,
    sealed_ids,
)
from tests.builders import World

# More than a tile, so that every table of the log has several rows or levels.
COUNT = 260

# Other values for each column of an answer. A new column has to be added here, and to be sealed.
CHANGES = {
    "id": ["gen_random_uuid()", "(SELECT uuidv7())"],
    "account_id": ["gen_random_uuid()"],
    "api_key_id": ["gen_random_uuid()"],
    "cert_id": ["'b'", "NULL", "'A'", "''"],
    "domain": ["'other.example'", "NULL", "domain || '.'"],
    "status": ["NULL"],
    "owner_account_id": ["gen_random_uuid()", "NULL"],
    "owner_name": ["'Acmé'", "NULL", "'Acme '", "''"],
    "covered_by": ["'other.example'", "NULL"],
    "verified_at": ["verified_at + interval '1 microsecond'", "NULL", "'infinity'", "'-infinity'"],
    "answered_at": ["answered_at - interval '1 microsecond'", "'infinity'", "'4000-01-01 BC'"],
    "as_of": ["as_of + interval '1 microsecond'", "NULL", "'infinity'", "'294276-01-01'"],
}

# What needs no seal: when something was written down, which no proof rests on.
NOT_SEALED = {("log_checkpoint", "made_at"), ("log_key", "first_used_at"), ("log", "is_only")}

EDITS = {
    ("sealed_answer", "position"): ["position + 1000", "-1", "9223372036854775807"],
    ("sealed_answer", "answer_id"): ["gen_random_uuid()", "'00000000-0000-0000-0000-000000000000'"],
    ("sealed_answer", "nonce"): ["decode(repeat('00', 16), 'hex')"],
    ("log_tile", "level"): ["level + 2", "level + 100", "-1"],
    ("log_tile", "number"): ["number + 7", "-1", "9223372036854775807"],
    ("log_tile", "hashes"): [
        "substr(hashes, 1, octet_length(hashes) - 32) || decode(repeat('00', 32), 'hex')",
        "hashes || decode(repeat('00', 32), 'hex')",
        "hashes || decode('00', 'hex')",
    ],
    ("log_checkpoint", "size"): ["size - 1", "size + 1", "0", "-5", "9223372036854775807"],
    ("log_checkpoint", "note"): ["''", "replace(note, E'\\n260\\n', E'\\n259\\n')", "note || 'x'"],
    ("log", "origin"): ["'other.example/answers'", "''", "origin || E'\\n5'"],
    ("log", "size"): ["size - 1", "size + 1", "0", "-1", "9223372036854775807"],
    ("log", "sealed_until"): [],
    ("log_drop", "before"): [],
    ("log_drop", "note"): [],
    ("log_key", "verifier_key"): ["''", "verifier_key || 'A'", "reverse(verifier_key)"],
}


@pytest.fixture
async def ids(world: World) -> list[UUID]:
    """A log of answers, in its order."""
    await record(world, COUNT)
    assert await seal_all(world) == COUNT
    return await sealed_ids(world)


@asynccontextmanager
async def undone(world: World) -> AsyncIterator[Connection]:
    """A transaction that is rolled back, in which no check stands in an attacker's way."""
    async with world.database.general.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            """
            ALTER TABLE answer DROP CONSTRAINT answer_check;
            ALTER TABLE log_tile DROP CONSTRAINT log_tile_hashes_check;
            """
        )
        try:
            yield connection
        finally:
            await transaction.rollback()


async def found_by(connection: Connection) -> list[str]:
    return [each async for each in differences(connection, [], [])]


async def columns(world: World, *tables: str) -> set[tuple[str, str]]:
    rows = await world.fetch(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_name = ANY ($1) AND table_schema = 'public'",
        tables,
    )
    return {(row["table_name"], row["column_name"]) for row in rows}


async def test_every_column_of_an_answer_and_of_the_log_is_tried(world: World) -> None:
    assert {name for _, name in await columns(world, "answer")} == set(CHANGES)
    tables = ("sealed_answer", "log_tile", "log_checkpoint", "log", "log_key", "log_drop")
    assert await columns(world, *tables) == set(EDITS) | NOT_SEALED


async def test_log_that_nobody_touched_has_no_differences(world: World, ids: list[UUID]) -> None:
    del ids
    assert await found(world, [KEY], [await checkpoint(world)]) == []


@pytest.mark.parametrize("column", CHANGES)
async def test_changed_column_of_an_answer_is_found(
    world: World, ids: list[UUID], column: str
) -> None:
    for value in CHANGES[column]:
        async with undone(world) as connection:
            statement = f"UPDATE answer SET {column} = {value} WHERE id = $1"
            assert await connection.execute(statement, ids[7]) == "UPDATE 1"
            first, *_ = await found_by(connection)
            assert first.startswith(f"answer {ids[7]} was changed" if column != "id" else "answer")
            assert str(ids[7]) in first
            assert "number 7 of the log" in first


async def test_every_changed_answer_is_named_in_order(world: World, ids: list[UUID]) -> None:
    async with undone(world) as connection:
        await connection.execute("UPDATE answer SET cert_id = 'b' WHERE id = ANY ($1)", ids[3:6])
        findings = await found_by(connection)
    assert [finding.split()[1] for finding in findings] == [str(each) for each in ids[3:6]]


async def test_deleted_answer_is_named(world: World, ids: list[UUID]) -> None:
    for at in (0, 100, COUNT - 1):
        async with undone(world) as connection:
            await connection.execute("DELETE FROM answer WHERE id = $1", ids[at])
            named = f"answer {ids[at]} is missing (number {at} of the log)"
            assert await found_by(connection) == [named]


async def test_two_answers_that_trade_places_are_both_named(world: World) -> None:
    ids = [*await record(world, 1), *await record(world, 1, status="none")]
    await seal_all(world)
    swap = "UPDATE {} SET {} = $1 WHERE {} = $2"
    for table, column in (("answer", "id"), ("sealed_answer", "answer_id")):
        async with undone(world) as connection:
            for to, of in ((UUID(int=0), ids[0]), (ids[0], ids[1]), (ids[1], UUID(int=0))):
                await connection.execute(swap.format(table, column, column), to, of)
            findings = await found_by(connection)
        assert {finding.split()[1] for finding in findings} == {str(each) for each in ids}


INSERT = """
INSERT INTO answer (id, account_id, api_key_id, answered_at)
VALUES ('00000000-0000-7000-8000-000000000001', gen_random_uuid(), gen_random_uuid(), {at})
"""
AS_SEALED = "INSERT INTO sealed_answer VALUES ({}, '00000000-0000-7000-8000-000000000001', '\\x{}')"


@pytest.mark.parametrize(
    "at", ["now() - interval '1 day'", "'-infinity'", "now() + interval '1 day'", "'infinity'"]
)
async def test_inserted_answer_is_named(world: World, ids: list[UUID], at: str) -> None:
    del ids
    async with undone(world) as connection:
        await connection.execute(INSERT.format(at=at))
        (finding,) = await found_by(connection)
    assert finding.startswith("answer 00000000-0000-7000-8000-000000000001 was inserted")


@pytest.mark.parametrize("position", [-1, COUNT, COUNT + 1, 2**63 - 1])
async def test_inserted_answer_can_not_pass_for_sealed(
    world: World, ids: list[UUID], position: int
) -> None:
    del ids
    async with undone(world) as connection:
        await connection.execute(INSERT.format(at="now() - interval '1 day'"))
        await connection.execute(AS_SEALED.format(position, "00" * 16))
        surplus, inserted = await found_by(connection)
    assert f"as number {position}," in surplus
    assert "answer 00000000-0000-7000-8000-000000000001 was inserted" in inserted


async def test_inserted_answer_with_a_leaf_of_its_own_is_found(
    world: World, ids: list[UUID]
) -> None:
    del ids
    async with undone(world) as connection:
        await connection.execute(INSERT.format(at="now() - interval '1 day'"))
        await connection.execute(AS_SEALED.format(COUNT, "00" * 16))
        await connection.execute("UPDATE log SET size = size + 1")
        await connection.execute(
            "UPDATE log_tile SET hashes = hashes || decode(repeat('ab', 32), 'hex') "
            "WHERE (level, number) = (0, 1)"
        )
        findings = await found_by(connection)
    assert any("00000000-0000-7000-8000-000000000001 was changed" in each for each in findings)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [(*each, value) for each, values in EDITS.items() for value in values],
)
async def test_edited_log_is_found(
    world: World, ids: list[UUID], table: str, column: str, value: str
) -> None:
    del ids
    async with undone(world) as connection:
        row = f"(SELECT ctid FROM {table} ORDER BY ctid DESC LIMIT 1)"
        statement = f"UPDATE {table} SET {column} = {value} WHERE ctid = {row}"
        assert await connection.execute(statement) == "UPDATE 1"
        assert await found_by(connection)


@pytest.mark.parametrize("condition", ["(level, number) = (0, 0)", "level = 0", "level = 1"])
async def test_tile_of_any_level_that_is_changed_or_gone_is_found(
    world: World, ids: list[UUID], condition: str
) -> None:
    del ids
    for change in ("DELETE FROM log_tile", "UPDATE log_tile SET hashes = reverse(hashes)"):
        async with undone(world) as connection:
            await connection.execute(f"{change} WHERE {condition}")
            assert await found_by(connection)


@pytest.mark.parametrize(
    "insertion",
    [
        "log_tile VALUES (0, 2, decode(repeat('00', 32), 'hex'))",
        "log_tile VALUES (2, 0, decode(repeat('00', 32), 'hex'))",
        "log_tile VALUES (9, 0, decode(repeat('00', 32), 'hex'))",
        "log_checkpoint VALUES (7, 'x')",
        "log_checkpoint VALUES (0, 'x')",
        "log_checkpoint VALUES (-9223372036854775808, 'x')",
        "log_checkpoint SELECT 100, note FROM log_checkpoint",
        "log_drop VALUES (gen_random_uuid(), 'x')",
        "log_drop SELECT gen_random_uuid(), note FROM log_checkpoint",
    ],
)
async def test_what_is_inserted_into_the_log_is_found(
    world: World, ids: list[UUID], insertion: str
) -> None:
    del ids
    async with undone(world) as connection:
        await connection.execute(f"INSERT INTO {insertion}")
        assert await found_by(connection)


@pytest.mark.parametrize(
    "table", ["answer", "sealed_answer", "log_tile", "log_checkpoint", "log", "log_key"]
)
async def test_emptied_table_is_found(world: World, ids: list[UUID], table: str) -> None:
    del ids
    async with undone(world) as connection:
        await connection.execute(f"DELETE FROM {table}")
        assert await found_by(connection)


async def test_key_of_another_is_found_by_whoever_has_the_right_one(
    world: World, ids: list[UUID]
) -> None:
    del ids
    other = Signer(ORIGIN, OTHER_SEED).key
    await world.fetch("INSERT INTO log_key VALUES ($1)", str(other))
    assert await found(world, [KEY]) == [f"the key {other} is on record, but not given"]
    await world.fetch("DELETE FROM log_key")
    assert await found(world, [KEY]) == [f"the key {KEY} is given, but not on record"]


async def test_time_until_which_is_sealed_can_not_keep_answers_from_the_log(
    world: World, ids: list[UUID]
) -> None:
    for value in ("now() + interval '10 years'", "'epoch'"):
        await world.fetch(f"UPDATE log SET sealed_until = {value}")
        await seal_all(world)
        (row,) = await world.fetch("SELECT now() - sealed_until < interval '1 minute' FROM log")
        assert row[0]
    assert await found(world) == []
    assert await sealed_ids(world) == ids


async def test_end_that_is_cut_off_everywhere_is_found_with_a_checkpoint_kept_elsewhere(
    world: World, ids: list[UUID]
) -> None:
    kept = await checkpoint(world)
    await rewrite(world, ids[:-3], SEED)
    assert await found(world, [KEY]) == []
    assert await found(world, [KEY], [kept]) == [
        "answers 257 to 259 are missing: a checkpoint says there were 260"
    ]


async def rewrite(world: World, ids: list[UUID], seed: bytes) -> None:
    """Make a log of these answers as they are now, and of no others."""
    await world.fetch("DELETE FROM answer WHERE id <> ALL ($1)", ids)
    for table in ("sealed_answer", "log_tile", "log_checkpoint", "log", "log_key"):
        await world.fetch(f"DELETE FROM {table}")
    assert await seal_all(world, seed) == len(ids)


async def test_rewritten_log_that_another_key_signs_is_found_with_the_right_key(
    world: World, ids: list[UUID]
) -> None:
    kept = await receipt(world, ids[5])
    await world.fetch("UPDATE answer SET domain = 'other.example' WHERE id = $1", ids[5])
    await rewrite(world, ids, OTHER_SEED)
    assert await found(world) == []
    assert f"the checkpoint of {COUNT} answers can't be trusted" in "".join(
        await found(world, [KEY])
    )
    assert verified(kept, [KEY])[0].host == "shop.seller.example"
    with pytest.raises(InvalidReceipt):
        verified(await receipt(world, ids[5]), [KEY])


async def test_rewritten_log_that_the_right_key_signs_is_found_with_a_checkpoint_kept_elsewhere(
    world: World, ids: list[UUID]
) -> None:
    kept = await checkpoint(world)
    await world.fetch("UPDATE answer SET domain = 'other.example' WHERE id = $1", ids[5])
    await rewrite(world, ids, SEED)
    assert await found(world, [KEY]) == []
    for findings in (await found(world, [KEY], [kept]), await found(world, [], [kept])):
        assert any("was replaced by another" in each for each in findings)
        assert any("the log was rewritten" in each for each in findings)


async def test_rewritten_log_that_grew_since_is_found_with_a_checkpoint_kept_elsewhere(
    world: World, ids: list[UUID]
) -> None:
    kept = await checkpoint(world)
    await world.fetch("UPDATE answer SET domain = 'other.example' WHERE id = $1", ids[5])
    await rewrite(world, [*ids, *await record(world, 2)], SEED)
    assert any("the log was rewritten" in each for each in await found(world, [KEY], [kept]))


async def test_log_that_is_gone_is_found_with_a_checkpoint_kept_elsewhere(
    world: World, ids: list[UUID]
) -> None:
    del ids
    kept = await checkpoint(world)
    await world.reset()
    assert await found(world) == []
    *_, finding = await found(world, [KEY], [kept])
    assert finding.startswith("the log is gone")


async def test_checkpoint_that_is_not_of_the_log_is_not_trusted(
    world: World, ids: list[UUID]
) -> None:
    del ids
    forged = Signer(ORIGIN, OTHER_SEED).note(COUNT, bytes(32))
    for note in (forged, "", "nonsense"):
        (finding,) = await found(world, [KEY], [note])
        assert finding.startswith("a checkpoint given can't be trusted")


async def test_receipt_that_is_changed_in_any_way_proves_nothing(
    world: World, ids: list[UUID]
) -> None:
    right = await receipt(world, ids[5])
    statement, at = verified(right, [KEY])
    assert (statement.answer_id, at.size, right.leaf_index) == (ids[5], COUNT, 5)
    other = await receipt(world, ids[6])
    for name in Receipt.__struct_fields__:
        if getattr(other, name) == getattr(right, name):
            continue
        with pytest.raises(InvalidReceipt):
            verified(msgspec.structs.replace(right, **{name: getattr(other, name)}), [KEY])
    changes: dict[str, list[object]] = {
        "statement": ["", "{}", right.statement + " ", "[" * 100_000, right.statement.upper()],
        "nonce": ["", "00", "é", right.nonce + "00", right.nonce[::-1], "x" * 32],
        "leaf_index": [-1, 4, 6, COUNT, 2**63, 10**1000],
        "tree_size": [0, -1, COUNT - 1, COUNT + 1, 10**1000],
        "path": [
            [], right.path[::-1], right.path[1:], right.path[:-1], [*right.path, right.path[0]],
            ["00" * 32] * len(right.path), ["é"], ["00"], right.path * 100,
        ],
        "checkpoint": ["", "é\n\n", Signer(ORIGIN, OTHER_SEED).note(COUNT, at.root)],
    }  # fmt: skip
    assert set(changes) == set(Receipt.__struct_fields__)
    for name, values in changes.items():
        for value in values:
            with pytest.raises(InvalidReceipt):
                verified(msgspec.structs.replace(right, **{name: value}), [KEY])
    root = Frontier().root()
    empty = msgspec.structs.replace(
        right, tree_size=0, path=[], checkpoint=Signer(ORIGIN, SEED).note(0, root)
    )
    with pytest.raises(InvalidReceipt):
        verified(empty, [KEY])
