"""The pages about checking: what is pasted or uploaded is answered like calls, and put on record."""

import csv
import io
from datetime import UTC, timedelta, timezone

import pytest

from service.batches.pages import _MAX_FILE
from tests.batches.parts import do_jobs
from tests.builders import NO_VERIFIED, VERIFIED, Company, World, member_of
from tests.surfer import Surfer, signed_in


@pytest.fixture
async def buyer(world: World) -> Company:
    return await world.company("Harbor Insurance Group", "al@harbor.example")


async def at_check(world: World, company: Company) -> Surfer:
    surfer = await signed_in(world, company.email)
    await surfer.go("/check")
    return surfer


async def upload(surfer: Surfer, content: bytes, name: str = "leads.csv", **fields: str) -> None:
    """Submit the form for a file, and follow it."""
    await surfer.send("/check/files", files={"file": (name, content)}, **fields)


async def test_everything_pasted_gets_the_answer_that_a_call_gets(
    world: World, buyer: Company
) -> None:
    seller = await world.company("BrightQuote Media")
    await world.own(seller, "brightquote.example", covers_subdomains=True)
    await world.permit(seller, buyer)
    await world.own(await world.company(), "hidden.example")
    ours = await world.certificate(domain="brightquote.example")
    nobodys = await world.certificate(domain="nobody.example")
    surfer = await at_check(world, buyer)
    await surfer.send(
        "/check",
        items=f"""
        {ours}, https://cert.trustedform.com/{nobodys.upper()}
        "www.brightquote.example"; <https://hidden.example/quote?zip=1,2>
        cert.trustedform.com/{"0" * 39}1 {ours} not..a..host
        """,
    )
    rows = surfer.text.partition("<tbody>")[2].partition("</tbody>")[0].split("<tr>")[1:]
    assert len(rows) == 6
    for row, told in zip(
        rows, (seller.name, NO_VERIFIED, seller.name, VERIFIED, "", ""), strict=True
    ):
        assert told in row
    assert all("/answers/" in row for row in rows[:4])
    assert "Receipt" not in rows[4] + rows[5]
    assert "not..a..host" in rows[5]
    assert "a host name such as www.example.com" in rows[5]
    assert len(await world.fetch("SELECT FROM answer")) == 4


async def test_answers_name_who_asked_in_a_browser_and_no_key_comes_of_it(
    world: World, buyer: Company
) -> None:
    await member_of(world, buyer, "compliance@harbor.example")
    surfer = await signed_in(world, "compliance@harbor.example")
    for _ in range(2):
        await surfer.go("/check")
        await surfer.send("/check", items="www.example.com")
    await surfer.go("/answers")
    (path,) = {part.split('"')[0] for part in surfer.text.split('href="/answers/')[2:3]}
    await surfer.go(f"/answers/{path}")
    assert "compliance@harbor.example" in surfer.text
    listed = await world.client.get("/v1/account/keys", headers=buyer.headers)
    assert len(listed.json()["items"]) == 1
    (key,) = await world.fetch("SELECT id FROM api_key WHERE user_id IS NOT NULL")
    revoked = await world.client.delete(f"/v1/account/keys/{key['id']}", headers=buyer.headers)
    assert revoked.status_code == 404


async def test_past_moment_is_checked_as_it_was(world: World, buyer: Company) -> None:
    seller = await world.company()
    await world.own(seller, "seller.example")
    await world.permit(seller, buyer)
    (row,) = await world.fetch("SELECT clock_timestamp() AT TIME ZONE 'UTC' AS at")
    await world.suspend(seller)
    surfer = await at_check(world, buyer)
    await surfer.send("/check", items="seller.example", as_of=row["at"].isoformat())
    assert seller.name in surfer.text
    elsewhere = row["at"].replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=2)))
    await surfer.send("/check", items="seller.example", as_of=elsewhere.isoformat())
    assert seller.name in surfer.text
    assert "As of" in surfer.text
    await surfer.go("/check")
    await surfer.send("/check", items="seller.example")
    assert seller.name not in surfer.text


@pytest.mark.parametrize("as_of", ["2001-01-01T00:00", "2999-01-01T00:00", "soon"])
async def test_moment_that_is_not_on_record_is_refused_and_nothing_typed_is_lost(
    world: World, buyer: Company, as_of: str
) -> None:
    surfer = await at_check(world, buyer)
    response = await surfer.send("/check", items="seller.example", as_of=as_of)
    assert response.status_code == 422
    assert as_of[:10] in surfer.text.partition("problem")[2]
    assert 'value="' + as_of in surfer.text
    assert "seller.example" in surfer.text


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (" ,;\n", "paste at least one"),
        (" ".join(f"h{number}.example" for number in range(1001)), "at most 1,000 at a time"),
    ],
)
async def test_what_can_not_be_checked_is_said_and_nothing_typed_is_lost(
    world: World, buyer: Company, items: str, said: str
) -> None:
    surfer = await at_check(world, buyer)
    response = await surfer.send("/check", items=items)
    assert response.status_code == 422
    assert said in surfer.text
    assert items.strip() in surfer.text
    assert len(await world.fetch("SELECT FROM answer")) == 0


async def test_thousand_long_values_fit_and_more_bytes_are_refused(
    world: World, buyer: Company
) -> None:
    surfer = await at_check(world, buyer)
    await surfer.send("/check", items="\n".join(f"{n:03}.{'a' * 60}.example" for n in range(1000)))
    assert "<h1>1,000 checked</h1>" in surfer.text
    assert len(await world.fetch("SELECT FROM answer")) == 1000
    await surfer.go("/check")
    assert (await surfer.send("/check", items="x" * 300_000)).status_code == 413


async def test_file_is_checked_shown_downloaded_and_deleted(world: World, buyer: Company) -> None:
    seller = await world.company("BrightQuote Media")
    await world.own(seller, "brightquote.example")
    await world.permit(seller, buyer)
    surfer = await at_check(world, buyer)
    await upload(
        surfer,
        b"vendor,site,day\n"
        b"One,brightquote.example,2026-03-03\n"
        b"Two,nobody.example,2026-03-04\n"
        b"Two,nobody.example,2026-03-05\n",
    )
    assert surfer.page is not None
    path = surfer.page.url.path
    assert "data-again" in surfer.text
    await do_jobs(world)
    await surfer.go(path)
    assert "data-again" not in surfer.text
    for text in ("leads.csv", "3 rows", "33.3%", "66.7%", "nobody.example", "By vendor", "By day"):
        assert text in surfer.text
    results = await surfer.go(f"{path}/results?format=csv")
    assert results.headers["content-disposition"] == 'attachment; filename="leads.checked.csv"'
    told = [row["confirmed_owner"] for row in csv.DictReader(io.StringIO(results.text))]
    assert told == [seller.name, NO_VERIFIED, NO_VERIFIED]
    report = await surfer.go(f"{path}/report")
    assert report.headers["content-disposition"].endswith('leads.checked.html"')
    assert "nobody.example" in report.text
    await surfer.go(path)
    assert (await surfer.go(f"{path}/results?format=parquet")).status_code == 404
    await surfer.go(path)
    await surfer.send(path, do="prepare", format="parquet")
    assert "Making Parquet" in surfer.text
    await do_jobs(world)
    assert (await surfer.go(f"{path}/results?format=parquet")).content.startswith(b"PAR1")
    batch_id = path.rpartition("/")[2]
    await surfer.go(f"/answers?file={batch_id}&status=none")
    assert surfer.text.count("nobody.example") == 2
    assert "brightquote.example" not in surfer.text
    downloaded = await surfer.go(f"/answers/download?file={batch_id}")
    assert len(list(csv.DictReader(io.StringIO(downloaded.text)))) == 3
    await surfer.go(path)
    await surfer.send(path, do="delete")
    assert "leads.csv" not in surfer.text
    assert (await surfer.go(path)).status_code == 404
    assert len(await world.fetch("SELECT FROM answer")) == 3


async def test_file_that_can_not_be_read_says_why(world: World, buyer: Company) -> None:
    surfer = await at_check(world, buyer)
    await upload(surfer, b"a,b\n1,2\n")
    assert surfer.page is not None
    path = surfer.page.url.path
    await do_jobs(world)
    await surfer.go(path)
    assert "Failed" in surfer.text
    assert "no column has certificate ids" in surfer.text.lower()


async def test_check_that_is_canceled_keeps_its_answers(world: World, buyer: Company) -> None:
    surfer = await at_check(world, buyer)
    await upload(surfer, b"site\nnobody.example\n")
    assert surfer.page is not None
    path = surfer.page.url.path
    await surfer.send(path, do="cancel")
    assert "was canceled" in surfer.text
    await surfer.send(path, do="cancel")
    assert surfer.page.status_code == 200


@pytest.mark.parametrize(("content", "said"), [(b"", "The body is empty"), (None, "choose one")])
async def test_missing_file_is_told_of(
    world: World, buyer: Company, content: bytes | None, said: str
) -> None:
    surfer = await at_check(world, buyer)
    if content is None:
        await surfer.send("/check/files")
    else:
        await upload(surfer, content)
    assert surfer.page is not None
    assert surfer.page.status_code == 422
    assert said in surfer.text
    assert "leads.csv" not in surfer.text


async def test_only_who_is_signed_in_may_send_a_file(world: World, buyer: Company) -> None:
    surfer = await at_check(world, buyer)
    surfer._client.cookies.clear()
    await upload(surfer, b"site\nnobody.example\n")
    assert surfer.page is not None
    assert surfer.page.url.path == "/sign-in"
    assert len(await world.fetch("SELECT FROM batch")) == 0


async def test_file_that_is_too_large_is_refused_and_leaves_nothing(
    world: World, buyer: Company
) -> None:
    surfer = await at_check(world, buyer)
    await upload(surfer, b"x" * _MAX_FILE)
    assert surfer.page is not None
    assert surfer.page.status_code == 413
    assert len(await world.fetch("SELECT FROM batch")) == 0


async def test_colleague_may_check_but_not_delete(world: World, buyer: Company) -> None:
    await member_of(world, buyer, "member@harbor.example")
    surfer = await signed_in(world, "member@harbor.example")
    await surfer.go("/check")
    await upload(surfer, b"site\nnobody.example\n")
    assert surfer.page is not None
    path = surfer.page.url.path
    await do_jobs(world)
    await surfer.go(path)
    assert "Delete file" not in surfer.text
    assert (await surfer.send(path, do="delete")).status_code == 403
    stranger = await signed_in(world, (await world.company()).email)
    assert (await stranger.go(path)).status_code == 404
    assert (await stranger.go(f"{path}/results")).status_code == 404
    assert (await stranger.go(f"/answers?file={path.rpartition('/')[2]}")).status_code == 404


async def test_nobody_checks_for_an_account_of_others(world: World, buyer: Company) -> None:
    other = await world.company()
    surfer = await at_check(world, buyer)
    response = await surfer.send("/check", items="nobody.example", account_id=str(other.id))
    assert response.status_code == 403
    await surfer.go("/check")
    await upload(surfer, b"site\nnobody.example\n", account_id=str(other.id))
    assert surfer.page is not None
    assert surfer.page.status_code == 403
    assert await world.fetch("SELECT FROM batch") == await world.fetch("SELECT FROM answer") == []


async def test_one_file_too_many_is_refused_on_the_page(world: World, buyer: Company) -> None:
    surfer = await at_check(world, buyer)
    for number in range(6):
        await surfer.go("/check")
        await upload(surfer, b"site\nnobody.example\n", name=f"{number}.csv")
    assert "batches that have not ended" in surfer.text
    assert len(await world.fetch("SELECT FROM batch")) == 5
