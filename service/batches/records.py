"""Batches, how they are read, and what is told about their rows."""

from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Struct, field

from service.accounts.names import Status, told_of_owner

MAX_ROWS = 10_000_000
MAX_UPLOAD = 2 * 1024**3

State: TypeAlias = Literal[
    "uploading", "reading", "answering", "summarizing", "finished", "failed", "canceled"
]
Source: TypeAlias = Literal["upload", "retained"]
Format: TypeAlias = Literal["csv", "ndjson", "parquet", "xlsx"]
Kind: TypeAlias = Literal["certificates", "pages", "hosts"]
"""What the rows of a batch ask about: certificates by id or URL, or sites by a page or host."""

FORMATS: tuple[Format, ...] = ("csv", "ndjson", "parquet", "xlsx")
MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}

# What results add to the columns of the input, in this order.
ADDED = ("confirmed_owner", "status", "domain", "expired", "error", "answer_id")


class Options(Struct, frozen=True, omit_defaults=True):
    """How the caller wants a batch read: the format, sheet, and column, if not found by content.

    `vendor` and `since` say which of the retained certificates are wanted.
    """

    format: Format | None = None
    column: str | None = None
    sheet: str | None = None
    vendor: str | None = None
    since: datetime | None = None


class Layout(Struct, frozen=True, omit_defaults=True):
    """How a file was read.

    `columns` are unique names, and `header` is the first line as it was, if it was a header. `asked`
    is the position of the column that is asked about, and `dated` that of the first one with dates.
    `added` are the names of the columns that results add, changed where the input has such names.
    `types` are the kinds of values in each column, and `schema` is a serialized Arrow schema.
    """

    format: Format
    columns: list[str]
    asked: int
    kind: Kind
    added: list[str]
    header: list[str] | None = None
    delimiter: str = ","
    is_marked: bool = False
    """Whether text begins with a byte order mark, by which spreadsheets know UTF-8."""
    dated: int | None = None
    types: list[str] = field(default_factory=list)
    schema: bytes | None = None


class Fault(Struct, frozen=True, omit_defaults=True):
    """Why a file can't be answered, and where: `row` counts from 1, without the header."""

    code: str
    detail: str
    row: int | None = None
    column: str | None = None


class Counts(Struct, frozen=True):
    """How many rows were told what, and how many could not be answered."""

    named: int = 0
    verified: int = 0
    none: int = 0
    not_applicable: int = 0
    error: int = 0


class Batch(Struct, frozen=True):
    """A batch as on record."""

    id: UUID
    account_id: UUID
    api_key_id: UUID
    name: str | None
    state: State
    source: Source
    options: Options
    layout: Layout | None
    as_of: datetime | None
    is_as_of_given: bool
    first_answer_id: UUID
    rows: int | None
    error: Fault | None
    upload_bytes: int
    upload_sha256: bytes | None
    created_at: datetime
    answering_since: datetime | None
    ended_at: datetime | None
    expires_at: datetime

    def answer_id(self, row: int) -> UUID:
        """Return the id of a row's answer; rows are counted from 0."""
        return UUID(int=self.first_answer_id.int + row)


class Told(Struct, frozen=True, array_like=True):
    """What the rows of a chunk were told, by column; `days` are those of `Layout.dated`."""

    statuses: list[Status | None]
    owners: list[str | None]
    hosts: list[str | None]
    expired: list[bool]
    errors: list[str | None]
    days: list[str | None]

    def added(self, batch: Batch, first_row: int) -> list[tuple[str, ...]]:
        """Return the cells that results add to each row, as in `ADDED`; empty where there is nothing."""
        # The last six digits of an answer's id count rows.
        start = str(batch.first_answer_id)[:-6]
        each = zip(self.statuses, self.owners, self.hosts, self.expired, self.errors, strict=True)
        return [
            (
                told_of_owner(status, owner) or "",
                status,
                host or "",
                "true" if is_expired else "false",
                "",
                f"{start}{row:06x}",
            )
            if status is not None
            else ("", "", host or "", "", error or "", "")
            for row, (status, owner, host, is_expired, error) in enumerate(each, first_row)
        ]


class Tally(Struct, frozen=True):
    """How often rows were told what: over all, by day, and by each value of some columns."""

    counts: dict[str, int]
    days: dict[str, dict[str, int]]
    columns: dict[str, dict[str, dict[str, int]] | None]
    """None for a column with too many values."""


Summary: TypeAlias = dict[str, object]

decode_fault = msgspec.json.Decoder(Fault).decode
decode_layout = msgspec.json.Decoder(Layout).decode
decode_options = msgspec.json.Decoder(Options).decode
