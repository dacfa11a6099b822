"""The hourly limits on adding and checking domains, and what doesn't count toward them."""

from typing import Any

import pytest

from service.errors import Conflict
from service.ownership import queries
from tests.builders import Company, World
from tests.ownership.domains import add, call, fresh_name

ADDED, CHECKED = "new domains", "domain checks"


async def counted(stage: World, company: Company, what: str, used: int) -> None:
    await stage.fetch(
        """
        INSERT INTO allowance VALUES (date_trunc('hour', now(), 'UTC'), $1, $2, $3)
        ON CONFLICT (since, what, whose) DO UPDATE SET used = excluded.used
        """,
        what,
        str(company.id),
        used,
    )


async def an_hour_later(stage: World) -> None:
    await stage.fetch("UPDATE allowance SET since = since - interval '1 hour'")


@pytest.mark.parametrize(("what", "number"), [(ADDED, 20), (CHECKED, 50)])
async def test_so_many_an_hour_and_not_one_more(stage: World, what: str, number: int) -> None:
    seller, other = await stage.company(), await stage.company()
    known = fresh_name()
    for company in (seller, other):
        await add(stage, company, known)

    async def do(company: Company) -> int:
        if what == ADDED:
            names = {"names": [fresh_name()]}
            return (await call(stage, company, "POST", json=names))[0]
        return (await call(stage, company, "POST", f"/{known}/verification"))[0]

    well = await do(other)
    await counted(stage, seller, what, number - 1)
    assert [await do(seller) for _ in range(2)] == [well, 429]
    assert await do(other) == well
    await an_hour_later(stage)
    assert await do(seller) == well


async def test_domain_that_is_there_already_costs_nothing(stage: World) -> None:
    seller, known = await stage.company(), fresh_name()
    await add(stage, seller, known)
    await counted(stage, seller, ADDED, 20)
    assert (await call(stage, seller, "POST", json={"names": [known]}))[0] == 200


async def traces(stage: World) -> list[list[str]]:
    """Everything adding domains leaves behind: claims, counts, and events."""
    return [
        sorted(str(tuple(row)) for row in await stage.fetch(statement))
        for statement in (
            "SELECT name, covers_subdomains FROM domain_claim",
            "SELECT what, used FROM allowance",
            "SELECT action, detail::jsonb ->> 'domain' FROM event",
        )
    ]


@pytest.mark.parametrize(
    ("fails", "status"), [("no host", 422), ("other coverage", 409), ("once it is added", 409)]
)
async def test_domain_that_fails_amid_others_leaves_nothing_behind(
    stage: World, monkeypatch: pytest.MonkeyPatch, fails: str, status: int
) -> None:
    bad = "no host" if fails == "no host" else "b.example"
    insert = queries.insert_claim

    async def insert_and_fail(connection: Any, *values: Any) -> None:
        await insert(connection, *values)
        if bad in values:
            raise Conflict("not this one")

    async def added(*names: str) -> tuple[list[int], list[list[str]]]:
        await stage.reset()
        seller = await stage.company()
        if fails == "other coverage":
            await add(stage, seller, "b.example", covers_subdomains=True)
        with monkeypatch.context() as patched:
            if fails == "once it is added":
                patched.setattr(queries, "insert_claim", insert_and_fail)
            _, body = await call(stage, seller, "POST", json={"names": names})
        return [item["status_code"] for item in body["items"]], await traces(stage)

    _, expected = await added("a.example", "c.example")
    statuses, left = await added("a.example", bad, "c.example")
    assert statuses == [201, status, 201]
    assert left == expected
