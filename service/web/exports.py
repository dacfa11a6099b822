"""Lists as files: CSV for spreadsheets, and newline-delimited JSON for programs."""

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

Format: TypeAlias = Literal["csv", "ndjson"]

MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
}

# How many rows are read at a time.
_AT_ONCE = 1000

# What spreadsheets take for the beginning of a formula, also in full width (OWASP, “CSV Injection”),
# and the byte order mark, which they leave out at the beginning of a file.
BEGINS_FORMULA = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20\ufeff")


async def exported(
    kind: type[Struct],
    page: Callable[[Struct | None, int], Awaitable[Sequence[Struct]]],
    form: Format,
) -> AsyncIterator[bytes]:
    """Yield a list as a file, read page by page so that it can be of any length.

    `page` returns so many items after the one given, or the first ones.
    """
    if form == "csv":
        yield _line(list(kind.__struct_fields__))
    last: Struct | None = None
    while items := await page(last, _AT_ONCE):
        if form == "csv":
            yield b"".join(_line([_cell(value) for value in _values(item)]) for item in items)
        else:
            yield b"".join(msgspec.json.encode(item) + b"\n" for item in items)
        if len(items) < _AT_ONCE:
            return
        last = items[-1]


def safe_cell(text: str) -> str:
    """Return a text that no spreadsheet computes: an apostrophe before it makes it text."""
    return f"'{text}" if text[:1] in BEGINS_FORMULA else text


def _values(item: Struct) -> list[object]:
    return [getattr(item, name) for name in item.__struct_fields__]


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.isoformat()
        case _:
            return safe_cell(str(value))


def _line(cells: Sequence[str]) -> bytes:
    """Return a line of CSV (RFC 4180)."""
    line = io.StringIO()
    # Spreadsheets may separate cells at these, too, and what follows could be a formula.
    has_other_separators = any(";" in cell or "\t" in cell for cell in cells)
    dialect = "unix" if has_other_separators else "excel"
    csv.writer(line, dialect, lineterminator="\r\n").writerow(cells)
    return line.getvalue().encode()
