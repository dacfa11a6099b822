"""Every start, change, and end of a claim or ownership leaves an event."""

from collections.abc import Awaitable, Callable

import pytest

from tests.builders import Company, World
from tests.ownership.authority import Authority
from tests.ownership.domains import (
    add,
    call,
    check_again,
    fresh_name,
    lapse,
    lose_code,
    own,
    verify,
)

Events = list[tuple[str, str]]
Change = Callable[[World, Authority, Company, str], Awaitable[object]]

ADDED, BEGUN = ("domain.added", "key"), ("domain.verification_begun", "key")
STARTED, ENDED = ("ownership.started", "service"), ("ownership.ended", "service")
PROVEN = [ADDED, BEGUN, STARTED, ("domain.verified", "service")]
COVERAGE, REMOVED = ("domain.coverage_changed", "key"), ("domain.removed", "key")


async def add_twice(stage: World, zone: Authority, seller: Company, name: str) -> None:
    await add(stage, seller, name)
    await call(stage, seller, "POST", json={"names": [name]})


async def begin_twice(stage: World, zone: Authority, seller: Company, name: str) -> None:
    await add(stage, seller, name)
    for _ in range(2):
        assert (await verify(stage, seller, name))["status"] == "unverified"


async def prove_twice(stage: World, zone: Authority, seller: Company, name: str) -> None:
    await own(stage, zone, seller, name)
    await verify(stage, seller, name)


async def remove_unproven(stage: World, zone: Authority, seller: Company, name: str) -> None:
    await add(stage, seller, name)
    await call(stage, seller, "DELETE", f"/{name}")


async def remove(stage: World, zone: Authority, seller: Company, name: str) -> None:
    await own(stage, zone, seller, name)
    await call(stage, seller, "DELETE", f"/{name}")


async def cover(stage: World, seller: Company, name: str, *, covers: bool) -> None:
    status, _ = await call(stage, seller, "PATCH", f"/{name}", json={"covers_subdomains": covers})
    assert status == 200


async def narrow_and_widen(stage: World, zone: Authority, seller: Company, name: str) -> None:
    await own(stage, zone, seller, name, covers_subdomains=True)
    for covers in (False, False, True):
        await cover(stage, seller, name, covers=covers)


async def cover_unproven(stage: World, zone: Authority, seller: Company, name: str) -> None:
    await add(stage, seller, name)
    await cover(stage, seller, name, covers=True)


async def narrow_attested(stage: World, zone: Authority, seller: Company, name: str) -> None:
    await stage.own(seller, name, covers_subdomains=True)
    await cover(stage, seller, name, covers=False)


async def recover(stage: World, zone: Authority, seller: Company, name: str) -> None:
    zone.txt[name] = await lose_code(stage, zone, seller, name)
    await check_again(stage, zone, seller, name)


async def be_superseded(stage: World, zone: Authority, seller: Company, name: str) -> None:
    await own(stage, zone, seller, name)
    await own(stage, zone, await stage.company(), name)


async def be_superseded_by_word(stage: World, zone: Authority, seller: Company, name: str) -> None:
    await stage.own(seller, name)
    await stage.own(await stage.company(), name)


async def attest_and_end(stage: World, zone: Authority, seller: Company, name: str) -> None:
    await stage.own(seller, name)
    await stage.disown(name)


async def attest_and_prove(stage: World, zone: Authority, seller: Company, name: str) -> None:
    await stage.own(seller, name)
    _, told = await call(stage, seller, "GET", f"/{name}")
    zone.txt[name] = [told["records"][0]["value"]]
    await verify(stage, seller, name)


CHANGES: dict[str, tuple[Change, Events]] = {
    "added": (add_twice, [ADDED]),
    "begun": (begin_twice, [ADDED, BEGUN]),
    "proven": (prove_twice, PROVEN),
    "removed before it is proven": (remove_unproven, [ADDED, REMOVED]),
    "removed": (remove, [*PROVEN, ("ownership.ended", "key"), REMOVED]),
    "narrowed and widened": (narrow_and_widen, [*PROVEN, *[COVERAGE, ENDED, STARTED] * 2]),
    "covering more before it is proven": (cover_unproven, [ADDED, COVERAGE]),
    "attested and narrowed": (
        narrow_attested,
        [
            ("ownership.started", "operator"),
            COVERAGE,
            ("ownership.ended", "key"),
            ("ownership.started", "key"),
        ],
    ),
    "failing": (lose_code, [*PROVEN, ("domain.failing", "service")]),
    "recovered": (
        recover,
        [*PROVEN, ("domain.failing", "service"), ("domain.recovered", "service")],
    ),
    "lapsed": (
        lapse,
        [
            *PROVEN,
            ("domain.failing", "service"),
            ("domain.about_to_lapse", "service"),
            ENDED,
            ("domain.lapsed", "service"),
        ],
    ),
    "superseded": (be_superseded, [*PROVEN, ENDED]),
    "superseded by the operator's word": (
        be_superseded_by_word,
        [
            ("ownership.started", "operator"),
            ("ownership.ended", "operator"),
        ],
    ),
    "attested and ended": (
        attest_and_end,
        [
            ("ownership.started", "operator"),
            ("ownership.ended", "operator"),
            ("domain.removed", "operator"),
        ],
    ),
    "attested and proven": (
        attest_and_prove,
        [
            ("ownership.started", "operator"),
            BEGUN,
            ENDED,
            STARTED,
            ("domain.verified", "service"),
        ],
    ),
}


@pytest.mark.parametrize(
    ("change", "told"), [pytest.param(*change, id=name) for name, change in CHANGES.items()]
)
async def test_every_change_is_told_to_the_account_with_who_did_it(
    stage: World, zone: Authority, change: Change, told: Events
) -> None:
    seller, bystander, name = await stage.company(), await stage.company(), fresh_name()
    await change(stage, zone, seller, name)
    assert await stage.events(seller) == told
    assert await stage.events(bystander) == []
    rows = await stage.fetch(
        "SELECT detail::jsonb ->> 'domain' AS domain FROM event WHERE account_id = $1", seller.id
    )
    assert {row["domain"] for row in rows} == {None, name}


async def test_who_wins_a_domain_is_told_no_more_than_who_is_its_first_owner(
    stage: World, zone: Authority
) -> None:
    first, second, name = await stage.company(), await stage.company(), fresh_name()
    for company in (first, second):
        await own(stage, zone, company, name)
    assert await stage.events(second) == PROVEN
