"""A batch answers every row of a file as one call would, as of one instant."""

from tests.batches.parts import answered, rows
from tests.builders import NO_VERIFIED, VERIFIED, World, web_id


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
