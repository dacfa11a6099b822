"""The statements about certificates and answers."""

from collections.abc import Iterable, Sequence, Set
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec

from service.database import Connection
from service.insights.contract import Kind, Status

Verdict: TypeAlias = Literal[
    "answered",
    "unauthorized",
    "inactive",
    "not_found",
    "expired",
    "overdue",
    "incomplete",
    "not_web",
    "outdated",
]


# No certificate can be asked about for longer.
LONGEST_WINDOW = timedelta(days=90)

# What may still move while a certificate is young, how long that is, and for how long it is true then.
MOVING = frozenset({"age_seconds", "expires_at", "seconds_on_page"})
SETTLED_AFTER = timedelta(days=1)
TRUSTED_FOR = timedelta(minutes=15)


class Labels(msgspec.Struct, frozen=True):
    """What an account notes about a certificate that it retains."""

    reference: str | None
    vendor: str | None
    campaign_id: str | None


class Question(msgspec.Struct, frozen=True):
    """What one call asks about one certificate, and the id its answer will have.

    `needed` names what has to be known; None if nothing can be asked elsewhere. Fingerprints are
    lower-case hex; None where there are none to look for.
    """

    answer_id: UUID
    key_digest: bytes
    cert_id: str
    owner_asked: bool
    facts_asked: bool
    needed: Set[str] | None = None
    email_fingerprints: Sequence[str] | None = None
    phone_fingerprints: Sequence[str] | None = None
    retain: Labels | None = None


class Answer(msgspec.Struct, frozen=True):
    """What one call is told about one certificate; `facts` is JSON. If it is not answered, only why.

    The owner's name, id, domain and time of verification are there only if the caller may see them.
    `known` is there where the vendor is to be asked: about what is needed beyond it if the verdict is
    “incomplete”, and about the end of the certificate's window if it is “overdue”. Where that
    `has_lapsed`, what moves is not known any more.
    `email_match` and `phone_match` are None where nothing was looked for, or could be.
    """

    answer_id: UUID
    verdict: Verdict
    answered_at: datetime
    kind: Kind
    created_at: datetime | None
    expires_at: datetime | None
    seconds_on_page: float | None
    last_event_at: datetime | None
    facts: str | None
    imported_by: UUID | None
    revision: int | None
    host: str | None
    status: Status | None
    owner_account_id: UUID | None
    owner_name: str | None
    covered_by: str | None
    verified_at: datetime | None
    known: list[str] | None
    has_lapsed: bool | None
    email_match: bool | None
    phone_match: bool | None
    retained: Labels | None
    previously_retained: bool | None


# The certificate is the service's own record of it if there is one, else the caller's; with a vendor
# behind us the one that holds all that is needed. A grant is looked for only where there is an owner, an
# owner only where it was asked for.
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
        certificate.last_event_at,
        CASE WHEN asked.facts_asked THEN certificate.facts END AS facts,
        certificate.imported_by,
        certificate.revision,
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
        covering.verified_at,
        CASE WHEN judged.verdict IN ('incomplete', 'overdue') THEN held.known END AS known,
        CASE WHEN judged.verdict IN ('incomplete', 'overdue') THEN timing.has_lapsed END
            AS has_lapsed,
        certificate.fingerprints && string_to_array(asked.more ->> 'emails', ',') AS email_match,
        certificate.fingerprints && string_to_array(asked.more ->> 'phones', ',') AS phone_match,
        asked.more ? 'retain' AND judged.verdict = 'answered' AS retains,
        asked.more -> 'retain' ->> 'reference' AS reference,
        asked.more -> 'retain' ->> 'vendor' AS vendor,
        asked.more -> 'retain' ->> 'campaign_id' AS campaign_id
    FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::boolean[], $5::boolean[], $6::jsonb[])
        WITH ORDINALITY
        AS asked (answer_id, key_digest, cert_id, owner_asked, facts_asked, more, position)
    LEFT JOIN api_key ON api_key.digest = asked.key_digest AND api_key.revoked_at IS NULL
    LEFT JOIN account AS viewer ON viewer.id = api_key.account_id
    LEFT JOIN LATERAL (
        SELECT held.cert_id, held.imported_by, held.kind, held.account_id, held.host,
            held.covering_names, held.suffix_list, held.created_at, held.expires_at,
            held.seconds_on_page, held.last_event_at, held.facts, held.revision,
            held.fingerprints, held.known, held.recorded_at, held.fetched_at,
            coalesce(
                held.fetched_at >= coalesce(held.created_at, held.recorded_at) + $9::interval, false
            ) AS is_settled,
            string_to_array(asked.more ->> 'needed', ',') <@ held.known AS is_enough
        FROM certificate AS held
        WHERE held.cert_id = asked.cert_id
          AND (held.imported_by IS NULL OR held.imported_by = viewer.id)
        ORDER BY is_enough DESC, held.imported_by NULLS FIRST
        LIMIT 1
    ) AS held ON true
    CROSS JOIN LATERAL (
        SELECT
            now() >= coalesce(
                held.expires_at, coalesce(held.created_at, held.recorded_at) + $8::interval
            ) AS is_over,
            -- What moves need not be any more what the vendor told then.
            held.fetched_at < now() - $10::interval AND NOT held.is_settled AS has_lapsed
    ) AS timing
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN viewer.id IS NULL THEN 'unauthorized'
            WHEN viewer.suspended_at IS NOT NULL THEN 'inactive'
            WHEN held.cert_id IS NULL THEN 'not_found'
            -- What the caller told itself does, or does not; nothing is bought to add to it.
            WHEN held.imported_by IS NOT NULL AND asked.more ? 'needed'
                AND (timing.is_over OR NOT held.is_enough) THEN 'not_found'
            -- A window is lengthened while a certificate is young, and then to its longest.
            WHEN timing.is_over AND (
                NOT coalesce(asked.more ? 'needed', false)
                OR held.is_settled
                OR (NOT timing.has_lapsed AND 'expires_at' = ANY (held.known))
                OR now() >= coalesce(held.created_at, held.recorded_at) + $8::interval
            ) THEN 'expired'
            WHEN timing.is_over THEN 'overdue'
            WHEN NOT held.is_enough OR (
                timing.has_lapsed AND string_to_array(asked.more ->> 'needed', ',') && $11::text[]
            ) THEN 'incomplete'
            WHEN held.kind <> 'web' AND asked.more ?| ARRAY['emails', 'phones']
                THEN 'not_web'
            WHEN held.suffix_list <> $7 THEN 'outdated'
            ELSE 'answered'
        END AS verdict
    ) AS judged
    -- Whoever is not answered is not told anything about the certificate either.
    LEFT JOIN LATERAL (
        SELECT held.kind, held.account_id, held.host, held.covering_names, held.created_at,
            held.expires_at, held.seconds_on_page, held.last_event_at, held.facts,
            held.imported_by, held.revision, held.fingerprints
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
        seconds_on_page, last_event_at, facts, imported_by, revision, host, status,
        CASE WHEN status = 'named' THEN owner_id END AS owner_account_id,
        CASE WHEN status = 'named' THEN owner_name END AS owner_name,
        CASE WHEN status = 'named' THEN covered_by END AS covered_by,
        CASE WHEN status = 'named' THEN verified_at END AS verified_at,
        known, has_lapsed, email_match, phone_match, retains, reference, vendor, campaign_id
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
),
-- One row for all calls at once that retain the same, the first of them first; in an order in which
-- no two statements wait for each other.
retained AS (
    INSERT INTO retained_certificate AS kept (
        account_id, cert_id, reference, vendor, campaign_id, retained_at, answer_id
    )
    SELECT
        viewer_id, cert_id,
        (array_agg(reference ORDER BY position) FILTER (WHERE reference IS NOT NULL))[1],
        (array_agg(vendor ORDER BY position) FILTER (WHERE vendor IS NOT NULL))[1],
        (array_agg(campaign_id ORDER BY position) FILTER (WHERE campaign_id IS NOT NULL))[1],
        now(),
        (array_agg(answer_id ORDER BY position))[1]
    FROM told
    WHERE retains
    GROUP BY viewer_id, cert_id
    ORDER BY viewer_id, cert_id
    ON CONFLICT (account_id, cert_id) DO UPDATE SET
        reference = coalesce(kept.reference, excluded.reference),
        vendor = coalesce(kept.vendor, excluded.vendor),
        campaign_id = coalesce(kept.campaign_id, excluded.campaign_id)
    RETURNING account_id, cert_id, reference, vendor, campaign_id, answer_id
)
SELECT
    told.verdict, now(), told.kind, told.created_at, told.expires_at, told.seconds_on_page,
    told.last_event_at, told.facts, told.imported_by, told.revision, told.host, told.status,
    told.owner_account_id, told.owner_name, told.covered_by, told.verified_at, told.known,
    told.has_lapsed, told.email_match, told.phone_match,
    retained.answer_id IS NOT NULL, retained.reference, retained.vendor, retained.campaign_id,
    retained.answer_id <> told.answer_id
FROM told
LEFT JOIN retained
    ON told.retains
    AND retained.account_id = told.viewer_id
    AND retained.cert_id = told.cert_id
ORDER BY told.position
"""


async def insert_answers(
    connection: Connection, questions: Sequence[Question], suffix_list: str
) -> list[Answer]:
    """Decide and record, in one statement. Only questions with the verdict “answered” are recorded.

    So are the certificates that are to be retained with them.
    """
    rows = await connection.fetch(
        _INSERT_ANSWERS,
        [question.answer_id for question in questions],
        [question.key_digest for question in questions],
        [question.cert_id for question in questions],
        [question.owner_asked for question in questions],
        [question.facts_asked for question in questions],
        [_more(question) for question in questions],
        suffix_list,
        LONGEST_WINDOW,
        SETTLED_AFTER,
        TRUSTED_FOR,
        MOVING,
    )
    return [
        Answer(question.answer_id, *_with_labels(row))
        for question, row in zip(questions, rows, strict=True)
    ]


def _more(question: Question) -> str | None:
    """What few questions have, as one value: each further array costs the statement a scan."""
    more: dict[str, object] = {}
    if question.needed is not None:
        more["needed"] = ",".join(question.needed)
    if question.email_fingerprints is not None:
        more["emails"] = ",".join(question.email_fingerprints)
    if question.phone_fingerprints is not None:
        more["phones"] = ",".join(question.phone_fingerprints)
    if question.retain is not None:
        more["retain"] = question.retain
    return msgspec.json.encode(more).decode() if more else None


def _with_labels(row: Sequence[Any]) -> tuple[Any, ...]:
    *told, is_retained, reference, vendor, campaign_id, previously_retained = row
    retained = Labels(reference, vendor, campaign_id) if is_retained else None
    return *told, retained, previously_retained


_NOTHING_TO_NOTE = Labels(None, None, None)


class PageText(msgspec.Struct, frozen=True):
    """The text recorded on a certificate, of `length` characters; left out where it is too long."""

    revision: int
    length: int | None
    text: str | None


async def select_page_text(
    connection: Connection, cert_id: str, imported_by: UUID | None, longest: int | None
) -> PageText:
    """The text recorded on a certificate, if it has at most so many characters."""
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
    # It may have been purged a moment ago.
    return PageText(0, None, None) if row is None else PageText(*row)


async def insert_retained(connection: Connection, question: Question) -> None:
    """Note that the vendor has retained a certificate, before anything else can go wrong with a call.

    The statement that answers finds it under the answer's own id, and takes it for its own.
    """
    labels = question.retain or _NOTHING_TO_NOTE
    await connection.execute(
        """
        INSERT INTO retained_certificate (
            account_id, cert_id, reference, vendor, campaign_id, retained_at, answer_id
        )
        SELECT account_id, $2, $3, $4, $5, now(), $6 FROM api_key WHERE digest = $1
        ON CONFLICT (account_id, cert_id) DO NOTHING
        """,
        question.key_digest,
        question.cert_id,
        labels.reference,
        labels.vendor,
        labels.campaign_id,
        question.answer_id,
    )


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
    """A certificate as it is recorded; None is what is not known, or was not recorded yet.

    `facts` are the properties that have no column of their own.
    """

    cert_id: str
    imported_by: UUID | None
    kind: Kind
    account_id: UUID | None = None
    host: str | None = None
    covering_names: Sequence[str] | None = None
    suffix_list: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    seconds_on_page: float | None = None
    last_event_at: datetime | None = None
    fetched_at: datetime | None = None
    facts: dict[str, object] = {}
    known: Sequence[str] = ()
    page_text: str | None = None
    fingerprints: Sequence[str] | None = None
    recorded_at: datetime | None = None
    revision: int | None = None


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
    """Record certificates, each once, and give the ids of those that were.

    Those were not of which another transaction has recorded something since they were read.
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
        -- What was purged meanwhile does not come back.
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
    """The kind of a certificate on record for a viewer, and whether its longest window is over."""
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
    """Delete certificates first recorded longer ago than that, and say how many."""
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
