"""The statement that answers calls, and what it reads and records."""

from collections.abc import Sequence, Set
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

import asyncpg
import msgspec
from uuid_utils.compat import uuid7

from service.accounts.names import Status
from service.certificates.facts import LONGEST_WINDOW, MOVING, SETTLED_AFTER, TRUSTED_FOR, Kind
from service.postgres.pools import Connection

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
    "oversized",
]


class Labels(msgspec.Struct, frozen=True):
    """What an account notes about a certificate it retains."""

    reference: str | None
    vendor: str | None
    campaign_id: str | None


class Question(msgspec.Struct, frozen=True):
    """What one call asks about one certificate, and the id its answer will have.

    `needed` names what must be known; None if there is no vendor to ask. Fingerprints are lowercase
    hex; None if there are none to look for. If `vendor_answers`, the vendor has just answered about
    the certificate, so it hasn't expired, whatever the times on record say.

    The last two fields are for `insert_many_answers` alone. If `at_any_age`, it doesn't matter whether
    the certificate has expired. A `site` is a host with the names that cover it, asked about without a
    certificate; `cert_id` is then empty.
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
    vendor_answers: bool = False
    at_any_age: bool = False
    site: tuple[str, Sequence[str]] | None = None


class Answer(msgspec.Struct, frozen=True):
    """What one call is told about one certificate, or why it is not answered; `facts` is JSON.

    The owner's name, id, domain, and verification time are set only if the caller may see them.
    `known` is set if the vendor has to be asked: for what else is needed if the verdict is
    “incomplete”, and also for the end of the certificate's window if it is “overdue”. If
    `has_lapsed`, `MOVING` properties no longer count as known. `email_match` and `phone_match` are
    None if nothing was or could be looked for. `is_past` is whether the certificate's window is over.
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
    is_past: bool | None
    email_match: bool | None = None
    phone_match: bool | None = None
    retained: Labels | None = None
    previously_retained: bool | None = None


# The statement that answers, step by step. Every step uses indexes, however large the tables are.

# What is asked, and by whom.
_ASKED = """
asked AS (
    SELECT
        asked.position, asked.answer_id, asked.cert_id, asked.owner_asked, asked.facts_asked,
        {more} AS more, string_to_array({more} ->> 'needed', ',') AS needed,
        api_key.id AS api_key_id, viewer.id AS viewer_id, viewer.suspended_at
    FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::boolean[], $5::boolean[], $6::jsonb[])
        WITH ORDINALITY
        AS asked (answer_id, key_digest, cert_id, owner_asked, facts_asked, more, position)
    LEFT JOIN api_key ON api_key.digest = asked.key_digest AND api_key.revoked_at IS NULL
    LEFT JOIN account AS viewer ON viewer.id = api_key.account_id
)"""

# What the rows of a batch ask, all of them for one account. Its key may have been revoked since.
_ASKED_BY_BATCH = """
asked AS (
    SELECT
        asked.position, asked.answer_id, asked.cert_id, true AS owner_asked, false AS facts_asked,
        CASE
            WHEN asked.site IS NULL THEN jsonb_build_object('at_any_age', true)
            ELSE jsonb_build_object('at_any_age', true, 'site', asked.site, 'names', asked.names)
        END AS more,
        NULL::text[] AS needed,
        $2::uuid AS api_key_id, viewer.id AS viewer_id, viewer.suspended_at
    FROM unnest($1::uuid[], $4::text[], $5::text[], $6::text[])
        WITH ORDINALITY AS asked (answer_id, cert_id, site, names, position)
    LEFT JOIN account AS viewer ON viewer.id = $3
)"""

# What is on record about the certificate: the service's own record if there is one, otherwise the
# caller's. With a vendor, a record with everything that is needed comes first.
_RECORD = """(
        SELECT
            true AS is_on_record, certificate.imported_by, certificate.kind, certificate.account_id,
            certificate.host, certificate.covering_names, certificate.suffix_list,
            certificate.created_at, certificate.expires_at, certificate.seconds_on_page,
            certificate.last_event_at, certificate.facts, certificate.revision,
            certificate.fingerprints, certificate.known, certificate.fetched_at,
            coalesce(certificate.created_at, certificate.recorded_at) AS made_at,
            certificate.is_oversized, asked.needed <@ certificate.known AS is_enough
        FROM certificate
        WHERE certificate.cert_id = asked.cert_id
          AND (certificate.imported_by IS NULL OR certificate.imported_by = asked.viewer_id)
        ORDER BY is_enough DESC, certificate.imported_by NULLS FIRST
        LIMIT 1
    )"""

# A site that is asked about without a certificate: as one of whose site only that is known.
_RECORD_OR_SITE = f"""(
    {_RECORD} UNION ALL SELECT
        true, NULL, 'web', NULL, asked.more ->> 'site', string_to_array(asked.more ->> 'names', ','),
        $7, NULL, NULL, NULL, NULL, jsonb_build_object('domain', asked.more ->> 'site'),
        NULL, NULL, ARRAY['domain'], NULL, NULL, false, true
    WHERE asked.more ? 'site'
    )"""

_HELD = """
held AS (
    SELECT asked.*, record.*
    FROM asked
    LEFT JOIN LATERAL {record} AS record ON true
)"""

# Whether the call can be answered, and if not, why. Computed once, because much depends on it.
_JUDGED = """
judged AS MATERIALIZED (
    SELECT held.*, timing.has_lapsed, timing.is_past, CASE
        WHEN held.viewer_id IS NULL THEN 'unauthorized'
        WHEN held.suspended_at IS NOT NULL THEN 'inactive'
        WHEN held.is_on_record IS NULL THEN 'not_found'
        WHEN held.is_oversized THEN 'oversized'
        -- What the caller imported is enough, or it isn't: we buy nothing to add to it.
        WHEN held.imported_by IS NOT NULL AND held.needed IS NOT NULL
            AND (timing.is_over OR NOT held.is_enough) THEN 'not_found'
        -- The window of a young certificate can still be extended, but not past the longest.
        WHEN timing.is_over AND (
            held.needed IS NULL
            OR timing.is_settled
            OR (NOT timing.has_lapsed AND 'expires_at' = ANY (held.known))
            OR now() >= held.made_at + $8::interval
        ) THEN 'expired'
        WHEN timing.is_over THEN 'overdue'
        WHEN NOT held.is_enough OR (timing.has_lapsed AND held.needed && $11::text[])
            THEN 'incomplete'
        WHEN held.kind <> 'web' AND held.more ?| ARRAY['emails', 'phones'] THEN 'not_web'
        WHEN held.suffix_list <> $7 THEN 'outdated'
        ELSE 'answered'
    END AS verdict
    FROM held
    CROSS JOIN LATERAL (
        SELECT coalesce(held.fetched_at >= held.made_at + $9::interval, false) AS is_settled
    ) AS age
    CROSS JOIN LATERAL (
        SELECT now() >= CASE
            -- The vendor answered although the end it told was over.
            WHEN held.expires_at <= held.fetched_at THEN held.fetched_at + $10::interval
            ELSE coalesce(held.expires_at, held.made_at + $8::interval)
        END AS is_past
    ) AS window_of
    CROSS JOIN LATERAL (
        SELECT
            age.is_settled,
            window_of.is_past,
            window_of.is_past
                AND NOT coalesce(held.more ?| ARRAY['vendor_answers', 'at_any_age'], false) AS is_over,
            -- `MOVING` properties may have changed since the vendor told them.
            held.fetched_at < now() - $10::interval AND NOT age.is_settled AS has_lapsed
    ) AS timing
)"""

# In seconds, for thousands of answers.
_BATCH_DEADLINE = 30

# What operations besides insights tell. They take a tenth of the time, so batches leave them out.
_OPERATIONS = """,
        -- Where only some fingerprints are known, that a lead isn't among them says nothing.
        nullif(
            certificate.fingerprints && string_to_array(judged.more ->> 'emails', ','),
            CASE WHEN 'fingerprints' <> ALL (judged.known) THEN false END
        ) AS email_match,
        nullif(
            certificate.fingerprints && string_to_array(judged.more ->> 'phones', ','),
            CASE WHEN 'fingerprints' <> ALL (judged.known) THEN false END
        ) AS phone_match,
        judged.more ? 'retain' AND judged.verdict = 'answered' AS retains,
        judged.more -> 'retain' ->> 'reference' AS reference,
        judged.more -> 'retain' ->> 'vendor' AS vendor,
        judged.more -> 'retain' ->> 'campaign_id' AS campaign_id"""

# The answer, and who owns the site. A call without an answer learns nothing about the certificate.
_TOLD = """
told AS MATERIALIZED (
    SELECT
        judged.position, judged.answer_id, judged.cert_id, judged.viewer_id, judged.api_key_id,
        judged.verdict, certificate.is_past, certificate.kind, certificate.created_at,
        certificate.expires_at, certificate.seconds_on_page, certificate.last_event_at,
        certificate.facts,
        certificate.imported_by, certificate.revision, certificate.host,
        owner.status, owner.owner_id AS owner_account_id, owner.owner_name, owner.covered_by,
        owner.verified_at,
        CASE WHEN judged.verdict IN ('incomplete', 'overdue') THEN judged.known END AS known,
        CASE WHEN judged.verdict IN ('incomplete', 'overdue') THEN judged.has_lapsed END
            AS has_lapsed{operations}
    FROM judged
    LEFT JOIN LATERAL (
        SELECT
            judged.kind, judged.created_at, judged.expires_at, judged.seconds_on_page,
            judged.last_event_at, judged.imported_by, judged.revision, judged.fingerprints,
            judged.host, judged.is_past, CASE WHEN judged.facts_asked THEN judged.facts END AS facts
    ) AS certificate ON judged.verdict = 'answered'
    LEFT JOIN LATERAL confirmed_owner(
        judged.viewer_id,
        judged.host,
        CASE WHEN judged.owner_asked THEN judged.covering_names END,
        CASE
            WHEN judged.kind <> 'web' OR judged.facts -> 'is_masked' = 'true'
                THEN judged.account_id
        END,
        {as_of}
    ) AS owner ON judged.verdict = 'answered' AND judged.owner_asked
)"""

_RECORDED = """
recorded AS (
    INSERT INTO answer (
        id, account_id, api_key_id, cert_id, domain, status,
        owner_account_id, owner_name, covered_by, verified_at, answered_at, as_of
    )
    SELECT
        answer_id, viewer_id, api_key_id, cert_id, host, status,
        owner_account_id, owner_name, covered_by, verified_at, now(), {as_of}
    FROM told
    WHERE verdict = 'answered'
)"""

# One row for all calls of a batch that retain the same certificate; the first label of each kind
# wins. The order keeps concurrent statements from deadlocking.
_RETAINED = """
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
)"""

_COLUMNS = """
    told.verdict, now(), told.kind, told.created_at, told.expires_at, told.seconds_on_page,
    told.last_event_at, told.facts, told.imported_by, told.revision, told.host, told.status,
    told.owner_account_id, told.owner_name, told.covered_by, told.verified_at, told.known,
    told.has_lapsed, told.is_past"""

_ANSWERS = """
SELECT {columns},
    told.email_match, told.phone_match,
    retained.answer_id IS NOT NULL, retained.reference, retained.vendor, retained.campaign_id,
    retained.answer_id <> told.answer_id
FROM told
LEFT JOIN retained
    ON told.retains
    AND retained.account_id = told.viewer_id
    AND retained.cert_id = told.cert_id
ORDER BY told.position
"""

_COMMON_ANSWERS = """
SELECT {columns} FROM told ORDER BY told.position
"""

_ANSWERS_OF_BATCH = """
SELECT verdict, host, status, owner_name, is_past, created_at FROM told ORDER BY position
"""


def _statement(steps: Sequence[str], result: str, **parts: str) -> str:
    return ("WITH " + ",".join(steps) + result).format(columns=_COLUMNS, **parts)


def _about_owners(asked: str, result: str, **parts: str) -> str:
    steps = (asked, _HELD, _JUDGED, _TOLD, _RECORDED)
    return _statement(steps, result, operations="", **parts)


_ALL_STEPS = (_ASKED, _HELD, _JUDGED, _TOLD, _RECORDED, _RETAINED)
_NOW, _THEN = "NULL::timestamptz", "$12::timestamptz"

# One definition of every step, and six statements: the planner makes the least of the common one,
# and leaves out what depends on a null.
_INSERT_COMMON_ANSWERS = _about_owners(
    _ASKED, _COMMON_ANSWERS, record=_RECORD, as_of=_NOW, more="NULL::jsonb"
)
_INSERT_ANSWERS = _statement(
    _ALL_STEPS, _ANSWERS, record=_RECORD, as_of=_NOW, more="asked.more", operations=_OPERATIONS
)
_INSERT_MANY_ANSWERS, _INSERT_ANSWERS_AS_OF = (
    _about_owners(_ASKED, _COMMON_ANSWERS, record=_RECORD_OR_SITE, as_of=as_of, more="asked.more")
    for as_of in (_NOW, _THEN)
)
_INSERT_BATCH_ANSWERS, _INSERT_BATCH_ANSWERS_ABOUT_SITES = (
    _about_owners(_ASKED_BY_BATCH, _ANSWERS_OF_BATCH, record=record, as_of=_THEN)
    for record in (_RECORD, _RECORD_OR_SITE)
)


async def insert_answers(
    connection: Connection, questions: Sequence[Question], suffix_list: str
) -> list[Answer]:
    """Decide and record answers in one statement.

    Only questions with the verdict “answered” are recorded, with the certificates they retain.
    """
    more = [_more(question) for question in questions]
    is_common = not any(more)
    statement = _INSERT_COMMON_ANSWERS if is_common else _INSERT_ANSWERS
    rows = await _insert(connection, statement, questions, more, suffix_list)
    return [
        Answer(question.answer_id, *(row if is_common else _with_labels(row)))
        for question, row in zip(questions, rows, strict=True)
    ]


async def insert_many_answers(
    connection: Connection,
    questions: Sequence[Question],
    suffix_list: str,
    as_of: datetime | None,
) -> list[Answer]:
    """Like `insert_answers`, also about sites and at any age; `as_of` a past instant, if given."""
    statement, instant = (
        (_INSERT_MANY_ANSWERS, ()) if as_of is None else (_INSERT_ANSWERS_AS_OF, (as_of,))
    )
    more = [_more(question) for question in questions]
    rows = await _insert(connection, statement, questions, more, suffix_list, *instant)
    return [Answer(question.answer_id, *row) for question, row in zip(questions, rows, strict=True)]


class BatchAnswer(msgspec.Struct, frozen=True, array_like=True):
    """What a row of a batch is told. `made_at` is when the certificate was made, if that is known."""

    verdict: Verdict
    host: str | None
    status: Status | None
    owner_name: str | None
    is_past: bool | None
    made_at: datetime | None


async def insert_batch_answers(
    connection: Connection,
    account_id: UUID,
    api_key_id: UUID,
    answer_ids: Sequence[UUID],
    cert_ids: Sequence[str | None],
    sites: Sequence[tuple[str, Sequence[str]] | None],
    suffix_list: str,
    as_of: datetime,
) -> list[BatchAnswer]:
    """Decide and record the answers of rows, each about a certificate or a site, as of an instant.

    Like `insert_answers`, but only about the owner, and with no more of each row than that takes.
    Nobody waits for it, so it has longer than other statements. Needs a transaction.
    """
    await connection.execute(f"SET LOCAL statement_timeout = '{_BATCH_DEADLINE}s'")
    rows = await connection.fetch(
        _INSERT_BATCH_ANSWERS_ABOUT_SITES if any(sites) else _INSERT_BATCH_ANSWERS,
        answer_ids,
        api_key_id,
        account_id,
        cert_ids,
        [None if site is None else site[0] for site in sites],
        [None if site is None else ",".join(site[1]) for site in sites],
        suffix_list,
        LONGEST_WINDOW,
        SETTLED_AFTER,
        TRUSTED_FOR,
        MOVING,
        as_of,
        timeout=_BATCH_DEADLINE + 5,
    )
    return [BatchAnswer(*row) for row in rows]


async def select_record_start(connection: Connection) -> datetime | None:
    """Return since when the record tells what was so, which is its first event."""
    return await connection.fetchval("SELECT at FROM event ORDER BY id LIMIT 1")


async def _insert(
    connection: Connection,
    statement: str,
    questions: Sequence[Question],
    more: Sequence[str | None],
    suffix_list: str,
    *as_of: datetime,
) -> list[asyncpg.Record]:
    return await connection.fetch(
        statement,
        [question.answer_id for question in questions],
        [question.key_digest for question in questions],
        [question.cert_id or None for question in questions],
        [question.owner_asked for question in questions],
        [question.facts_asked for question in questions],
        more,
        suffix_list,
        LONGEST_WINDOW,
        SETTLED_AFTER,
        TRUSTED_FOR,
        MOVING,
        *as_of,
    )


def _more(question: Question) -> str | None:
    """Return what few questions have as one value: each extra array costs the statement a scan."""
    more: dict[str, object] = {}
    if question.needed is not None:
        more["needed"] = ",".join(question.needed)
    if question.email_fingerprints is not None:
        more["emails"] = ",".join(question.email_fingerprints)
    if question.phone_fingerprints is not None:
        more["phones"] = ",".join(question.phone_fingerprints)
    if question.vendor_answers:
        more["vendor_answers"] = True
    if question.at_any_age:
        more["at_any_age"] = True
    if question.site is not None:
        more["site"], names = question.site
        more["names"] = ",".join(names)
    if question.retain is not None:
        more["retain"] = question.retain
    return msgspec.json.encode(more).decode() if more else None


def _with_labels(row: Sequence[Any]) -> tuple[Any, ...]:
    *told, is_retained, reference, vendor, campaign_id, previously_retained = row
    retained = Labels(reference, vendor, campaign_id) if is_retained else None
    return *told, retained, previously_retained


async def rehearse_answer(connection: Connection) -> None:
    """Do what an answer takes, and undo it. Raises whatever would prevent one."""
    rehearsal = connection.transaction()
    await rehearsal.start()
    try:
        # Nothing is read, but as the statement that answers, it waits for locks on these tables.
        await connection.execute("SELECT FROM certificate, retained_certificate LIMIT 0")
        await connection.execute(
            """
            INSERT INTO answer (id, account_id, api_key_id, cert_id, domain, status, answered_at)
            SELECT $1, $1, $1, 'rehearsal', 'example.com', owner.status, now()
            FROM confirmed_owner($1, 'example.com', ARRAY['example.com'], NULL) AS owner
            LEFT JOIN api_key ON api_key.id = $1
            """,
            uuid7(),
        )
    finally:
        await rehearsal.rollback()


_NOTHING_TO_NOTE = Labels(None, None, None)


async def insert_retained(connection: Connection, question: Question) -> None:
    """Record that the vendor retained a certificate, before anything else in the call can fail.

    The statement that answers finds the row under its answer's id and treats it as its own.
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
