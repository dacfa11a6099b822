"""Bad files are told apart with a reason and a place, and bad rows don't stop the others."""

import gzip
import io
import re
import zipfile
from collections.abc import Callable
from itertools import islice
from typing import Any

import pyarrow as pa
import pytest
from backports import zstd

from service.batches.contents import Cells, Columns
from service.batches.files import sample_of
from service.batches.reading import reader_of
from service.batches.records import Options
from service.batches.texts import CsvReader
from tests.batches.files import (
    ADDED,
    csv_of,
    parquet_of,
    read_csv,
    read_parquet,
    read_xlsx,
    sheet_of,
    xlsx_of,
)
from tests.batches.parts import answered, do_jobs, get, results, rows, upload
from tests.builders import Company, World, web_id

BASE = csv_of([["certificate", "note"], [web_id(), "x"], [web_id(), "y"]])
TWO = [["certificate", "n"], [web_id(), "1"], [web_id(), "2"]]


@pytest.fixture
async def buyer(world: World) -> Company:
    return await world.company()


def changed(change: Callable[[str, bytes], bytes], content: bytes) -> bytes:
    """A spreadsheet with changed parts."""
    old, file = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return file.getvalue()


def without_sheets(name: str, part: bytes) -> bytes:
    is_book = name == "xl/workbook.xml"
    return re.sub(rb"<sheets>.*</sheets>", b"<sheets/>", part) if is_book else part


def cut_off(name: str, part: bytes) -> bytes:
    return part[: len(part) // 2] if name.startswith("xl/worksheets/") else part


def far(_: Any, sheet: Any) -> None:
    for row, cells in enumerate(TWO):
        sheet.write_row(row, 0, cells)
    sheet.write(1_048_575, 16_383, "x")


def not_utf_8() -> bytes:
    buffers = pa.array(["aa", "bb"]).buffers()
    bad = pa.Array.from_buffers(pa.string(), 2, [None, buffers[1], pa.py_buffer(b"\xff\xfebb")])
    return parquet_of({"c": [web_id(), web_id()], "n": bad})


# What is uploaded, and the code, detail, row, and column of the error.
FAULTS: dict[str, tuple[bytes, str, str, int | None]] = {
    "blank lines": (b"\n\r\n\n", "empty_file", "only blank lines", None),
    "spaces": (b" " * 1_000_000, "empty_file", "only blank lines", None),
    "only a mark": (b"\xef\xbb\xbf", "empty_file", "only blank lines", None),
    "no column": (b"one,two\nq,r\n", "no_such_column", "name the column, one of “one”, “two”", None),
    "several columns": (
        csv_of([["one", "two"], [web_id(), web_id()]]), "no_such_column", "“one”, “two”", None,
    ),
    "open quote": (BASE + b'"open,1\nx,2\n', "unreadable_file", "a quote is not closed", 3),
    "text after a quote": (BASE + b'"x"y,2\n', "unreadable_file", "double the quotes", 3),
    "10 MB line": (BASE + b"x" * 10_000_000, "unreadable_file", "longer than 1 MB", 3),
    "501 columns": (
        csv_of([["c", *map(str, range(500))], ["1"] * 501]), "too_many_columns", "500", None,
    ),
    "long header": (
        csv_of([["c", "h" * 301], [web_id(), ""]]), "unreadable_file", "longer than 300", None,
    ),
    "NUL": (BASE + b"x,\0\n", "unreadable_file", "no text", None),
    "junk": (bytes(range(256)) * 50, "unreadable_file", "no text", None),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "unreadable_file", "no text", None),
    "broken UTF-8": (
        BASE + "é,é\n".encode() * 3 + b"\xe9,x\n", "unreadable_file", "line 7 is not in UTF-8", None,
    ),
    "gzip cut off": (gzip.compress(BASE)[:-9], "unreadable_file", "cut off", None),
    "gzip without its end": (gzip.compress(BASE)[:-4], "unreadable_file", "cut off", None),
    "gzip damaged": (gzip.compress(BASE)[:-8] + bytes(8), "unreadable_file", "CRC", None),
    "gzip and more": (gzip.compress(BASE) + b"more", "unreadable_file", "decompressed", None),
    "zstd cut off": (zstd.compress(BASE)[:-5], "unreadable_file", "cut off", None),
    "gzip twice": (gzip.compress(gzip.compress(BASE)), "unreadable_file", "no text", None),
    "JSON array": (b'[{"c": 1}]', "unreadable_file", "one object per line", None),
    "broken JSON": (b'{"c": NaN}\n', "unreadable_file", "the line is no JSON object", 1),
    "NUL in a JSON name": (
        b'{"c": "%s", "n\\u0000": 1}\n' % web_id().encode(), "unreadable_file", "column 2", None,
    ),
    "JSON not in UTF-8": (b'{"c": "\xff"}\n', "unreadable_file", "must be in UTF-8", None),
    "password": (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(999), "unreadable_file", "password", None),
    "other zip": (b"PK\x03\x04" + bytes(99), "unreadable_file", "no spreadsheet", None),
    "no sheet": (changed(without_sheets, xlsx_of(TWO)), "empty_file", "no sheet with rows", None),
    "empty sheet": (xlsx_of([]), "empty_file", "no sheet with rows", None),
    "sheet of blanks": (xlsx_of([[""], ["", ""]]), "empty_file", "", None),
    "damaged sheet": (changed(cut_off, xlsx_of(TWO)), "unreadable_file", "no spreadsheet", None),
    "cells far apart": (sheet_of(far), "too_large", "row 1,048,576 and column 16,384", None),
    "no columns of Parquet": (parquet_of({}), "empty_file", "no columns", None),
    "long cell of Parquet": (
        parquet_of({"c": [web_id()] * 3, "n": ["a", "b", "x" * 2**21]}), "too_large", "1 MB", 3,
    ),
    "Parquet cut off": (parquet_of({"c": [web_id()]})[:-9], "unreadable_file", "Parquet", None),
    "Parquet not in UTF-8": (not_utf_8(), "unreadable_file", "Invalid UTF8", None),
}  # fmt: skip


async def test_bad_file_fails_with_a_reason_and_nothing_is_answered(
    world: World, buyer: Company
) -> None:
    for name, (content, code, detail, row) in FAULTS.items():
        batch = await answered(world, buyer, content)
        assert (batch["state"], batch["rows"]) == ("failed", None), name
        error = batch["error"]
        assert (error["code"], error.get("row")) == (code, row), (name, error)
        assert detail in error["detail"], (name, error)
        response = await get(world, buyer, f"{batch['id']}/results")
        assert response.status_code == 409, name
    assert not await world.fetch("SELECT FROM answer")
    assert not await world.fetch("SELECT FROM batch_chunk")
    assert not await world.fetch("SELECT FROM batch_upload")


@pytest.mark.parametrize(
    "content",
    [
        b"certificate,n\r\n",
        xlsx_of(TWO[:1]),
        parquet_of({"certificate": pa.array([], pa.string()), "n": pa.array([], pa.int64())}),
    ],
)
async def test_file_without_rows_comes_back_without_rows(
    world: World, buyer: Company, content: bytes
) -> None:
    batch = await answered(world, buyer, content)
    assert (batch["state"], batch["rows"]) == ("finished", 0)
    for form, read in (("csv", read_csv), ("parquet", read_parquet), ("xlsx", read_xlsx)):
        told = read(await results(world, buyer, batch, format=form))
        assert told == [["certificate", "n", *ADDED]], form


def test_text_that_is_small_only_in_parquet_is_unfolded_in_slices() -> None:
    ids = [web_id() for _ in range(100)]
    content = parquet_of({"c": ids, "n": ["x" * 200_000] * len(ids)})
    assert len(content) < 100_000
    reader = reader_of(io.BytesIO(content), io.BytesIO(), Options())
    some = list(islice(reader.groups(), 3))
    assert [len(each.stream) < 2**21 for each in some if isinstance(each, Columns)] == [True] * 3


def test_sample_is_small_however_long_the_rows_are() -> None:
    assert len(sample_of(iter(["x"] * 2000), len)) == 1000
    assert len(sample_of(iter(["x" * 2**20] * 2000), len)) == 9


def test_sample_of_rows_with_a_million_empty_cells_is_small() -> None:
    content = BASE + b"," * 1_000_000 + b"\n"
    reader = CsvReader(
        io.BytesIO(content * 20), "utf-8-sig", Options(column="certificate"), is_marked=False
    )
    assert (
        max(sum(map(len, each.rows)) for each in reader.groups() if isinstance(each, Cells)) < 3e6
    )


async def test_format_that_is_told_but_not_found_is_an_error(world: World, buyer: Company) -> None:
    for content, form in (
        (BASE, "parquet"),
        (BASE, "xlsx"),
        (xlsx_of(TWO), "csv"),
        (BASE, "ndjson"),
    ):
        batch = await answered(world, buyer, content, format=form)
        assert batch["error"]["code"] == "unreadable_file", form


async def test_zip_bomb_is_not_unpacked(world: World, buyer: Company) -> None:
    file = io.BytesIO()
    book = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with book, book.open("xl/worksheets/sheet1.xml", "w") as part:
        for _ in range(64):
            part.write(bytes(1024 * 1024))
    # As if it had ten times as many.
    content = file.getvalue().replace(
        (64 * 1024**2).to_bytes(4, "little"), (640 * 1024**2).to_bytes(4, "little")
    )
    batch = await answered(world, buyer, content)
    assert batch["error"]["code"] == "too_large", batch


async def test_bad_rows_get_an_error_and_the_others_an_answer(world: World, buyer: Company) -> None:
    good = [await world.certificate(domain="a.example") for _ in range(8)]
    # The first cell of a row, the rest, and how its error begins.
    lines = [
        (good[0], ",1", ""),
        ("", ",2", "missing_value: "),
        ("   ", ",3", "missing_value: "),
        ("a" * 300, ",4", "invalid_certificate_id: "),
        ("1.23E+39", ",5", "invalid_value: "),
        ("123456789012345" + "0" * 25, ",6", "invalid_value: "),
        (f"{web_id()[:-1]}é", ",7", "invalid_certificate_id: "),
        (web_id(), ",8", "certificate_not_found: "),
        ("https://a.example/", ",9", "invalid_certificate_id: "),
        (good[1], "", ""),
        (good[2], ",11,,,", ""),
        (good[3], ",12,more", "bad_row: the row has 3 cells, but the header has 2"),
        (f"  {good[4].upper()} ", ",13", ""),
        (good[5], ',"14\r\nand ""more"""', ""),
    ]
    text = "certificate,n\r\n\r\n" + "\r\n\n".join(first + rest for first, rest, _ in lines)
    batch = await answered(world, buyer, text.encode(), column="certificate")
    assert batch["state"] == "finished", batch
    told = await rows(world, buyer, batch)
    for row, (first, rest, error) in zip(told, lines, strict=True):
        assert row["certificate"] == first
        assert (row["error"][: len(error)], row["answer_id"] != "") == (error, not error), (
            first,
            rest,
        )
        assert (row["error"] == "") == (row["status"] != ""), first
    assert "format its column as text" in told[4]["error"]
    assert batch["counts"]["error"] == sum(error != "" for _, _, error in lines)


async def test_bad_hosts_get_an_error_and_the_others_an_answer(
    world: World, buyer: Company
) -> None:
    bad = ["a" * 300, "a." * 150 + "example", "a..example", ""]
    hosts = ["a.example", "1.2.3.4", *bad]
    content = csv_of([["host", "n"], *([host, "x"] for host in hosts), ["b.example", ""]])
    batch = await answered(world, buyer, content, column="host")
    told = await rows(world, buyer, batch)
    assert [row["status"] for row in (told[0], told[-1])] == ["none", "none"]
    assert [row["host"] for row in told if row["error"]] == bad


async def test_bad_lines_of_json_get_an_error_and_come_back(world: World, buyer: Company) -> None:
    lines = [
        b'{"c": "%s"}' % web_id().encode(),
        b"oops",
        b'{"c": NaN}',
        b'{"c": "\\ud800"}',
        b'["%s"]' % web_id().encode(),
        b'{"c": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"c": {"x": 1}}',
        b'{"c": 1e400}',
        b"{}",
        b'{"c": "a\\u0000"}',
        *(b'{"c": "%s", "n": "\\u0000"}' % web_id().encode() for _ in range(9)),
    ]
    batch = await answered(world, buyer, b"\n\n".join(lines), column="c")
    assert (batch["state"], batch["rows"]) == ("finished", len(lines)), batch
    told = await rows(world, buyer, batch)
    expected = (
        [""]
        + ["bad_row"] * 5
        + ["invalid_certificate_id"] * 2
        + ["missing_value", "invalid_certificate_id"]
    )
    codes = [row["error"].partition(":")[0].replace("certificate_not_found", "") for row in told]
    assert codes[: len(expected)] == expected
    assert told[-1]["n"] == "\0"
    for form in ("ndjson", "parquet", "xlsx"):
        assert await results(world, buyer, batch, format=form)
    summary = (await get(world, buyer, f"{batch['id']}/summary")).json()
    (column,) = summary["columns"]
    assert column["name"] == "n"
    assert sorted(each["value"] for each in column["values"]) == ["", "\ufffd"]


async def test_cells_too_long_for_a_sheet_are_in_every_other_format(
    world: World, buyer: Company
) -> None:
    text = "x" * 40_000
    batch = await answered(world, buyer, csv_of([["certificate", "n"], [web_id(), text]]))
    for _ in range(2):
        response = await get(world, buyer, f"{batch['id']}/results", format="xlsx")
        await do_jobs(world)
    assert response.status_code == 202 or "row 1 has a cell of 40,000" in response.json()["detail"]
    (row,) = await rows(world, buyer, batch)
    assert row["n"] == text
    summary = (await get(world, buyer, f"{batch['id']}/summary")).json()
    assert summary["columns"] == []


async def test_format_that_fails_is_told_once_and_not_tried_for_ever(
    world: World, buyer: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    batch = await answered(world, buyer, BASE)
    monkeypatch.setattr("service.batches.steps.writer_of", fail)
    assert (await get(world, buyer, f"{batch['id']}/results", format="parquet")).status_code == 202
    await do_jobs(world)
    response = await get(world, buyer, f"{batch['id']}/results", format="parquet")
    assert (response.status_code, "this service failed" in response.json()["detail"]) == (409, True)
    assert (await get(world, buyer, batch["id"])).json()["state"] == "finished"


async def test_bad_requests_make_no_batch(world: World, buyer: Company) -> None:
    for content, parameters in (
        (b"", {}),
        (BASE, {"keep_days": 0}),
        (BASE, {"keep_days": 3661}),
        (BASE, {"format": "xls"}),
        (BASE, {"name": "n" * 201}),
        (BASE, {"name": "\0"}),
        (BASE, {"column": "c" * 301}),
        (BASE, {"as_of": "2999-01-01T00:00:00Z"}),
        (BASE, {"as_of": "yesterday"}),
    ):
        response = await upload(world, buyer, content, **parameters)
        assert response.status_code == 422, (parameters, response.text)
    for body in (
        {},
        {"of": "all"},
        {"of": "retained", "keep_days": 0},
        {"of": "retained", "x": 1},
        {"of": "retained", "vendor": "\0"},
        {"of": "retained", "name": "\0"},
    ):
        response = await world.client.post("/v1/batches", headers=buyer.headers, json=body)
        assert response.status_code == 422, body
    listed = await world.client.get("/v1/batches", headers=buyer.headers)
    assert listed.json()["items"] == []


async def test_other_account_finds_no_batch(world: World, buyer: Company) -> None:
    other = await world.company()
    batch = await answered(world, buyer, BASE)
    path = f"/v1/batches/{batch['id']}"
    for method, ending in (
        ("GET", ""), ("GET", "/results"), ("GET", "/summary"), ("POST", "/cancel"), ("DELETE", ""),
    ):  # fmt: skip
        response = await world.client.request(method, path + ending, headers=other.headers)
        assert response.status_code == 404, ending
    assert (await world.client.get("/v1/batches", headers=other.headers)).json()["items"] == []
    assert (await world.client.get(path, headers=buyer.headers)).json()["state"] == "finished"


async def test_same_key_is_one_batch_and_another_file_a_conflict(
    world: World, buyer: Company
) -> None:
    async def send(content: bytes) -> Any:
        headers = {**buyer.headers, "Idempotency-Key": "k", "Content-Type": "text/csv"}
        return await world.client.post("/v1/batches", headers=headers, content=content)

    first, again, other = [await send(content) for content in (BASE, BASE, BASE + b"x,y\n")]
    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 409)
    assert first.json()["id"] == again.json()["id"]


async def test_nothing_is_told_before_the_end_or_after_it_was_canceled_or_deleted(
    world: World, buyer: Company
) -> None:
    path = (await upload(world, buyer, BASE)).headers["Location"]
    for ending in ("/results", "/summary"):
        response = await world.client.get(path + ending, headers=buyer.headers)
        assert (response.status_code, "reading" in response.json()["detail"]) == (409, True)
    for _ in range(2):
        canceled = await world.client.post(f"{path}/cancel", headers=buyer.headers)
        assert canceled.json()["state"] == "canceled"
    await do_jobs(world)
    assert (await world.client.get(f"{path}/results", headers=buyer.headers)).status_code == 409
    assert (await world.client.delete(path, headers=buyer.headers)).status_code == 204
    await do_jobs(world)
    assert (await world.client.get(path, headers=buyer.headers)).status_code == 404
    assert not await world.fetch("SELECT FROM batch")


async def test_literal_errors_of_a_sheet_do_not_stop_it(world: World, buyer: Company) -> None:
    def fill(_: Any, sheet: Any) -> None:
        for row, cells in enumerate(TWO):
            sheet.write_row(row, 0, cells)
        sheet.write_formula(1, 1, "=1/0", None, "#DIV/0!")

    batch = await answered(world, buyer, sheet_of(fill))
    told = read_xlsx(await results(world, buyer, batch))
    assert [row[0] for row in told] == [row[0] for row in TWO]
