"""A batch answers every row of a file as one call would, as of one instant."""

import asyncio
from datetime import timedelta

import pytest

from service.batches import batches
from service.connections import grants
from tests.batches.parts import answered, do_jobs, get, rows, upload
from tests.builders import NO_VERIFIED, VERIFIED, Company, World, until, web_id


async def test_csv_comes_back_with_its_columns_as_they_were_and_six_more(world: World) -> None:
    buyer, named, unnamed = [await world.company() for _ in range(3)]
    await world.own(named, "named.example")
    await world.own(unnamed, "unnamed.example")
    await world.permit(named, buyer)
    ids = [
        await world.certificate(domain=domain)
        for domain in ("named.example", "unnamed.example", "nobody.example")
    ]
    unknown = web_id()
    lines = [f"{n},{cert_id},note {n}" for n, cert_id in enumerate([*ids, unknown, "bad"])]
    text = "\r\n".join(["lead,certificate,note", *lines])
    batch = await answered(world, buyer, text.encode(), name="leads.csv")
    assert batch["state"] == "finished", batch
    assert batch["column"] == "certificate"
    assert batch["counts"] == {
        "named": 1, "verified": 1, "none": 1, "not_applicable": 0, "error": 2
    }  # fmt: skip
    told = await rows(world, buyer, batch)
    assert [row["confirmed_owner"] for row in told] == [named.name, VERIFIED, NO_VERIFIED, "", ""]
    assert [row["lead"] for row in told] == ["0", "1", "2", "3", "4"]
    assert told[3]["error"].startswith("certificate_not_found: ")
    assert told[4]["error"].startswith("invalid_certificate_id: ")
    for row in told[:3]:
        response = await world.client.get(f"/v1/answers/{row['answer_id']}", headers=buyer.headers)
        assert response.json()["confirmed_owner"] == row["confirmed_owner"]
        assert response.json()["as_of"] == batch["as_of"]


async def test_change_that_began_before_the_instant_is_waited_for(world: World) -> None:
    """Otherwise, rows that are answered earlier would be told something else than later ones."""
    buyer, owner = [await world.company() for _ in range(2)]
    await world.own(owner, "seller.example")
    await world.connect(buyer, owner)
    cert_id = await world.certificate(domain="seller.example")
    batch_id = (await upload(world, buyer, cert_id.encode())).json()["id"]
    async with world.database.general.transaction() as connection:
        await grants.grant(connection, owner_id=owner.id, viewer_id=buyer.id)
        doing = asyncio.create_task(do_jobs(world))
        await until(lambda: is_in(world, buyer, batch_id, "answering"))
        await asyncio.sleep(0.3)
        assert await is_in(world, buyer, batch_id, "answering")
    await doing
    (row,) = await rows(world, buyer, (await get(world, buyer, batch_id)).json())
    assert row["confirmed_owner"] == owner.name


async def is_in(world: World, caller: Company, batch_id: str, state: str) -> bool:
    batch = (await get(world, caller, batch_id)).json()
    return bool(batch["state"] == state and not any(batch["counts"].values()))


async def test_account_suspended_meanwhile_is_told_nothing(world: World) -> None:
    buyer, owner = [await world.company() for _ in range(2)]
    await world.own(owner, "seller.example")
    await world.permit(owner, buyer)
    cert_id = await world.certificate(domain="seller.example")
    batch_id = (await upload(world, buyer, cert_id.encode())).json()["id"]
    await world.suspend(buyer)
    await do_jobs(world)
    assert await world.fetch("SELECT id FROM answer") == []
    await world.reinstate(buyer)
    (row,) = await rows(world, buyer, (await get(world, buyer, batch_id)).json())
    assert row["confirmed_owner"] == ""
    assert row["error"].startswith("inactive_account: ")


async def test_summary_counts_by_domain_day_and_columns_with_few_values(world: World) -> None:
    buyer, owner = [await world.company() for _ in range(2)]
    await world.own(owner, "seller.example")
    await world.permit(owner, buyer)
    table = ["certificate,vendor,day,lead"]
    for number in range(60):
        domain = "seller.example" if number % 3 else "nobody.example"
        cert_id = await world.certificate(domain=domain)
        table.append(f"{cert_id},Vendor {number % 2},2026-03-0{1 + number % 2},{number}")
    batch = await answered(world, buyer, "\n".join(table).encode())
    summary = (await get(world, buyer, f"{batch['id']}/summary")).json()
    assert summary["counts"] == {"named": 40, "none": 20}
    assert summary["domains"] == [
        {"domain": "seller.example", "status": "named", "rows": 40},
        {"domain": "nobody.example", "status": "none", "rows": 20},
    ]
    by_vendor = {"named": 20, "none": 10}
    assert [each["name"] for each in summary["columns"]] == ["vendor", "day"]
    assert summary["columns"][0]["values"] == [
        {"value": "Vendor 0", **by_vendor},
        {"value": "Vendor 1", **by_vendor},
    ]
    assert summary["days"] == [
        {"day": "2026-03-01", **by_vendor},
        {"day": "2026-03-02", **by_vendor},
    ]


async def test_batch_that_was_kept_long_enough_is_deleted_and_its_answers_stay(
    world: World,
) -> None:
    buyer = await world.company()
    cert_id = await world.certificate(domain="seller.example")
    batch = await answered(world, buyer, cert_id.encode(), keep_days=1)
    await world.fetch("UPDATE batch SET expires_at = now() - interval '1 second'")
    await batches.tidy_up(world.database, timedelta(minutes=5))
    assert (await get(world, buyer, batch["id"])).status_code == 404
    await do_jobs(world)
    for table in ("batch", "batch_chunk", "batch_result", "batch_upload", "batch_format"):
        assert await world.fetch(f"SELECT FROM {table}") == []
    assert len(await world.fetch("SELECT FROM answer")) == 1


async def test_upload_that_nobody_completes_fails(world: World) -> None:
    buyer = await world.company()
    batch_id = (await upload(world, buyer, web_id().encode())).json()["id"]
    await world.fetch(
        "UPDATE batch SET state = 'uploading', uploaded_at = now() - interval '6 minutes'"
    )
    await batches.tidy_up(world.database, timedelta(minutes=5))
    batch = (await get(world, buyer, batch_id)).json()
    assert (batch["state"], batch["error"]["code"]) == ("failed", "upload_incomplete")


async def test_what_was_left_undone_is_queued_again(world: World) -> None:
    buyer = await world.company()
    cert_id = await world.certificate(domain="seller.example")
    batch_id = (await upload(world, buyer, cert_id.encode())).json()["id"]
    await world.fetch("DELETE FROM pgqueuer")
    await batches.tidy_up(world.database, timedelta(minutes=5))
    await batches.tidy_up(world.database, timedelta(minutes=5))
    assert len(await world.fetch("SELECT FROM pgqueuer")) == 1
    await do_jobs(world)
    assert (await get(world, buyer, batch_id)).json()["state"] == "finished"


async def test_account_has_so_many_batches_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer, other = [await world.company() for _ in range(2)]
    for _ in range(batches.MAX_UNFINISHED):
        assert (await upload(world, buyer, web_id().encode())).status_code == 201
    assert (await upload(world, buyer, web_id().encode())).status_code == 429
    assert (await upload(world, other, web_id().encode())).status_code == 201
    await do_jobs(world)
    monkeypatch.setattr(batches, "MAX_KEPT", batches.MAX_UNFINISHED)
    assert (await upload(world, buyer, web_id().encode())).status_code == 409
