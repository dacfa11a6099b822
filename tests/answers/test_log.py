"""Every answer is sealed in a log, and receipts prove it offline."""

import msgspec
import pytest

from service.answers.audit_log import differences
from service.answers.checkpoints import parsed_key
from service.answers.receipts import InvalidReceipt, Receipt, verified
from service.answers.sealing import seal
from tests.builders import Company, World, until
from tests.parties import Party, party

ORIGIN, SEED = "leads.example/answers", bytes(range(32))


async def sealed(world: World) -> None:
    """Seal everything, which is possible once it is a second old."""

    async def all_sealed() -> bool:
        await seal(world.database, ORIGIN, SEED)
        (row,) = await world.fetch(
            "SELECT (SELECT count(*) FROM answer) = (SELECT count(*) FROM sealed_answer) AS done"
        )
        return bool(row["done"])

    await until(all_sealed)


async def ask(world: World, viewer: Company, count: int) -> None:
    for _ in range(count):
        cert_id = await world.certificate(domain="example.com")
        await world.confirmed_owner(viewer, cert_id)


async def found(world: World) -> list[str]:
    async with world.database.general.connection() as connection:
        return [each async for each in differences(connection, [], [])]


@pytest.fixture
async def viewer(world: World) -> Party:
    return await party(world)


async def test_receipt_proves_an_answer_offline_and_nothing_else(
    world: World, viewer: Party
) -> None:
    await ask(world, viewer, 5)
    await sealed(world)
    answers = (await viewer.see("/v1/answers"))["items"]
    keys = [parsed_key((await world.client.get("/v1/log/key")).text)]
    for answer in answers:
        told = (await viewer.see(f"/v1/answers/{answer['id']}"))["receipt"]
        receipt = msgspec.convert(told, Receipt)
        statement, checkpoint = verified(receipt, keys)
        assert (str(statement.answer_id), checkpoint.size) == (answer["id"], 5)
        forged = msgspec.structs.replace(
            receipt, statement=receipt.statement.replace("example.com", "example.org")
        )
        with pytest.raises(InvalidReceipt):
            verified(forged, keys)
    assert await found(world) == []


async def test_changed_answer_is_named(world: World, viewer: Party) -> None:
    await ask(world, viewer, 3)
    await sealed(world)
    (row,) = await world.fetch(
        "UPDATE answer SET domain = 'example.org' WHERE id = (SELECT id FROM answer LIMIT 1) "
        "RETURNING id"
    )
    (finding,) = await found(world)
    assert finding.startswith(f"answer {row['id']} was changed")
