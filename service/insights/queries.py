"""The statements about certificates and answers."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

from service.database import Connection
from service.insights.contract import Kind, Status

Verdict: TypeAlias = Literal[
    "answered", "unauthorized", "inactive", "not_found", "expired", "outdated"
]


class Question(msgspec.Struct, frozen=True):
    """What one call asks about one certificate, and the id its answer will have."""

    answer_id: UUID
    key_digest: bytes
    cert_id: str
    owner_asked: bool
    facts_asked: bool


class Answer(msgspec.Struct, frozen=True):
    """What one call is told about one certificate; `facts` is JSON. If it is not answered, only why.

    The owner's name, id, domain and time of verification are there only if the caller may see them.
    """

    answer_id: UUID
    verdict: Verdict
    answered_at: datetime
    kind: Kind
    created_at: datetime | None
    expires_at: datetime | None
    seconds_on_page: float | None
    facts: str | None
    host: str | None
    status: Status | None
    owner_account_id: UUID | None
    owner_name: str | None
    covered_by: str | None
    verified_at: datetime | None


# The certificate is the service's own record of it if there is one, else the caller's. A grant is
# looked for only where there is an owner, an owner only where it was asked for.
_INSERT_ANSWERS = """
WITH decided AS (
    SELECT
        asked.position,
        asked.answer_id,
        asked.cert_id,
        viewer.id AS viewer_id,
        api_key.id AS api_key_id,
        judged.verdict,
        certificate.kind,
        certificate.created_at,
        certificate.expires_at,
        certificate.seconds_on_page,
        CASE WHEN asked.facts_asked THEN certificate.facts END AS facts,
        certificate.host,
        CASE
            WHEN judged.verdict <> 'answered' OR NOT asked.owner_asked THEN NULL
            WHEN owner.id = viewer.id OR visible.is_visible THEN 'named'
            WHEN owner.id IS NOT NULL THEN 'verified'
            WHEN certificate.host IS NULL THEN 'not_applicable'
            ELSE 'none'
        END AS status,
        owner.id AS owner_id,
        owner.name AS owner_name,
        covering.domain AS covered_by,
        covering.verified_at
    FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::boolean[], $5::boolean[]) WITH ORDINALITY
        AS asked (answer_id, key_digest, cert_id, owner_asked, facts_asked, position)
    LEFT JOIN api_key ON api_key.digest = asked.key_digest AND api_key.revoked_at IS NULL
    LEFT JOIN account AS viewer ON viewer.id = api_key.account_id
    LEFT JOIN LATERAL (
        SELECT held.cert_id, held.kind, held.account_id, held.host, held.covering_names,
            held.suffix_list, held.created_at, held.expires_at, held.seconds_on_page, held.facts
        FROM certificate AS held
        WHERE held.cert_id = asked.cert_id
          AND (held.imported_by IS NULL OR held.imported_by = viewer.id)
        ORDER BY held.imported_by NULLS FIRST
        LIMIT 1
    ) AS held ON true
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN viewer.id IS NULL THEN 'unauthorized'
            WHEN viewer.suspended_at IS NOT NULL THEN 'inactive'
            WHEN held.cert_id IS NULL THEN 'not_found'
            WHEN now() >= coalesce(held.expires_at, held.created_at + interval '90 days')
                THEN 'expired'
            WHEN held.suffix_list <> $6 THEN 'outdated'
            ELSE 'answered'
        END AS verdict
    ) AS judged
    -- Whoever is not answered is not told anything about the certificate either.
    LEFT JOIN LATERAL (
        SELECT held.kind, held.account_id, held.host, held.covering_names, held.created_at,
            held.expires_at, held.seconds_on_page, held.facts
    ) AS certificate ON judged.verdict = 'answered'
    LEFT JOIN LATERAL (
        SELECT ownership.account_id, ownership.domain, ownership.verified_at
        FROM ownership
        JOIN account AS holder ON holder.id = ownership.account_id AND holder.suspended_at IS NULL
        WHERE asked.owner_asked
          AND ownership.ended_at IS NULL
          AND ownership.domain = ANY (certificate.covering_names)
          AND (ownership.covers_subdomains OR ownership.domain = certificate.host)
        ORDER BY length(ownership.domain) DESC
        LIMIT 1
    ) AS covering ON true
    LEFT JOIN account AS owner
        ON asked.owner_asked
        AND owner.suspended_at IS NULL
        AND owner.id = CASE
            WHEN certificate.host IS NOT NULL THEN covering.account_id
            WHEN certificate.kind <> 'web' OR certificate.facts -> 'is_masked' = 'true'
                THEN certificate.account_id
        END
    LEFT JOIN LATERAL (
        SELECT true AS is_visible
        FROM visibility_grant
        JOIN connection
            ON connection.id = visibility_grant.connection_id AND connection.ended_at IS NULL
        WHERE visibility_grant.owner_id = owner.id
          AND visibility_grant.viewer_id = viewer.id
          AND visibility_grant.ended_at IS NULL
    ) AS visible ON true
),
told AS MATERIALIZED (
    -- From here on an owner who may not be named is nowhere to be found.
    SELECT
        position, answer_id, cert_id, viewer_id, api_key_id, verdict, kind, created_at, expires_at,
        seconds_on_page, facts, host, status,
        CASE WHEN status = 'named' THEN owner_id END AS owner_account_id,
        CASE WHEN status = 'named' THEN owner_name END AS owner_name,
        CASE WHEN status = 'named' THEN covered_by END AS covered_by,
        CASE WHEN status = 'named' THEN verified_at END AS verified_at
    FROM decided
),
recorded AS (
    INSERT INTO answer (
        id, account_id, api_key_id, cert_id, domain, status,
        owner_account_id, owner_name, covered_by, verified_at, answered_at
    )
    SELECT
        answer_id, viewer_id, api_key_id, cert_id, host, status,
        owner_account_id, owner_name, covered_by, verified_at, now()
    FROM told
    WHERE verdict = 'answered'
)
SELECT
    verdict, now(), kind, created_at, expires_at, seconds_on_page, facts, host, status,
    owner_account_id, owner_name, covered_by, verified_at
FROM told
ORDER BY position
"""


async def insert_answers(
    connection: Connection, questions: Sequence[Question], suffix_list: str
) -> list[Answer]:
    """Decide and record, in one statement. Only questions with the verdict “answered” are recorded."""
    rows = await connection.fetch(
        _INSERT_ANSWERS,
        [question.answer_id for question in questions],
        [question.key_digest for question in questions],
        [question.cert_id for question in questions],
        [question.owner_asked for question in questions],
        [question.facts_asked for question in questions],
        suffix_list,
    )
    return [Answer(question.answer_id, *row) for question, row in zip(questions, rows, strict=True)]


async def select_hosts(
    connection: Connection, cert_ids: Sequence[str], suffix_list: str
) -> list[tuple[str, UUID | None, str, dict[str, object]]]:
    """Id, importer, kind and facts of the certificates whose host was found under another list."""
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


class Certificate(msgspec.Struct, frozen=True):
    """A certificate as it is recorded. `facts` are the properties that have no column of their own."""

    cert_id: str
    imported_by: UUID | None
    kind: Kind
    account_id: UUID | None
    host: str | None
    covering_names: Sequence[str] | None
    suffix_list: str | None
    created_at: datetime | None
    expires_at: datetime | None
    seconds_on_page: float | None
    facts: dict[str, object]
    page_text: str | None
    fingerprints: Sequence[str] | None


async def lock_imports(connection: Connection, imported_by: UUID | None) -> None:
    """Wait until no other transaction records certificates of that importer."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('certificates of ' || $1, 0))",
        str(imported_by),
    )


async def select_certificates(
    connection: Connection, cert_ids: Sequence[str], imported_by: UUID | None
) -> dict[str, Certificate]:
    """Those of the certificates that are on record for that importer, by id."""
    rows = await connection.fetch(
        """
        SELECT cert_id, imported_by, kind, account_id, host, covering_names, suffix_list,
            created_at, expires_at, seconds_on_page, facts, page_text, fingerprints
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


async def upsert_certificates(connection: Connection, certificates: Iterable[Certificate]) -> None:
    """Record certificates in place of what was recorded of them before. Needs a transaction."""
    await connection.execute(
        "CREATE TEMP TABLE incoming (LIKE certificate INCLUDING DEFAULTS) ON COMMIT DROP"
    )
    await connection.copy_records_to_table(
        "incoming",
        columns=Certificate.__struct_fields__,
        records=[
            (
                c.cert_id, c.imported_by, c.kind, c.account_id, c.host, c.covering_names,
                c.suffix_list, c.created_at, c.expires_at, c.seconds_on_page,
                msgspec.json.encode(c.facts).decode(), c.page_text, c.fingerprints,
            )
            for c in certificates
        ],
    )  # fmt: skip
    await connection.execute(
        """
        INSERT INTO certificate SELECT * FROM incoming
        ON CONFLICT ON CONSTRAINT certificate_unique DO UPDATE SET
            kind = excluded.kind,
            account_id = excluded.account_id,
            host = excluded.host,
            covering_names = excluded.covering_names,
            suffix_list = excluded.suffix_list,
            created_at = excluded.created_at,
            expires_at = excluded.expires_at,
            seconds_on_page = excluded.seconds_on_page,
            facts = excluded.facts,
            page_text = excluded.page_text,
            fingerprints = excluded.fingerprints
        """
    )
    await connection.execute("DROP TABLE incoming")
