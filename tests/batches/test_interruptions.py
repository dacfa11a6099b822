"""What a killed worker leaves of a batch is finished by another."""

from uuid import UUID

import pytest

from service.batches import queries, steps
from service.errors import Unavailable
from tests.batches.parts import do_jobs, get, results, upload
from tests.builders import World


async def cut_off(*_: object) -> int:
    raise Unavailable("killed")


async def test_upload_is_deleted_although_its_reader_was_killed_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await world.company()
    batch = (await upload(world, caller, b"host\r\nshop.example")).json()
    with monkeypatch.context() as killed:
        killed.setattr(queries, "delete_uploads", cut_off)
        with pytest.raises(Unavailable):
            await steps.work_on(world.database, UUID(batch["id"]))
    assert await world.fetch("SELECT FROM batch_upload")
    await do_jobs(world)
    assert (await get(world, caller, batch["id"])).json()["state"] == "finished"
    assert not await world.fetch("SELECT FROM batch_upload")
