"""The rows of a file, as they are kept between reading them and writing results.

Text and spreadsheets are kept as cells, newline-delimited JSON as its lines, and Parquet as Arrow, so
that results have every input column as it was.
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
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
            return [text_of(value) for value in values_of(batch_of(contents).column(position))]


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
            columns = map(values_of, batch_of(contents).columns)
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


def values_of(column: "pyarrow.Array") -> list[Any]:
    """Return the values of a column in Arrow; bytes as text."""
    import pyarrow as pa

    try:
        values = column.to_pylist()
    except (ValueError, OverflowError):
        # Python's times have no nanoseconds, and its years end at 9999.
        values = column.cast(_without_times(column.type)).to_pylist()
    kinds = pa.types
    if (
        kinds.is_binary(column.type)
        or kinds.is_large_binary(column.type)
        or kinds.is_binary_view(column.type)
        or kinds.is_fixed_size_binary(column.type)
    ):
        return [None if value is None else text_of(value) for value in values]
    return values


def _without_times(kind: "pyarrow.DataType") -> "pyarrow.DataType":
    """Return a type of Arrow that has texts for dates and times, also in lists and structures."""
    import pyarrow as pa

    if pa.types.is_temporal(kind):
        # Arrow writes no durations, but counts them.
        return pa.int64() if pa.types.is_duration(kind) else pa.string()
    if pa.types.is_map(kind):
        return pa.map_(_without_times(kind.key_type), _without_times(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([each.with_type(_without_times(each.type)) for each in kind])
    if pa.types.is_list(kind):
        return pa.list_(_without_times(kind.value_type))
    return kind


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
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return b64encode(value).decode()
        case _:
            plain = msgspec.to_builtins(value, enc_hook=str)
            return plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()


def text_of_json(raw: msgspec.Raw | None) -> str:
    """Return a JSON value as text: a string's characters, nothing of `null`, and others as they are."""
    if raw is None:
        return ""
    text = bytes(raw)
    if text.startswith(b'"'):
        return msgspec.json.decode(text)
    return "" if text == b"null" else text.decode()


def _json_value(raw: msgspec.Raw | None) -> object:
    """Return a JSON value as a cell: objects, arrays, and numbers beyond a double stay JSON."""
    text = b"null" if raw is None else bytes(raw)
    is_text = text[:1] in b"{[" or (text[:1] not in b'"tfn' and kind_of_number(text) == "str")
    return text.decode() if is_text else msgspec.json.decode(text)


def kind_of_number(text: bytes) -> str:
    """Return which kind of column holds a JSON number as it is; a "long" is no double."""
    digits = text.lstrip(b"-")
    if digits.isdigit():
        return "int" if len(digits) < 16 else "long" if len(digits) < 19 else "str"
    # Doubles hold any 15 digits.
    if len(digits) < 16 and b"e" not in digits.lower():
        return "float"
    try:
        exact = Decimal(repr(float(text))) == Decimal(text.decode())
    except ArithmeticError:
        exact = False
    return "float" if exact else "str"


def kinds_of_cells(rows: Sequence[Sequence[Any]], kinds: list[set[str]]) -> None:
    """Note which kinds of values each column has, besides empty ones."""
    for row in rows:
        for position, value in enumerate(row):
            if value is not None and value != "":
                kinds[position].add(type(value).__name__)
