"""The decision table, row by row, with its promises on freshness, coverage, and records."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

import pytest

from tests.builders import NO_VERIFIED, VERIFIED, World, meta_id, mobile_id, web_id

MakeId: TypeAlias = Callable[[], str]


async def test_domain_that_nobody_owns_has_no_verified_account(world: World) -> None:
    viewer = await world.company()
    cert_id = await world.certificate(domain="example.com")
    assert await world.confirmed_owner(viewer, cert_id) == NO_VERIFIED


async def test_owner_itself_is_told_its_own_name(world: World) -> None:
    owner = await world.company("Acme, Inc.")
    await world.own(owner, "example.com")
    cert_id = await world.certificate(domain="example.com")
    assert await world.confirmed_owner(owner, cert_id) == "Acme, Inc."


async def test_connected_viewer_with_a_grant_is_told_the_name(world: World) -> None:
    owner, viewer = await world.company("Acme, Inc."), await world.company()
    await world.own(owner, "example.com")
    await world.permit(owner, viewer)
    cert_id = await world.certificate(domain="example.com")
    assert await world.confirmed_owner(viewer, cert_id) == "Acme, Inc."


async def test_connected_viewer_without_a_grant_is_told_there_is_an_owner(world: World) -> None:
    owner, viewer = await world.company(), await world.company()
    await world.own(owner, "example.com")
    await world.connect(viewer, owner)
    cert_id = await world.certificate(domain="example.com")
    assert await world.confirmed_owner(viewer, cert_id) == VERIFIED


async def test_unconnected_viewer_is_told_there_is_an_owner(world: World) -> None:
    owner, viewer = await world.company(), await world.company()
    await world.own(owner, "example.com")
    cert_id = await world.certificate(domain="example.com")
    assert await world.confirmed_owner(viewer, cert_id) == VERIFIED


async def test_grant_in_the_other_direction_names_nobody(world: World) -> None:
    owner, viewer = await world.company(), await world.company()
    await world.own(owner, "example.com")
    await world.connect(viewer, owner)
    await world.grant(viewer, owner)
    cert_id = await world.certificate(domain="example.com")
    assert await world.confirmed_owner(viewer, cert_id) == VERIFIED


async def test_grant_counts_whoever_of_the_two_buys(world: World) -> None:
    owner, viewer = await world.company("Acme, Inc."), await world.company()
    await world.own(owner, "example.com")
    await world.connect(owner, viewer)
    await world.grant(owner, viewer)
    cert_id = await world.certificate(domain="example.com")
    assert await world.confirmed_owner(viewer, cert_id) == "Acme, Inc."


no_domain_ids = pytest.mark.parametrize("make_id", [mobile_id, meta_id])


@no_domain_ids
async def test_certificate_without_domain_and_account_is_null(
    world: World, make_id: MakeId
) -> None:
    viewer = await world.company()
    cert_id = await world.certificate(make_id())
    assert await world.confirmed_owner(viewer, cert_id) is None


@no_domain_ids
async def test_account_of_a_certificate_without_domain_plays_the_owner(
    world: World, make_id: MakeId
) -> None:
    owner = await world.company("Acme, Inc.")
    viewer, stranger = await world.company(), await world.company()
    await world.permit(owner, viewer)
    cert_id = await world.certificate(make_id(), account=owner)
    assert await world.confirmed_owner(owner, cert_id) == "Acme, Inc."
    assert await world.confirmed_owner(viewer, cert_id) == "Acme, Inc."
    assert await world.confirmed_owner(stranger, cert_id) == VERIFIED


async def test_suspended_account_of_a_certificate_without_domain_is_no_owner(world: World) -> None:
    owner, viewer = await world.company(), await world.company()
    cert_id = await world.certificate(meta_id(), account=owner)
    await world.suspend(owner)
    assert await world.confirmed_owner(viewer, cert_id) is None


async def test_masked_certificate_with_a_token_has_no_domain(world: World) -> None:
    owner, viewer = await world.company("Acme, Inc."), await world.company()
    await world.own(owner, "example.com")
    await world.permit(owner, viewer)
    facts: dict[str, Any] = {
        "is_masked": True,
        "domain": "c0ffee",
        "page_url": "https://example.com/",
    }
    assert await world.confirmed_owner(viewer, await world.certificate(**facts)) is None
    accounted = await world.certificate(account=owner, **facts)
    assert await world.confirmed_owner(viewer, accounted) == "Acme, Inc."


async def test_masked_certificate_with_a_dotted_token_has_no_domain(world: World) -> None:
    viewer = await world.company()
    cert_id = await world.certificate(is_masked=True, domain="eyjh.bgci.oiji")
    assert await world.confirmed_owner(viewer, cert_id) is None


async def test_masked_certificate_that_shows_its_domain_is_decided_by_it(world: World) -> None:
    owner, viewer = await world.company("Acme, Inc."), await world.company()
    await world.own(owner, "example.com")
    shown = await world.certificate(is_masked=True, domain="example.com")
    unowned = await world.certificate(is_masked=True, domain="other.example")
    assert await world.confirmed_owner(owner, shown) == "Acme, Inc."
    assert await world.confirmed_owner(viewer, shown) == VERIFIED
    assert await world.confirmed_owner(viewer, unowned) == NO_VERIFIED


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"page_url": "about:blank"},
        {"page_url": "file://example.com/"},
        {"page_url": "example.com/page"},
        {"is_framed": True, "page_url": "https://example.com/"},
        {"is_framed": True, "page_url": "https://example.com/", "parent_page_url": "about:srcdoc"},
    ],
)
async def test_web_certificate_whose_site_is_not_known_names_nobody(
    world: World, facts: dict[str, Any]
) -> None:
    owner = await world.company("Acme, Inc.")
    await world.own(owner, "example.com")
    cert_id = await world.certificate(account=owner, **facts)
    response = await world.ask(owner, cert_id, "confirmed_owner", "confirmed_owner_detail")
    told = response.json()["insights"]["properties"]
    assert told["confirmed_owner"] is None
    assert told["confirmed_owner_detail"]["status"] == "not_applicable"


async def test_certificates_account_does_not_own_what_has_a_domain(world: World) -> None:
    account, viewer = await world.company(), await world.company()
    await world.permit(account, viewer)
    cert_id = await world.certificate(account=account, domain="example.com")
    assert await world.confirmed_owner(viewer, cert_id) == NO_VERIFIED


@pytest.mark.parametrize(
    ("facts", "host"),
    [
        ({"domain": "seen.example"}, "seen.example"),
        ({"domain": "WWW.Seen.Example."}, "seen.example"),
        ({"page_url": "https://www.seen.example:8443/a?b#c"}, "seen.example"),
        (
            {
                "is_framed": True,
                "page_url": "https://form.example/",
                "parent_page_url": "https://seen.example/",
            },
            "seen.example",
        ),
        (
            {
                "is_framed": False,
                "page_url": "https://seen.example/",
                "parent_page_url": "https://other.example/",
            },
            "seen.example",
        ),
        ({"domain": "seen.example", "page_url": "https://form.example/"}, "seen.example"),
        ({"domain": "bücher.example"}, "xn--bcher-kva.example"),
    ],
)
async def test_owner_is_looked_for_by_the_host_the_consumer_saw(
    world: World, facts: dict[str, Any], host: str
) -> None:
    owner = await world.company("Acme, Inc.")
    await world.own(owner, host)
    assert await world.confirmed_owner(owner, await world.certificate(**facts)) == "Acme, Inc."


@pytest.mark.parametrize("domain", ["192.0.2.7", "[2001:db8::1]", "localhost", "co.uk"])
async def test_what_nobody_can_own_has_no_verified_account(world: World, domain: str) -> None:
    cert_id = await world.certificate(domain=domain, is_masked=False)
    assert await world.confirmed_owner(await world.company(), cert_id) == NO_VERIFIED


@pytest.mark.parametrize("domain", ["masked-3f2a", "3f2a9c.masked", "localhost"])
async def test_domain_that_may_be_the_token_of_a_masked_certificate_is_unknown(
    world: World, domain: str
) -> None:
    viewer = await world.company()
    for is_masked, told in ((None, None), (True, None), (False, NO_VERIFIED)):
        facts: dict[str, Any] = {} if is_masked is None else {"is_masked": is_masked}
        cert_id = await world.certificate(domain=domain, **facts)
        assert await world.confirmed_owner(viewer, cert_id) == told


@pytest.mark.parametrize("unknown", ["null", "undefined", "None", "N/A", " NaN ", ""])
async def test_word_for_unknown_is_no_domain_and_overrides_no_page(
    world: World, unknown: str
) -> None:
    owner = await world.company("Acme, Inc.")
    await world.own(owner, "example.com")
    cert_id = await world.certificate(domain=unknown)
    assert await world.confirmed_owner(owner, cert_id) is None
    for name in ("page_url", "parent_page_url"):
        facts: dict[str, Any] = {
            "page_url": "https://other.example/",
            name: "https://example.com/f",
        }
        cert_id = await world.certificate(domain=unknown, **facts)
        assert await world.confirmed_owner(owner, cert_id) == "Acme, Inc."


@pytest.mark.parametrize("is_framed", [{}, {"is_framed": None}, {"is_framed": True}])
async def test_framed_page_is_decided_by_the_page_that_frames_it(
    world: World, is_framed: dict[str, Any]
) -> None:
    owner = await world.company("Acme, Inc.")
    await world.own(owner, "example.com")
    pages: dict[str, Any] = {
        "page_url": "https://example.com/form",
        "parent_page_url": "https://scam.example/lp",
    }
    cert_id = await world.certificate(**pages, **is_framed)
    assert await world.confirmed_owner(owner, cert_id) == NO_VERIFIED
    cert_id = await world.certificate(**pages, is_framed=False)
    assert await world.confirmed_owner(owner, cert_id) == "Acme, Inc."


async def test_framing_page_that_is_no_url_is_unknown(world: World) -> None:
    owner = await world.company()
    await world.own(owner, "example.com")
    for parent, told in (("about:srcdoc", None), ("null", owner.name), (None, owner.name)):
        pages: dict[str, Any] = {
            "page_url": "https://example.com/form",
            "parent_page_url": parent,
        }
        assert await world.confirmed_owner(owner, await world.certificate(**pages)) == told


async def test_ownership_of_exactly_the_host_does_not_cover_subdomains(world: World) -> None:
    owner = await world.company()
    await world.own(owner, "example.com")
    cert_id = await world.certificate(domain="shop.example.com")
    assert await world.confirmed_owner(owner, cert_id) == NO_VERIFIED


async def test_ownership_with_subdomains_covers_every_depth(world: World) -> None:
    owner = await world.company("Acme, Inc.")
    await world.own(owner, "example.com", covers_subdomains=True)
    cert_id = await world.certificate(domain="a.b.c.d.example.com")
    assert await world.confirmed_owner(owner, cert_id) == "Acme, Inc."


async def test_most_specific_ownership_wins(world: World) -> None:
    outer, inner = await world.company("Outer Media"), await world.company("Inner Media")
    await world.permit(inner, outer)
    await world.own(outer, "example.com", covers_subdomains=True)
    await world.own(inner, "shop.example.com", covers_subdomains=True)
    below = await world.certificate(domain="deep.shop.example.com")
    beside = await world.certificate(domain="blog.example.com")
    assert await world.confirmed_owner(outer, below) == "Inner Media"
    assert await world.confirmed_owner(outer, beside) == "Outer Media"


async def test_more_specific_ownership_without_subdomains_leaves_them_to_the_outer(
    world: World,
) -> None:
    outer, inner = await world.company("Outer Media"), await world.company()
    await world.own(outer, "example.com", covers_subdomains=True)
    await world.own(inner, "shop.example.com")
    cert_id = await world.certificate(domain="deep.shop.example.com")
    assert await world.confirmed_owner(outer, cert_id) == "Outer Media"


async def test_tenants_of_a_private_suffix_are_not_covered_by_its_owner(world: World) -> None:
    platform, tenant = await world.company("Platform"), await world.company("Tenant")
    await world.own(platform, "github.io")
    cert_id = await world.certificate(domain="tenant.github.io")
    assert await world.confirmed_owner(platform, cert_id) == NO_VERIFIED
    await world.own(tenant, "tenant.github.io", covers_subdomains=True)
    assert await world.confirmed_owner(tenant, cert_id) == "Tenant"
    own_page = await world.certificate(domain="github.io")
    assert await world.confirmed_owner(platform, own_page) == "Platform"


async def test_suspended_owner_owns_nothing(world: World) -> None:
    owner, viewer = await world.company(), await world.company()
    await world.own(owner, "example.com")
    cert_id = await world.certificate(domain="example.com")
    await world.suspend(owner)
    assert await world.confirmed_owner(viewer, cert_id) == NO_VERIFIED
    await world.reinstate(owner)
    assert await world.confirmed_owner(viewer, cert_id) == VERIFIED


async def test_suspended_owner_of_a_subdomain_leaves_it_to_the_outer(world: World) -> None:
    outer, inner = await world.company("Outer Media"), await world.company()
    await world.own(outer, "example.com", covers_subdomains=True)
    await world.own(inner, "shop.example.com")
    cert_id = await world.certificate(domain="shop.example.com")
    assert await world.confirmed_owner(outer, cert_id) == VERIFIED
    await world.suspend(inner)
    assert await world.confirmed_owner(outer, cert_id) == "Outer Media"


async def test_every_change_shows_in_the_very_next_answer(world: World) -> None:
    owner, viewer = await world.company("First Name"), await world.company()
    cert_id = await world.certificate(domain="example.com")
    told = [await world.confirmed_owner(viewer, cert_id)]
    for change in (
        world.own(owner, "example.com"),
        world.connect(viewer, owner),
        world.grant(owner, viewer),
        world.rename(owner, "Second Name"),
        world.revoke(owner, viewer),
        world.grant(owner, viewer),
        world.disconnect(viewer, owner),
        world.connect(viewer, owner),
        world.disown("example.com"),
    ):
        await change
        told.append(await world.confirmed_owner(viewer, cert_id))
    assert told == [
        NO_VERIFIED,
        VERIFIED,
        VERIFIED,
        "First Name",
        "Second Name",
        VERIFIED,
        "Second Name",
        VERIFIED,
        VERIFIED,
        NO_VERIFIED,
    ]


async def test_other_proof_supersedes_and_grants_do_not_move(world: World) -> None:
    former, latter = await world.company("Former Owner"), await world.company("Latter Owner")
    viewer = await world.company()
    await world.own(former, "example.com")
    await world.permit(former, viewer)
    cert_id = await world.certificate(domain="example.com")
    await world.own(latter, "example.com")
    assert await world.confirmed_owner(viewer, cert_id) == VERIFIED
    assert await world.confirmed_owner(latter, cert_id) == "Latter Owner"
    assert await world.confirmed_owner(former, cert_id) == VERIFIED


async def test_covering_names_are_worked_out_anew_under_another_suffix_list(world: World) -> None:
    owner = await world.company("Acme, Inc.")
    await world.own(owner, "example.com", covers_subdomains=True)
    cert_id = await world.certificate(domain="shop.example.com")
    await world.fetch(
        "UPDATE certificate SET host = 'www.shop.example.com', covering_names = '{}', suffix_list = '1'"
    )
    assert await world.confirmed_owner(owner, cert_id) == "Acme, Inc."
    answers = await world.fetch("SELECT status FROM answer")
    assert [row["status"] for row in answers] == ["named"]


async def test_host_that_can_not_be_found_anew_is_told_of_to_nobody_and_harms_no_neighbour(
    world: World,
) -> None:
    owner = await world.company("Acme, Inc.")
    await world.own(owner, "example.com")
    good = await world.certificate(domain="example.com")
    bad = await world.certificate(domain="example.com")
    await world.fetch(
        """
        UPDATE certificate SET suffix_list = '1', facts = '{"domain": "not a host"}' WHERE cert_id = $1
        """,
        bad,
    )
    responses = await asyncio.gather(*(world.ask(owner, each) for each in (good, bad, good, bad)))
    assert [response.status_code for response in responses] == [200, 503, 200, 503]
    assert len(await world.fetch("SELECT 1 FROM answer")) == 2


async def test_detail_of_a_named_owner_says_who_and_why(world: World) -> None:
    owner = await world.company("Acme, Inc.")
    await world.own(owner, "example.com", covers_subdomains=True)
    cert_id = await world.certificate(domain="shop.example.com")
    response = await world.ask(owner, cert_id, "confirmed_owner_detail")
    detail = response.json()["insights"]["properties"]["confirmed_owner_detail"]
    (recorded,) = await world.fetch("SELECT id, verified_at FROM answer")
    assert detail == {
        "status": "named",
        "domain": "shop.example.com",
        "covered_by": "example.com",
        "owner_account_id": str(owner.id),
        "verified_at": recorded["verified_at"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        "answer_id": str(recorded["id"]),
    }


@pytest.mark.parametrize("owned", [True, False])
async def test_detail_of_an_unnamed_owner_says_nothing_that_identifies_it(
    world: World, owned: bool
) -> None:
    owner, viewer = await world.company(), await world.company()
    if owned:
        await world.own(owner, "example.com", covers_subdomains=True)
    cert_id = await world.certificate(domain="shop.example.com")
    response = await world.ask(viewer, cert_id, "confirmed_owner_detail")
    detail = response.json()["insights"]["properties"]["confirmed_owner_detail"]
    del detail["answer_id"]
    assert detail == {
        "status": "verified" if owned else "none",
        "domain": "shop.example.com",
        "covered_by": None,
        "owner_account_id": None,
        "verified_at": None,
    }


async def test_every_answer_is_on_record_as_it_was_told(world: World) -> None:
    owner, viewer, stranger = (
        await world.company("Acme, Inc."),
        await world.company(),
        await world.company(),
    )
    await world.own(owner, "example.com")
    await world.permit(owner, viewer)
    cert_id = await world.certificate(domain="example.com")
    await world.ask(viewer, cert_id)
    await world.ask(stranger, cert_id)
    await world.ask(stranger, cert_id, "domain")
    rows = await world.fetch("SELECT * FROM answer ORDER BY answered_at")
    assert [
        (row["account_id"], row["api_key_id"], row["domain"], row["status"], row["owner_name"])
        for row in rows
    ] == [
        (viewer.id, viewer.key_id, "example.com", "named", "Acme, Inc."),
        (stranger.id, stranger.key_id, "example.com", "verified", None),
        (stranger.id, stranger.key_id, "example.com", None, None),
    ]
    hidden = rows[1]
    assert hidden["owner_account_id"] is None
    assert hidden["covered_by"] is None
    assert hidden["verified_at"] is None


async def test_refused_calls_leave_no_record(world: World) -> None:
    viewer, suspended = await world.company(), await world.company()
    cert_id = await world.certificate(domain="example.com")
    expired = await world.certificate(domain="example.com", created=timedelta(days=-94))
    await world.suspend(suspended)
    for response in (
        await world.ask(viewer, web_id()),
        await world.ask(viewer, expired),
        await world.ask(suspended, cert_id),
        await world.ask(viewer, cert_id, "nonsense"),
    ):
        assert response.status_code >= 400
    assert await world.fetch("SELECT id FROM answer") == []
