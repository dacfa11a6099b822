"""The decision with mapped classes: a query for each of caller, certificate, owner, and grant."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload
from uuid_utils.compat import uuid7

from tests.bench.peer.errors import CertificateNotFound, InactiveAccount, Unauthorized
from tests.bench.peer.models import (
    Account,
    Answer,
    ApiKey,
    Certificate,
    Connection,
    Ownership,
    VisibilityGrant,
)
from tests.bench.peer.schemas import Told


async def answer(session: AsyncSession, digest: bytes, cert_id: str) -> Told:
    """Decide, and record the answer."""
    key = await session.scalar(
        select(ApiKey)
        .where(ApiKey.digest == digest, ApiKey.revoked_at.is_(None))
        .options(joinedload(ApiKey.account))
    )
    if key is None:
        raise Unauthorized
    if key.account.suspended_at is not None:
        raise InactiveAccount
    viewer = key.account
    certificate = await session.scalar(
        select(Certificate)
        .where(
            Certificate.cert_id == cert_id,
            or_(Certificate.imported_by.is_(None), Certificate.imported_by == viewer.id),
        )
        .order_by(Certificate.imported_by.asc().nulls_first())
        .limit(1)
    )
    now = datetime.now(UTC)
    if certificate is None or _has_expired(certificate, now):
        raise CertificateNotFound
    owner, ownership = await _owner_of(session, certificate)
    if owner is None:
        status = "not_applicable" if certificate.host is None else "none"
    elif await _is_shown(session, owner.id, viewer.id):
        status = "named"
    else:
        status = "verified"
    told = owner if status == "named" else None
    covering = ownership if status == "named" else None
    recorded = Answer(
        id=uuid7(),
        account_id=viewer.id,
        api_key_id=key.id,
        cert_id=cert_id,
        domain=certificate.host,
        status=status,
        owner_account_id=told and told.id,
        owner_name=told and told.name,
        covered_by=covering and covering.domain,
        verified_at=covering and covering.verified_at,
        answered_at=now,
    )
    session.add(recorded)
    await session.commit()
    return Told(
        answer_id=recorded.id,
        answered_at=now,
        kind=certificate.kind,
        created_at=certificate.created_at,
        expires_at=certificate.expires_at,
        seconds_on_page=certificate.seconds_on_page,
        last_event_at=certificate.last_event_at,
        facts=certificate.facts,
        host=certificate.host,
        status=status,
        owner_id=recorded.owner_account_id,
        owner_name=recorded.owner_name,
        covered_by=recorded.covered_by,
        verified_at=recorded.verified_at,
    )


def _has_expired(certificate: Certificate, now: datetime) -> bool:
    made_at = certificate.created_at or certificate.recorded_at
    return now >= (certificate.expires_at or made_at + timedelta(days=93))


async def _owner_of(
    session: AsyncSession, certificate: Certificate
) -> tuple[Account | None, Ownership | None]:
    """The owner of the site; of a certificate without one, its own account."""
    if certificate.host is None:
        is_masked = certificate.facts.get("is_masked") is True
        if certificate.account_id is None or (certificate.kind == "web" and not is_masked):
            return None, None
        account = await session.get(Account, certificate.account_id)
        return (account, None) if account and account.suspended_at is None else (None, None)
    owned = await session.scalars(
        select(Ownership)
        .where(
            Ownership.domain.in_(certificate.covering_names or ()),
            Ownership.ended_at.is_(None),
        )
        .options(joinedload(Ownership.account))
    )
    covering = [
        each
        for each in owned
        if each.account.suspended_at is None
        and (each.covers_subdomains or each.domain == certificate.host)
    ]
    if not covering:
        return None, None
    nearest = max(covering, key=lambda each: len(each.domain))
    return nearest.account, nearest


async def _is_shown(session: AsyncSession, owner_id: UUID, viewer_id: UUID) -> bool:
    if owner_id == viewer_id:
        return True
    grant = await session.scalar(
        select(VisibilityGrant)
        .join(VisibilityGrant.connection)
        .where(
            VisibilityGrant.owner_id == owner_id,
            VisibilityGrant.viewer_id == viewer_id,
            VisibilityGrant.ended_at.is_(None),
            Connection.ended_at.is_(None),
        )
    )
    return grant is not None
