"""The steps of a batch: reading it, answering its rows, summarizing, and writing results.

Every step is done in pieces, each of which is on record once it is done. So a step that is cut short
is continued by whichever worker takes it up next, and one that is done twice changes nothing.
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import BinaryIO
from uuid import UUID

import msgspec
from backports import zstd

from service.batches import queries
from service.batches.batches import enqueue_work, fail
from service.batches.columns import added_names, is_date, question_of
from service.batches.contents import Cells, Contents, column_of, count, faults, packed, unpacked
from service.batches.files import ROWS_AT_ONCE, Reader, UnreadableFile, check_rows
from service.batches.reading import reader_of
from service.batches.records import Batch, Format, Layout, Tally, Told
from service.batches.results import (
    UnwritableFormat,
    merged,
    rows_of,
    start_of,
    tally_of,
    writer_of,
)
from service.errors import ServiceError, error_code
from service.insights.bulk import RowAnswer, RowQuestion, answer_rows
from service.postgres.pools import Connection, Database
from service.processes import metrics

# How many jobs a batch has at once, and so how many workers answer its rows.
LANES = 2

# After answering for so many seconds, a job lets those of other batches go first.
_SLICE = 1.0

# How many seconds until it looks whether an older transaction has ended.
_LOOKS_AGAIN = 0.05

_PART = 1024 * 1024
_LEVEL = 1
_DELETED_AT_ONCE = 50
_DOMAINS = 1000
_TALLIES_AT_ONCE = 100
_RETAINED_COLUMNS = ["cert_id", "retained_at", "reference", "vendor", "campaign_id"]

_decode_told = msgspec.msgpack.Decoder(Told).decode


async def work_on(database: Database, batch_id: UUID) -> None:
    """Do what a batch needs next. Raises `Unavailable`."""
    async with database.general.connection() as connection:
        batch = await queries.select_batch(connection, batch_id)
        wanted = await queries.select_wanted(connection, batch_id)
    if batch is None or batch.state in ("failed", "canceled"):
        await _delete(database, batch_id, queries.ROWS)
        if batch is None:
            async with database.general.transaction() as connection:
                await queries.delete_batch(connection, batch_id)
    elif batch.state == "reading":
        await _read(database, batch)
    elif batch.state == "answering":
        await _answer(database, batch)
    elif batch.state == "summarizing":
        await _summarize(database, batch)
    elif wanted is not None:
        await _write(database, batch, wanted)


async def _read(database: Database, batch: Batch) -> None:
    try:
        with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as spare:
            number = rows = 0
            if batch.source == "upload":
                await _copy_upload(database, batch.id, file)
                reader = await asyncio.to_thread(reader_of, file, spare, batch.options)
                groups = _in_thread(reader)
            else:
                reader = Reader()
                number, rows, after = await _read_before(database, batch.id)
                groups = _retained(database, batch, reader, after)
            async for contents in groups:
                some = count(contents)
                check_rows(rows + some)
                content = await asyncio.to_thread(packed, contents)
                async with database.general.connection() as connection:
                    is_kept = await queries.insert_chunk(
                        connection, batch.id, number, rows, some, content
                    )
                if batch.source == "retained" and not is_kept:
                    # Another worker reads them, and may have found others.
                    return
                number, rows = number + 1, rows + some
    except UnreadableFile as error:
        # Unless another worker has read it meanwhile, and deleted what was uploaded.
        await fail(database, batch.id, error.fault, formerly=["reading"])
        return
    async with database.general.transaction() as connection:
        if await queries.update_read(connection, batch.id, reader.layout, rows, number):
            await enqueue_work(connection, batch.id, LANES)
    await _delete(database, batch.id, queries.UPLOADS)


async def _copy_upload(database: Database, batch_id: UUID, file: BinaryIO) -> None:
    number = 0
    while True:
        async with database.general.connection() as connection:
            content = await queries.select_upload(connection, batch_id, number)
        if content is None:
            break
        await asyncio.to_thread(file.write, content)
        number += 1
    file.seek(0)


async def _in_thread(reader: Reader) -> AsyncIterator[Contents]:
    """Read groups of rows without keeping this process from its other work."""
    groups = reader.groups()
    while (contents := await asyncio.to_thread(next, groups, None)) is not None:
        yield contents


async def _read_before(
    database: Database, batch_id: UUID
) -> tuple[int, int, tuple[datetime, str] | None]:
    """Return how many groups and rows of what is retained were read already, and the last row.

    Unlike a file, they may be others the second time: labels come later, too.
    """
    async with database.general.connection() as connection:
        last = await queries.select_last_chunk(connection, batch_id)
    if last is None:
        return 0, 0, None
    number, first_row, content = last
    contents = unpacked(content)
    assert isinstance(contents, Cells)
    cert_id, retained_at, *_ = contents.rows[-1]
    after = datetime.fromisoformat(retained_at), cert_id
    return number + 1, first_row + len(contents.rows), after


async def _retained(
    database: Database, batch: Batch, reader: Reader, after: tuple[datetime, str] | None
) -> AsyncIterator[Contents]:
    columns = _RETAINED_COLUMNS
    reader.layout = Layout(
        "csv", columns, 0, "certificates", added_names(columns), columns, dated=1
    )
    while True:
        async with database.general.connection() as connection:
            some = await queries.select_retained(
                connection, batch.account_id, batch.options, batch.created_at, after, ROWS_AT_ONCE
            )
        if not some:
            return
        yield Cells(
            [
                [cert_id, retained_at.isoformat(), *(label or "" for label in labels)]
                for cert_id, retained_at, *labels in some
            ]
        )
        after = some[-1][1], some[-1][0]


async def _answer(database: Database, batch: Batch) -> None:
    """Answer rows for a while, and then queue what is left."""
    assert batch.as_of is not None
    until = time.monotonic() + _SLICE
    async with database.general.connection() as connection:
        is_open = await queries.has_older_transactions(connection, batch.as_of)
    if is_open:
        # Others have their turn meanwhile, however long it takes.
        await asyncio.sleep(_LOOKS_AGAIN)
    while not is_open and time.monotonic() < until:
        if not await _answer_chunk(database, batch):
            async with database.general.transaction() as connection:
                if await queries.update_answered(connection, batch.id):
                    await enqueue_work(connection, batch.id)
            return
    async with database.general.connection() as connection:
        await enqueue_work(connection, batch.id)


async def _answer_chunk(database: Database, batch: Batch) -> bool:
    """Answer the next rows that nobody is answering; return whether there were any."""
    layout, as_of = batch.layout, batch.as_of
    assert layout is not None
    assert as_of is not None
    async with database.general.transaction() as connection:
        taken = await queries.take_chunk(connection, batch.id)
        if taken is None:
            return False
        number, first_row, content = taken
        contents = unpacked(content)
        told = await _tell(connection, batch, layout, as_of, first_row, contents)
        await queries.update_chunk(
            connection, batch.id, number, packed(told), tally_of(layout, contents, told)
        )
        if layout.format in ("csv", "ndjson"):
            rows = rows_of(layout.format, batch, first_row, contents, told)
            await _keep(connection, batch.id, layout.format, number + 1, rows)
    for result, number in Counter(status or "error" for status in told.statuses).items():
        metrics.BATCH_ROWS.labels(result).inc(number)
    return True


async def _tell(
    connection: Connection,
    batch: Batch,
    layout: Layout,
    as_of: datetime,
    first_row: int,
    contents: Contents,
) -> Told:
    """Decide the answers of rows, and put them on record."""
    values = column_of(contents, layout, layout.asked)
    errors: list[str | None] = [None] * len(values)
    for position, fault in faults(contents).items():
        errors[position] = fault
    asked: dict[int, RowQuestion] = {}
    for position, value in enumerate(values):
        if errors[position] is None:
            try:
                asked[position] = question_of(layout.kind, value)
            except ServiceError as error:
                errors[position] = _told_error(error)
    rows: list[RowAnswer | None] = [None] * len(values)
    answers = await answer_rows(
        connection,
        batch.account_id,
        batch.api_key_id,
        [batch.answer_id(first_row + position) for position in asked],
        list(asked.values()),
        as_of,
    )
    for position, answer in zip(asked, answers, strict=True):
        if isinstance(answer, ServiceError):
            errors[position] = _told_error(answer)
        else:
            rows[position] = answer
    return Told(
        [None if row is None else row.status for row in rows],
        [None if row is None else row.owner_name for row in rows],
        [None if row is None else row.host for row in rows],
        [row is not None and bool(row.is_past) for row in rows],
        errors,
        _days(layout, contents, rows),
    )


def _days(layout: Layout, contents: Contents, rows: Sequence[RowAnswer | None]) -> list[str | None]:
    """Return the day of each row: as the input tells, otherwise the one the certificate was made."""
    if layout.dated is not None:
        values = column_of(contents, layout, layout.dated)
        return [value[:10] if is_date(value) else None for value in values]
    return [
        None if row is None or row.made_at is None else f"{row.made_at:%Y-%m-%d}" for row in rows
    ]


def _told_error(error: ServiceError) -> str:
    return f"{error_code(error)}: {error}"


async def _summarize(database: Database, batch: Batch) -> None:
    """Count what was told, make the results in the input's own format, and end."""
    assert batch.layout is not None
    # Who read it may have been killed before it had deleted all.
    await _delete(database, batch.id, queries.UPLOADS)
    own = batch.layout.format
    async with database.general.connection() as connection:
        await queries.insert_format(connection, batch.id, own)
    if own in ("csv", "ndjson"):
        async with database.general.connection() as connection:
            await _keep(connection, batch.id, own, 0, start_of(own, batch.layout))
            await queries.update_format(connection, batch.id, own, None)
    else:
        await _write(database, batch, own)
    tally = Tally({}, {}, {})
    first = 0
    while True:
        async with database.general.connection() as connection:
            some = await queries.select_tallies(connection, batch.id, first, _TALLIES_AT_ONCE)
        if not some:
            break
        tally = merged([tally, *some])
        first += _TALLIES_AT_ONCE
    async with database.general.transaction() as connection:
        domains = await queries.select_domains(connection, batch, _DOMAINS)
        summary = {
            "counts": tally.counts,
            "domains": domains,
            "columns": [
                {"name": name, "values": _ranked(values)}
                for name in batch.layout.columns
                if (values := tally.columns.get(name)) is not None
            ],
            "days": [{"day": day, **counts} for day, counts in sorted(tally.days.items()) if day],
        }
        await queries.update_ended(
            connection, batch.id, state="finished", formerly=["summarizing"], summary=summary
        )


def _ranked(values: dict[str, dict[str, int]]) -> list[dict[str, object]]:
    by_rows = sorted(values.items(), key=lambda each: (-sum(each[1].values()), each[0]))
    return [{"value": value, **counts} for value, counts in by_rows]


async def _write(database: Database, batch: Batch, form: Format) -> None:
    """Make a file of results."""
    error = None
    try:
        if form in ("csv", "ndjson"):
            await _write_rows(database, batch, form)
        else:
            await _write_file(database, batch, form)
    except UnwritableFormat as why:
        error = str(why)
    async with database.general.connection() as connection:
        await queries.update_format(connection, batch.id, form, error)


async def _write_rows(database: Database, batch: Batch, form: Format) -> None:
    assert batch.layout is not None
    async with database.general.connection() as connection:
        await _keep(connection, batch.id, form, 0, start_of(form, batch.layout))
    number = 1
    async for first_row, contents, told in _answered(database, batch.id):
        rows = await asyncio.to_thread(rows_of, form, batch, first_row, contents, told)
        async with database.general.connection() as connection:
            await _keep(connection, batch.id, form, number, rows)
        number += 1


async def _write_file(database: Database, batch: Batch, form: Format) -> None:
    with tempfile.TemporaryFile() as file:
        writer = writer_of(form, file, batch)
        try:
            async for first_row, contents, told in _answered(database, batch.id):
                await asyncio.to_thread(writer.add, first_row, contents, told)
        finally:
            # Otherwise, the file in which it keeps rows would stay.
            await asyncio.to_thread(writer.close)
        file.seek(0)
        # All parts at once: another version of a library may have made some of another file.
        async with database.general.transaction() as connection:
            await queries.delete_results(connection, batch.id, form)
            number = 0
            while part := file.read(_PART):
                await _keep(connection, batch.id, form, number, part)
                number += 1


async def _answered(
    database: Database, batch_id: UUID
) -> AsyncIterator[tuple[int, Contents, Told]]:
    number = 0
    while True:
        async with database.general.connection() as connection:
            chunk = await queries.select_chunk(connection, batch_id, number)
        if chunk is None:
            return
        first_row, content, told = chunk
        yield first_row, unpacked(content), _decode_told(zstd.decompress(told))
        number += 1


async def _keep(
    connection: Connection, batch_id: UUID, form: Format, number: int, content: bytes
) -> None:
    await queries.insert_result(
        connection, batch_id, form, number, len(content), zstd.compress(content, _LEVEL)
    )


async def _delete(database: Database, batch_id: UUID, tables: Sequence[str]) -> None:
    """Delete what a batch keeps in some tables, in pieces."""
    deleted = 1
    while deleted:
        async with database.general.connection() as connection:
            deleted = await queries.delete_some(connection, batch_id, _DELETED_AT_ONCE, tables)
