"""What becomes of a batch: it is made, worked on by jobs, read, canceled, and deleted."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from backports import zstd
from msgspec import Struct
from uuid_utils.compat import uuid7

from service import audit
from service.accounts.records import Caller
from service.audit import Actor
from service.batches import queries
from service.batches.records import Batch, Fault, Format, Options, Source, State
from service.errors import Conflict, MissingInput, TooManyCalls
from service.insights.bulk import check_instant
from service.postgres.pools import Connection, Database
from service.processes.queue import enqueue
from service.web import idempotency

JOB = "work_on_batch"

# What an account has at most: batches that have not ended, batches, and bytes of uploads.
MAX_UNFINISHED = 5
MAX_KEPT = 100
MAX_BYTES = 20 * 1024**3

# How many bytes of an upload are kept together.
_PART = 1024 * 1024

_UNDER_WAY: tuple[State, ...] = ("reading", "answering", "summarizing")

# An answer's id counts rows in its last bits (RFC 9562, section 6.2, method 2).
_ROW_BITS = 24


class Asked(Struct, frozen=True, kw_only=True):
    """What a caller wants answered, as of when, and how long it is to be kept."""

    name: str | None
    source: Source
    options: Options
    as_of: datetime | None
    kept_for: timedelta
    idempotency_key: str | None


async def create_once(connection: Connection, caller: Caller, asked: Asked) -> UUID:
    """Begin a batch, and return its id: that of the former one if its key was used before.

    An upload that was cut off begins again. Raises what `create` raises, or `Conflict` if something
    else was asked under that key.
    """
    if asked.idempotency_key is not None:
        await idempotency.lock_key(connection, caller.account_id, asked.idempotency_key)
        former = await queries.select_batch_by_key(
            connection, caller.account_id, asked.idempotency_key
        )
        if former is not None:
            was_asked = (
                former.source,
                former.options,
                former.as_of if former.is_as_of_given else None,
            )
            if was_asked != (asked.source, asked.options, asked.as_of):
                raise Conflict("another request already used this Idempotency-Key")
            if former.state != "uploading":
                return former.id
            await queries.update_deleted(connection, former.id)
    return await create(connection, caller, asked)


async def create(connection: Connection, caller: Caller, asked: Asked) -> UUID:
    """Begin a batch, and return its id. A batch of what is retained can be read at once.

    Raises `Conflict` or `TooManyCalls` if the account has too many, or `InvalidInput` for an instant
    that is not on record.
    """
    kept, unfinished, size = await queries.select_usage(connection, caller.account_id)
    if unfinished >= MAX_UNFINISHED:
        raise TooManyCalls(f"you have {unfinished} batches that have not ended, the limit")
    if kept >= MAX_KEPT or size >= MAX_BYTES:
        raise Conflict(
            f"you have {kept} batches of {size:,} bytes: delete some that you don't need"
        )
    if asked.as_of is not None:
        await check_instant(connection, asked.as_of)
    batch_id = uuid7()
    first_answer_id = UUID(int=uuid7().int >> _ROW_BITS << _ROW_BITS)
    await queries.insert_batch(
        connection,
        batch_id,
        first_answer_id,
        caller.account_id,
        caller.api_key_id,
        name=asked.name,
        source=asked.source,
        options=asked.options,
        as_of=asked.as_of,
        kept_for=asked.kept_for,
        idempotency_key=asked.idempotency_key,
    )
    if asked.source == "retained":
        await enqueue_work(connection, batch_id)
    return batch_id


async def upload(database: Database, batch: Batch, chunks: AsyncIterator[bytes]) -> None:
    """Keep a file in parts as it arrives, and then have it read. If it is cut off, nothing is left.

    A file that was uploaded before under the same key is only compared. Raises `Conflict` if it is
    another one, or `MissingInput` if it is empty.
    """
    digest = hashlib.sha256()
    if batch.state != "uploading":
        async for chunk in chunks:
            digest.update(chunk)
        if digest.digest() != batch.upload_sha256:
            raise Conflict("another request already used this Idempotency-Key")
        return
    part = bytearray()
    number = 0

    async def keep() -> None:
        nonlocal number
        async with database.general.connection() as connection:
            await queries.insert_upload(connection, batch.id, number, bytes(part))
        number += 1
        part.clear()

    try:
        async for chunk in chunks:
            digest.update(chunk)
            part += chunk
            if len(part) >= _PART:
                await keep()
        if part:
            await keep()
        if not number:
            raise MissingInput("the body", "is empty: send a file")
        async with database.general.transaction() as connection:
            await queries.update_uploaded(connection, batch.id, digest.digest())
            await enqueue_work(connection, batch.id)
    except BaseException:
        async with database.general.connection() as connection:
            await queries.update_deleted(connection, batch.id)
        raise


async def cancel(connection: Connection, batch: Batch) -> None:
    """Stop a batch that has not ended. Raises `Conflict` if it has."""
    stopped = await queries.update_ended(
        connection,
        batch.id,
        state="canceled",
        formerly=["uploading", "reading", "answering", "summarizing"],
    )
    if not stopped and batch.state != "canceled":
        raise Conflict(f"the batch has {batch.state} already")
    await enqueue_work(connection, batch.id)


async def delete(connection: Connection, batch: Batch, actor: Actor) -> None:
    """Delete a batch with its results. The answers stay on record."""
    await queries.update_ended(
        connection,
        batch.id,
        state="canceled",
        formerly=["uploading", "reading", "answering", "summarizing"],
    )
    await queries.update_deleted(connection, batch.id)
    await audit.record(
        connection,
        "batch.deleted",
        batch.account_id,
        actor=actor,
        batch_id=batch.id,
        name=batch.name,
        rows=batch.rows,
    )
    await enqueue_work(connection, batch.id)


async def prepare(connection: Connection, batch_id: UUID, form: Format) -> None:
    """Have a file of results made."""
    await queries.insert_format(connection, batch_id, form)
    await enqueue_work(connection, batch_id)


async def enqueue_work(connection: Connection, batch_id: UUID, lanes: int = 1) -> None:
    """Queue jobs that do what a batch needs next."""
    # After emails and checks of domains, which are short.
    await enqueue(connection, JOB, *[str(batch_id).encode()] * lanes, priority=-2)


async def fail(
    database: Database, batch_id: UUID, fault: Fault, formerly: Sequence[State] = _UNDER_WAY
) -> None:
    """End a batch that can't be answered, if it is still in one of some states."""
    async with database.general.transaction() as connection:
        await queries.update_ended(
            connection,
            batch_id,
            state="failed",
            formerly=formerly,
            error=fault,
        )
        # Otherwise the same job would fail, and be queued, for ever.
        await queries.update_wanted(connection, batch_id, fault.detail)
        await enqueue_work(connection, batch_id)


async def content_of(
    database: Database,
    batch_id: UUID,
    form: Format,
    parts: Sequence[tuple[int, int]],
    start: int,
    end: int,
) -> AsyncIterator[bytes]:
    """Yield the bytes from `start` to `end` of a file of results, which has these parts and lengths.

    Raises `Conflict` if the batch was deleted meanwhile.
    """
    at = 0
    for number, length in parts:
        if at < end and start < at + length:
            async with database.general.connection() as connection:
                part = await queries.select_part(connection, batch_id, form, number)
            if part is None:
                raise Conflict("the batch was deleted")
            yield zstd.decompress(part)[max(0, start - at) : end - at]
        at += length


async def tidy_up(database: Database, abandoned_after: timedelta) -> None:
    """Queue what was left undone, and end and delete what is over."""
    fault = Fault("upload_incomplete", "the upload was never completed: upload the file again")
    async with database.general.transaction() as connection:
        await queries.update_abandoned(connection, abandoned_after, fault)
        await queries.update_expired(connection)
        waiting = await queries.select_unfinished(connection, JOB)
        for batch_id in {*waiting, *await queries.select_deleted(connection)}:
            await enqueue_work(connection, batch_id)
