"""What a killed worker leaves of a batch is finished by another."""

from typing import Any
from uuid import UUID

import pytest

from service.batches import queries, steps
from service.errors import Unavailable
from tests.batches.parts import do_jobs, get, rows, upload
from tests.builders import World


async def cut_off(*_: object) -> int:
    raise Unavailable("killed")


async def test_upload_is_deleted_although_its_reader_was_killed_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await world.company()
    batch = (await upload(world, caller, b"host\r\nshop.example")).json()
    with monkeypatch.context() as killed:
        killed.setattr(queries, "delete_some", cut_off)
        with pytest.raises(Unavailable):
            await steps.work_on(world.database, UUID(batch["id"]))
    assert await world.fetch("SELECT FROM batch_upload")
    await do_jobs(world)
    assert (await get(world, caller, batch["id"])).json()["state"] == "finished"
    assert not await world.fetch("SELECT FROM batch_upload")


async def test_reading_what_is_retained_goes_on_where_it_was_killed_although_labels_came_since(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await world.company()
    ids = [await world.certificate(domain="shop.example") for _ in range(6)]
    for position, cert_id in enumerate(ids):
        await world.fetch(
            "INSERT INTO retained_certificate (account_id, cert_id, retained_at, vendor, answer_id) "
            "VALUES ($1, $2, clock_timestamp(), $3, gen_random_uuid())",
            caller.id,
            cert_id,
            "Acme" if position else None,
        )
    monkeypatch.setattr(steps, "ROWS_AT_ONCE", 2)
    response = await world.client.post(
        "/v1/batches", headers=caller.headers, json={"of": "retained", "vendor": "Acme"}
    )
    batch = response.json()
    keep, kept = queries.insert_chunk, 0

    async def keep_one(*arguments: Any) -> bool:
        nonlocal kept
        if kept:
            raise Unavailable("killed")
        kept += 1
        return await keep(*arguments)

    with monkeypatch.context() as killed:
        killed.setattr(queries, "insert_chunk", keep_one)
        with pytest.raises(Unavailable):
            await steps.work_on(world.database, UUID(batch["id"]))
    # As a later call does that retains the same certificate.
    await world.fetch("UPDATE retained_certificate SET vendor = 'Acme' WHERE cert_id = $1", ids[0])
    await do_jobs(world)
    told = await rows(world, caller, batch)
    assert [row["cert_id"] for row in told] == ids[1:]
    assert len({row["answer_id"] for row in told}) == 5
