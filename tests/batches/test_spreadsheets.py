"""Results have cells that no spreadsheet computes. `make spreadsheets` opens them in one."""

import csv
import io
import os
import re
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
import python_calamine
from pyarrow import parquet

from service.batches.records import Format
from service.web.exports import BEGINS_FORMULA
from tests.batches.parts import answered, do_jobs, get, results
from tests.batches.spreadsheets import CELLS, HEADER, rows_of, uploads
from tests.builders import Company, World

_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_FILES = uploads()

HOSTILE_NAME = "=1+1;=HYPERLINK(1)"


@pytest.fixture
async def caller(world: World) -> Company:
    """A company that is told a hostile name."""
    caller, owner = await world.company(), await world.company(HOSTILE_NAME)
    await world.own(owner, "shop.example")
    await world.permit(owner, caller)
    return caller


async def checked(world: World, caller: Company, name: str, form: Format) -> bytes:
    batch = await answered(world, caller, _FILES[name], column="host")
    assert batch["counts"]["named"] == batch["rows"], batch
    return await results(world, caller, batch, format=form)


def safe(text: str) -> str:
    return f"'{text}" if text[:1] in BEGINS_FORMULA else text


@pytest.mark.parametrize("name", ["comma.csv", "lines.ndjson", "columns.parquet", "sheet.xlsx"])
async def test_cells_and_names_of_columns_begin_with_an_apostrophe_in_csv(
    world: World, caller: Company, name: str
) -> None:
    text = (await checked(world, caller, name, "csv")).decode()
    header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    first = "\ufeff=4+4" if name == "columns.parquet" else HEADER[0]
    assert header[:7] == [safe(cell) for cell in [first, *HEADER[1:]]]
    assert [row[:7] for row in rows] == [[safe(cell) for cell in row] for row in rows_of(CELLS)]
    assert {row[7] for row in rows} == {safe(HOSTILE_NAME)}


@pytest.mark.parametrize(("name", "own"), [("comma", ","), ("semicolon", ";"), ("tab", "\t")])
async def test_nothing_is_split_off_from_cells_where_others_separate(
    world: World, caller: Company, name: str, own: str
) -> None:
    text = (await checked(world, caller, f"{name}.csv", "csv")).decode()
    unquoted = re.sub(r'"(?:[^"]|"")*"', "", text)
    assert not {",", ";", "\t"}.difference(own).intersection(unquoted)


@pytest.mark.parametrize("name", ["comma.csv", "columns.parquet", "sheet.xlsx"])
async def test_sheet_has_text_and_no_formulas(world: World, caller: Company, name: str) -> None:
    book = zipfile.ZipFile(io.BytesIO(await checked(world, caller, name, "xlsx")))
    styles, sheet = (
        ET.fromstring(book.read(f"xl/{name}.xml"))  # noqa: S314 - we wrote it
        for name in ("styles", "worksheets/sheet1")
    )
    forms = styles.iterfind(f".//{_SHEET}cellXfs/{_SHEET}xf")
    is_quoted = [form.get("quotePrefix") == "1" for form in forms]
    assert next(sheet.iter(f"{_SHEET}f"), None) is None
    risky = 0
    for cell in sheet.iter(f"{_SHEET}c"):
        text = "".join(each.text or "" for each in cell.iter(f"{_SHEET}t"))
        if text[:1] in BEGINS_FORMULA:
            assert cell.get("t") == "inlineStr", text
            assert is_quoted[int(cell.get("s", "0"))] or not text, text
            risky += bool(text)
    assert risky > len([cell for cell in CELLS if cell[:1] in BEGINS_FORMULA])
    assert not [each for each in book.namelist() if "external" in each.lower()]


async def test_days_before_those_of_a_sheet_are_text(world: World) -> None:
    caller = await world.company()
    days = [date(1850, 1, 1), date(1950, 1, 1)]
    file = io.BytesIO()
    parquet.write_table(pa.table({"host": ["shop.example"] * 2, "day": days}), file)
    batch = await answered(world, caller, file.getvalue())
    book = io.BytesIO(await results(world, caller, batch, format="xlsx"))
    _, *rows = python_calamine.load_workbook(book).get_sheet_by_index(0).to_python()
    assert [row[1] for row in rows] == ["1850-01-01", date(1950, 1, 1)]


async def test_text_too_long_for_a_cell_as_excel_counts_is_refused_and_leaves_no_file(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    caller = await world.company()
    lines = "host,note\r\nshop.example," + "\U0001f600" * 20_000
    batch = await answered(world, caller, lines.encode())
    await get(world, caller, f"{batch['id']}/results", format="xlsx")
    await do_jobs(world)
    refused = await get(world, caller, f"{batch['id']}/results", format="xlsx")
    assert refused.status_code == 409
    assert "a cell of 40,000 characters" in refused.json()["detail"]
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - what blocks this test disturbs nobody
