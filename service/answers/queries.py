"""The SQL statements about the record of answers."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from service.accounts.names import told_of_owner
from service.answers.records import AnswerFilters, AnswerView, RetainedFilters, RetainedView
from service.postgres.pools import Connection

_ANSWERS = """
SELECT
    answer.id, answer.answered_at, answer.as_of, answer.api_key_id, api_key.name, answer.cert_id,
    answer.domain, answer.status, answer.owner_name, answer.owner_account_id, answer.covered_by,
    answer.verified_at
FROM answer
LEFT JOIN api_key ON api_key.id = answer.api_key_id
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
        AND ($2::text IS NULL OR answer.cert_id = $2)
        AND ($3::text IS NULL OR answer.domain = $3)
        AND ($4::text IS NULL OR answer.status = $4)
        AND ($5::timestamptz IS NULL OR answer.answered_at >= $5)
        AND ($6::timestamptz IS NULL OR answer.answered_at < $6)
        AND ($7::uuid IS NULL OR answer.api_key_id = $7)
        AND ($8::uuid IS NULL OR answer.id < $8)
        ORDER BY answer.id DESC
        LIMIT $9
        """,
        account_id,
        filters.cert_id,
        filters.host,
        filters.status,
        filters.since,
        filters.until,
        filters.key_id,
        before,
        limit,
    )
    return [_answer(row) for row in rows]


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
