"""The SQL statements about batches, their files, and their rows."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from service.batches.records import (
    Batch,
    Fault,
    Format,
    Layout,
    Options,
    Source,
    State,
    Tally,
    decode_fault,
    decode_layout,
    decode_options,
)
from service.postgres.pools import Connection

_BATCHES = """
SELECT
    batch.id, batch.account_id, batch.api_key_id, batch.name, batch.state, batch.source,
    batch.options, batch.layout, batch.as_of, batch.is_as_of_given, batch.first_answer_id,
    batch.rows, batch.error, batch.upload_bytes, batch.upload_sha256, batch.created_at,
    batch.answering_since, batch.ended_at, batch.expires_at
FROM batch
"""

# What a batch keeps besides its record.
UPLOADS = ("batch_upload",)
ROWS = (*UPLOADS, "batch_chunk", "batch_result")


async def insert_batch(
    connection: Connection,
    batch_id: UUID,
    first_answer_id: UUID,
    account_id: UUID,
    api_key_id: UUID,
    *,
    name: str | None,
    source: Source,
    options: Options,
    as_of: datetime | None,
    kept_for: timedelta,
    idempotency_key: str | None,
) -> None:
    await connection.execute(
        """
        INSERT INTO batch (
            id, first_answer_id, account_id, api_key_id, name, state, source, options, as_of,
            is_as_of_given, expires_at, idempotency_key
        )
        VALUES (
            $1, $2, $3, $4, $5, CASE $6::text WHEN 'upload' THEN 'uploading' ELSE 'reading' END, $6,
            $7, $8::timestamptz, $8::timestamptz IS NOT NULL, now() + $9::interval, $10
        )
        """,
        batch_id,
        first_answer_id,
        account_id,
        api_key_id,
        name,
        source,
        msgspec.json.encode(options).decode(),
        as_of,
        kept_for,
        idempotency_key,
    )


async def select_usage(connection: Connection, account_id: UUID) -> tuple[int, int, int]:
    """Return how many batches an account has, how many have not ended, and how many bytes they are."""
    row = await connection.fetchrow(
        """
        SELECT count(*), count(*) FILTER (WHERE ended_at IS NULL), coalesce(sum(upload_bytes), 0)::bigint
        FROM batch WHERE account_id = $1 AND deleted_at IS NULL
        """,
        account_id,
    )
    assert row is not None
    return row[0], row[1], row[2]


async def select_batch(
    connection: Connection, batch_id: UUID, account_id: UUID | None = None
) -> Batch | None:
    """Return a batch that is not deleted; of that account, if one is given."""
    row = await connection.fetchrow(
        _BATCHES
        + """
        WHERE batch.id = $1 AND batch.deleted_at IS NULL
          AND ($2::uuid IS NULL OR batch.account_id = $2)
        """,
        batch_id,
        account_id,
    )
    return None if row is None else _batch(row)


async def select_batch_by_key(
    connection: Connection, account_id: UUID, idempotency_key: str
) -> Batch | None:
    row = await connection.fetchrow(
        _BATCHES
        + """
        WHERE batch.account_id = $1 AND batch.idempotency_key = $2 AND batch.deleted_at IS NULL
        """,
        account_id,
        idempotency_key,
    )
    return None if row is None else _batch(row)


async def select_batches(
    connection: Connection, account_id: UUID, *, before: UUID | None, limit: int
) -> list[Batch]:
    """Return an account's batches, newest first, starting before an id."""
    rows = await connection.fetch(
        _BATCHES
        + """
        WHERE batch.account_id = $1 AND batch.deleted_at IS NULL
          AND ($2::uuid IS NULL OR batch.id < $2)
        ORDER BY batch.id DESC
        LIMIT $3
        """,
        account_id,
        before,
        limit,
    )
    return [_batch(row) for row in rows]


async def select_progress(
    connection: Connection, batch_ids: Sequence[UUID]
) -> dict[UUID, dict[str, int]]:
    """Return how many rows of each batch were told what so far."""
    rows = await connection.fetch(
        """
        SELECT chunk.batch_id, told.result, sum(told.rows::integer)
        FROM batch_chunk AS chunk
        CROSS JOIN LATERAL jsonb_each_text(chunk.counts -> 'counts') AS told (result, rows)
        WHERE chunk.batch_id = ANY ($1::uuid[]) AND chunk.told IS NOT NULL
        GROUP BY chunk.batch_id, told.result
        """,
        batch_ids,
    )
    progress: dict[UUID, dict[str, int]] = {}
    for batch_id, result, number in rows:
        progress.setdefault(batch_id, {})[result] = int(number)
    return progress


async def insert_upload(
    connection: Connection, batch_id: UUID, number: int, content: bytes
) -> None:
    """Keep a part of an upload, and count its bytes."""
    await connection.execute(
        """
        WITH kept AS (INSERT INTO batch_upload (batch_id, number, content) VALUES ($1, $2, $3))
        UPDATE batch SET upload_bytes = upload_bytes + length($3), uploaded_at = now() WHERE id = $1
        """,
        batch_id,
        number,
        content,
    )


async def select_upload(connection: Connection, batch_id: UUID, number: int) -> bytes | None:
    return await connection.fetchval(
        "SELECT content FROM batch_upload WHERE batch_id = $1 AND number = $2", batch_id, number
    )


async def update_uploaded(connection: Connection, batch_id: UUID, sha256: bytes) -> None:
    """Note that an upload is complete, so that it can be read."""
    await connection.execute(
        """
        UPDATE batch SET state = 'reading', upload_sha256 = $2
        WHERE id = $1 AND state = 'uploading'
        """,
        batch_id,
        sha256,
    )


async def select_retained(
    connection: Connection,
    account_id: UUID,
    options: Options,
    until: datetime,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[tuple[str, datetime, str | None, str | None, str | None]]:
    """Return certificates that an account had retained at an instant, oldest first."""
    rows = await connection.fetch(
        """
        SELECT cert_id, retained_at, reference, vendor, campaign_id
        FROM retained_certificate
        WHERE account_id = $1 AND retained_at < $2
          AND ($3::text IS NULL OR vendor = $3)
          AND ($4::timestamptz IS NULL OR retained_at >= $4)
          AND ($5::timestamptz IS NULL OR (retained_at, cert_id) > ($5, $6))
        ORDER BY retained_at, cert_id
        LIMIT $7
        """,
        account_id,
        until,
        options.vendor,
        options.since,
        *(after or (None, None)),
        limit,
    )
    return [tuple(row) for row in rows]


async def insert_chunk(
    connection: Connection, batch_id: UUID, number: int, first_row: int, rows: int, content: bytes
) -> bool:
    """Keep rows that were read, unless they are kept already; return whether they were not.

    Reading a file again changes nothing.
    """
    done = await connection.execute(
        """
        INSERT INTO batch_chunk (batch_id, number, first_row, rows, input)
        SELECT $1, $2, $3, $4, $5 WHERE EXISTS (SELECT FROM batch WHERE id = $1 AND state = 'reading')
        ON CONFLICT DO NOTHING
        """,
        batch_id,
        number,
        first_row,
        rows,
        content,
    )
    return done == "INSERT 0 1"


async def select_last_chunk(
    connection: Connection, batch_id: UUID
) -> tuple[int, int, bytes] | None:
    """Return the last rows that were read: their number, their first row, and what they are."""
    row = await connection.fetchrow(
        """
        SELECT number, first_row, input FROM batch_chunk
        WHERE batch_id = $1 ORDER BY number DESC LIMIT 1
        """,
        batch_id,
    )
    return None if row is None else tuple(row)


async def update_read(
    connection: Connection, batch_id: UUID, layout: Layout, rows: int, chunks: int
) -> bool:
    """Begin to answer a batch that was read: as of now, unless it is as of a past instant."""
    done = await connection.execute(
        """
        UPDATE batch SET
            state = 'answering', layout = $2, rows = $3, chunks = $4,
            as_of = coalesce(as_of, clock_timestamp()), answering_since = clock_timestamp()
        WHERE id = $1 AND state = 'reading'
        """,
        batch_id,
        msgspec.json.encode(layout).decode(),
        rows,
        chunks,
    )
    return done == "UPDATE 1"


async def has_older_transactions(connection: Connection, instant: datetime) -> bool:
    """Whether a transaction of this service is in progress that began before an instant.

    Until they have ended, they may still change what is so as of that instant.
    """
    return await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'confirmed-owner'
              AND pid <> pg_backend_pid() AND xact_start <= $1
        )
        """,
        instant,
    )


async def take_chunk(connection: Connection, batch_id: UUID) -> tuple[int, int, bytes] | None:
    """Return rows that nobody else is answering: their number, their first row, and what they are.

    They are locked until the end of the transaction.
    """
    row = await connection.fetchrow(
        """
        SELECT number, first_row, input FROM batch_chunk
        WHERE batch_id = $1 AND told IS NULL
        ORDER BY number
        LIMIT 1
        FOR UPDATE SKIP LOCKED
        """,
        batch_id,
    )
    return None if row is None else tuple(row)


async def update_chunk(
    connection: Connection, batch_id: UUID, number: int, told: bytes, tally: Tally
) -> None:
    await connection.execute(
        "UPDATE batch_chunk SET told = $3, counts = $4 WHERE batch_id = $1 AND number = $2",
        batch_id,
        number,
        told,
        _json(tally),
    )


async def select_chunk(
    connection: Connection, batch_id: UUID, number: int
) -> tuple[int, bytes, bytes] | None:
    """Return answered rows: the first one's position, what they are, and what was told about them."""
    row = await connection.fetchrow(
        """
        SELECT first_row, input, told FROM batch_chunk
        WHERE batch_id = $1 AND number = $2 AND told IS NOT NULL
        """,
        batch_id,
        number,
    )
    return None if row is None else tuple(row)


async def update_answered(connection: Connection, batch_id: UUID) -> bool:
    """Note that every row is answered, if that is so and was not noted yet; return whether it was."""
    done = await connection.execute(
        """
        UPDATE batch SET state = 'summarizing'
        WHERE id = $1 AND state = 'answering'
          AND NOT EXISTS (SELECT FROM batch_chunk WHERE batch_id = $1 AND told IS NULL)
        """,
        batch_id,
    )
    return done == "UPDATE 1"


async def select_tallies(
    connection: Connection, batch_id: UUID, first: int, limit: int
) -> list[Tally]:
    rows = await connection.fetch(
        """
        SELECT counts FROM batch_chunk WHERE batch_id = $1 AND number >= $2 AND number < $2 + $3
        ORDER BY number
        """,
        batch_id,
        first,
        limit,
    )
    return [msgspec.json.decode(row[0], type=Tally) for row in rows]


async def select_domains(
    connection: Connection, batch: Batch, most: int
) -> list[dict[str, object]]:
    """Return the domains with the most rows, so many of each status."""
    await connection.execute("SET LOCAL statement_timeout = '300s'")
    rows = await connection.fetch(
        """
        SELECT domain, status, rows FROM (
            SELECT
                domain, status, count(*) AS rows,
                row_number() OVER (PARTITION BY status ORDER BY count(*) DESC, domain) AS place
            FROM answer
            WHERE account_id = $1 AND id >= $2 AND id <= $3 AND domain IS NOT NULL
            GROUP BY domain, status
        ) AS domains
        WHERE place <= $4
        ORDER BY rows DESC, domain
        """,
        batch.account_id,
        batch.first_answer_id,
        batch.answer_id(batch.rows or 0),
        most,
        timeout=310,
    )
    return [{"domain": domain, "status": status, "rows": number} for domain, status, number in rows]


async def update_ended(
    connection: Connection,
    batch_id: UUID,
    *,
    state: State,
    formerly: Sequence[State],
    error: Fault | None = None,
    summary: object = None,
) -> bool:
    """End a batch that is in one of some states; return whether it was."""
    done = await connection.execute(
        """
        UPDATE batch SET state = $2, ended_at = now(), error = $4, summary = $5
        WHERE id = $1 AND state = ANY ($3::text[])
        """,
        batch_id,
        state,
        formerly,
        None if error is None else _json(error),
        None if summary is None else _json(summary),
    )
    return done == "UPDATE 1"


async def select_summary(connection: Connection, batch_id: UUID) -> bytes | None:
    summary = await connection.fetchval("SELECT summary FROM batch WHERE id = $1", batch_id)
    return None if summary is None else summary.encode()


async def insert_result(
    connection: Connection, batch_id: UUID, form: Format, number: int, length: int, content: bytes
) -> None:
    """Keep a part of a file of results. Making it again changes nothing."""
    await connection.execute(
        """
        INSERT INTO batch_result (batch_id, format, number, length, content)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
        """,
        batch_id,
        form,
        number,
        length,
        content,
    )


async def delete_results(connection: Connection, batch_id: UUID, form: Format) -> None:
    await connection.execute(
        "DELETE FROM batch_result WHERE batch_id = $1 AND format = $2", batch_id, form
    )


async def insert_format(connection: Connection, batch_id: UUID, form: Format) -> None:
    """Note that a file of results is wanted."""
    await connection.execute(
        "INSERT INTO batch_format (batch_id, format) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        batch_id,
        form,
    )


async def update_format(
    connection: Connection, batch_id: UUID, form: Format, error: str | None
) -> None:
    """Note that a file of results is complete, or why there is none."""
    await connection.execute(
        """
        UPDATE batch_format SET is_complete = $3::text IS NULL, error = $3
        WHERE batch_id = $1 AND format = $2
        """,
        batch_id,
        form,
        error,
    )


async def update_wanted(connection: Connection, batch_id: UUID, error: str) -> None:
    """Note why the files of results that are wanted and not made yet can't be made."""
    await connection.execute(
        """
        UPDATE batch_format SET error = $2
        WHERE batch_id = $1 AND NOT is_complete AND error IS NULL
        """,
        batch_id,
        error,
    )


async def select_formats(
    connection: Connection, batch_id: UUID
) -> dict[Format, tuple[bool, str | None]]:
    """Return of each file of results that was wanted whether it is complete, and why there is none."""
    rows = await connection.fetch(
        "SELECT format, is_complete, error FROM batch_format WHERE batch_id = $1", batch_id
    )
    return {form: (is_complete, error) for form, is_complete, error in rows}


async def select_wanted(connection: Connection, batch_id: UUID) -> Format | None:
    """Return a format that is wanted and not made yet."""
    return await connection.fetchval(
        """
        SELECT format FROM batch_format
        WHERE batch_id = $1 AND NOT is_complete AND error IS NULL ORDER BY format LIMIT 1
        """,
        batch_id,
    )


async def select_parts(
    connection: Connection, batch_id: UUID, form: Format
) -> list[tuple[int, int]]:
    """Return the number and length of each part of a file of results, in order."""
    rows = await connection.fetch(
        """
        SELECT number, length FROM batch_result WHERE batch_id = $1 AND format = $2 ORDER BY number
        """,
        batch_id,
        form,
    )
    return [tuple(row) for row in rows]


async def select_part(
    connection: Connection, batch_id: UUID, form: Format, number: int
) -> bytes | None:
    return await connection.fetchval(
        "SELECT content FROM batch_result WHERE batch_id = $1 AND format = $2 AND number = $3",
        batch_id,
        form,
        number,
    )


async def update_deleted(connection: Connection, batch_id: UUID) -> None:
    """Hide a batch, whose rows are then deleted by and by."""
    await connection.execute(
        "UPDATE batch SET deleted_at = now(), idempotency_key = NULL WHERE id = $1", batch_id
    )


async def update_expired(connection: Connection) -> None:
    """Hide ended batches that were kept for long enough."""
    await connection.execute(
        """
        UPDATE batch SET deleted_at = now(), idempotency_key = NULL
        WHERE expires_at < now() AND ended_at IS NOT NULL AND deleted_at IS NULL
        """
    )


async def select_deleted(connection: Connection) -> list[UUID]:
    """Return some batches that are hidden, but not deleted yet."""
    rows = await connection.fetch("SELECT id FROM batch WHERE deleted_at IS NOT NULL LIMIT 1000")
    return [row[0] for row in rows]


async def update_abandoned(connection: Connection, after: timedelta, error: Fault) -> None:
    """Fail uploads of which nothing has arrived for so long that nobody sends them any more."""
    await connection.execute(
        """
        UPDATE batch SET state = 'failed', ended_at = now(), error = $2
        WHERE state = 'uploading' AND uploaded_at < now() - $1::interval
        """,
        after,
        _json(error),
    )


async def select_unfinished(connection: Connection, entrypoint: str) -> list[UUID]:
    """Return batches with something left to do, for which no job is queued."""
    rows = await connection.fetch(
        """
        SELECT batch.id FROM batch
        WHERE (
            batch.ended_at IS NULL AND batch.state <> 'uploading'
            OR batch.deleted_at IS NULL AND EXISTS (
                SELECT FROM batch_format AS wanted
                WHERE wanted.batch_id = batch.id AND NOT wanted.is_complete AND wanted.error IS NULL
            )
        )
        AND NOT EXISTS (
            SELECT FROM pgqueuer AS job
            WHERE job.entrypoint = $1 AND job.payload = convert_to(batch.id::text, 'UTF8')
        )
        LIMIT 1000
        """,
        entrypoint,
    )
    return [row[0] for row in rows]


async def delete_some(
    connection: Connection, batch_id: UUID, most: int, tables: Sequence[str]
) -> int:
    """Delete some of what a batch keeps in some of its tables; return how much of it there was."""
    total = 0
    for table in tables:
        done = await connection.execute(
            f"""
            DELETE FROM {table} WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM {table} WHERE batch_id = $1 LIMIT $2
            ))
            """,  # noqa: S608 - one of the names above
            batch_id,
            most,
        )
        total += int(done.removeprefix("DELETE "))
    return total


async def delete_batch(connection: Connection, batch_id: UUID) -> None:
    await connection.execute("DELETE FROM batch_format WHERE batch_id = $1", batch_id)
    await connection.execute("DELETE FROM batch WHERE id = $1", batch_id)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _batch(row: Sequence[Any]) -> Batch:
    (id_, account_id, key_id, name, state, source, options, layout, as_of, is_given, first, rows,
     error, *rest) = row  # fmt: skip
    return Batch(
        id_, account_id, key_id, name, state, source, decode_options(options),
        None if layout is None else decode_layout(layout), as_of, is_given, first, rows,
        None if error is None else decode_fault(error), *rest,
    )  # fmt: skip
