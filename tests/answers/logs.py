"""Answers to seal, which are old enough to be sealed at once, and what is wrong with the log."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from service.answers.audit_log import differences
from service.answers.checkpoints import Signer, VerifierKey, parsed_key
from service.answers.receipts import Receipt
from service.answers.sealing import receipt_of, seal
from tests.builders import World

ORIGIN, SEED, OTHER_SEED = "leads.example/answers", bytes(range(32)), bytes(32)
KEY = Signer(ORIGIN, SEED).key
ACCOUNT, API_KEY = UUID(int=1), UUID(int=2)


async def record(
    world: World, count: int, *, at: datetime | None = None, status: str = "named"
) -> list[UUID]:
    """Put answers on record that differ in nothing but their ids, and return those."""
    at = at or datetime.now(UTC) - timedelta(hours=1)
    named = ("Acme", ACCOUNT, "seller.example", at) if status == "named" else (None,) * 4
    rows = await world.fetch(
        """
        INSERT INTO answer (
            id, account_id, api_key_id, cert_id, domain, status, owner_name, owner_account_id,
            covered_by, verified_at, answered_at, as_of
        )
        SELECT
            overlay(
                gen_random_uuid()::text PLACING left(least_id_at($1)::text, 13) FROM 1
            )::uuid,
            $2, $3, 'a', 'shop.seller.example', $4, $5, $6, $7, $8, $1, $1
        FROM generate_series(1, $9)
        RETURNING id
        """,
        at,
        ACCOUNT,
        API_KEY,
        status,
        *named,
        count,
    )
    return [row["id"] for row in rows]


async def seal_all(world: World, seed: bytes = SEED) -> int:
    return await seal(world.database, ORIGIN, seed)


async def found(
    world: World, keys: Sequence[VerifierKey] = (), kept: Sequence[str] = ()
) -> list[str]:
    """What is wrong with the log."""
    async with world.database.general.connection() as connection:
        return [each async for each in differences(connection, keys, kept)]


async def checkpoint(world: World) -> str:
    """The latest checkpoint, as everyone gets it."""
    return (await world.client.get("/v1/log/checkpoint")).text


async def log_keys(world: World) -> list[VerifierKey]:
    return [parsed_key(each) for each in (await world.client.get("/v1/log/key")).text.splitlines()]


async def receipt(world: World, answer_id: UUID) -> Receipt:
    async with world.database.general.connection() as connection:
        kept = await receipt_of(connection, ACCOUNT, answer_id)
    assert kept is not None
    return kept


async def sealed_ids(world: World) -> list[UUID]:
    """The ids of all sealed answers, in the order of the log."""
    rows = await world.fetch("SELECT answer_id FROM sealed_answer ORDER BY position")
    return [row["answer_id"] for row in rows]
