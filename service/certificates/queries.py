"""The SQL statements about certificates."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from service.certificates.facts import LONGEST_WINDOW, Certificate, Kind, PageText, Usage
from service.postgres.pools import Connection


async def select_page_text(
    connection: Connection, cert_id: str, imported_by: UUID | None, longest: int | None
) -> PageText:
    """Return the text recorded on a certificate, if it has at most `longest` characters."""
    row = await connection.fetchrow(
        """
        SELECT revision, length(page_text), CASE
            WHEN $3::integer IS NULL OR length(page_text) <= $3 THEN page_text
        END
        FROM certificate
        WHERE cert_id = $1 AND imported_by IS NOT DISTINCT FROM $2
        """,
        cert_id,
        imported_by,
        longest,
    )
    # It may just have been purged.
    return PageText(0, None, None) if row is None else PageText(*row)


async def select_hosts(
    connection: Connection, cert_ids: Sequence[str], suffix_list: str
) -> list[tuple[str, UUID | None, str, dict[str, object]]]:
    """Return certificates whose host was found under another suffix list, and lock them.

    Each is an id, importer, kind, and facts.
    """
    rows = await connection.fetch(
        """
        SELECT cert_id, imported_by, kind, facts FROM certificate
        WHERE cert_id = ANY ($1) AND suffix_list <> $2
        ORDER BY cert_id, imported_by
        FOR UPDATE
        """,
        cert_ids,
        suffix_list,
    )
    return [
        (row["cert_id"], row["imported_by"], row["kind"], msgspec.json.decode(row["facts"]))
        for row in rows
    ]


async def update_host(
    connection: Connection,
    cert_id: str,
    imported_by: UUID | None,
    host: str | None,
    covering: Sequence[str] | None,
    suffix_list: str | None,
) -> None:
    await connection.execute(
        """
        UPDATE certificate SET host = $3, covering_names = $4, suffix_list = $5
        WHERE cert_id = $1 AND imported_by IS NOT DISTINCT FROM $2
        """,
        cert_id,
        imported_by,
        host,
        covering,
        suffix_list,
    )


async def lock_imports(connection: Connection, imported_by: UUID | None) -> None:
    """Wait until no other transaction records certificates of this importer."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('certificates of ' || $1, 0))",
        str(imported_by),
    )


async def select_usage(connection: Connection, account_id: UUID) -> Usage:
    """Return how much of what is on record an account has imported."""
    row = await connection.fetchrow(
        "SELECT certificates, bytes FROM certificate_usage WHERE account_id = $1", account_id
    )
    return Usage(0, 0) if row is None else Usage(*row)


async def select_certificates(
    connection: Connection, cert_ids: Sequence[str], imported_by: UUID | None
) -> dict[str, Certificate]:
    """Return which of the certificates are on record for this importer, by id."""
    rows = await connection.fetch(
        """
        SELECT cert_id, imported_by, kind, account_id, host, covering_names, suffix_list,
            created_at, expires_at, seconds_on_page, last_event_at, fetched_at, facts, known,
            page_text, fingerprints, recorded_at, revision
        FROM certificate
        WHERE cert_id = ANY ($1) AND imported_by IS NOT DISTINCT FROM $2
        """,
        cert_ids,
        imported_by,
    )
    return {
        row["cert_id"]: msgspec.structs.replace(
            Certificate(*row), facts=msgspec.json.decode(row["facts"])
        )
        for row in rows
    }


async def upsert_certificates(
    connection: Connection, certificates: Iterable[Certificate]
) -> set[str]:
    """Record certificates, each once, and return the ids of those recorded.

    A certificate is skipped if another transaction has recorded something about it since it was
    read.
    """
    rows = await connection.fetch(
        """
        INSERT INTO certificate (
            cert_id, imported_by, kind, account_id, host, covering_names, suffix_list,
            created_at, expires_at, seconds_on_page, last_event_at, fetched_at, facts, known,
            page_text, fingerprints, recorded_at, revision
        )
        SELECT cert_id, imported_by, kind, account_id, host, covering_names, suffix_list,
            created_at, expires_at, seconds_on_page, last_event_at, fetched_at, facts, known,
            page_text, fingerprints, coalesce(recorded_at, now()),
            coalesce(revision, nextval('certificate_revision'))
        FROM json_populate_recordset(NULL::certificate, $1) AS told
        -- A certificate purged in the meantime must not come back.
        WHERE told.revision IS NULL OR EXISTS (
            SELECT FROM certificate
            WHERE certificate.cert_id = told.cert_id AND certificate.revision = told.revision
        )
        ON CONFLICT ON CONSTRAINT certificate_unique DO UPDATE SET
            kind = excluded.kind,
            account_id = excluded.account_id,
            host = excluded.host,
            covering_names = excluded.covering_names,
            suffix_list = excluded.suffix_list,
            created_at = excluded.created_at,
            expires_at = excluded.expires_at,
            seconds_on_page = excluded.seconds_on_page,
            last_event_at = excluded.last_event_at,
            fetched_at = excluded.fetched_at,
            facts = excluded.facts,
            known = excluded.known,
            page_text = excluded.page_text,
            fingerprints = excluded.fingerprints,
            revision = nextval('certificate_revision')
        WHERE certificate.revision = excluded.revision
        RETURNING cert_id
        """,
        msgspec.json.encode(list(certificates)).decode(),
    )
    return {row["cert_id"] for row in rows}


async def select_validity(
    connection: Connection, cert_id: str, viewer_id: UUID
) -> tuple[Kind, bool] | None:
    """Return a certificate's kind, and whether its longest window is over.

    None if it is not on record for the viewer.
    """
    row = await connection.fetchrow(
        """
        SELECT kind, now() >= coalesce(created_at, recorded_at) + $3::interval
        FROM certificate
        WHERE cert_id = $1 AND (imported_by IS NULL OR imported_by = $2)
        ORDER BY imported_by NULLS FIRST
        LIMIT 1
        """,
        cert_id,
        viewer_id,
        LONGEST_WINDOW,
    )
    return None if row is None else (row[0], row[1])


async def delete_certificates(connection: Connection, older_than: timedelta, limit: int) -> int:
    """Delete certificates first recorded longer ago than that, and return how many."""
    deleted = await connection.execute(
        """
        DELETE FROM certificate
        WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM certificate
            WHERE recorded_at < now() - $1::interval
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ))
        """,
        older_than,
        limit,
    )
    return int(deleted.removeprefix("DELETE "))
