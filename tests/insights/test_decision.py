"""The database's decision, queried as in psql: the decision table in `confirmed_owner.py`."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from tests.builders import Company, World
from tests.running import ROOT

OUTER, SHOP, DEEP = "site.example", "shop.site.example", "eu.shop.site.example"
COVERING = {
    OUTER: [OUTER],
    SHOP: [SHOP, OUTER],
    DEEP: [DEEP, SHOP, OUTER],
}

Parties = dict[str, Company]
Change = Callable[[World, Parties], Awaitable[None]]


def owns(who: str, domain: str, *, subdomains: bool = False) -> Change:
    return lambda world, of: world.own(of[who], domain, covers_subdomains=subdomains)


def loses(domain: str) -> Change:
    return lambda world, _: world.disown(domain)


def connects(one: str, other: str) -> Change:
    return lambda world, of: world.connect(of[one], of[other])


def shows_name(owner: str, viewer: str) -> Change:
    return lambda world, of: world.permit(of[owner], of[viewer])


def hides_name(owner: str, viewer: str) -> Change:
    return lambda world, of: world.revoke(of[owner], of[viewer])


def suspended(who: str) -> Change:
    return lambda world, of: world.suspend(of[who])


def reinstated(who: str) -> Change:
    return lambda world, of: world.reinstate(of[who])


async def connection_alone_ends(world: World, of: Parties) -> None:
    # No command does this. It shows that a grant is worth nothing without a connection.
    await world.fetch("UPDATE connection SET ended_at = now() WHERE ended_at IS NULL")


class Told(NamedTuple):
    """The answer. For a named owner, also who it is and which domain covers the host."""

    status: str
    owner: str | None = None
    covered_by: str | None = None


NONE, VERIFIED, NOT_APPLICABLE = Told("none"), Told("verified"), Told("not_applicable")
SEEN = [owns("owner", SHOP), shows_name("owner", "viewer")]

# The changes to make, the host and the account of the certificate, and the expected answer.
CASES: dict[str, tuple[list[Change], str | None, str | None, Told]] = {
    "nobody owns the host": ([], SHOP, None, NONE),
    "owner is the viewer": ([owns("viewer", SHOP)], SHOP, None, Told("named", "viewer", SHOP)),
    "owner lets the viewer see": (SEEN, SHOP, None, Told("named", "owner", SHOP)),
    "owner is a stranger": ([owns("owner", SHOP)], SHOP, None, VERIFIED),
    "owner is connected alone": (
        [owns("owner", SHOP), connects("viewer", "owner")],
        SHOP,
        None,
        VERIFIED,
    ),
    "owner lets another see": ([*SEEN[:1], shows_name("owner", "other")], SHOP, None, VERIFIED),
    "another lets the viewer see": (
        [*SEEN[:1], shows_name("other", "viewer")],
        SHOP,
        None,
        VERIFIED,
    ),
    "viewer lets the owner see": ([*SEEN[:1], shows_name("viewer", "owner")], SHOP, None, VERIFIED),
    "ownership has ended": ([*SEEN, loses(SHOP)], SHOP, None, NONE),
    "grant has ended": ([*SEEN, hides_name("owner", "viewer")], SHOP, None, VERIFIED),
    "connection has ended and its grant not": (
        [*SEEN, connection_alone_ends],
        SHOP,
        None,
        VERIFIED,
    ),
    "connection is another than the grant was given on": (
        [*SEEN, connection_alone_ends, connects("viewer", "owner")],
        SHOP,
        None,
        VERIFIED,
    ),
    "owner is suspended": ([*SEEN, suspended("owner")], SHOP, None, NONE),
    "owner is reinstated": (
        [*SEEN, suspended("owner"), reinstated("owner")],
        SHOP,
        None,
        Told("named", "owner", SHOP),
    ),
    "owner is superseded by a stranger": ([*SEEN, owns("other", SHOP)], SHOP, None, VERIFIED),
    "ownership of the parent alone": ([owns("viewer", OUTER)], SHOP, None, NONE),
    "ownership of the parent with subdomains": (
        [owns("viewer", OUTER, subdomains=True)],
        DEEP,
        None,
        Told("named", "viewer", OUTER),
    ),
    "ownership of the child alone": ([owns("viewer", DEEP)], SHOP, None, NONE),
    "ownership with subdomains covers the domain itself": (
        [owns("viewer", OUTER, subdomains=True)],
        OUTER,
        None,
        Told("named", "viewer", OUTER),
    ),
    "most specific of two wins": (
        [owns("other", OUTER, subdomains=True), owns("viewer", SHOP, subdomains=True)],
        DEEP,
        None,
        Told("named", "viewer", SHOP),
    ),
    "most specific wins though it names nobody": (
        [owns("viewer", OUTER, subdomains=True), owns("other", SHOP)],
        SHOP,
        None,
        VERIFIED,
    ),
    "more specific that does not cover is passed over": (
        [owns("viewer", OUTER, subdomains=True), owns("other", SHOP)],
        DEEP,
        None,
        Told("named", "viewer", OUTER),
    ),
    "more specific of a suspended owner is passed over": (
        [owns("viewer", OUTER, subdomains=True), owns("other", SHOP), suspended("other")],
        SHOP,
        None,
        Told("named", "viewer", OUTER),
    ),
    "more specific that has ended is passed over": (
        [owns("viewer", OUTER, subdomains=True), owns("other", SHOP), loses(SHOP)],
        SHOP,
        None,
        Told("named", "viewer", OUTER),
    ),
    "certificate's account owns no host": ([shows_name("owner", "viewer")], SHOP, "owner", NONE),
    "host decides and not the certificate's account": (
        [*SEEN, shows_name("other", "viewer")],
        SHOP,
        "other",
        Told("named", "owner", SHOP),
    ),
    "no host and no account": (SEEN, None, None, NOT_APPLICABLE),
    "no host, the viewer's account": ([], None, "viewer", Told("named", "viewer")),
    "no host, an account that lets the viewer see": (SEEN, None, "owner", Told("named", "owner")),
    "no host, a stranger's account": ([owns("viewer", SHOP)], None, "owner", VERIFIED),
    "no host, a suspended account": ([*SEEN, suspended("owner")], None, "owner", NOT_APPLICABLE),
    "no host, the viewer's account is suspended": (
        [suspended("viewer")],
        None,
        "viewer",
        NOT_APPLICABLE,
    ),
}


async def parties(world: World, changes: list[Change]) -> Parties:
    of = {name: await world.company() for name in ("viewer", "owner", "other")}
    for change in changes:
        await change(world, of)
    return of


async def decided(world: World, *arguments: Any) -> Any:
    (row,) = await world.fetch("SELECT * FROM confirmed_owner($1, $2, $3, $4)", *arguments)
    return row


@pytest.mark.parametrize(
    ("changes", "host", "account", "told"),
    [pytest.param(*case, id=name) for name, case in CASES.items()],
)
async def test_database_decides_as_the_table_says(
    world: World, changes: list[Change], host: str | None, account: str | None, told: Told
) -> None:
    of = await parties(world, changes)
    covering = COVERING[host] if host else None
    account_id = of[account].id if account else None
    row = await decided(world, of["viewer"].id, host, covering, account_id)
    owner = of[told.owner] if told.owner else None
    # Either everything that identifies an owner, or nothing.
    assert tuple(row)[:4] == (
        told.status,
        owner and owner.id,
        owner and owner.name,
        told.covered_by,
    )
    verified = await world.fetch(
        "SELECT verified_at FROM ownership WHERE domain = $1 AND ended_at IS NULL", told.covered_by
    )
    assert row["verified_at"] == (verified[0]["verified_at"] if told.covered_by else None)


async def test_owner_of_a_host_is_there_whoever_asks_and_is_one_at_most(world: World) -> None:
    of = await parties(
        world,
        [owns("owner", OUTER, subdomains=True), owns("other", SHOP), owns("viewer", DEEP)],
    )

    async def owners(host: str) -> list[tuple[Any, ...]]:
        rows = await world.fetch("SELECT * FROM owner_of_host($1, $2)", host, COVERING[host])
        return [(row["owner_id"], row["owner_name"], row["domain"]) for row in rows]

    for host, who in ((OUTER, "owner"), (SHOP, "other"), (DEEP, "viewer")):
        assert await owners(host) == [(of[who].id, of[who].name, host)]
    await world.disown(OUTER)
    assert await owners(OUTER) == []


async def test_names_without_a_host_cover_nothing(world: World) -> None:
    of = await parties(world, [owns("viewer", OUTER, subdomains=True)])
    row = await decided(world, of["viewer"].id, None, COVERING[SHOP], of["viewer"].id)
    assert (row["status"], row["covered_by"], row["verified_at"]) == ("named", None, None)


async def test_two_connections_and_both_grants_name_an_owner_once(world: World) -> None:
    of = await parties(world, [*SEEN, connects("owner", "viewer"), shows_name("viewer", "owner")])
    row = await decided(world, of["viewer"].id, SHOP, COVERING[SHOP], None)
    assert (row["status"], row["owner_id"]) == ("named", of["owner"].id)


async def test_owner_is_told_under_the_name_it_has_now(world: World) -> None:
    of = await parties(world, SEEN)
    await world.rename(of["owner"], "A Name Since")
    row = await decided(world, of["viewer"].id, SHOP, COVERING[SHOP], None)
    assert row["owner_name"] == "A Name Since"


async def test_statement_in_the_guide_asks_the_decision(world: World) -> None:
    guide = (ROOT / "service" / "guides" / "how-it-works.md").read_text()
    statement = guide.partition("```sql\n")[2].partition("```")[0]
    viewer, owner = await world.company("Harbor Insurance Group"), await world.company()
    await world.own(owner, "seller.example", covers_subdomains=True)
    await world.permit(owner, viewer)
    (told,) = await world.fetch(statement)
    assert (told["status"], told["owner_name"]) == ("named", owner.name)
