"""Read text: CSV and its relatives, one value a line, and newline-delimited JSON."""

import codecs
import csv
import io
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO, TextIO

import msgspec

from service.batches.columns import added_names, find_dates, is_header, unique_names
from service.batches.contents import Cells, Contents, Lines, kind_of_number, text_of_json
from service.batches.files import (
    BLOCK,
    MAX_COLUMNS,
    MAX_LINE,
    Reader,
    UnreadableFile,
    chained,
    checked_names,
    column_in,
    group_of,
    named_column,
    sample_of,
    types_of,
)
from service.batches.records import Layout, Options

_MAX_ROW = 2 * MAX_LINE

_DELIMITERS = (",", "\t", ";", "|")


def start_of(file: BinaryIO, encoding: str) -> str:
    """Return how a text starts, with its ends of lines as they are; leave it at its start."""
    text = io.TextIOWrapper(file, encoding, newline="")
    start = text.read(BLOCK // 8)
    text.detach().seek(0)
    return start


class CsvReader(Reader):
    """Reads CSV (RFC 4180), also with other delimiters, or one value a line."""

    def __init__(self, file: BinaryIO, encoding: str, options: Options, *, is_marked: bool) -> None:
        delimiter = _delimiter_of(io.StringIO(start_of(file, encoding), newline=""))
        self._lines = _LimitedLines(io.TextIOWrapper(file, encoding, newline=""))
        csv.field_size_limit(MAX_LINE)
        self._rows = self._read(csv.reader(self._lines, delimiter=delimiter, strict=True))
        first = next(self._rows, [])
        # So that errors have the right row, although the rows below may tell otherwise.
        self._lines.has_header = is_header(first, [], options.column)
        self._before = [first, *sample_of(self._rows, _length_of)] if first else []
        header = first if is_header(first, self._before[1:], options.column) else None
        self._lines.has_header = header is not None
        if header is not None:
            del self._before[:1]
        if not self._before and not any(name.strip() for name in header or []):
            raise UnreadableFile("empty_file", "the file has only blank lines")
        width = len(header) if header is not None else max(map(len, self._before))
        names = checked_names(unique_names(header or [""] * width))
        rows = [row[:width] for row in self._before]
        asked, kind = column_in(names, rows, options) if rows else named_column(names, options)
        self.layout = Layout(
            "csv", names, asked, kind, added_names(names), header, delimiter, is_marked,
            find_dates(rows, width),
        )  # fmt: skip

    def groups(self) -> Iterator[Contents]:
        width = len(self.layout.columns)
        rows = chained(self._before, self._rows)
        while some := group_of(rows, _length_of):
            # Empty cells after the last column are no cells: spreadsheets write them.
            faults = {
                at: f"bad_row: the row has {len(row)} cells, but the header has {width}"
                for at, row in enumerate(some)
                if len(row) > width and any(row[width:])
            }
            yield Cells(some, faults)

    def _read(self, rows: Any) -> Iterator[list[str]]:
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                raise UnreadableFile(
                    "unreadable_file",
                    "a quote is not closed, or a quoted cell goes on after its closing quote "
                    f"({error}): double the quotes inside of cells",
                    row=self._lines.row,
                ) from None
            if row is None:
                return
            self._lines.next_row()
            if row:
                yield row


def _length_of(row: list[str]) -> int:
    """Return about how long a row is. Without its cells' number, a million empty ones were nothing."""
    return sum(map(len, row)) + len(row)


def _length_of_line(line: tuple[bytes, dict[str, msgspec.Raw], str | None]) -> int:
    return len(line[0])


class _LimitedLines:
    """The lines of a text, none of which may be so long that it is no line."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._in_row = 0
        self._rows = 0
        self.has_header = False

    @property
    def row(self) -> int:
        """The number of the row that is being read, from 1, without the header."""
        return max(1, self._rows + 1 - self.has_header)

    def next_row(self) -> None:
        """Count a row."""
        self._rows += 1
        self._in_row = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_LINE + 1)
        if not line:
            raise StopIteration
        self._in_row += len(line)
        if len(line) > MAX_LINE or self._in_row > _MAX_ROW:
            raise UnreadableFile(
                "unreadable_file",
                "the row is longer than 1 MB: is a quote not closed?",
                row=self.row,
            )
        return line


def _delimiter_of(sample: TextIO) -> str:
    """Return the delimiter that gives the most columns, the same number in nearly all rows."""
    best, most = ",", 1
    for delimiter in _DELIMITERS:
        sample.seek(0)
        try:
            rows = [row for row in islice(csv.reader(sample, delimiter=delimiter), 100) if row]
        except csv.Error:
            continue
        widths = [len(row) for row in rows]
        width = max(set(widths), key=widths.count, default=1)
        if width > most and widths.count(width) >= 0.8 * len(widths):
            best, most = delimiter, width
    return best


class LinesReader(Reader):
    """Reads newline-delimited JSON."""

    def __init__(self, file: BinaryIO, options: Options) -> None:
        self._file = file
        self._names: dict[str, None] = {}
        self._kinds: dict[str, set[str]] = {}
        self._objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._number = 0
        self._lines = self._read()
        self._before = sample_of(self._lines, _length_of_line)
        if not self._before:
            raise UnreadableFile("empty_file", "the file has only blank lines")
        objects = [values for _, values, _ in self._before]
        names = list(self._names)
        rows = [[text_of_json(values.get(name)) for name in names] for values in objects]
        if not names and (fault := self._before[0][2]) is not None:
            raise UnreadableFile("unreadable_file", fault.removeprefix("bad_row: "), row=1)
        asked, kind = column_in(names, rows, options)
        self.layout = Layout("ndjson", names, asked, kind, [], dated=find_dates(rows, len(names)))

    def groups(self) -> Iterator[Contents]:
        lines = chained(self._before, self._lines)
        while some := group_of(lines, _length_of_line):
            faults = {at: fault for at, (_, _, fault) in enumerate(some) if fault is not None}
            yield Lines([line for line, _, _ in some], faults)
        names = checked_names(list(self._names))
        self.layout = msgspec.structs.replace(
            self.layout,
            columns=names,
            added=added_names(names),
            types=types_of([self._kinds[name] for name in names]),
        )

    def _read(self) -> Iterator[tuple[bytes, dict[str, msgspec.Raw], str | None]]:
        is_first = True
        while line := self._file.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise UnreadableFile(
                    "unreadable_file", "the line is longer than 1 MB", row=self._number + 1
                )
            text = line.removeprefix(codecs.BOM_UTF8 if is_first else b"").strip()
            is_first = False
            if not text:
                continue
            self._number += 1
            try:
                values = self._objects.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                yield text, {}, f"bad_row: the line is no JSON object: {error}"
                continue
            for name, value in values.items():
                if name not in self._names:
                    self._names[name] = None
                    self._kinds[name] = set()
                    if len(self._names) > MAX_COLUMNS:
                        raise UnreadableFile(
                            "too_many_columns",
                            f"the file has more than {MAX_COLUMNS} names",
                            row=self._number,
                        )
                if kind := _kind_of_json(value):
                    self._kinds[name].add(kind)
            yield text, values, None


def _kind_of_json(value: msgspec.Raw) -> str | None:
    text = bytes(value)
    match text[:1]:
        case b'"' | b"{" | b"[":
            return "str"
        case b"t" | b"f":
            return "bool"
        case b"n":
            return None
        case _:
            return kind_of_number(text)
