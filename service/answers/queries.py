"""The SQL statements about the record of answers."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from service.accounts.names import told_of_owner
from service.answers.merkle import Tiles
from service.answers.receipts import Statement
from service.answers.records import AnswerFilters, AnswerView, RetainedFilters, RetainedView
from service.postgres.pools import Connection

# A batch's answers have ids that count from its first one's.
_MOST_OF_BATCH = 2**24 - 1

_ANSWERS = """
SELECT
    answer.id, answer.answered_at, answer.as_of, answer.api_key_id,
    coalesce(api_key.name, app_user.email), answer.cert_id,
    answer.domain, answer.status, answer.owner_name, answer.owner_account_id, answer.covered_by,
    answer.verified_at
FROM answer
LEFT JOIN api_key ON api_key.id = answer.api_key_id
LEFT JOIN app_user ON app_user.id = api_key.user_id
WHERE answer.account_id = $1
"""


async def select_answer(
    connection: Connection, account_id: UUID, answer_id: UUID
) -> AnswerView | None:
    row = await connection.fetchrow(_ANSWERS + "AND answer.id = $2", account_id, answer_id)
    return None if row is None else _answer(row)


async def select_answers(
    connection: Connection,
    account_id: UUID,
    filters: AnswerFilters,
    *,
    before: UUID | None,
    limit: int,
) -> list[AnswerView]:
    """Return what an account was told, newest first, starting before an id."""
    rows = await connection.fetch(
        _ANSWERS
        + """
        AND (
            $2::text IS NULL
            OR (
                -- As in the index.
                hashtextextended(answer.cert_id, 0) = hashtextextended($2, 0)
                AND answer.cert_id = $2
            )
        )
        AND ($3::text IS NULL OR answer.domain = $3)
        AND ($4::text IS NULL OR answer.status = $4)
        AND ($5::timestamptz IS NULL OR answer.answered_at >= $5)
        AND ($6::timestamptz IS NULL OR answer.answered_at < $6)
        AND ($7::uuid IS NULL OR answer.api_key_id = $7)
        AND ($8::uuid IS NULL OR answer.id < $8)
        AND ($9::uuid IS NULL OR answer.id >= $9)
        AND ($10::uuid IS NULL OR answer.id <= $10)
        ORDER BY answer.id DESC
        LIMIT $11
        """,
        account_id,
        filters.cert_id,
        filters.host,
        filters.status,
        filters.since,
        filters.until,
        filters.key_id,
        before,
        filters.first_id,
        filters.last_id,
        limit,
    )
    return [_answer(row) for row in rows]


async def count_latest(
    connection: Connection, account_id: UUID, most: int, most_ranked: int
) -> tuple[list[tuple[date, str, int]], list[tuple[str, int]], list[tuple[str, int]]]:
    """Count an account's latest answers by day (UTC) and status; “other” if no owner was to be found.

    Then those without a verified owner by host, and by the vendor whose lead was retained with the
    answer, the most often first.
    """
    rows = await connection.fetch(
        """
        WITH latest AS MATERIALIZED (
            SELECT
                id,
                answered_at,
                domain,
                CASE WHEN status IN ('named', 'verified', 'none') THEN status ELSE 'other' END
                    AS status
            FROM answer WHERE account_id = $1 ORDER BY id DESC LIMIT $2
        )
        (
            SELECT 'days', (answered_at AT TIME ZONE 'UTC')::date, status, count(*)
            FROM latest GROUP BY 2, 3 ORDER BY 2, 3
        )
        UNION ALL
        (
            SELECT 'hosts', NULL, domain, count(*)
            FROM latest WHERE status = 'none' AND domain IS NOT NULL
            GROUP BY domain ORDER BY count(*) DESC, domain LIMIT $3
        )
        UNION ALL
        (
            SELECT 'vendors', NULL, retained.vendor, count(*)
            FROM latest
            JOIN (
                SELECT answer_id, vendor FROM retained_certificate
                WHERE account_id = $1 ORDER BY retained_at DESC, cert_id DESC LIMIT $2
            ) AS retained ON retained.answer_id = latest.id
            WHERE latest.status = 'none' AND retained.vendor IS NOT NULL
            GROUP BY retained.vendor ORDER BY count(*) DESC, retained.vendor LIMIT $3
        )
        """,
        account_id,
        most,
        most_ranked,
    )
    return (
        [(day, status, count) for kind, day, status, count in rows if kind == "days"],
        [(host, count) for kind, _, host, count in rows if kind == "hosts"],
        [(vendor, count) for kind, _, vendor, count in rows if kind == "vendors"],
    )


async def select_ids_of_batch(
    connection: Connection, account_id: UUID, batch_id: UUID
) -> tuple[UUID, UUID] | None:
    """Return the ids of the first and the last answer that an account's batch can have."""
    first = await connection.fetchval(
        "SELECT first_answer_id FROM batch WHERE id = $1 AND account_id = $2", batch_id, account_id
    )
    return None if first is None else (first, UUID(int=first.int + _MOST_OF_BATCH))


async def select_retained(
    connection: Connection,
    account_id: UUID,
    filters: RetainedFilters,
    *,
    before: str | None,
    limit: int,
) -> list[RetainedView]:
    """Return what an account retained, newest first, starting before a certificate."""
    rows = await connection.fetch(
        """
        SELECT cert_id, retained_at, reference, vendor, campaign_id, answer_id
        FROM retained_certificate
        WHERE account_id = $1
          AND ($2::text IS NULL OR reference = $2)
          AND ($3::text IS NULL OR vendor = $3)
          AND ($4::text IS NULL OR campaign_id = $4)
          AND ($5::timestamptz IS NULL OR retained_at >= $5)
          AND ($6::timestamptz IS NULL OR retained_at < $6)
          AND ($7::text IS NULL OR (retained_at, cert_id) < (
              SELECT former.retained_at, former.cert_id FROM retained_certificate AS former
              WHERE former.account_id = $1 AND former.cert_id = $7
          ))
        ORDER BY retained_at DESC, cert_id DESC
        LIMIT $8
        """,
        account_id,
        filters.reference,
        filters.vendor,
        filters.campaign_id,
        filters.since,
        filters.until,
        before,
        limit,
    )
    return [RetainedView(*row) for row in rows]


def _answer(row: Sequence[Any]) -> AnswerView:
    *asked, status, owner_name, owner_id, covered_by, verified_at = row
    told = None if status is None else told_of_owner(status, owner_name)
    return AnswerView(*[*asked, status, told, owner_id, covered_by, verified_at])


# A time that Python doesn't have is one that no answer has, since someone else must have set it.
_TIMES = ", ".join(
    f"CASE WHEN answer.{name} NOT BETWEEN '0001-01-01' AND '9999-12-31' "
    f"THEN '9999-12-31' ELSE answer.{name} END"
    for name in ("verified_at", "answered_at", "as_of")
)

_STATEMENT = f"""
    answer.id, answer.account_id, answer.api_key_id, answer.cert_id, answer.domain, answer.status,
    answer.owner_name, answer.owner_account_id, answer.covered_by, {_TIMES}
"""


class Log(msgspec.Struct, frozen=True):
    """The state of the log: what it is called, and how many answers it has."""

    origin: str
    size: int
    sealed_until: datetime


async def take_log(connection: Connection, origin: str) -> Log:
    """Return the log, which no other transaction can change until this one ends. Make it if needed."""
    await connection.execute("INSERT INTO log (origin) VALUES ($1) ON CONFLICT DO NOTHING", origin)
    row = await connection.fetchrow("SELECT origin, size, sealed_until FROM log FOR UPDATE")
    assert row is not None
    return Log(*row)


async def select_log(connection: Connection) -> Log | None:
    row = await connection.fetchrow("SELECT origin, size, sealed_until FROM log")
    return None if row is None else Log(*row)


async def select_horizon(connection: Connection) -> datetime:
    """Return an instant before which no further answer can be put on record.

    That is a second ago, or the start of the oldest transaction of this service, if it is older.
    """
    return await connection.fetchval(
        """
        SELECT least(clock_timestamp() - interval '1 second', min(xact_start))
        FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'confirmed-owner'
          AND pid <> pg_backend_pid()
        """
    )


async def select_unsealed(
    connection: Connection,
    since: datetime,
    until: datetime,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Statement]:
    """Return answers given in a time that are not sealed yet, in order, after the one given."""
    rows = await connection.fetch(
        f"""
        SELECT {_STATEMENT} FROM answer
        WHERE answered_at >= $1 AND answered_at < $2
          AND ($3::timestamptz IS NULL OR (answered_at, id) > ($3, $4))
          AND NOT EXISTS (SELECT FROM sealed_answer AS sealed WHERE sealed.answer_id = answer.id)
        ORDER BY answered_at, id
        LIMIT $5
        """,  # noqa: S608 - only the columns above
        since,
        until,
        *(after or (None, None)),
        limit,
    )
    return [Statement.of(*row) for row in rows]


async def select_next_answer(
    connection: Connection, since: datetime, until: datetime
) -> datetime | None:
    """Return when the first answer of a time was given. The longer the time, the longer it takes."""
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = '60s'")
        return await connection.fetchval(
            "SELECT min(answered_at) FROM answer WHERE answered_at >= $1 AND answered_at < $2",
            since,
            until,
            timeout=70,
        )


async def select_late(connection: Connection, since: datetime, until: datetime) -> datetime | None:
    """Return when the first answer of a time was given that is not sealed yet."""
    return await connection.fetchval(
        """
        SELECT min(answered_at) FROM answer
        WHERE answered_at >= $1 AND answered_at < $2
          AND NOT EXISTS (SELECT FROM sealed_answer AS sealed WHERE sealed.answer_id = answer.id)
        """,
        since,
        until,
    )


async def insert_sealed(
    connection: Connection,
    first: int,
    answer_ids: Sequence[UUID],
    nonces: Sequence[bytes],
    tiles: Tiles,
    sealed_until: datetime,
) -> None:
    """Add leaves to the log, whose tree then has these tiles."""
    await connection.execute(
        """
        INSERT INTO sealed_answer (position, answer_id, nonce)
        SELECT $1 + place - 1, answer_id, nonce
        FROM unnest($2::uuid[], $3::bytea[]) WITH ORDINALITY AS leaf (answer_id, nonce, place)
        """,
        first,
        answer_ids,
        nonces,
    )
    await connection.execute(
        """
        INSERT INTO log_tile (level, number, hashes)
        SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])
        ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes
        """,
        [level for level, _ in tiles],
        [number for _, number in tiles],
        list(tiles.values()),
    )
    await connection.execute(
        "UPDATE log SET size = $1, sealed_until = $2", first + len(answer_ids), sealed_until
    )


async def update_sealed_until(connection: Connection, sealed_until: datetime) -> None:
    await connection.execute("UPDATE log SET sealed_until = $1", sealed_until)


async def select_tiles(connection: Connection, wanted: Iterable[tuple[int, int]]) -> Tiles:
    """Return those of the tiles that exist."""
    tiles = list(wanted)
    rows = await connection.fetch(
        """
        SELECT tile.level, tile.number, tile.hashes
        FROM unnest($1::smallint[], $2::bigint[]) AS wanted (level, number)
        JOIN log_tile AS tile ON tile.level = wanted.level AND tile.number = wanted.number
        """,
        [level for level, _ in tiles],
        [number for _, number in tiles],
    )
    return {(level, number): hashes for level, number, hashes in rows}


async def insert_checkpoint(
    connection: Connection, size: int, note: str, verifier_key: str
) -> None:
    await connection.execute(
        "INSERT INTO log_checkpoint (size, note) VALUES ($1, $2) ON CONFLICT DO NOTHING", size, note
    )
    await connection.execute(
        "INSERT INTO log_key (verifier_key) VALUES ($1) ON CONFLICT DO NOTHING", verifier_key
    )


async def select_checkpoint(connection: Connection) -> tuple[int, str] | None:
    """Return the size and the note of the latest checkpoint."""
    row = await connection.fetchrow(
        "SELECT size, note FROM log_checkpoint ORDER BY size DESC LIMIT 1"
    )
    return None if row is None else tuple(row)


async def select_checkpoints(
    connection: Connection, after: int | None, limit: int
) -> list[tuple[int, str]]:
    """Return the size and note of checkpoints, smallest first, or of those larger than a size."""
    rows = await connection.fetch(
        """
        SELECT size, note FROM log_checkpoint
        WHERE $1::bigint IS NULL OR size > $1
        ORDER BY size LIMIT $2
        """,
        after,
        limit,
    )
    return [tuple(row) for row in rows]


async def select_log_keys(connection: Connection) -> list[str]:
    """Return the public keys that checkpoints were signed with, the latest first."""
    rows = await connection.fetch(
        "SELECT verifier_key FROM log_key ORDER BY first_used_at DESC, verifier_key"
    )
    return [row[0] for row in rows]


async def select_leaf(
    connection: Connection, account_id: UUID, answer_id: UUID
) -> tuple[int, bytes, Statement] | None:
    """Return where an answer is in the log, its nonce, and what was sealed, if it is sealed."""
    row = await connection.fetchrow(
        f"""
        SELECT sealed.position, sealed.nonce, {_STATEMENT}
        FROM answer
        JOIN sealed_answer AS sealed ON sealed.answer_id = answer.id
        WHERE answer.account_id = $1 AND answer.id = $2
        """,  # noqa: S608 - only the columns above
        account_id,
        answer_id,
    )
    return None if row is None else (row[0], row[1], Statement.of(*row[2:]))


class Leaf(msgspec.Struct, frozen=True):
    """A leaf of the log: its place, and the answer it is about, if that is on record."""

    position: int
    answer_id: UUID
    nonce: bytes
    statement: Statement | None


async def select_leaves(connection: Connection, first: int, limit: int) -> list[Leaf]:
    """Return leaves in order, starting with a place."""
    rows = await connection.fetch(
        f"""
        SELECT sealed.position, sealed.answer_id, sealed.nonce, {_STATEMENT}
        FROM sealed_answer AS sealed
        LEFT JOIN answer ON answer.id = sealed.answer_id
        WHERE sealed.position >= $1
        ORDER BY sealed.position
        LIMIT $2
        """,  # noqa: S608 - only the columns above
        first,
        limit,
    )
    return [
        Leaf(row[0], row[1], row[2], None if row[3] is None else Statement.of(*row[3:]))
        for row in rows
    ]


async def select_inserted(
    connection: Connection, sealed_until: datetime, late: timedelta
) -> UUID | None:
    """Return an answer that is not in the log, and is of a time that was sealed, or is to come."""
    return await connection.fetchval(
        """
        SELECT answer.id FROM answer
        LEFT JOIN sealed_answer AS sealed
            ON sealed.answer_id = answer.id AND sealed.position >= 0
            AND sealed.position < (SELECT size FROM log)
        WHERE sealed.answer_id IS NULL
          AND (
              answer.answered_at < $1::timestamptz - $2::interval
              OR answer.answered_at > now() + $2::interval
          )
        LIMIT 1
        """,
        sealed_until,
        late,
    )


async def select_surplus(
    connection: Connection,
) -> tuple[int | None, tuple[int, int] | None]:
    """Return a place that the log's size leaves no room for, and a tile of another length."""
    position = await connection.fetchval(
        """
        SELECT position FROM sealed_answer, log
        WHERE position < 0 OR position >= size ORDER BY position LIMIT 1
        """
    )
    # Numeric, since the numbers may be as large as the columns take.
    tile = await connection.fetchrow(
        """
        SELECT level, number FROM log_tile, log
        WHERE level NOT BETWEEN 0 AND 7 OR number < 0 OR octet_length(hashes) <> 32 * greatest(
            0, least(256, (size >> level * 8)::numeric - number::numeric * 256)
        )
        ORDER BY level, number LIMIT 1
        """
    )
    return position, None if tile is None else (tile[0], tile[1])


async def has_traces(connection: Connection) -> bool:
    """Whether anything is left of a log."""
    return await connection.fetchval(
        """
        SELECT EXISTS (SELECT FROM sealed_answer) OR EXISTS (SELECT FROM log_tile)
            OR EXISTS (SELECT FROM log_checkpoint) OR EXISTS (SELECT FROM log_key)
            OR EXISTS (SELECT FROM log_drop)
        """
    )


async def select_months(connection: Connection) -> list[tuple[str, UUID | None]]:
    """Return the partitions of answers, and the id that ends each; None for all other answers."""
    rows = await connection.fetch(
        """
        SELECT part.relname, substring(
            pg_get_expr(part.relpartbound, part.oid) FROM $$TO \\('([0-9a-f-]+)'\\)$$
        )::uuid
        FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid
        WHERE inhparent = 'answer'::regclass
        ORDER BY 2
        """
    )
    return [tuple(row) for row in rows]


async def make_months(
    connection: Connection, months: Sequence[datetime], since: UUID | None
) -> None:
    """Make the partitions for the months that these times are in, unless they are before an id."""
    await connection.execute("SET LOCAL lock_timeout = '100ms'")
    for month in months:
        await connection.execute(
            "SELECT make_answer_month($1) WHERE $2::uuid IS NULL OR least_id_at($1) >= $2",
            month,
            since,
        )


async def count_answers(connection: Connection, partition: str) -> tuple[int, int]:
    """Return how many answers a partition has, and how many are not sealed. No more are added."""
    await connection.execute("SET LOCAL lock_timeout = '100ms'")
    await connection.execute("SET LOCAL statement_timeout = '60s'")
    await connection.execute(f"LOCK TABLE {partition} IN SHARE MODE")
    row = await connection.fetchrow(
        f"""
        SELECT count(*), count(*) FILTER (WHERE sealed.answer_id IS NULL)
        FROM {partition} AS answer
        LEFT JOIN sealed_answer AS sealed ON sealed.answer_id = answer.id
        """,  # noqa: S608 - the name of a partition
        timeout=70,
    )
    assert row is not None
    return row[0], row[1]


async def drop_month(connection: Connection, partition: str) -> None:
    """Drop a partition with the answers in it, but not their hashes."""
    await connection.execute(f"DROP TABLE {partition}")


async def insert_drop(connection: Connection, before: UUID, note: str) -> None:
    await connection.execute("INSERT INTO log_drop (before, note) VALUES ($1, $2)", before, note)


async def select_drops(connection: Connection) -> list[str]:
    """Return the notes of what was dropped."""
    rows = await connection.fetch("SELECT note FROM log_drop ORDER BY before")
    return [row[0] for row in rows]


async def least_id_at(connection: Connection, instant: datetime) -> UUID:
    """Return the least id of an answer given at an instant."""
    return await connection.fetchval("SELECT least_id_at($1)", instant)
