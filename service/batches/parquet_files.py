"""Read Parquet."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from service.batches.columns import added_names, find_dates, unique_names
from service.batches.contents import Columns, Contents, text_of, values_of
from service.batches.files import (
    BYTES_AT_ONCE,
    MAX_LINE,
    ROWS_AT_ONCE,
    Reader,
    UnreadableFile,
    checked_names,
    column_in,
    named_column,
    sample_of,
    unreadable,
)
from service.batches.records import Layout, Options

# Uncompressed.
_MAX_ROW_GROUP = 1024 * 1024 * 1024


class ParquetReader(Reader):
    """Reads Parquet.

    Few bytes can stand for very many, so texts are read as a dictionary, and unfolded in slices.
    """

    def __init__(self, file: BinaryIO, options: Options) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._errors = (pa.ArrowException, OSError)
        with unreadable("the Parquet file can't be read", *self._errors):
            plain = parquet.ParquetFile(file)
            schema = plain.schema_arrow
            texts = [
                field.name for field in schema if pa.types.is_string(field.type)
                or pa.types.is_large_string(field.type) or pa.types.is_binary(field.type)
            ]  # fmt: skip
            self._parquet = parquet.ParquetFile(file, read_dictionary=texts, pre_buffer=False)
            self._at_once = self._rows_at_once()
            self._schema = schema
            names = self._names = checked_names(unique_names(schema.names))
            if not names:
                raise UnreadableFile("empty_file", "the file has no columns")
            rows = self._sample()
        asked, kind = column_in(names, rows, options) if rows else named_column(names, options)
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
        return max(1, min(ROWS_AT_ONCE, 4 * BYTES_AT_ONCE // (max(sizes, default=0) + 1)))

    def _sample(self) -> list[list[str]]:
        rows = (
            row
            for some in self._slices()
            for row in zip(
                *([text_of(value) for value in values_of(column)] for column in some.columns),
                strict=True,
            )
        )
        return list(map(list, sample_of(rows, lambda row: sum(map(len, row)))))

    def _slices(self) -> Iterator[Any]:
        """Yield rows with the types that the file says, so many that they are not too large."""
        import pyarrow as pa
        from pyarrow import compute

        batches = self._parquet.iter_batches(self._at_once)
        first_row = 1
        while True:
            with unreadable("the Parquet file can't be read", *self._errors):
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
                        if longest > MAX_LINE:
                            at = compute.index(lengths, longest).as_py()
                            raise UnreadableFile(
                                "too_large",
                                "the cell is longer than 1 MB",
                                row=first_row + at,
                                column=name,
                            )
                at_once = max(1, batch.num_rows * BYTES_AT_ONCE // (size + 1))
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
