"""The pages about domains: many are added at once, each on its own, and listed page by page."""

import pytest

from tests.builders import Company, World, member_of
from tests.surfer import Surfer, signed_in


@pytest.fixture
async def seller(world: World) -> Company:
    return await world.company("BrightQuote Media", "jo@brightquote.example")


@pytest.fixture
async def surfer(world: World, seller: Company) -> Surfer:
    surfer = await signed_in(world, seller.email)
    await surfer.go("/domains")
    return surfer


async def claimed(world: World) -> set[str]:
    return {row["name"] for row in await world.fetch("SELECT name FROM domain_claim")}


async def test_each_pasted_domain_is_added_or_refused_on_its_own(
    world: World, surfer: Surfer
) -> None:
    response = await surfer.send(
        "/domains", names="One.Example, two.example;\nco.uk\ttwo.example not_a_domain"
    )
    assert response.status_code == 200
    assert await claimed(world) == {"one.example", "two.example"}
    alert = surfer.text.partition('role="alert"')[2].partition("</div>")[0]
    assert "Added one.example, two.example" in alert
    assert "co.uk:" in alert
    assert "not_a_domain:" in alert
    left = surfer.text.partition("<textarea")[2].partition("</textarea>")[0]
    assert left.endswith(">co.uk\nnot_a_domain")


async def test_nothing_is_added_of_what_is_all_wrong_and_nothing_typed_is_lost(
    world: World, surfer: Surfer
) -> None:
    for names, said in (
        ("", "at least one, such as example.com"),
        ("co.uk", "Nothing was added"),
        (" ".join(f"d{number}.example" for number in range(101)), "at most 100 at a time"),
        (f"{'a' * 300}.example", "Nothing was added"),
    ):
        await surfer.go("/domains")
        response = await surfer.send("/domains", names=names)
        assert response.status_code == 422
        assert said in surfer.text
        assert names in surfer.text
    assert await claimed(world) == set()


async def test_adding_a_domain_twice_changes_nothing_and_shows_it(
    world: World, surfer: Surfer
) -> None:
    for _ in range(2):
        await surfer.go("/domains")
        await surfer.send("/domains", names="one.example")
        assert surfer.page is not None
        assert surfer.page.url.path == "/domains/one.example"
    assert len(await world.fetch("SELECT FROM domain_claim")) == 1


async def test_domains_are_listed_page_by_page_each_once(
    world: World, seller: Company, surfer: Surfer
) -> None:
    names = [f"d{number:03}.example" for number in range(103)]
    for name in names:
        await world.own(seller, name)
    await surfer.go("/domains")
    first = [name for name in names if f'href="/domains/{name}"' in surfer.text]
    following = surfer.text.partition('href="/domains?after=')[2].partition('"')[0]
    await surfer.go(f"/domains?after={following}")
    second = [name for name in names if f'href="/domains/{name}"' in surfer.text]
    assert (len(first), first + second) == (100, names)
    assert "More domains" not in surfer.text
    await surfer.go("/domains?after=zzz.example")
    assert "No more domains" in surfer.text


async def test_member_sees_domains_and_changes_none(
    world: World, seller: Company, surfer: Surfer
) -> None:
    await surfer.send("/domains", names="one.example")
    await member_of(world, seller, "member@brightquote.example")
    member = await signed_in(world, "member@brightquote.example")
    await member.go("/domains/one.example")
    assert "Only admins of BrightQuote Media can change this" in member.text
    assert "Verify now" not in member.text
