"""The rows of a file, as they are kept between reading them and writing results.

Text and spreadsheets are kept as cells, newline-delimited JSON as its lines, and Parquet as Arrow, so
that results have every input column as it was.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from backports import zstd
from msgspec import Struct
from msgspec.msgpack import Ext

from service.batches.records import Layout

if TYPE_CHECKING:
    import pyarrow

Cell: TypeAlias = "str | bool | int | float | datetime | date | time | None"

# Rows come in many shapes and most of them are text, so the fastest level is nearly the best.
_LEVEL = 1

# MessagePack has no dates, and no times without a time zone.
_OF_TIME: dict[int, type[date] | type[time]] = {1: datetime, 2: date, 3: time}


class Cells(Struct, tag="cells"):
    """Rows of cells. `faults` are the errors of rows that don't fit the header, by position."""

    rows: list[list[Any]]
    faults: dict[int, str] = {}


class Lines(Struct, tag="lines"):
    """Lines of JSON, as they were. `faults` are the errors of those that are no object."""

    rows: list[bytes]
    faults: dict[int, str] = {}


class Columns(Struct, tag="columns"):
    """Rows in Arrow's streaming format."""

    stream: bytes
    rows: int


Contents: TypeAlias = Cells | Lines | Columns

_decoder = msgspec.msgpack.Decoder(
    Contents, ext_hook=lambda code, data: _OF_TIME[code].fromisoformat(bytes(data).decode())
)
_encoder = msgspec.msgpack.Encoder()


def packed(value: Struct) -> bytes:
    """Return rows, or what was told about them, compressed."""
    return zstd.compress(_encoder.encode(value), _LEVEL)


def unpacked(data: bytes) -> Contents:
    """Return rows that were packed."""
    return _decoder.decode(zstd.decompress(data))


def of_time(value: datetime | date | time) -> Ext:
    """Return a date or time as a cell to pack."""
    code = next(code for code, kind in _OF_TIME.items() if type(value) is kind)
    return Ext(code, value.isoformat().encode())


def count(contents: Contents) -> int:
    """Return how many rows there are."""
    return contents.rows if isinstance(contents, Columns) else len(contents.rows)


def faults(contents: Contents) -> dict[int, str]:
    """Return the errors of rows that can't be read, by position."""
    return {} if isinstance(contents, Columns) else contents.faults


def column_of(contents: Contents, layout: Layout, position: int) -> list[str]:
    """Return a column as text."""
    match contents:
        case Cells(rows) if layout.format == "csv":
            return [row[position] if position < len(row) else "" for row in rows]
        case Cells(rows):
            return [text_of(row[position]) if position < len(row) else "" for row in rows]
        case Lines():
            name = layout.columns[position]
            return [text_of_json(values.get(name)) for values in objects_of(contents)]
        case Columns():
            return [text_of(value) for value in batch_of(contents).column(position).to_pylist()]


def cells_of(contents: Contents, layout: Layout) -> list[list[Any]]:
    """Return rows with a value for each column."""
    match contents:
        case Cells(rows):
            width = len(layout.columns)
            return [row if len(row) == width else (row + [None] * width)[:width] for row in rows]
        case Lines():
            return [
                [_json_value(values.get(name)) for name in layout.columns]
                for values in objects_of(contents)
            ]
        case Columns():
            columns = [column.to_pylist() for column in batch_of(contents).columns]
            return [list(row) for row in zip(*columns, strict=True)]


def texts_of(contents: Contents, layout: Layout) -> list[list[str]]:
    """Return rows with a text for each column."""
    match contents:
        case Cells(rows) if layout.format == "csv":
            width = len(layout.columns)
            return [row if len(row) == width else (row + [""] * width)[:width] for row in rows]
        case Lines():
            return [
                [text_of_json(values.get(name)) for name in layout.columns]
                for values in objects_of(contents)
            ]
        case _:
            return [[text_of(value) for value in row] for row in cells_of(contents, layout)]


_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def objects_of(lines: Lines) -> Iterator[dict[str, msgspec.Raw]]:
    """Yield the values of each line by name, as they were; none of a line that is no object."""
    for position, line in enumerate(lines.rows):
        yield {} if position in lines.faults else _decode_object(line)


def batch_of(columns: Columns) -> "pyarrow.RecordBatch":
    """Return rows as Arrow has them."""
    import pyarrow as pa

    with pa.ipc.open_stream(pa.py_buffer(columns.stream)) as reader:
        return reader.read_next_batch()


def text_of(value: object) -> str:
    """Return a value as people write it in a cell."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case datetime() | date() | time():
            return value.isoformat()
        case int() | float():
            return str(value)
        case _:
            return msgspec.json.encode(value, enc_hook=str).decode()


def text_of_json(raw: msgspec.Raw | None) -> str:
    """Return a JSON value as text: a string's characters, nothing of `null`, and others as they are."""
    if raw is None:
        return ""
    text = bytes(raw)
    if text.startswith(b'"'):
        return msgspec.json.decode(text)
    return "" if text == b"null" else text.decode()


def _json_value(raw: msgspec.Raw | None) -> object:
    """Return a JSON value as a cell: objects and arrays stay JSON."""
    text = b"null" if raw is None else bytes(raw)
    return text.decode() if text[:1] in b"{[" else msgspec.json.decode(text)


def kinds_of_cells(rows: Sequence[Sequence[Any]], kinds: list[set[str]]) -> None:
    """Note which kinds of values each column has, besides empty ones."""
    for row in rows:
        for position, value in enumerate(row):
            if value is not None and value != "":
                kinds[position].add(type(value).__name__)
