"""Write results: the columns of the input as they were, and what was told about each row."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any, BinaryIO, Protocol

import msgspec

from service.batches.contents import (
    Columns,
    Contents,
    Lines,
    batch_of,
    cells_of,
    text_of,
    texts_of,
)
from service.batches.records import Batch, Format, Layout, Tally, Told
from service.errors import ServiceError
from service.web.exports import BEGINS_FORMULA, safe_cell

# What a sheet holds (Excel's specifications and limits).
_MAX_SHEET = 1_048_576
_MAX_CELL = 32_767
# Larger ones are not exact in a spreadsheet.
_MAX_EXACT = 2**53

# What spreadsheets take for the end of a cell, whichever of these a file has.
_SEPARATORS = (",", ";", "\t")

# How many rows Parquet keeps together.
_ROW_GROUP = 50_000

# A column with more values than that in a whole batch is in no summary.
MAX_VALUES = 50

# Nor is one with a longer value, so that a summary stays one.
_MAX_VALUE = 200


class UnwritableFormat(ServiceError):
    """The results don't fit into the format. `str()` says why, and what to do."""


def start_of(form: Format, layout: Layout) -> bytes:
    """Return what a file of results begins with, before the rows."""
    if form != "csv":
        return b""
    mark = "\ufeff" if layout.is_marked else ""
    header = layout.header if layout.header is not None else layout.columns
    names = [safe_cell(name) for name in [*header, *layout.added]]
    return (mark + _csv([names], layout.delimiter)).encode()


def rows_of(form: Format, batch: Batch, first_row: int, contents: Contents, told: Told) -> bytes:
    """Return rows as CSV or newline-delimited JSON."""
    assert batch.layout is not None
    added = told.added(batch, first_row)
    if form == "csv":
        texts = texts_of(contents, batch.layout)
        rows = [
            [cell if cell[:1] not in BEGINS_FORMULA else f"'{cell}" for cell in [*row, *more]]
            for row, more in zip(texts, added, strict=True)
        ]
        return _csv(rows, batch.layout.delimiter).encode()
    return b"".join(_json_lines(batch.layout, contents, added))


def _csv(rows: list[list[str]], delimiter: str) -> str:
    """Return lines of CSV (RFC 4180)."""
    lines = io.StringIO()
    writer = csv.writer(lines, delimiter=delimiter)
    all_quoted = csv.writer(lines, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    others = [each for each in _SEPARATORS if each != delimiter]
    for row in rows:
        # Most rows need no quotes, which takes a sixth of the time to find out.
        line = delimiter.join(row)
        if any(map(line.__contains__, others)):
            # Spreadsheets may separate cells there, too, and what follows could be a formula.
            all_quoted.writerow(row)
        elif line.count(delimiter) >= len(row) or '"' in line or "\n" in line or "\r" in line:
            writer.writerow(row)
        else:
            lines.write(f"{line}\r\n")
    return lines.getvalue()


def _json_lines(
    layout: Layout, contents: Contents, added: list[tuple[str, ...]]
) -> Iterator[bytes]:
    encode = msgspec.json.Encoder(enc_hook=str).encode
    after = (encode(dict(zip(layout.added, _typed(more), strict=True)))[1:] for more in added)
    if isinstance(contents, Lines):
        for position, (line, more) in enumerate(zip(contents.rows, after, strict=True)):
            if position in contents.faults:
                text = encode({"line": line.decode("utf-8", "replace")})
                yield text[:-1] + b"," + more + b"\n"
            else:
                start = line[:-1].rstrip()
                yield start + (b"" if start == b"{" else b",") + more + b"\n"
        return
    for values, more in zip(cells_of(contents, layout), after, strict=True):
        row = encode(dict(zip(layout.columns, values, strict=True)))
        yield row[:-1] + b"," + more + b"\n"


def _typed(added: tuple[str, ...]) -> list[str | bool | None]:
    owner, status, host, expired, error, answer_id = (each or None for each in added)
    return [owner, status, host, None if expired is None else expired == "true", error, answer_id]


class Writer(Protocol):
    """Writes a file that has to be made as a whole."""

    def add(self, first_row: int, contents: Contents, told: Told) -> None:
        """Add rows. Raises `UnwritableFormat`."""

    def close(self) -> None:
        """Complete the file."""


def writer_of(form: Format, file: BinaryIO, batch: Batch) -> Writer:
    """Return what writes a batch's results into a file. Raises `UnwritableFormat`."""
    assert batch.layout is not None
    if form == "xlsx":
        if (batch.rows or 0) >= _MAX_SHEET:
            raise UnwritableFormat(
                f"a sheet holds {_MAX_SHEET - 1:,} rows, and this batch has {batch.rows:,}: "
                "use csv or parquet"
            )
        return _XlsxWriter(file, batch, batch.layout)
    return _ParquetWriter(file, batch, batch.layout)


class _ParquetWriter:
    def __init__(self, file: BinaryIO, batch: Batch, layout: Layout) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._arrow = pa
        self._batch = batch
        self._layout = layout
        if layout.schema is not None:
            fields = list(pa.ipc.read_schema(pa.py_buffer(layout.schema)))
            fields = [
                field.with_name(name) for field, name in zip(fields, layout.columns, strict=True)
            ]
        else:
            types = layout.types or ["str"] * len(layout.columns)
            named = zip(layout.columns, map(self._type, types), strict=True)
            fields = [pa.field(name, kind) for name, kind in named]
        fields += [
            pa.field(name, pa.bool_() if position == 3 else pa.string())
            for position, name in enumerate(layout.added)
        ]
        self._schema = pa.schema(fields)
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[Any] = []

    def _type(self, kind: str) -> Any:
        pa = self._arrow
        return {
            "bool": pa.bool_(),
            "int": pa.int64(),
            "float": pa.float64(),
            "datetime": pa.timestamp("us"),
            "date": pa.date32(),
            "time": pa.time64("us"),
        }.get(kind, pa.string())

    def add(self, first_row: int, contents: Contents, told: Told) -> None:
        pa = self._arrow
        added = zip(*map(_typed, told.added(self._batch, first_row)), strict=True)
        if isinstance(contents, Columns):
            arrays = list(batch_of(contents).columns)
        else:
            columns = zip(*cells_of(contents, self._layout), strict=True)
            arrays = [
                pa.array(
                    [None if value is None else text_of(value) for value in column]
                    if pa.types.is_string(field.type)
                    else [None if value == "" else value for value in column],
                    field.type,
                )
                for column, field in zip(columns, self._schema, strict=False)
            ]
        fields = list(self._schema)[len(arrays) :]
        arrays += [
            pa.array(column, field.type) for column, field in zip(added, fields, strict=True)
        ]
        self._waiting.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        if sum(batch.num_rows for batch in self._waiting) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(
            self._arrow.Table.from_batches(self._waiting, self._schema), row_group_size=_ROW_GROUP
        )
        self._waiting.clear()

    def close(self) -> None:
        self._flush()
        self._writer.close()


class _XlsxWriter:
    def __init__(self, file: BinaryIO, batch: Batch, layout: Layout) -> None:
        import xlsxwriter

        self._batch = batch
        self._layout = layout
        self._book = xlsxwriter.Workbook(file, {"constant_memory": True})
        # Otherwise, the same results would be other bytes.
        self._book.set_properties({"created": batch.created_at.replace(tzinfo=None)})
        self._sheet = self._book.add_worksheet("Checked")
        # Excel's own mark for text that is no formula, whatever it begins with.
        self._as_text = self._book.add_format({"quote_prefix": True})
        self._of_time = {
            datetime: self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            date: self._book.add_format({"num_format": "yyyy-mm-dd"}),
            time: self._book.add_format({"num_format": "hh:mm:ss"}),
        }
        self._next = 0
        header = layout.header if layout.header is not None else layout.columns
        self._write([*header, *layout.added])

    def add(self, first_row: int, contents: Contents, told: Told) -> None:
        added = map(_typed, told.added(self._batch, first_row))
        for row, more in zip(cells_of(contents, self._layout), added, strict=True):
            self._write([*row, *more])

    def _write(self, row: list[Any]) -> None:
        sheet, at = self._sheet, self._next
        for column, value in enumerate(row):
            match value:
                case None | "":
                    continue
                case bool():
                    sheet.write_boolean(at, column, value)
                case int() | float() if abs(value) <= _MAX_EXACT:
                    sheet.write_number(at, column, value)
                # Sheets have no earlier ones.
                case datetime() | date() if value.year < 1900:
                    self._write_text(at, column, text_of(value))
                case datetime():
                    naive = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
                    sheet.write_datetime(at, column, naive, self._of_time[datetime])
                case date() | time():
                    sheet.write_datetime(at, column, value, self._of_time[type(value)])
                case _:
                    self._write_text(at, column, text_of(value))
        self._next += 1

    def _write_text(self, at: int, column: int, text: str) -> None:
        # Excel counts units of UTF-16.
        if 2 * len(text) > _MAX_CELL and (size := len(text.encode("utf-16-le")) // 2) > _MAX_CELL:
            raise UnwritableFormat(
                f"row {at} has a cell of {size:,} characters, and a sheet's cell holds "
                f"{_MAX_CELL:,}: use csv or parquet"
            )
        if text[:1] in BEGINS_FORMULA:
            self._sheet.write_string(at, column, text, self._as_text)
        else:
            self._sheet.write_string(at, column, text)

    def close(self) -> None:
        self._book.close()


def tally_of(layout: Layout, contents: Contents, told: Told) -> Tally:
    """Return how often rows were told what, by day and by each value of columns with few values."""
    results: list[str] = [status or "error" for status in told.statuses]
    by_column = zip(*texts_of(contents, layout), strict=True)
    columns: dict[str, dict[str, dict[str, int]] | None] = {
        name: _by_value(values, results) if _are_few(set(values)) else None
        for position, (name, values) in enumerate(zip(layout.columns, by_column, strict=True))
        if position != layout.asked
    }
    return Tally(
        dict(Counter(results)), _by_value([day or "" for day in told.days], results), columns
    )


def _are_few(values: set[str]) -> bool:
    return len(values) <= MAX_VALUES and all(len(value) <= _MAX_VALUE for value in values)


def _by_value(values: Sequence[str], results: Sequence[str]) -> dict[str, dict[str, int]]:
    by_value: dict[str, dict[str, int]] = {}
    for (value, result), number in Counter(zip(values, results, strict=True)).items():
        # PostgreSQL's JSON has no NUL.
        counts = by_value.setdefault(value.replace("\0", "\ufffd"), {})
        counts[result] = counts.get(result, 0) + number
    return by_value


def merged(tallies: Iterable[Tally]) -> Tally:
    """Return what several tallies tell together."""
    counts: Counter[str] = Counter()
    days: dict[str, dict[str, int]] = {}
    columns: dict[str, dict[str, dict[str, int]] | None] = {}
    for tally in tallies:
        counts.update(tally.counts)
        _add(days, tally.days)
        for name, values in tally.columns.items():
            so_far = columns.setdefault(name, {})
            if values is None or so_far is None:
                columns[name] = None
                continue
            _add(so_far, values)
            if len(so_far) > MAX_VALUES:
                columns[name] = None
    return Tally(dict(counts), days, columns)


def _add(so_far: dict[str, dict[str, int]], more: Mapping[str, Mapping[str, int]]) -> None:
    for value, results in more.items():
        counts = so_far.setdefault(value, {})
        for result, number in results.items():
            counts[result] = counts.get(result, 0) + number
