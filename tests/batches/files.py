"""Write files in each format, and read results back as names and rows."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import python_calamine
import xlsxwriter
from pyarrow import parquet

Table = list[list[Any]]

ADDED = ["confirmed_owner", "status", "domain", "expired", "error", "answer_id"]


def csv_of(table: Sequence[Sequence[str]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    # A line without any character would be a blank line instead of an empty cell.
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(table)
    return text.getvalue().encode()


def ndjson_of(table: Sequence[Sequence[Any]]) -> bytes:
    names, *rows = table
    return b"".join(msgspec.json.encode(dict(zip(names, row, strict=True))) + b"\n" for row in rows)


def parquet_of(columns: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def sheet_of(fill: Callable[[Any, Any], None], *, sheets: int = 1) -> bytes:
    """A spreadsheet whose last sheet is filled."""
    file = io.BytesIO()
    book = xlsxwriter.Workbook(file)
    for _ in range(sheets):
        sheet = book.add_worksheet()
    fill(book, sheet)
    book.close()
    return file.getvalue()


def xlsx_of(table: Sequence[Sequence[Any]], *, sheets: int = 1) -> bytes:
    """A spreadsheet with texts as they are."""

    def fill(_: Any, sheet: Any) -> None:
        for at, row in enumerate(table):
            for column, value in enumerate(row):
                write = sheet.write_string if isinstance(value, str) else sheet.write
                write(at, column, value)

    return sheet_of(fill, sheets=sheets)


def read_csv(content: bytes, delimiter: str = ",") -> Table:
    text = io.StringIO(content.decode("utf-8-sig"), newline="")
    return list(csv.reader(text, delimiter=delimiter, strict=True))


def read_ndjson(content: bytes) -> Table:
    """Names are those of the first line."""
    rows = [msgspec.json.decode(line) for line in content.splitlines()]
    return [list(rows[0]), *(list(row.values()) for row in rows)]


def parquet_table(content: bytes) -> Any:
    return parquet.read_table(io.BytesIO(content))


def read_parquet(content: bytes) -> Table:
    table = parquet_table(content)
    columns = [column.to_pylist() for column in table.columns]
    return [table.schema.names, *map(list, zip(*columns, strict=True))]


def read_xlsx(content: bytes) -> Table:
    book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content))
    return book.get_sheet_by_index(0).to_python()
