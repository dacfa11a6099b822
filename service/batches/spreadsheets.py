"""Read .xlsx spreadsheets."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import IO, Any, BinaryIO

import msgspec

from service.batches.columns import added_names, find_dates, is_header, unique_names
from service.batches.contents import Cells, Contents, kinds_of_cells, of_time, text_of
from service.batches.files import (
    BLOCK,
    Reader,
    UnreadableFile,
    chained,
    checked_names,
    column_in,
    named_column,
    sample_of,
    types_of,
    unreadable,
)
from service.batches.records import Layout, Options

# How many rows are read together. They may have many columns.
_ROWS_AT_ONCE = 1000

# Uncompressed. The library that reads spreadsheets keeps them in memory.
_MAX_XLSX = 512 * 1024 * 1024

# Also those that are empty, between others.
_MAX_CELLS = 25_000_000
_CELL = re.compile(rb"<(?:\w+:)?(?:c|row)\s")
_PLACE = re.compile(
    _CELL.pattern + rb"(?:[^<>]*?\s)?r\s*=\s*[\"']([A-Za-z]{0,8})([0-9]{1,12})[\"']"
)

# For example, of a part that is compressed in a way that is unknown, or encrypted.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class XlsxReader(Reader):
    """Reads the first sheet of a spreadsheet that has rows, or the one that is named."""

    def __init__(self, file: BinaryIO, options: Options) -> None:
        import python_calamine

        with unreadable("the file is no spreadsheet that can be opened", *_ZIP_ERRORS):
            book = zipfile.ZipFile(file)
            parts = book.infolist()
            size = sum(part.file_size for part in parts)
            if size > _MAX_XLSX:
                raise UnreadableFile(
                    "too_large", "the spreadsheet has more than 512 MB unzipped: save it as CSV"
                )
            for part in parts:
                with book.open(part) as content:
                    _check_extent(content)
        file.seek(0)
        with unreadable(
            "the file is no spreadsheet that can be opened", python_calamine.CalamineError, OSError
        ):
            workbook = python_calamine.load_workbook(file)
            names = [sheet.name for sheet in workbook.sheets_metadata]
            if options.sheet is not None and options.sheet not in names:
                raise UnreadableFile(
                    "no_such_sheet", f"there is no sheet “{options.sheet}”; use {', '.join(names)}"
                )
            wanted = names if options.sheet is None else [options.sheet]
            sheets = (workbook.get_sheet_by_name(name) for name in wanted)
            sheet = next((sheet for sheet in sheets if sheet.height), None)
        if sheet is None:
            raise UnreadableFile("empty_file", "the spreadsheet has no sheet with rows")
        rows = (row for row in sheet.iter_rows() if any(cell != "" for cell in row))
        self._rows = rows
        self._before = sample_of(rows, lambda row: sum(len(text_of(cell)) for cell in row))
        if not self._before:
            raise UnreadableFile("empty_file", "the sheet has only empty cells")
        texts = [[text_of(cell) for cell in row] for row in self._before]
        header = texts[0] if is_header(texts[0], texts[1:], options.column) else None
        if header is not None:
            del self._before[0], texts[0]
        names = checked_names(unique_names([""] * len(texts[0]) if header is None else header))
        asked, kind = column_in(names, texts, options) if texts else named_column(names, options)
        self._kinds: list[set[str]] = [set() for _ in names]
        self.layout = Layout(
            "xlsx", names, asked, kind, added_names(names), header,
            dated=find_dates(texts, len(names)),
        )  # fmt: skip

    def groups(self) -> Iterator[Contents]:
        rows = chained(self._before, self._rows)
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            kinds_of_cells(some, self._kinds)
            yield Cells([[_spreadsheet_cell(cell) for cell in row] for row in some])
        self.layout = msgspec.structs.replace(self.layout, types=types_of(self._kinds))


def _check_extent(part: IO[bytes]) -> None:
    """Check that the cells of a sheet are not so far apart that all between them fill the memory.

    The library that reads spreadsheets makes a cell of every place between the first and the last.
    Raises `UnreadableFile`.
    """
    columns = rows = 0
    rest = b""
    while block := part.read(BLOCK):
        text = rest + block
        # A tag may go on in the next block.
        rest = text[max(0, text.rfind(b"<")) :]
        if len(rest) > BLOCK:
            if _CELL.match(rest):
                raise UnreadableFile("unreadable_file", "the spreadsheet is damaged: save it again")
            rest = b""
        for letters, digits in set(_PLACE.findall(text)):
            column = 0
            for letter in letters.upper():
                column = 26 * column + letter - 64
            columns, rows = max(columns, column), max(rows, int(digits))
        if columns * rows > _MAX_CELLS:
            raise UnreadableFile(
                "too_large",
                f"the sheet has cells up to row {rows:,} and column {columns:,}, too many with those "
                "between: delete the cells that stand alone, or save it as CSV",
            )


def _spreadsheet_cell(value: Any) -> object:
    match value:
        case datetime() | date() | time():
            return of_time(value)
        case timedelta():
            return str(value)
        case "":
            return None
        case _:
            return value
