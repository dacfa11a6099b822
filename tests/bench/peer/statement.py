"""The decision in one statement, which also records the answer."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from tests.bench.peer.errors import CertificateNotFound, InactiveAccount, Unauthorized
from tests.bench.peer.schemas import Told

_ANSWER = text("""
WITH caller AS (
    SELECT api_key.id AS api_key_id, account.id AS viewer_id, account.suspended_at
    FROM api_key
    JOIN account ON account.id = api_key.account_id
    WHERE api_key.digest = :digest AND api_key.revoked_at IS NULL
), record AS (
    SELECT certificate.*
    FROM certificate, caller
    WHERE certificate.cert_id = :cert_id
      AND (certificate.imported_by IS NULL OR certificate.imported_by = caller.viewer_id)
    ORDER BY certificate.imported_by NULLS FIRST
    LIMIT 1
), told AS (
    SELECT
        caller.viewer_id, caller.api_key_id, record.kind, record.created_at, record.expires_at,
        record.seconds_on_page, record.last_event_at, record.facts, record.host, owner.*
    FROM caller
    CROSS JOIN record
    CROSS JOIN LATERAL confirmed_owner(
        caller.viewer_id, record.host, record.covering_names,
        CASE
            WHEN record.kind <> 'web' OR record.facts -> 'is_masked' = 'true'
                THEN record.account_id
        END
    ) AS owner
    WHERE caller.suspended_at IS NULL
      AND now() < coalesce(
          record.expires_at, coalesce(record.created_at, record.recorded_at) + interval '93 days'
      )
), recorded AS (
    INSERT INTO answer (
        id, account_id, api_key_id, cert_id, domain, status,
        owner_account_id, owner_name, covered_by, verified_at, answered_at
    )
    SELECT
        :answer_id, viewer_id, api_key_id, :cert_id, host, status,
        owner_id, owner_name, covered_by, verified_at, now()
    FROM told
)
SELECT
    caller.suspended_at IS NOT NULL AS is_suspended, now() AS answered_at,
    told.kind, told.created_at, told.expires_at, told.seconds_on_page, told.last_event_at,
    told.facts, told.host, told.status, told.owner_id, told.owner_name, told.covered_by,
    told.verified_at
FROM caller
LEFT JOIN told ON true
""")


async def answer(session: AsyncSession, digest: bytes, cert_id: str) -> Told:
    """Decide, and record the answer."""
    answer_id = uuid7()
    result = await session.execute(
        _ANSWER, {"digest": digest, "cert_id": cert_id, "answer_id": answer_id}
    )
    row = result.one_or_none()
    await session.commit()
    if row is None:
        raise Unauthorized
    is_suspended, *told = row
    if is_suspended:
        raise InactiveAccount
    if row.status is None:
        raise CertificateNotFound
    return Told(answer_id, *told)
