"""What the readers of all formats share: groups of rows, their columns, and errors with a place."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from service.batches.columns import NoSuchColumn, find_column
from service.batches.contents import Contents
from service.batches.records import MAX_ROWS, Fault, Kind, Layout, Options
from service.errors import ServiceError

# How many rows are read together, and about how many bytes of them.
ROWS_AT_ONCE = 5000
BYTES_AT_ONCE = 1024 * 1024

# How many rows the column is found by.
_SAMPLE = 1000

_LARGEST_SAMPLE = 8 * 1024 * 1024

MAX_LINE = 1024 * 1024
BLOCK = 1024 * 1024

MAX_COLUMNS = 500
_MAX_NAME = 300


_Row = TypeVar("_Row")


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


@contextmanager
def unreadable(what: str, *errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise UnreadableFile("unreadable_file", f"{what}: {error}"[:300]) from None


def column_in(names: Sequence[str], rows: Sequence[Sequence[str]], options: Options) -> Any:
    try:
        return find_column(names, rows, options.column)
    except NoSuchColumn as error:
        raise UnreadableFile("no_such_column", str(error), column=options.column) from None


def named_column(names: Sequence[str], options: Options) -> tuple[int, Kind]:
    """Return the column of a file without rows, in which nothing can be found."""
    if options.column is not None and options.column not in names:
        raise UnreadableFile(
            "no_such_column", f"there is no column “{options.column}”", column=options.column
        )
    return names.index(options.column) if options.column is not None else 0, "certificates"


def checked_names(names: list[str]) -> list[str]:
    if len(names) > MAX_COLUMNS:
        raise UnreadableFile("too_many_columns", f"the file has more than {MAX_COLUMNS} columns")
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


def types_of(kinds: Sequence[set[str]]) -> list[str]:
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


def sample_of(rows: Iterator[_Row], size_of: Callable[[_Row], int]) -> list[_Row]:
    """Return the first rows, by which the column is found: enough of them, and not too large."""
    return _some(rows, size_of, _SAMPLE, _LARGEST_SAMPLE)


def group_of(rows: Iterator[_Row], size_of: Callable[[_Row], int]) -> list[_Row]:
    """Return the next rows that are kept together: few enough, and not too large."""
    return _some(rows, size_of, ROWS_AT_ONCE, BYTES_AT_ONCE)


def _some(
    rows: Iterator[_Row], size_of: Callable[[_Row], int], most: int, largest: int
) -> list[_Row]:
    some: list[_Row] = []
    size = 0
    for row in rows:
        some.append(row)
        size += size_of(row)
        if len(some) == most or size > largest:
            break
    return some


def chained(first: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
    """Yield some items and forget them, then the rest."""
    while first:
        some, first[:] = first[:ROWS_AT_ONCE], first[ROWS_AT_ONCE:]
        yield from some
    yield from rest


def check_rows(rows: int) -> None:
    """Check that a file has no more rows than a batch may have. Raises `UnreadableFile`."""
    if rows > MAX_ROWS:
        raise UnreadableFile(
            "too_large", f"the file has more than {MAX_ROWS:,} rows: split it", row=MAX_ROWS + 1
        )
