"""How the API shows batches, and what they sum up to."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

from msgspec import Struct

from service.batches.records import FORMATS, Batch, Counts, Fault, Format, Kind, Source, State

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class BatchView(Struct):
    """A batch: what it asks about, how far it is, and for how long it is kept.

    `column` has what is asked about, which `asks_about` tells. All rows are answered `as_of` one
    instant, which is known once it is `answering`. `estimated_end` is only an estimate. An `error`
    says why the whole file could not be answered, and where.
    """

    id: UUID
    name: str | None
    of: Source
    state: State
    format: Format | None
    column: str | None
    asks_about: Kind | None
    as_of: datetime | None
    rows: int | None
    counts: Counts
    rows_per_second: float | None
    estimated_end: datetime | None
    upload_bytes: int
    upload_sha256: str | None
    created_at: datetime
    ended_at: datetime | None
    expires_at: datetime
    error: Fault | None


class ResultCounts(Struct, omit_defaults=True):
    """How many rows were told what."""

    named: int = 0
    verified: int = 0
    none: int = 0
    not_applicable: int = 0
    error: int = 0


class DomainRows(Struct):
    """How many rows are about a domain, and what was told about all of them."""

    domain: str
    status: str
    rows: int


class ValueCounts(ResultCounts):
    """How many of the rows with a value in a column were told what."""

    value: str = ""


class ColumnSummary(Struct):
    """A column with few values, and what was told about each."""

    name: str
    values: list[ValueCounts]


class DayCounts(ResultCounts):
    """How many of a day's rows were told what."""

    day: str = ""


class BatchSummary(Struct):
    """What was told: over all rows, by domain, by each column with at most 50 values, and by day.

    Of each status, the 1,000 domains with the most rows are listed. Days are those of the first
    column with dates, or else those on which the certificates were made.
    """

    counts: ResultCounts
    domains: list[DomainRows]
    columns: list[ColumnSummary]
    days: list[DayCounts]


def viewed(batch: Batch, progress: dict[str, int]) -> BatchView:
    """Return a batch with how many of its rows were told what so far."""
    done = sum(progress.values())
    rate = end = None
    if batch.answering_since is not None and done:
        until = batch.ended_at or datetime.now(UTC)
        seconds = max(0.001, (until - batch.answering_since).total_seconds())
        rate = round(done / seconds, 1)
        if batch.ended_at is None and batch.rows is not None:
            end = until + timedelta(seconds=(batch.rows - done) * seconds / done)
    layout = batch.layout
    return BatchView(
        id=batch.id,
        name=batch.name,
        of=batch.source,
        state=batch.state,
        format=layout.format if layout else None,
        column=layout.columns[layout.asked] if layout else None,
        asks_about=layout.kind if layout else None,
        as_of=batch.as_of,
        rows=batch.rows,
        counts=Counts(**progress),
        rows_per_second=rate,
        estimated_end=end,
        upload_bytes=batch.upload_bytes,
        upload_sha256=batch.upload_sha256.hex() if batch.upload_sha256 else None,
        created_at=batch.created_at,
        ended_at=batch.ended_at,
        expires_at=batch.expires_at,
        error=batch.error,
    )


def file_name(batch: Batch, form: Format) -> str:
    """Return what to call the results, in characters that are safe in a header and in any system."""
    name = (batch.name or "retained").rpartition("/")[2]
    for ending in (".gz", ".zst", *(f".{each}" for each in (*FORMATS, "tsv", "txt"))):
        name = name.removesuffix(ending)
    return f"{_NOT_IN_A_NAME.sub('_', name).strip('._') or 'batch'}.checked.{form}"
