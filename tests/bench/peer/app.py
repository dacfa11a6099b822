"""The application: one route."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any

import asyncpg
from fastapi import Depends, FastAPI, Path, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from tests.bench.peer import orm, statement
from tests.bench.peer.errors import Refusal, Unauthorized
from tests.bench.peer.schemas import (
    ConfirmedOwnerDetail,
    InsightsResult,
    OperationsRequest,
    OperationsResponse,
    Properties,
    Told,
)

_COMPUTED_OF = {
    "web": frozenset(Properties.model_fields),
    "mobile": frozenset(
        {
            "age_seconds",
            "approx_ip_geo",
            "confirmed_owner",
            "confirmed_owner_detail",
            "created_at",
            "expires_at",
            "ip",
            "is_masked",
            "os",
            "seconds_on_page",
        }
    ),
    "meta": frozenset(
        {"age_seconds", "confirmed_owner", "confirmed_owner_detail", "created_at", "expires_at"}
    ),
}

_FIXED = {
    "verified": "ActiveProspect Verified Account",
    "none": "No Verified ActiveProspect Account Identified",
}

_basic = HTTPBasic(auto_error=False)


def create_app(kind: str, url: str, connections: int) -> FastAPI:
    """The application on a database, with as many connections to it as the service has."""
    engine = create_async_engine(
        "postgresql+asyncpg://",
        # Its own parser of URLs doesn't know all that ours has.
        async_creator=lambda: asyncpg.connect(url),
        pool_size=connections,
        max_overflow=0,
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    decide = {"orm": orm.answer, "text": statement.answer}[kind]

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as opened:
            yield opened

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.exception_handler(Refusal)
    async def refuse(_: Request, error: Refusal) -> JSONResponse:
        return JSONResponse({"outcome": "error", "reason": error.reason}, status_code=error.status)

    @app.post("/{cert_id}", response_model_exclude_unset=True)
    async def run_operations(
        cert_id: Annotated[str, Path(pattern="^[-_A-Za-z0-9]{40}(?:[-_A-Za-z0-9]{40})?$|^0\\.")],
        asked: OperationsRequest,
        credentials: Annotated[HTTPBasicCredentials | None, Depends(_basic)],
        session: Annotated[AsyncSession, Depends(session)],
    ) -> OperationsResponse:
        if credentials is None:
            raise Unauthorized
        digest = hashlib.sha256(credentials.password.encode()).digest()
        told = await decide(session, digest, cert_id)
        values = {name: _value(name, told) for name in asked.insights.properties}
        return OperationsResponse(
            outcome="success", reason=None, insights=InsightsResult(properties=Properties(**values))
        )

    return app


def _value(name: str, told: Told) -> Any:
    if name not in _COMPUTED_OF[told.kind]:
        return None
    match name:
        case "age_seconds":
            return _age(told)
        case "confirmed_owner":
            return told.owner_name or _FIXED.get(told.status)
        case "confirmed_owner_detail":
            return ConfirmedOwnerDetail(
                status=told.status,
                domain=told.host,
                answer_id=told.answer_id,
                covered_by=told.covered_by,
                owner_account_id=told.owner_id,
                verified_at=_time(told.verified_at),
            )
        case "created_at":
            return _time(told.created_at)
        case "expires_at":
            return _time(told.expires_at)
        case "seconds_on_page":
            return told.seconds_on_page
    return told.facts.get(name)


def _age(told: Told) -> int | None:
    events = [told.last_event_at] if told.last_event_at else []
    if told.created_at:
        events.append(told.created_at + timedelta(seconds=told.seconds_on_page or 0))
    return max(0, int((told.answered_at - max(events)).total_seconds())) if events else None


def _time(value: datetime | None) -> str | None:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if value else None
