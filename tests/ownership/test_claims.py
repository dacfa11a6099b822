"""Domains over HTTP, verified by a real DNS: responses, ownerships, and mails."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from service.errors import Conflict
from service.ownership import claims, queries
from service.ownership.claims import CHECKS_AN_HOUR, NEW_NAMES_AN_HOUR
from service.ownership.dns_txt import look_up
from service.ownership.jobs import enqueue_due_checks
from service.ownership.verification import WHILE_FAILING
from service.worker import work
from tests.builders import NO_VERIFIED, VERIFIED, World, by, until
from tests.conftest import SETTINGS
from tests.ownership.authority import Authority, servfail
from tests.ownership.domains import add, call, check_again, earlier, fresh_name, lapse, own, verify


async def test_added_domain_says_which_record_proves_it(stage: World) -> None:
    company = await stage.company()
    added = await add(stage, company, "https://Shop.Seller.example".removeprefix("https://"))
    assert (added["name"], added["status"], added["reason"]) == (
        "shop.seller.example",
        "unverified",
        "ownership_not_yet_verified",
    )
    at_zone, at_label = added["records"]
    assert (at_zone["host"], at_zone["relative_host"]) == ("seller.example", "@")
    assert (at_label["host"], at_label["relative_host"]) == (
        "_domain-verification.shop.seller.example",
        "_domain-verification.shop",
    )
    assert at_zone["type"] == "TXT"
    assert at_zone["value"].startswith("activeprospect-domain-verification=")
    assert len(at_zone["value"]) == len("activeprospect-domain-verification=") + 32
    assert at_zone["value"] == at_label["value"]


async def test_proof_shows_in_the_next_answer_and_its_end_in_the_one_after(
    stage: World, zone: Authority
) -> None:
    seller, buyer = await stage.company(), await stage.company()
    await stage.connect(buyer, seller)
    await stage.grant(seller, buyer)
    name = fresh_name()
    cert_id = await stage.certificate(domain=name)
    assert await stage.confirmed_owner(buyer, cert_id) == NO_VERIFIED
    verified = await own(stage, zone, seller, name)
    assert await stage.confirmed_owner(buyer, cert_id) == seller.name
    assert verified["method"] == "dns"
    assert "reason" not in verified
    assert await stage.mails("domain_verified") == [(seller.email, "queued")]
    assert (await call(stage, seller, "DELETE", f"/{name}"))[0] == 204
    assert await stage.confirmed_owner(buyer, cert_id) == NO_VERIFIED


async def test_domain_removed_and_added_again_has_another_code(
    stage: World, zone: Authority
) -> None:
    seller, name = await stage.company(), fresh_name()
    first = await own(stage, zone, seller, name)
    await call(stage, seller, "DELETE", f"/{name}")
    assert (await call(stage, seller, "GET", f"/{name}"))[0] == 404
    second = await add(stage, seller, name)
    assert second["records"][0]["value"] != first["records"][0]["value"]
    assert (await verify(stage, seller, name))["status"] == "unverified"


async def test_names_are_answered_one_by_one_and_what_is_wrong_is_said(stage: World) -> None:
    seller = await stage.company()
    await add(stage, seller, "known.example")
    names = {
        "known.example": (200, ""),
        "New.example.": (201, ""),
        "192.0.2.1": (422, "IP address"),
        "localhost": (422, "two labels"),
        "vault.internal": (422, "below a public suffix"),
        "co.uk": (422, "below a public suffix"),
        "https://shop.example.com/path?q=1": (422, "only the host name: shop.example.com"),
        "not a host": (422, "a host name"),
        "": (422, "a host name"),
        "x" * 300: (422, "a host name"),
    }
    status, body = await call(stage, seller, "POST", json={"names": list(names)})
    assert status == 207
    for item, (expected, text) in zip(body["items"], names.values(), strict=True):
        assert item["status_code"] == expected
        assert text in item.get("error", {}).get("detail", "")
    status, body = await call(
        stage, seller, "POST", json={"names": ["github.io"], "covers_subdomains": True}
    )
    assert (status, len(body["items"])) == (422, 1)
    wrongs: list[Any] = [{"names": []}, {"names": ["a.example"] * 101}, {"names": "a"}, {"x": 1}]
    for wrong in wrongs:
        assert (await call(stage, seller, "POST", json=wrong))[0] == 422


async def test_mixed_scripts_are_flagged(stage: World) -> None:
    seller = await stage.company()
    assert (await add(stage, seller, "pаypal.example"))["is_mixed_script"] is True
    assert (await add(stage, seller, "münchen.example"))["is_mixed_script"] is False


async def test_subdomains_are_covered_from_the_registrable_domain_alone(
    stage: World, zone: Authority
) -> None:
    seller, buyer = await stage.company(), await stage.company()
    await stage.permit(seller, buyer)
    name = fresh_name()
    added = await add(stage, seller, name, covers_subdomains=True)
    zone.txt[f"_domain-verification.{name}"] = [added["records"][0]["value"]]
    verified = await verify(stage, seller, name)
    assert (verified["status"], verified["subdomain_status"]) == ("verified", "unconfirmed")
    below = await stage.certificate(domain=f"deep.shop.{name}")
    assert await stage.confirmed_owner(buyer, below) == NO_VERIFIED
    zone.txt[name] = [added["records"][0]["value"]]
    verified = await verify(stage, seller, name)
    assert verified["subdomain_status"] == "confirmed"
    assert await stage.confirmed_owner(buyer, below) == seller.name


async def test_coverage_is_narrowed_at_once_and_widened_by_proof(
    stage: World, zone: Authority
) -> None:
    seller, buyer = await stage.company(), await stage.company()
    await stage.permit(seller, buyer)
    name = fresh_name()
    first = await own(stage, zone, seller, name, covers_subdomains=True)
    below, itself = (
        await stage.certificate(domain=f"a.{name}"),
        await stage.certificate(domain=name),
    )
    assert await stage.confirmed_owner(buyer, below) == seller.name
    status, changed = await call(
        stage, seller, "PATCH", f"/{name}", json={"covers_subdomains": False}
    )
    assert (status, changed["subdomain_status"]) == (200, "unconfirmed")
    assert await stage.confirmed_owner(buyer, below) == NO_VERIFIED
    assert await stage.confirmed_owner(buyer, itself) == seller.name
    _, changed = await call(stage, seller, "PATCH", f"/{name}", json={"covers_subdomains": True})
    assert changed["subdomain_status"] == "confirmed"
    assert await stage.confirmed_owner(buyer, below) == seller.name
    rows = await stage.fetch("SELECT DISTINCT verified_at FROM ownership")
    assert len(rows) == 1
    assert first["last_verified_at"]


async def test_failing_look_up_leaves_the_coverage_and_an_absent_record_ends_it_in_three_days(
    stage: World, zone: Authority
) -> None:
    seller, buyer = await stage.company(), await stage.company()
    await stage.permit(seller, buyer)
    name = fresh_name()
    owned = await own(stage, zone, seller, name, covers_subdomains=True)
    code = owned["records"][0]["value"]
    zone.txt[f"_domain-verification.{name}"] = [code]
    below, itself = (
        await stage.certificate(domain=f"a.{name}"),
        await stage.certificate(domain=name),
    )
    zone.behaves[name] = lambda request, by_udp: (
        servfail(request, by_udp)
        if str(request.q.qname).rstrip(".") == name
        else zone.answer(request)
    )
    told = await check_again(stage, zone, seller, name)
    assert (told["status"], told["subdomain_status"]) == ("verified", "confirmed")
    assert await stage.confirmed_owner(buyer, below) == seller.name
    del zone.behaves[name], zone.txt[name]
    zone.addresses.add(name)
    for _ in range(12):
        told = await check_again(stage, zone, seller, name)
        assert "which covers the subdomains, is missing" in told["hint"]
        assert await stage.confirmed_owner(buyer, below) == seller.name
        await earlier(stage, WHILE_FAILING)
    assert await stage.mails("domain_about_to_lapse") == [(seller.email, "queued")]
    told = await check_again(stage, zone, seller, name)
    assert (told["status"], told["subdomain_status"]) == ("verified", "unconfirmed")
    assert await stage.confirmed_owner(buyer, below) == NO_VERIFIED
    assert await stage.confirmed_owner(buyer, itself) == seller.name
    _, history = await call(stage, seller, "GET", f"/{name}/history")
    assert history["items"][0]["change"] == "coverage_lost"


async def test_domain_won_back_at_the_label_covers_no_subdomains(
    stage: World, zone: Authority
) -> None:
    seller, buyer = await stage.company(), await stage.company()
    await stage.permit(seller, buyer)
    name = fresh_name()
    owned = await own(stage, zone, seller, name, covers_subdomains=True)
    below = await stage.certificate(domain=f"a.{name}")
    zone.txt[name] = []
    zone.addresses.add(name)
    for _ in range(14):
        told = await check_again(stage, zone, seller, name)
        await earlier(stage, WHILE_FAILING)
    assert told["status"] == "unverified"
    zone.txt[f"_domain-verification.{name}"] = [owned["records"][0]["value"]]
    told = await check_again(stage, zone, seller, name)
    assert (told["status"], told["subdomain_status"]) == ("verified", "unconfirmed")
    assert await stage.confirmed_owner(buyer, below) == NO_VERIFIED


async def test_record_with_a_nul_keeps_no_claim_from_being_checked(
    stage: World, zone: Authority
) -> None:
    seller, name = await stage.company(), fresh_name()
    await add(stage, seller, name)
    zone.txt[name] = [[b"a\0b"]]
    assert (await verify(stage, seller, name))["reason"] == "code_not_found"


async def test_lapsed_domain_is_not_won_back_without_a_proof(stage: World, zone: Authority) -> None:
    one, two, name = await stage.company(), await stage.company(), fresh_name()
    await lapse(stage, zone, one, name)
    await own(stage, zone, two, name)
    await call(stage, one, "PATCH", f"/{name}", json={"covers_subdomains": True})
    (live,) = await stage.fetch("SELECT account_id FROM ownership WHERE ended_at IS NULL")
    assert live["account_id"] == two.id


async def test_missing_code_is_told_with_what_is_there_instead(
    stage: World, zone: Authority
) -> None:
    seller, name = await stage.company(), fresh_name()
    added = await add(stage, seller, name)
    zone.txt[name] = [f'"{added["records"][0]["value"]}"']
    told = await verify(stage, seller, name)
    assert (told["status"], told["reason"]) == ("unverified", "code_not_found")
    assert "remove the quotation marks" in told["hint"]
    told = await verify(stage, seller, (await add(stage, seller, "nowhere.example"))["name"])
    assert told["reason"] == "domain_not_found"
    zone.behaves[name] = servfail
    told = await verify(stage, seller, name)
    assert told["reason"] == "connection_error"
    assert told["next_check_at"]


async def test_ownership_ends_three_days_after_the_code_is_gone_and_mails_say_so(
    stage: World, zone: Authority
) -> None:
    seller, buyer = await stage.company(), await stage.company()
    await stage.permit(seller, buyer)
    name = fresh_name()
    await own(stage, zone, seller, name)
    cert_id = await stage.certificate(domain=name)
    zone.txt[name] = ["v=spf1 -all"]
    told = await check_again(stage, zone, seller, name)
    assert (told["status"], told["reason"]) == ("verified", "code_not_found")
    assert await stage.mails("domain_failing") == [(seller.email, "queued")]
    for _ in range(11):
        await earlier(stage, WHILE_FAILING)
        assert await stage.confirmed_owner(buyer, cert_id) == seller.name
        await check_again(stage, zone, seller, name)
    assert await stage.mails("domain_about_to_lapse") == [(seller.email, "queued")]
    await earlier(stage, WHILE_FAILING)
    assert await stage.confirmed_owner(buyer, cert_id) == seller.name
    told = await check_again(stage, zone, seller, name)
    assert (told["status"], told["reason"]) == ("unverified", "code_not_found")
    assert await stage.confirmed_owner(buyer, cert_id) == NO_VERIFIED
    assert await stage.mails("domain_lapsed") == [(seller.email, "queued")]
    zone.txt[name] = [told["records"][0]["value"]]
    assert (await check_again(stage, zone, seller, name))["status"] == "verified"
    rows = await stage.fetch("SELECT ended_at, end_reason FROM ownership ORDER BY started_at")
    assert [row["end_reason"] for row in rows] == ["Code not found", None]
    _, history = await call(stage, seller, "GET", f"/{name}/history")
    assert [each["change"] for each in history["items"]] == [
        "verified", "lapsed", "about_to_lapse", "failing", "verified",
    ]  # fmt: skip
    replies = history["items"][1]["evidence"]["replies"]
    assert ["v=spf1 -all"] in [reply["values"] for reply in replies]


async def test_failing_look_ups_never_end_an_ownership(stage: World, zone: Authority) -> None:
    seller, name = await stage.company(), fresh_name()
    await own(stage, zone, seller, name)
    zone.behaves[name] = servfail
    for _ in range(20):
        await earlier(stage, timedelta(days=1))
        told = await check_again(stage, zone, seller, name)
    assert (told["status"], told["reason"]) == ("verified", "connection_error")
    assert await stage.mails("domain_failing") == []


async def test_fresh_proof_supersedes_and_neither_learns_of_the_other(
    stage: World, zone: Authority
) -> None:
    one, two, buyer = await stage.company(), await stage.company(), await stage.company()
    await stage.permit(one, buyer)
    name = fresh_name()
    cert_id = await stage.certificate(domain=name)
    lost = await own(stage, zone, one, name)
    assert await stage.confirmed_owner(buyer, cert_id) == one.name
    await own(stage, zone, two, name)
    assert await stage.confirmed_owner(buyer, cert_id) == VERIFIED
    _, told = await call(stage, one, "GET", f"/{name}")
    assert (told["status"], told["reason"]) == ("unverified", "superseded")
    assert told["records"][0]["value"] != lost["records"][0]["value"]
    assert await stage.mails("domain_superseded") == [(one.email, "queued")]
    assert (await verify(stage, one, name))["status"] == "unverified"
    for loser, winner in ((one, two), (two, one)):
        _, history = await call(stage, loser, "GET", f"/{name}/history")
        events = (await stage.client.get("/v1/events", headers=loser.headers)).text
        for text in (str(history["items"][0]["change"]), events):
            assert winner.name not in text
            assert str(winner.id) not in text
    assert "superseded" in str((await call(stage, one, "GET", f"/{name}/history"))[1])


async def test_claim_reserves_nothing_and_shows_to_nobody(stage: World, zone: Authority) -> None:
    one, two = await stage.company(), await stage.company()
    name = fresh_name()
    await own(stage, zone, one, name)
    assert (await add(stage, two, name))["status"] == "unverified"
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/history"),
        ("POST", "/verification"),
    ):
        other = fresh_name()
        mine = await call(stage, await stage.company(), method, f"/{name}{path}")
        unknown = await call(stage, await stage.company(), method, f"/{other}{path}")
        assert mine[0] == unknown[0] == 404
        assert mine[1]["detail"].replace(name, other) == unknown[1]["detail"]


async def test_of_accounts_that_race_to_verify_one_owns_it(stage: World, zone: Authority) -> None:
    name, racers = fresh_name(), [await stage.company() for _ in range(2)]
    for company in racers:
        record = (await add(stage, company, name))["records"][0]
        zone.txt[name] = [*zone.txt.get(name, []), record["value"]]
        async with stage.database.general.transaction() as connection:
            await claims.begin(connection, company.id, name, by(company))
    rows = await stage.fetch("SELECT id FROM domain_claim")

    async def again(claim_id: Any) -> None:
        for _ in range(25):
            await claims.check(stage.database, [zone.server], claim_id)
            live = await stage.fetch("SELECT FROM ownership WHERE ended_at IS NULL")
            assert len(live) <= 1

    await asyncio.gather(*(again(row["id"]) for row in rows for _ in range(4)))
    (live,) = await stage.fetch("SELECT account_id FROM ownership WHERE ended_at IS NULL")
    verified = await stage.fetch("SELECT account_id FROM domain_claim WHERE is_verified")
    assert [row["account_id"] for row in verified] == [live["account_id"]]


async def test_thousand_proofs_in_turn_leave_exactly_one_live_ownership(
    stage: World, zone: Authority
) -> None:
    """Each proof holds its domain's lock, as checks do, and all connections are in use."""
    name, racers = fresh_name(), [await stage.company() for _ in range(2)]
    for company in racers:
        await own(stage, zone, company, name)
    finding = await look_up([zone.server], name, "none")

    async def prove(number: int) -> None:
        company = racers[number % 2]
        async with stage.database.general.transaction() as connection:
            await queries.lock_domain(connection, name)
            await connection.execute(
                """
                UPDATE domain_claim SET begun_at = coalesce(begun_at, now())
                WHERE account_id = $1 AND name = $2
                """,
                company.id,
                name,
            )
            claim = await claims.find(connection, company.id, name)
            await claims.apply(
                connection,
                claim,
                msgspec.structs.replace(finding, outcome="found", proves_subdomains=True),
            )

    for start in range(0, 1000, 8):
        await asyncio.gather(*(prove(number) for number in range(start, start + 8)))
    rows = await stage.fetch("SELECT account_id FROM ownership WHERE ended_at IS NULL")
    assert len(rows) == 1
    overlaps = await stage.fetch(
        """
        SELECT FROM ownership AS one JOIN ownership AS other
            ON one.id <> other.id AND one.started_at < other.ended_at
            AND other.started_at < coalesce(one.ended_at, 'infinity')
        """
    )
    assert overlaps == []


async def test_attested_ownership_is_seen_as_such_and_gives_way_to_proof(
    stage: World, zone: Authority
) -> None:
    one, two = await stage.company(), await stage.company()
    name = fresh_name()
    await stage.own(one, name, covers_subdomains=True)
    _, told = await call(stage, one, "GET", f"/{name}")
    assert (told["status"], told["method"], told["subdomain_status"]) == (
        "verified",
        "attested",
        "confirmed",
    )
    await own(stage, zone, two, name)
    _, told = await call(stage, one, "GET", f"/{name}")
    assert told["status"] == "unverified"
    assert "method" not in told
    with pytest.raises(Conflict, match=r"verified .* by DNS"):
        await stage.own(one, name)
    await stage.own(two, name)
    _, told = await call(stage, two, "GET", f"/{name}")
    assert told["method"] == "dns"


async def test_attested_coverage_is_narrowed_by_its_account_and_widened_by_nobody_else(
    stage: World,
) -> None:
    seller, buyer = await stage.company(), await stage.company()
    await stage.permit(seller, buyer)
    name = fresh_name()
    await stage.own(seller, name, covers_subdomains=True)
    below = await stage.certificate(domain=f"a.{name}")
    assert await stage.confirmed_owner(buyer, below) == seller.name
    for covers in (False, True):
        status, told = await call(
            stage, seller, "PATCH", f"/{name}", json={"covers_subdomains": covers}
        )
        assert (status, told["subdomain_status"]) == (200, "unconfirmed")
        assert await stage.confirmed_owner(buyer, below) == NO_VERIFIED
    assert told["method"] == "attested"


async def test_own_proof_replaces_own_attestation(stage: World, zone: Authority) -> None:
    seller, name = await stage.company(), fresh_name()
    await stage.own(seller, name)
    _, told = await call(stage, seller, "GET", f"/{name}")
    zone.txt[name] = [told["records"][0]["value"]]
    assert (await verify(stage, seller, name))["method"] == "dns"
    rows = await stage.fetch("SELECT method, end_reason FROM ownership ORDER BY started_at")
    assert [tuple(row) for row in rows] == [("attested", "Proven by DNS"), ("dns", None)]


async def test_other_name_servers_put_a_domain_at_risk_until_it_is_proven_there(
    stage: World, zone: Authority
) -> None:
    seller, name = await stage.company(), fresh_name()
    zone.ns[name] = ["ns1.old.example"]
    assert (await own(stage, zone, seller, name))["at_risk"] is False
    zone.ns[name] = ["ns1.new.example"]
    told = await check_again(stage, zone, seller, name)
    assert (told["status"], told["at_risk"]) == ("verified", True)
    (row,) = await stage.fetch(
        "SELECT next_check_at < now() + interval '2 min' AS s FROM domain_claim"
    )
    assert row["s"]
    told = await check_again(stage, zone, seller, name)
    assert (told["status"], told["at_risk"]) == ("verified", False)
    _, history = await call(stage, seller, "GET", f"/{name}/history")
    assert [each["change"] for each in history["items"]][:2] == [
        "nameservers_proven",
        "nameservers_changed",
    ]


async def test_names_and_checks_are_limited_an_hour(stage: World) -> None:
    seller = await stage.company()
    names = [f"n{number}.example" for number in range(NEW_NAMES_AN_HOUR + 1)]
    status, body = await call(stage, seller, "POST", json={"names": names})
    assert status == 207
    assert [item["status_code"] for item in body["items"]] == [201] * NEW_NAMES_AN_HOUR + [429]
    response = await stage.client.post(
        "/v1/domains", headers=seller.headers, json={"names": ["more.example"]}
    )
    assert response.status_code == 429
    assert 0 < int(response.headers["retry-after"]) <= 3600
    await stage.fetch(
        "INSERT INTO allowance VALUES (date_trunc('hour', now(), 'UTC'), 'domain checks', $1, $2)",
        str(seller.id),
        CHECKS_AN_HOUR,
    )
    assert (await call(stage, seller, "POST", f"/{names[0]}/verification"))[0] == 429


async def test_list_goes_on_by_name_and_can_be_filtered(stage: World, zone: Authority) -> None:
    seller = await stage.company()
    for name in ("b.example", "a.example", "c.example"):
        await add(stage, seller, name)
    await own(stage, zone, seller, "d.example")
    names, path = [], "?limit=2"
    while path:
        _, body = await call(stage, seller, "GET", path)
        names += [item["name"] for item in body["items"]]
        path = f"?limit=2&cursor={body['next']}" if body["next"] else ""
    assert names == ["a.example", "b.example", "c.example", "d.example"]
    _, body = await call(stage, seller, "GET", "?verified=true")
    assert [item["name"] for item in body["items"]] == ["d.example"]


async def test_due_checks_are_done_by_workers_each_once(
    stage: World, zone: Authority, migrated_url: str
) -> None:
    seller = await stage.company()
    names = [fresh_name() for _ in range(12)]
    for name in names:
        record = (await add(stage, seller, name))["records"][0]
        zone.txt[name] = [record["value"]]
        async with stage.database.general.transaction() as connection:
            await claims.begin(connection, seller.id, name, by(seller))
    await stage.fetch("UPDATE domain_claim SET next_check_at = now()")
    zone.asked.clear()
    settings = msgspec.structs.replace(SETTINGS, dns_resolvers=(zone.server,))
    stopped = asyncio.Event()
    workers = [asyncio.create_task(work(migrated_url, settings, stopped)) for _ in range(2)]
    await asyncio.gather(*(enqueue_due_checks(stage.database) for _ in range(3)))

    async def all_verified() -> bool:
        rows = await stage.fetch("SELECT FROM domain_claim WHERE is_verified")
        return len(rows) == len(names)

    await until(all_verified)
    stopped.set()
    await asyncio.gather(*workers)
    at_domains = [name for name, kind, _ in zone.asked if kind == "TXT" and name in names]
    assert sorted(at_domains) == sorted(names)
    (spread,) = await stage.fetch(
        "SELECT count(DISTINCT date_trunc('minute', next_check_at)) AS c FROM domain_claim"
    )
    assert spread["c"] > 3


async def test_look_up_for_a_former_code_proves_nothing(stage: World, zone: Authority) -> None:
    one, two, name = await stage.company(), await stage.company(), fresh_name()
    await own(stage, zone, one, name)
    async with stage.database.general.connection() as connection:
        before = await claims.find(connection, one.id, name)
    finding = await look_up([zone.server], name, before.code)
    assert finding.outcome == "found"
    await own(stage, zone, two, name)
    await verify(stage, one, name)
    async with stage.database.general.transaction() as connection:
        await claims.apply(connection, before, finding)
    (live,) = await stage.fetch("SELECT account_id FROM ownership WHERE ended_at IS NULL")
    assert live["account_id"] == two.id


async def test_check_that_is_overtaken_changes_nothing(stage: World, zone: Authority) -> None:
    seller, name = await stage.company(), fresh_name()
    await own(stage, zone, seller, name)
    async with stage.database.general.connection() as connection:
        before = await claims.find(connection, seller.id, name)
    finding = await look_up([zone.server], name, before.code)
    await call(stage, seller, "DELETE", f"/{name}")
    async with stage.database.general.transaction() as connection:
        await claims.apply(connection, before, finding)
    assert await stage.fetch("SELECT FROM ownership WHERE ended_at IS NULL") == []
    await add(stage, seller, name)
    async with stage.database.general.transaction() as connection:
        await claims.apply(connection, before, finding)
    assert await stage.fetch("SELECT FROM ownership WHERE ended_at IS NULL") == []


async def test_look_up_that_another_check_has_overtaken_loses_nothing(
    stage: World, zone: Authority
) -> None:
    seller, name = await stage.company(), fresh_name()
    await own(stage, zone, seller, name)
    async with stage.database.general.connection() as connection:
        before = await claims.find(connection, seller.id, name)
    code = zone.txt.pop(name)
    zone.addresses.add(name)
    absent = await look_up([zone.server], name, before.code)
    zone.txt[name] = code
    await check_again(stage, zone, seller, name)
    async with stage.database.general.transaction() as connection:
        await claims.apply(connection, before, absent)
    _, domain = await call(stage, seller, "GET", f"/{name}")
    assert (domain["status"], domain.get("reason")) == ("verified", None)


async def test_removing_a_domain_that_another_account_owns_leaves_it_to_that(
    stage: World, zone: Authority
) -> None:
    owner, other, name = await stage.company(), await stage.company(), fresh_name()
    await own(stage, zone, owner, name)
    await add(stage, other, name)
    assert await call(stage, other, "DELETE", f"/{name}") == (204, None)
    (live,) = await stage.fetch("SELECT account_id FROM ownership WHERE ended_at IS NULL")
    assert live["account_id"] == owner.id


async def test_superseded_claim_begins_anew(stage: World, zone: Authority) -> None:
    former, latter, name = await stage.company(), await stage.company(), fresh_name()
    await own(stage, zone, former, name)
    await own(stage, zone, latter, name)
    (claim,) = await stage.fetch(
        "SELECT begun_at, next_check_at FROM domain_claim WHERE account_id = $1", former.id
    )
    assert tuple(claim) == (None, None)
    await verify(stage, former, name)
    assert (await stage.events(former)).count(("domain.verification_begun", "key")) == 2
