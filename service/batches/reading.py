"""Read files of any common format, a group of rows at a time.

Formats and encodings are told by the content: what people call a file, or declare it to be, is often
wrong. Errors say where in the file they are, and what to do.
"""

import codecs
import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import IO, Any, BinaryIO, TextIO

import msgspec
from backports import zstd

from service.batches.columns import (
    NoSuchColumn,
    added_names,
    find_column,
    find_dates,
    is_header,
    unique_names,
)
from service.batches.contents import (
    Cells,
    Columns,
    Contents,
    Lines,
    kind_of_number,
    kinds_of_cells,
    of_time,
    text_of,
    text_of_json,
    values_of,
)
from service.batches.records import (
    MAX_ROWS,
    MAX_UPLOAD,
    Fault,
    Format,
    Kind,
    Layout,
    Options,
)
from service.errors import ServiceError

ROWS_AT_ONCE = 5000
_BYTES_AT_ONCE = 1024 * 1024

# How many rows the column is found by.
_SAMPLE = 1000

_MAX_COLUMNS = 500
_MAX_NAME = 300
_MAX_LINE = 1024 * 1024
_MAX_ROW = 2 * _MAX_LINE
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

# Of Parquet, uncompressed.
_MAX_ROW_GROUP = 1024 * 1024 * 1024

_BLOCK = 1024 * 1024

_DELIMITERS = (",", "\t", ";", "|")


class UnreadableFile(ServiceError):
    """A file that can't be answered as a whole. `fault` says why and where."""

    def __init__(
        self, code: str, detail: str, *, row: int | None = None, column: str | None = None
    ) -> None:
        # PostgreSQL's JSON has no NUL.
        self.fault = Fault(code, detail.replace("\0", "\ufffd"), row, column)
        super().__init__(detail)


class Reader:
    """Reads the rows of one file. `layout` is complete once all groups were read."""

    layout: Layout

    def groups(self) -> Iterator[Contents]:
        """Yield rows in order, some at a time. Raises `UnreadableFile`."""
        raise NotImplementedError


def reader_of(raw: BinaryIO, spare: BinaryIO, options: Options) -> Reader:
    """Return the reader of an uploaded file. Raises `UnreadableFile`.

    An empty file is needed for what is decompressed. Both have to stay open while it is read.
    """
    file = _decompressed(raw, spare)
    head = file.read(8)
    file.seek(0)
    if not head:
        raise UnreadableFile("empty_file", "the file is empty")
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise UnreadableFile(
            "unreadable_file",
            "the file has a password, or is an old .xls: save it as .xlsx without a password",
        )
    if head.startswith(b"PAR1"):
        return _read_as("parquet", options, lambda: _ParquetReader(file, options))
    if head.startswith(b"PK\x03\x04"):
        return _read_as("xlsx", options, lambda: _XlsxReader(file, options))
    if options.format in ("parquet", "xlsx"):
        raise UnreadableFile("unreadable_file", f"the file is not {_CALLED[options.format]}")
    encoding, is_marked = _encoding_of(file)
    start = _start_of(file, encoding).lstrip()
    if options.format == "ndjson" or (options.format is None and start.startswith("{")):
        if encoding != "utf-8-sig":
            raise UnreadableFile("unreadable_file", "newline-delimited JSON must be in UTF-8")
        return _LinesReader(file, options)
    if options.format is None and start.startswith("["):
        raise UnreadableFile(
            "unreadable_file", "this is a JSON array: send one object per line instead"
        )
    return _CsvReader(file, encoding, options, is_marked=is_marked)


_CALLED: dict[Format, str] = {
    "csv": "CSV",
    "ndjson": "newline-delimited JSON",
    "parquet": "Parquet",
    "xlsx": "an .xlsx spreadsheet",
}


def _read_as(is_a: Format, options: Options, read: Any) -> Reader:
    if options.format is not None and options.format != is_a:
        raise UnreadableFile(
            "unreadable_file",
            f"the file is {_CALLED[is_a]}, not {_CALLED[options.format]}",
        )
    return read()


def _decompressed(raw: BinaryIO, plain: BinaryIO) -> BinaryIO:
    head = raw.read(4)
    raw.seek(0)
    opened: Any
    if head.startswith(b"\x1f\x8b"):
        opened = gzip.GzipFile(fileobj=raw)
    elif head == b"\x28\xb5\x2f\xfd":
        opened = zstd.ZstdFile(raw)
    else:
        return raw
    try:
        while block := opened.read(_BLOCK):
            plain.write(block)
            if plain.tell() > MAX_UPLOAD:
                raise UnreadableFile("too_large", "the file has more than 2 GB once decompressed")
    except EOFError:
        raise UnreadableFile(
            "unreadable_file", "the compressed file is cut off: upload it again as a whole"
        ) from None
    except (OSError, zlib.error, zstd.ZstdError) as error:
        raise UnreadableFile(
            "unreadable_file", f"the file can't be decompressed: {error}"
        ) from None
    plain.seek(0)
    return plain


def _encoding_of(file: BinaryIO) -> tuple[str, bool]:
    """Return the encoding of a text, and whether a copy needs a mark to be taken for UTF-8."""
    head = file.read(4096)
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(mark):
            _check_decodes(file, encoding)
            return encoding, True
    # Most of what tables hold is ASCII, which has a NUL in each pair of bytes in UTF-16.
    for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if len(zeros) > 1 and zeros.count(0) > 0.7 * len(zeros):
            _check_decodes(file, encoding)
            return encoding, True
    if b"\0" in head:
        raise UnreadableFile(
            "unreadable_file",
            "this is no text: upload CSV, newline-delimited JSON, Parquet, or .xlsx",
        )
    if _is_in_utf_8(file):
        return "utf-8-sig", False
    _check_decodes(file, "cp1252")
    return "cp1252", True


def _is_in_utf_8(file: BinaryIO) -> bool:
    """Return whether a whole text is in UTF-8; leave it at its start.

    Raises `UnreadableFile` if it is only up to some character: in Windows-1252, what came before
    would be other characters than meant, without anybody noticing.
    """
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line, is_ascii = 1, True
    try:
        while block := file.read(_BLOCK):
            text = decoder.decode(block)
            is_ascii = is_ascii and text.isascii()
            line += block.count(b"\n")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line += before.count(b"\n")
        if is_ascii and before.isascii():
            return False
        raise UnreadableFile(
            "unreadable_file",
            f"line {line} is not in UTF-8, but the text before it is: save the whole file as UTF-8",
        ) from None
    finally:
        file.seek(0)
    return True


def _check_decodes(file: BinaryIO, encoding: str) -> None:
    """Read a whole text, and leave it at its start. Raises `UnreadableFile`."""
    file.seek(0)
    decoder = codecs.getincrementaldecoder(encoding)()
    read = 0
    try:
        while block := file.read(_BLOCK):
            decoder.decode(block)
            read += len(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            "unreadable_file",
            f"the text is neither UTF-8, UTF-16, nor Windows-1252: see byte {read + error.start}",
        ) from None
    finally:
        file.seek(0)


def _start_of(file: BinaryIO, encoding: str) -> str:
    """Return how a text starts, with its ends of lines as they are; leave it at its start."""
    text = io.TextIOWrapper(file, encoding, newline="")
    start = text.read(_BLOCK // 8)
    text.detach().seek(0)
    return start


class _CsvReader(Reader):
    """Reads CSV (RFC 4180), also with other delimiters, or one value a line."""

    def __init__(self, file: BinaryIO, encoding: str, options: Options, *, is_marked: bool) -> None:
        delimiter = _delimiter_of(io.StringIO(_start_of(file, encoding), newline=""))
        self._lines = _LimitedLines(io.TextIOWrapper(file, encoding, newline=""))
        csv.field_size_limit(_MAX_LINE)
        self._rows = self._read(csv.reader(self._lines, delimiter=delimiter, strict=True))
        first = next(self._rows, [])
        # So that errors have the right row, although the rows below may tell otherwise.
        self._lines.has_header = is_header(first, [], options.column)
        self._before = [first, *islice(self._rows, _SAMPLE)] if first else []
        header = first if is_header(first, self._before[1:], options.column) else None
        self._lines.has_header = header is not None
        if header is not None:
            del self._before[:1]
        if not self._before and not any(name.strip() for name in header or []):
            raise UnreadableFile("empty_file", "the file has only blank lines")
        width = len(header) if header is not None else max(map(len, self._before))
        names = _checked_names(unique_names(header or [""] * width))
        rows = [row[:width] for row in self._before]
        asked, kind = _column(names, rows, options) if rows else _named(names, options)
        self.layout = Layout(
            "csv", names, asked, kind, added_names(names), header, delimiter, is_marked,
            find_dates(rows, width),
        )  # fmt: skip

    def groups(self) -> Iterator[Contents]:
        width = len(self.layout.columns)
        rows = _chained(self._before, self._rows)
        while some := _some(rows, self._lines):
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


class _LimitedLines:
    """The lines of a text, none of which may be so long that it is no line."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._in_row = 0
        self._rows = 0
        self.has_header = False
        self.length = 0

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
        line = self._text.readline(_MAX_LINE + 1)
        if not line:
            raise StopIteration
        self.length += len(line)
        self._in_row += len(line)
        if len(line) > _MAX_LINE or self._in_row > _MAX_ROW:
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


class _LinesReader(Reader):
    """Reads newline-delimited JSON."""

    def __init__(self, file: BinaryIO, options: Options) -> None:
        self._file = file
        self._names: dict[str, None] = {}
        self._kinds: dict[str, set[str]] = {}
        self._objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._number = 0
        self._lines = self._read()
        self._before = list(islice(self._lines, _SAMPLE))
        if not self._before:
            raise UnreadableFile("empty_file", "the file has only blank lines")
        objects = [values for _, values, _ in self._before]
        names = list(self._names)
        rows = [[text_of_json(values.get(name)) for name in names] for values in objects]
        if not names and (fault := self._before[0][2]) is not None:
            raise UnreadableFile("unreadable_file", fault.removeprefix("bad_row: "), row=1)
        asked, kind = _column(names, rows, options)
        self.layout = Layout("ndjson", names, asked, kind, [], dated=find_dates(rows, len(names)))

    def groups(self) -> Iterator[Contents]:
        lines = _chained(self._before, self._lines)
        while True:
            some = []
            length = 0
            for line in lines:
                some.append(line)
                length += len(line[0])
                if len(some) == ROWS_AT_ONCE or length >= _BYTES_AT_ONCE:
                    break
            if not some:
                break
            faults = {at: fault for at, (_, _, fault) in enumerate(some) if fault is not None}
            yield Lines([line for line, _, _ in some], faults)
        names = _checked_names(list(self._names))
        self.layout = msgspec.structs.replace(
            self.layout,
            columns=names,
            added=added_names(names),
            types=_types([self._kinds[name] for name in names]),
        )

    def _read(self) -> Iterator[tuple[bytes, dict[str, msgspec.Raw], str | None]]:
        is_first = True
        while line := self._file.readline(_MAX_LINE + 1):
            if len(line) > _MAX_LINE:
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
                    if len(self._names) > _MAX_COLUMNS:
                        raise UnreadableFile(
                            "too_many_columns",
                            f"the file has more than {_MAX_COLUMNS} names",
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


class _XlsxReader(Reader):
    """Reads the first sheet of a spreadsheet that has rows, or the one that is named."""

    def __init__(self, file: BinaryIO, options: Options) -> None:
        import python_calamine

        with _unreadable("the file is no spreadsheet that can be opened", *_ZIP_ERRORS):
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
        with _unreadable(
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
        self._before = list(islice(rows, _SAMPLE + 1))
        if not self._before:
            raise UnreadableFile("empty_file", "the sheet has only empty cells")
        texts = [[text_of(cell) for cell in row] for row in self._before]
        header = texts[0] if is_header(texts[0], texts[1:], options.column) else None
        if header is not None:
            del self._before[0], texts[0]
        names = _checked_names(unique_names([""] * len(texts[0]) if header is None else header))
        asked, kind = _column(names, texts, options) if texts else _named(names, options)
        self._kinds: list[set[str]] = [set() for _ in names]
        self.layout = Layout(
            "xlsx", names, asked, kind, added_names(names), header,
            dated=find_dates(texts, len(names)),
        )  # fmt: skip

    def groups(self) -> Iterator[Contents]:
        rows = _chained(self._before, self._rows)
        while some := list(islice(rows, 1000)):
            kinds_of_cells(some, self._kinds)
            yield Cells([[_spreadsheet_cell(cell) for cell in row] for row in some])
        self.layout = msgspec.structs.replace(self.layout, types=_types(self._kinds))


def _check_extent(part: IO[bytes]) -> None:
    """Check that the cells of a sheet are not so far apart that all between them fill the memory.

    The library that reads spreadsheets makes a cell of every place between the first and the last.
    Raises `UnreadableFile`.
    """
    columns = rows = 0
    rest = b""
    while block := part.read(_BLOCK):
        text = rest + block
        # A tag may go on in the next block.
        rest = text[max(0, text.rfind(b"<")) :]
        if len(rest) > _BLOCK:
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


class _ParquetReader(Reader):
    """Reads Parquet.

    Few bytes can stand for very many, so texts are read as a dictionary, and unfolded in slices.
    """

    def __init__(self, file: BinaryIO, options: Options) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._errors = (pa.ArrowException, OSError)
        with _unreadable("the Parquet file can't be read", *self._errors):
            plain = parquet.ParquetFile(file)
            schema = plain.schema_arrow
            texts = [
                field.name for field in schema if pa.types.is_string(field.type)
                or pa.types.is_large_string(field.type) or pa.types.is_binary(field.type)
            ]  # fmt: skip
            self._parquet = parquet.ParquetFile(file, read_dictionary=texts, pre_buffer=False)
            self._at_once = self._rows_at_once()
            self._schema = schema
            names = self._names = _checked_names(unique_names(schema.names))
            if not names:
                raise UnreadableFile("empty_file", "the file has no columns")
            rows = self._sample()
        asked, kind = _column(names, rows, options) if rows else _named(names, options)
        self.layout = Layout(
            "parquet", names, asked, kind, added_names(names),
            dated=find_dates(rows, len(names)), schema=schema.serialize().to_pybytes(),
        )  # fmt: skip

    def groups(self) -> Iterator[Contents]:
        import pyarrow as pa

        for some in self._slices():
            stream = pa.BufferOutputStream()
            with pa.ipc.new_stream(stream, some.schema) as writer:
                writer.write_batch(some)
            yield Columns(stream.getvalue().to_pybytes(), some.num_rows)

    def _rows_at_once(self) -> int:
        groups = [
            self._parquet.metadata.row_group(number)
            for number in range(self._parquet.metadata.num_row_groups)
        ]
        if any(group.total_byte_size > _MAX_ROW_GROUP for group in groups):
            raise UnreadableFile(
                "too_large", "a row group has more than 1 GB: write the file with smaller ones"
            )
        sizes = [group.total_byte_size // max(1, group.num_rows) for group in groups]
        return max(1, min(ROWS_AT_ONCE, 4 * _BYTES_AT_ONCE // (max(sizes, default=0) + 1)))

    def _sample(self) -> list[list[str]]:
        rows: list[list[str]] = []
        for some in self._slices():
            columns = [[text_of(value) for value in values_of(column)] for column in some.columns]
            rows += [list(row) for row in zip(*columns, strict=True)]
            if len(rows) >= _SAMPLE:
                break
        return rows

    def _slices(self) -> Iterator[Any]:
        """Yield rows with the types that the file says, so many that they are not too large."""
        import pyarrow as pa
        from pyarrow import compute

        batches = self._parquet.iter_batches(self._at_once)
        first_row = 1
        while True:
            with _unreadable("the Parquet file can't be read", *self._errors):
                batch = next(batches, None)
                if batch is None:
                    return
                # Texts may be no UTF-8.
                batch.validate(full=True)
                size = batch.nbytes
                for name, column in zip(self._names, batch.columns, strict=True):
                    if pa.types.is_dictionary(column.type) and not _is_number(column.type):
                        lengths = compute.binary_length(column.dictionary).take(column.indices)
                        size += compute.sum(lengths).as_py() or 0
                        longest = compute.max(lengths).as_py() or 0
                        if longest > _MAX_LINE:
                            at = compute.index(lengths, longest).as_py()
                            raise UnreadableFile(
                                "too_large",
                                "the cell is longer than 1 MB",
                                row=first_row + at,
                                column=name,
                            )
                at_once = max(1, batch.num_rows * _BYTES_AT_ONCE // (size + 1))
                for start in range(0, batch.num_rows, at_once):
                    some = batch.slice(start, at_once)
                    columns = [
                        column.cast(field.type) if column.type != field.type else column
                        for column, field in zip(some.columns, self._schema, strict=True)
                    ]
                    yield pa.RecordBatch.from_arrays(columns, schema=self._schema)
            first_row += batch.num_rows


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return not (
        pa.types.is_string(kind.value_type)
        or pa.types.is_large_string(kind.value_type)
        or pa.types.is_binary(kind.value_type)
    )


@contextmanager
def _unreadable(what: str, *errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise UnreadableFile("unreadable_file", f"{what}: {error}"[:300]) from None


def _column(names: Sequence[str], rows: Sequence[Sequence[str]], options: Options) -> Any:
    try:
        return find_column(names, rows, options.column)
    except NoSuchColumn as error:
        raise UnreadableFile("no_such_column", str(error), column=options.column) from None


def _named(names: Sequence[str], options: Options) -> tuple[int, Kind]:
    """Return the column of a file without rows, in which nothing can be found."""
    if options.column is not None and options.column not in names:
        raise UnreadableFile(
            "no_such_column", f"there is no column “{options.column}”", column=options.column
        )
    return names.index(options.column) if options.column is not None else 0, "certificates"


def _checked_names(names: list[str]) -> list[str]:
    if len(names) > _MAX_COLUMNS:
        raise UnreadableFile("too_many_columns", f"the file has more than {_MAX_COLUMNS} columns")
    for number, name in enumerate(names, 1):
        if "\0" in name:
            raise UnreadableFile(
                "unreadable_file", f"the name of column {number} has a NUL character: rename it"
            )
        if len(name) > _MAX_NAME:
            raise UnreadableFile(
                "unreadable_file",
                f"the name of a column is longer than {_MAX_NAME} characters",
                column=f"{name[:60]}…",
            )
    return names


def _types(kinds: Sequence[set[str]]) -> list[str]:
    """Return the one kind of value in each column; text where there are several, or none."""
    types = []
    for each in kinds:
        if each and each <= {"int", "long"}:
            types.append("int")
        elif each and each <= {"int", "float"}:
            types.append("float")
        else:
            types.append(next(iter(each)) if len(each) == 1 else "str")
    return types


def _chained(first: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
    """Yield some items and forget them, then the rest."""
    while first:
        some, first[:] = first[:ROWS_AT_ONCE], first[ROWS_AT_ONCE:]
        yield from some
    yield from rest


def _some(rows: Iterator[list[str]], lines: _LimitedLines) -> list[list[str]]:
    """Return the next rows: few enough, and not much text."""
    some = []
    start = lines.length
    for row in rows:
        some.append(row)
        if len(some) == ROWS_AT_ONCE or lines.length - start >= _BYTES_AT_ONCE:
            break
    return some


def check_rows(rows: int) -> None:
    """Check that a file has no more rows than a batch may have. Raises `UnreadableFile`."""
    if rows > MAX_ROWS:
        raise UnreadableFile(
            "too_large", f"the file has more than {MAX_ROWS:,} rows: split it", row=MAX_ROWS + 1
        )
