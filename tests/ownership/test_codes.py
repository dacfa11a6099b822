"""A code proves only its own claim, and reveals nothing about other accounts' claims."""

import pytest

from service.ownership.dns_txt import new_code
from tests.builders import Company, World
from tests.ownership.authority import Authority
from tests.ownership.domains import add, call, check_again, fresh_name, own, verify

PLACES = pytest.mark.parametrize("prefix", ["", "_domain-verification."])


async def code_of(stage: World, company: Company, name: str) -> str:
    code: str = (await add(stage, company, name))["records"][0]["value"]
    return code


async def hint(stage: World, company: Company, name: str, code: str) -> str:
    """The hint an account gets if this wrong code stands in place of its own."""
    found = await verify(stage, company, name)
    assert (found["status"], found["reason"]) == ("unverified", "code_not_found")
    assert code in found["hint"]
    return str(found["hint"].replace(code, "…"))


@PLACES
@pytest.mark.parametrize("domain", ["same", "another"])
async def test_code_of_another_account_proves_nothing_and_looks_like_one_of_nobody(
    stage: World, zone: Authority, prefix: str, domain: str
) -> None:
    mine, other, name = await stage.company(), await stage.company(), fresh_name()
    await add(stage, mine, name)
    theirs = await code_of(stage, other, name if domain == "same" else fresh_name())
    hints = []
    for code in (theirs, new_code()):
        zone.txt[prefix + name] = [code]
        hints.append(await hint(stage, mine, name, code))
    assert hints[0] == hints[1]
    assert await stage.fetch("SELECT FROM ownership") == []


async def test_code_of_another_account_beside_ones_own_keeps_nobody_from_anything(
    stage: World, zone: Authority
) -> None:
    mine, other, name = await stage.company(), await stage.company(), fresh_name()
    theirs = await code_of(stage, other, name)
    zone.txt[name] = [theirs]
    await own(stage, zone, mine, name)
    (live,) = await stage.fetch("SELECT account_id FROM ownership")
    assert live["account_id"] == mine.id


@PLACES
async def test_code_of_another_claim_of_ones_own_proves_nothing_and_is_called_that(
    stage: World, zone: Authority, prefix: str
) -> None:
    seller, name, second = await stage.company(), fresh_name(), fresh_name()
    await add(stage, seller, name)
    code, nobodys = await code_of(stage, seller, second), new_code()
    zone.txt[prefix + name] = [nobodys]
    of_nobody = await hint(stage, seller, name, nobodys)
    zone.txt[prefix + name] = [code]
    assert await hint(stage, seller, name, code) != of_nobody
    # Once that claim is removed, its code looks like any other.
    await call(stage, seller, "DELETE", f"/{second}")
    assert await hint(stage, seller, name, code) == of_nobody


async def test_former_code_of_a_domain_that_was_lost_proves_it_no_more(
    stage: World, zone: Authority
) -> None:
    one, two, name = await stage.company(), await stage.company(), fresh_name()
    lost = await own(stage, zone, one, name)
    await own(stage, zone, two, name)
    zone.txt[name] = [lost["records"][0]["value"]]
    await hint(stage, one, name, lost["records"][0]["value"])
    (live,) = await stage.fetch("SELECT account_id FROM ownership WHERE ended_at IS NULL")
    assert live["account_id"] == two.id


async def covers(stage: World, owner: Company, domain: str) -> bool:
    cert_id = await stage.certificate(domain=domain)
    return await stage.confirmed_owner(owner, cert_id) == owner.name


async def test_proof_of_all_subdomains_covers_none_that_were_not_asked_for(
    stage: World, zone: Authority
) -> None:
    seller, name = await stage.company(), fresh_name()
    told = await own(stage, zone, seller, name)
    assert told["subdomain_status"] == "unconfirmed"
    assert await covers(stage, seller, name)
    assert not await covers(stage, seller, f"shop.{name}")
    # Subdomains are already proven, so asking is enough.
    _, told = await call(stage, seller, "PATCH", f"/{name}", json={"covers_subdomains": True})
    assert told["subdomain_status"] == "confirmed"
    assert await covers(stage, seller, f"shop.{name}")


async def test_subdomain_that_is_proven_at_its_zone_covers_what_is_below_it_alone(
    stage: World, zone: Authority
) -> None:
    seller, name = await stage.company(), fresh_name()
    await own(stage, zone, seller, f"shop.{name}", covers_subdomains=True)
    assert await covers(stage, seller, f"shop.{name}")
    assert await covers(stage, seller, f"eu.shop.{name}")
    for outside in (name, f"other.{name}", f"notshop.{name}"):
        assert not await covers(stage, seller, outside)


@pytest.mark.parametrize("lacks", ["proof of subdomains", "code"])
async def test_coverage_that_is_not_proven_now_is_looked_for_at_once_and_not_in_force_before(
    stage: World, zone: Authority, lacks: str
) -> None:
    seller, name = await stage.company(), fresh_name()
    if lacks == "code":
        await own(stage, zone, seller, name)
        code = zone.txt.pop(name)
        zone.addresses.add(name)
        await check_again(stage, zone, seller, name)
    else:
        code = [await code_of(stage, seller, name)]
        zone.txt[f"_domain-verification.{name}"] = code
        await verify(stage, seller, name)
    _, told = await call(stage, seller, "PATCH", f"/{name}", json={"covers_subdomains": True})
    assert (told["status"], told["subdomain_status"]) == ("verified", "unconfirmed")
    assert not await covers(stage, seller, f"shop.{name}")
    (row,) = await stage.fetch("SELECT next_check_at <= now() AS is_due FROM domain_claim")
    assert row["is_due"]
    await check_again(stage, zone, seller, name)
    assert not await covers(stage, seller, f"shop.{name}")
    zone.txt[name] = code
    assert (await check_again(stage, zone, seller, name))["subdomain_status"] == "confirmed"
    assert await covers(stage, seller, f"shop.{name}")
