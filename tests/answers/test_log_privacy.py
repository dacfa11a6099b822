"""The log tells an account of its own answers, and everyone else of nothing but how many there are."""

import asyncio
import json
import re

import msgspec
import pytest

from service.answers.api import ConsistencyProof
from service.answers.checkpoints import opened
from service.answers.merkle import HASH, is_consistent
from service.answers.receipts import Receipt, Statement, verified
from tests.answers.logs import ACCOUNT, API_KEY, KEY, checkpoint, record, seal_all
from tests.builders import NO_VERIFIED, VERIFIED, World
from tests.parties import party, problem

PUBLIC = ("/v1/log/checkpoint", "/v1/log/key", "/v1/log/proof?first=1&second=2")


async def sealed_answer(world: World) -> None:
    """Make what was answered just now old enough to be sealed, and seal it."""
    await world.fetch("UPDATE answer SET answered_at = now() - interval '1 hour'")
    await seal_all(world)


async def test_leaves_of_equal_answers_differ(world: World) -> None:
    await record(world, 50)
    # Even of one and the same, if it is sealed again.
    for _ in range(2):
        await seal_all(world)
        await world.fetch("CREATE TABLE IF NOT EXISTS leaf_seen (hash bytea)")
        await world.fetch(
            """
            INSERT INTO leaf_seen
            SELECT substr(hashes, 1 + 32 * at, 32) FROM log_tile, generate_series(0, 49) AS at
            """
        )
        for table in ("sealed_answer", "log_tile", "log_checkpoint", "log"):
            await world.fetch(f"DELETE FROM {table}")
    (row,) = await world.fetch("SELECT count(DISTINCT hash) AS hashes FROM leaf_seen")
    await world.fetch("DROP TABLE leaf_seen")
    assert row["hashes"] == 100


async def test_public_endpoints_tell_nothing_of_accounts(world: World) -> None:
    ids = await record(world, 5)
    await seal_all(world)
    told = "".join([(await world.client.get(path)).text for path in PUBLIC])
    for secret in (*ids, ACCOUNT, API_KEY, "Acme", "seller", "named"):
        assert str(secret) not in told
        assert str(secret).replace("-", "") not in told
    nonces = await world.fetch("SELECT encode(nonce, 'hex') AS nonce FROM sealed_answer")
    assert not any(row["nonce"] in told for row in nonces)
    assert len((await checkpoint(world)).splitlines()) == 5


async def test_proofs_lead_from_each_size_to_each_later_one(world: World) -> None:
    notes = []
    for seconds in (80, 50, 20):
        (row,) = await world.fetch("SELECT now() - make_interval(secs => $1) AS at", seconds)
        await record(world, 3, at=row["at"])
        await seal_all(world)
        notes.append(opened(await checkpoint(world), [KEY]))
    for first in notes:
        for second in notes[notes.index(first) :]:
            path = f"/v1/log/proof?first={first.size}&second={second.size}"
            told = (await world.client.get(path)).json()
            assert set(told) == set(ConsistencyProof.__struct_fields__)
            hashes = [bytes.fromhex(each) for each in told["path"]]
            assert all(len(each) == HASH for each in hashes)
            assert is_consistent(first.size, second.size, first.root, second.root, hashes)


@pytest.mark.parametrize(
    "query",
    [
        "", "first=1", "second=1", "first=0&second=1", "first=-1&second=1", "first=1&second=6",
        "first=4&second=3", f"first=1&second={2**53}", f"first={2**53}&second={2**53}",
        f"first=1&second={2**53 + 1}", f"first=1&second={2**63}", f"first=1&second={10**400}",
        "first=x&second=1", "first=1&second=1.5", "first=1&second=2&third=3", "first=1&second=",
        "first=1&second=%00", "first=1&first=2&second=NaN",
    ],
)  # fmt: skip
async def test_proof_that_there_is_not_is_refused_at_once(world: World, query: str) -> None:
    await record(world, 5)
    await seal_all(world)
    response = await world.client.get(f"/v1/log/proof?{query}")
    assert response.status_code in (400, 422), response.text
    problem(response, response.status_code)


async def test_nothing_can_be_proven_before_there_is_a_log(world: World) -> None:
    problem(await world.client.get("/v1/log/proof?first=1&second=1"), 422, "second")


async def test_receipt_is_for_the_account_that_asked_and_for_no_other(world: World) -> None:
    asker, other = await party(world), await party(world)
    await world.confirmed_owner(asker, await world.certificate(domain="seller.example"))
    await sealed_answer(world)
    (answer,) = (await asker.see("/v1/answers"))["items"]
    path = f"/v1/answers/{answer['id']}"
    assert (await asker.see(path))["receipt"]
    problem(await other.do("GET", path), 404)
    assert (await world.client.get(path)).status_code == 401


async def test_receipt_tells_no_owner_that_was_not_told(world: World) -> None:
    asker, owner = await party(world), await party(world, "Hidden, Inc.")
    await world.own(owner, "seller.example")
    await world.confirmed_owner(asker, await world.certificate(domain="shop.seller.example"))
    await world.confirmed_owner(asker, await world.certificate(domain="seller.example"))
    await sealed_answer(world)
    for answer in (await asker.see("/v1/answers"))["items"]:
        told = (await asker.see(f"/v1/answers/{answer['id']}"))["receipt"]
        assert not re.search(f"Hidden|{owner.id}|{owner.key_id}", json.dumps(told))
        statement = json.loads(told["statement"])
        assert list(statement) == list(Statement.__struct_fields__)
        assert statement["owner_account_id"] is None
        assert statement["confirmed_owner"] in (VERIFIED, NO_VERIFIED)


async def test_receipt_of_a_moment_when_the_log_grows_is_whole(world: World) -> None:
    asker = await party(world)
    await world.confirmed_owner(asker, await world.certificate(domain="seller.example"))
    await sealed_answer(world)
    (answer,) = (await asker.see("/v1/answers"))["items"]

    async def grow() -> None:
        for seconds in range(90, 60, -10):
            (row,) = await world.fetch("SELECT now() - make_interval(secs => $1) AS at", seconds)
            await record(world, 100, at=row["at"])
            await seal_all(world)

    growing = asyncio.create_task(grow())
    while not growing.done():
        told = (await asker.see(f"/v1/answers/{answer['id']}"))["receipt"]
        _, at = verified(msgspec.convert(told, Receipt), [KEY])
        assert at.size == told["tree_size"]
    await growing
