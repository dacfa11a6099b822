"""A batch, calls about many, and single calls tell the same, in any order and however often."""

import asyncio
import os
import random

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.batches.parts import answered, rows
from tests.builders import World, meta_id, web_id

EXAMPLES = int(os.environ.get("EXAMPLES", "3"))


async def test_batch_bulk_and_single_calls_agree_under_permutation_and_duplication(
    world: World,
) -> None:
    buyer, named, unnamed, suspended = [await world.company() for _ in range(4)]
    await world.own(named, "named.example", covers_subdomains=True)
    await world.own(unnamed, "other.named.example")
    await world.own(suspended, "suspended.example")
    await world.permit(named, buyer)
    await world.permit(suspended, buyer)
    await world.suspend(suspended)
    domains = (
        "named.example", "shop.named.example", "other.named.example", "x.other.named.example",
        "suspended.example", "nobody.example",
    )  # fmt: skip
    ids = [await world.certificate(domain=domain) for domain in domains]
    ids += [
        await world.certificate(meta_id(), account=named),
        await world.certificate(meta_id()),
        web_id(),
        "no id",
    ]
    single: dict[str, tuple[str, str]] = {}
    for cert_id in ids:
        response = await world.ask(
            buyer, cert_id.replace(" ", ""), "confirmed_owner", "confirmed_owner_detail"
        )
        if response.status_code == 200:
            told = response.json()["insights"]["properties"]
            single[cert_id] = (
                told["confirmed_owner"] or "",
                told["confirmed_owner_detail"]["status"],
            )
        else:
            single[cert_id] = "", ""

    async def agree(some: list[str], chance: random.Random) -> None:
        # Enough of them for the column to be found.
        asked = [*some, *ids[:6] * 8]
        chance.shuffle(asked)
        lines = "\n".join(["certificate", *asked])
        response = await world.client.post(
            "/v1/insights",
            headers=buyer.headers,
            json={
                "items": [{"cert_id": each} for each in asked],
                "properties": ["confirmed_owner", "confirmed_owner_detail"],
            },
        )
        bulk = [
            (
                item["insights"]["properties"]["confirmed_owner"] or "",
                item["insights"]["properties"]["confirmed_owner_detail"]["status"],
            )
            if "insights" in item
            else ("", "")
            for item in response.json()["results"]
        ]
        batch = await answered(world, buyer, lines.encode())
        told = [(row["confirmed_owner"], row["status"]) for row in await rows(world, buyer, batch)]
        assert told == bulk == [single[each] for each in asked]
        # An account keeps only so many.
        await world.client.delete(f"/v1/batches/{batch['id']}", headers=buyer.headers)

    # Hypothesis runs in its own thread, because it blocks until this loop has done each step.
    loop = asyncio.get_running_loop()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        # A failure is clear as it is; shrinking it takes minutes.
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.sampled_from(ids), min_size=1, max_size=40), st.randoms())
    def run(some: list[str], chance: random.Random) -> None:
        asyncio.run_coroutine_threadsafe(agree(some, chance), loop).result()

    await asyncio.to_thread(run)


async def test_batch_as_of_an_instant_tells_what_a_call_was_told_then(world: World) -> None:
    buyer, owner = [await world.company() for _ in range(2)]
    cert_id = await world.certificate(domain="seller.example")
    instants = []
    told = []
    for change in (
        world.own(owner, "seller.example"),
        world.permit(owner, buyer),
        world.rename(owner, "Renamed since"),
        world.revoke(owner, buyer),
        world.suspend(owner),
        world.reinstate(owner),
        world.disown("seller.example"),
    ):
        instants.append(await world.instant())
        told.append(await world.confirmed_owner(buyer, cert_id))
        await change
    for instant, expected in zip(instants, told, strict=True):
        batch = await answered(world, buyer, cert_id.encode(), as_of=instant.isoformat())
        assert batch["as_of"].replace("Z", "+00:00") == instant.isoformat()
        (row,) = await rows(world, buyer, batch)
        assert row["confirmed_owner"] == expected
