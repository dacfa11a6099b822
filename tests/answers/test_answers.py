"""The record of answers: what an account reads of what it was told."""

import csv
import io
import json
from datetime import timedelta
from typing import Any

import pytest

from service.web import exports
from service.web.exports import safe_cell
from tests.builders import NO_VERIFIED, VERIFIED, Company, World, web_id
from tests.parties import Party, party, problem

ANSWERS, RETAINED = "/v1/answers", "/v1/retained"


@pytest.fixture
async def viewer(world: World) -> Party:
    return await party(world)


async def told(world: World, viewer: Company, domain: str) -> str:
    """Ask about a new certificate of that domain, and return its id."""
    cert_id = await world.certificate(domain=domain)
    await world.confirmed_owner(viewer, cert_id)
    return cert_id


async def test_answer_is_read_as_it_was_told_whatever_happened_since(
    world: World, viewer: Party
) -> None:
    owner = await world.company("Then")
    await world.own(owner, "seller.example", covers_subdomains=True)
    await world.permit(owner, viewer)
    cert_id = await told(world, viewer, "shop.seller.example")
    await world.rename(owner, "Now")
    await world.revoke(owner, viewer)
    (answer,) = (await viewer.see(ANSWERS))["items"]
    assert answer["verified_at"]
    assert answer["answered_at"]
    assert answer == {
        **answer,
        "as_of": None,
        "key_id": str(viewer.key_id),
        "key_name": None,
        "cert_id": cert_id,
        "host": "shop.seller.example",
        "status": "named",
        "confirmed_owner": "Then",
        "owner_account_id": str(owner.id),
        "covered_by": "seller.example",
    }
    assert await viewer.see(f"{ANSWERS}/{answer['id']}") == {**answer, "receipt": None}


async def test_owner_that_was_not_told_is_not_on_record_either(world: World, viewer: Party) -> None:
    owner = await world.company()
    await world.own(owner, "seller.example")
    await told(world, viewer, "seller.example")
    (answer,) = (await viewer.see(ANSWERS))["items"]
    assert (answer["status"], answer["confirmed_owner"]) == ("verified", VERIFIED)
    hidden = ("owner_account_id", "covered_by", "verified_at")
    assert [answer[name] for name in hidden] == [None] * 3


async def test_nobody_reads_anothers_answers(world: World, viewer: Party) -> None:
    other = await party(world)
    await told(world, viewer, "seller.example")
    (answer,) = (await viewer.see(ANSWERS))["items"]
    assert await other.see(ANSWERS) == {"items": [], "next": None}
    assert (await other.do("GET", f"{ANSWERS}/{answer['id']}")).status_code == 404
    assert await other.pages(f"{ANSWERS}?cert_id={answer['cert_id']}") == []


async def test_answers_are_found_by_each_filter_and_by_all_together(
    world: World, viewer: Party
) -> None:
    owner = await world.company()
    await world.own(owner, "owned.example")
    ids = [await told(world, viewer, f"{name}.example") for name in ("owned", "free", "owned")]
    all_answers = await viewer.pages(ANSWERS)
    assert [each["cert_id"] for each in all_answers] == ids[::-1]

    async def found(query: str) -> list[str]:
        return [each["cert_id"] for each in await viewer.pages(f"{ANSWERS}?{query}")]

    assert await found(f"cert_id={ids[1]}") == [ids[1]]
    assert await found(f"cert_id={ids[1].upper()}") == [ids[1]]
    assert await found("host=www.OWNED.example") == [ids[2], ids[0]]
    assert await found("status=none") == [ids[1]]
    assert await found(f"key_id={viewer.key_id}") == ids[::-1]
    assert await found(f"key_id={owner.key_id}") == []
    middle = all_answers[1]["answered_at"].replace("+00:00", "Z")
    assert await found(f"from={middle}") == [ids[2], ids[1]]
    assert await found(f"to={middle}") == [ids[0]]
    assert await found(f"status=verified&host=owned.example&to={middle}") == [ids[0]]
    assert await found("status=not_applicable") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=owned", "status"), ("cert_id=not an id", "cert_id"), ("from=yesterday", "from"),
        ("to=2026-01-01T00:00:00", "to"), ("format=xls", "format"), ("hots=a", "hots"),
        ("cursor=x", "cursor"),
    ],
)  # fmt: skip
async def test_bad_filter_is_named(viewer: Party, query: str, field: str) -> None:
    response = await viewer.do("GET", f"{ANSWERS}?{query}")
    assert response.status_code in (400, 422)
    assert response.json()["field"] == field


async def test_call_that_did_not_ask_for_the_owner_says_so(world: World, viewer: Party) -> None:
    cert_id = await world.certificate(domain="seller.example")
    await world.ask(viewer, cert_id, "domain")
    (answer,) = (await viewer.see(ANSWERS))["items"]
    assert (answer["status"], answer["confirmed_owner"]) == (None, None)


async def test_answers_about_sites_and_past_instants_are_among_them(
    world: World, viewer: Party
) -> None:
    instant = await world.instant()
    body = {"items": [{"host": "seller.example"}], "as_of": instant.isoformat()}
    response = await viewer.do("POST", "/v1/insights", body)
    (result,) = response.json()["results"]
    answer = await viewer.see(f"{ANSWERS}/{result['answer_id']}")
    assert (answer["cert_id"], answer["host"]) == (None, "seller.example")
    assert answer["as_of"] == response.json()["as_of"]


async def test_all_answers_come_as_one_file(
    world: World, viewer: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_AT_ONCE", 2)
    ids = [await told(world, viewer, "seller.example") for _ in range(5)]
    as_csv = await viewer.do("GET", f"{ANSWERS}?format=csv")
    assert as_csv.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert as_csv.headers["Content-Disposition"] == 'attachment; filename="answers.csv"'
    rows = list(csv.DictReader(io.StringIO(as_csv.text)))
    assert [row["cert_id"] for row in rows] == ids[::-1]
    assert {row["confirmed_owner"] for row in rows} == {NO_VERIFIED}
    as_ndjson = await viewer.do("GET", f"{ANSWERS}?format=ndjson&status=none")
    lines = [json.loads(line) for line in as_ndjson.text.splitlines()]
    assert lines == await viewer.pages(ANSWERS)
    nothing = await viewer.do("GET", f"{ANSWERS}?format=csv&status=named")
    assert len(nothing.text.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "is_safe"),
    [
        ("=1+1", False), ("+1", False), ("-1", False), ("@SUM(A1)", False), ("\t=1", False),
        ("\r=1", False), ("\n=1", False), ("＝1", False), ("＋1", False), ("－1", False),
        ("＠A", False), ("Acme, Inc.", True), ("1-2", True), ("", True), ("'=1", True),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula(text: str, is_safe: bool) -> None:
    assert safe_cell(text) == (text if is_safe else f"'{text}")


async def test_owner_whose_name_looks_like_a_formula_is_text_in_csv_and_itself_in_json(
    world: World, viewer: Party
) -> None:
    owner = await world.company("Plain")
    await world.own(owner, "seller.example")
    await world.permit(owner, viewer)
    await told(world, viewer, "seller.example")
    await world.fetch("UPDATE answer SET owner_name = '=HYPERLINK(A1)'")
    as_csv = await viewer.do("GET", f"{ANSWERS}?format=csv")
    (row,) = csv.DictReader(io.StringIO(as_csv.text))
    assert row["confirmed_owner"] == "'=HYPERLINK(A1)"
    as_ndjson = await viewer.do("GET", f"{ANSWERS}?format=ndjson")
    assert json.loads(as_ndjson.text)["confirmed_owner"] == "=HYPERLINK(A1)"


async def retain(world: World, viewer: Company, **labels: Any) -> str:
    cert_id = web_id()
    await world.fetch(
        """
        INSERT INTO retained_certificate (
            account_id, cert_id, reference, vendor, campaign_id, retained_at, answer_id
        ) VALUES ($1, $2, $3, $4, $5, clock_timestamp(), gen_random_uuid())
        """,
        viewer.id,
        cert_id,
        *(labels.get(name) for name in ("reference", "vendor", "campaign_id")),
    )
    return cert_id


async def test_retained_certificates_are_found_by_their_labels(world: World, viewer: Party) -> None:
    ids = [
        await retain(world, viewer, vendor="Acme", reference="1"),
        await retain(world, viewer, vendor="Acme", campaign_id="spring"),
        await retain(world, viewer),
    ]
    await retain(world, await world.company(), vendor="Acme")

    async def found(query: str = "") -> list[str]:
        return [each["cert_id"] for each in await viewer.pages(f"{RETAINED}?{query}")]

    assert await found() == ids[::-1]
    assert await found("vendor=Acme") == [ids[1], ids[0]]
    assert await found("vendor=Acme&reference=1") == [ids[0]]
    assert await found("campaign_id=spring") == [ids[1]]
    assert await found("vendor=acme") == []
    times = [each["retained_at"].replace("+00:00", "Z") for each in await viewer.pages(RETAINED)]
    assert await found(f"from={times[1]}&to={times[0]}") == [ids[1]]
    as_csv = await viewer.do("GET", f"{RETAINED}?format=csv")
    assert [row["cert_id"] for row in csv.DictReader(io.StringIO(as_csv.text))] == ids[::-1]


async def test_unknown_answer_is_not_found(viewer: Party) -> None:
    response = await viewer.do("GET", f"{ANSWERS}/01a21d50-0000-7000-8000-000000000007")
    problem(response, 404)


async def test_an_accounts_answers_are_found_by_index(world: World, viewer: Party) -> None:
    await told(world, viewer, "seller.example")
    await world.fetch(
        """
        INSERT INTO answer (id, account_id, api_key_id, cert_id, answered_at)
        SELECT
            (substr(least_id_at(now())::text, 1, 14) || substr(gen_random_uuid()::text, 15))::uuid,
            gen_random_uuid(), gen_random_uuid(), lpad(n::text, 40, '0'), now() - $1::interval
        FROM generate_series(1, 20000) AS n
        """,
        timedelta(days=1),
    )
    await world.fetch("ANALYZE answer")
    for condition in ("", f"AND hashtextextended(cert_id, 0) = hashtextextended('{web_id()}', 0)"):
        plan = await world.fetch(
            f"EXPLAIN SELECT * FROM answer WHERE account_id = '{viewer.id}' {condition}"
            " ORDER BY id DESC LIMIT 50"
        )
        lines = "\n".join(row[0] for row in plan)
        assert "Index Scan" in lines
        # Months without answers have nothing to look for.
        assert "Seq Scan on answer_before" not in lines
