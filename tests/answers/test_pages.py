"""The pages about answers: searches find what they name, and a receipt proves what it says."""

import csv
import io
import json
import re
from collections.abc import Mapping

import httpx
import pytest

from service.answers.checkpoints import Signer
from tests.answers.logs import ORIGIN, OTHER_SEED, seal_all
from tests.builders import NO_VERIFIED, Company, World
from tests.surfer import Surfer, signed_in

DOMAINS = ("one.example", "two.example")


@pytest.fixture
async def buyer(world: World) -> Company:
    buyer = await world.company("Harbor Insurance Group", "al@harbor.example")
    seller, other = await world.company("BrightQuote Media"), await world.company()
    await world.own(seller, "two.example")
    await world.permit(seller, buyer)
    for domain in DOMAINS:
        await world.ask(buyer, await world.certificate(domain=domain), "confirmed_owner")
    await world.ask(other, await world.certificate(domain="else.example"), "confirmed_owner")
    await world.fetch(
        "UPDATE answer SET answered_at = '2026-03-03 23:59:59.9Z' WHERE domain = 'one.example'"
    )
    return buyer


@pytest.fixture
async def surfer(world: World, buyer: Company) -> Surfer:
    return await signed_in(world, buyer.email)


def shown(text: str) -> list[str]:
    return re.findall(r'data-label="Site">([^<]+)<', text)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["two.example", "one.example"]),
        ({"q": "ONE.example "}, ["one.example"]),
        ({"q": "https://one.example/quote?x=1"}, ["one.example"]),
        ({"q": "{certificate}"}, ["one.example"]),
        ({"q": "https://cert.trustedform.com/{certificate}"}, ["one.example"]),
        ({"q": "nobody.example"}, []),
        ({"q": "http://[one.example"}, []),
        ({"status": "named"}, ["two.example"]),
        ({"status": "verified"}, []),
        ({"from": "2026-03-03", "to": "2026-03-03"}, ["one.example"]),
        ({"from": "2026-03-04"}, ["two.example"]),
        ({"to": "2026-03-02"}, []),
        ({"status": "named", "q": "one.example"}, []),
    ],
)
async def test_search_and_its_download_find_what_they_name(
    world: World, surfer: Surfer, query: Mapping[str, str], found: list[str]
) -> None:
    (row,) = await world.fetch("SELECT cert_id FROM answer WHERE domain = 'one.example'")
    params = {name: text.format(certificate=row["cert_id"]) for name, text in query.items()}
    await surfer.go(f"/answers?{httpx.QueryParams(params)}")
    assert shown(surfer.text) == found
    downloaded = await surfer.go(f"/answers/download?{httpx.QueryParams(params)}")
    assert [row["host"] for row in csv.DictReader(io.StringIO(downloaded.text))] == found


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("status=x", "named, verified, none, not_applicable"),
        ("from=soon", "a day such as 2026-07-04"),
        ("to=2026-02-30", "a day such as 2026-07-04"),
    ],
)
async def test_search_that_makes_no_sense_says_what_would(
    surfer: Surfer, query: str, said: str
) -> None:
    response = await surfer.go(f"/answers?{query}")
    assert response.status_code == 422
    assert said in surfer.text
    assert (await surfer.go(f"/answers/download?{query}")).status_code == 422


async def test_answers_are_listed_page_by_page_each_once(
    world: World, buyer: Company, surfer: Surfer
) -> None:
    cert_id = await world.certificate(domain="one.example")
    for _ in range(51):
        await world.ask(buyer, cert_id, "confirmed_owner")
    seen: list[str] = []
    path = "/answers?q=one.example"
    while path:
        await surfer.go(path)
        seen += re.findall(r'<th scope="row"><a href="/answers/([0-9a-f-]+)"', surfer.text)
        path = surfer.text.partition('href="/answers?q=one.example&status=&from=&to=&before=')[2]
        path = path and "/answers?q=one.example&before=" + path.partition('"')[0]
    assert len(seen) == len(set(seen)) == 52


async def test_receipt_is_there_once_sealed_and_verifies(world: World, surfer: Surfer) -> None:
    (row,) = await world.fetch("SELECT id FROM answer WHERE domain = 'one.example'")
    await surfer.go(f"/answers/{row['id']}")
    assert "Not sealed yet" in surfer.text
    assert (await surfer.go(f"/answers/{row['id']}/receipt")).status_code == 404
    await seal_all(world)
    await surfer.go(f"/answers/{row['id']}")
    assert "Valid" in surfer.text
    receipt = (await surfer.go(f"/answers/{row['id']}/receipt")).json()
    await surfer.go("/receipts")
    await surfer.send("/receipts", receipt=json.dumps(receipt))
    assert "Valid" in surfer.text
    assert NO_VERIFIED in surfer.text
    statement = receipt["statement"].replace(NO_VERIFIED, "BrightQuote Media")
    assert statement != receipt["statement"]
    for forged in (
        {**receipt, "statement": statement},
        {**receipt, "leaf_index": receipt["leaf_index"] + 1},
        {**receipt, "checkpoint": receipt["checkpoint"].replace("leads.example", "evil.example")},
        {**receipt, "checkpoint": "", "keys": []},
    ):
        response = await surfer.send("/receipts", receipt=json.dumps(forged))
        assert response.status_code == 422
        assert "Not valid" in surfer.text
        assert "Confirmed owner" not in surfer.text
    for text in ("", "{", "[" * 5_000, '{"statement": 1}'):
        response = await surfer.send("/receipts", receipt=text)
        assert response.status_code == 422
        assert "isn’t a receipt" in surfer.text


async def test_keys_in_a_receipt_are_not_believed(world: World, surfer: Surfer) -> None:
    await seal_all(world, OTHER_SEED)
    (row,) = await world.fetch("SELECT id FROM answer WHERE domain = 'one.example'")
    receipt = (await surfer.go(f"/answers/{row['id']}/receipt")).json()
    await world.fetch("DELETE FROM log_key")
    receipt["keys"] = [str(Signer(ORIGIN, OTHER_SEED).key)]
    await surfer.go("/receipts")
    response = await surfer.send("/receipts", receipt=json.dumps(receipt))
    assert response.status_code == 422
