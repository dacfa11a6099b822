"""The tables that an answer takes, as mapped classes."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, deferred, mapped_column, relationship
from sqlalchemy.types import Text


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 - as SQLAlchemy documents it
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
    }


class Account(Base):
    __tablename__ = "account"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    suspended_at: Mapped[datetime | None]


class ApiKey(Base):
    __tablename__ = "api_key"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    digest: Mapped[bytes]
    revoked_at: Mapped[datetime | None]
    account: Mapped[Account] = relationship()


class Certificate(Base):
    __tablename__ = "certificate"

    revision: Mapped[int] = mapped_column(primary_key=True)
    cert_id: Mapped[str]
    imported_by: Mapped[UUID | None]
    kind: Mapped[str]
    account_id: Mapped[UUID | None]
    host: Mapped[str | None]
    covering_names: Mapped[list[str] | None]
    created_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    seconds_on_page: Mapped[float | None]
    last_event_at: Mapped[datetime | None]
    recorded_at: Mapped[datetime]
    facts: Mapped[dict[str, Any]]
    page_text: Mapped[str | None] = deferred(mapped_column())


class Ownership(Base):
    __tablename__ = "ownership"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    domain: Mapped[str]
    covers_subdomains: Mapped[bool]
    verified_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    account: Mapped[Account] = relationship()


class Connection(Base):
    __tablename__ = "connection"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    ended_at: Mapped[datetime | None]


class VisibilityGrant(Base):
    __tablename__ = "visibility_grant"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    connection_id: Mapped[UUID] = mapped_column(ForeignKey("connection.id"))
    owner_id: Mapped[UUID]
    viewer_id: Mapped[UUID]
    ended_at: Mapped[datetime | None]
    connection: Mapped[Connection] = relationship()


class Answer(Base):
    __tablename__ = "answer"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID]
    api_key_id: Mapped[UUID]
    cert_id: Mapped[str | None]
    domain: Mapped[str | None]
    status: Mapped[str | None]
    owner_account_id: Mapped[UUID | None]
    owner_name: Mapped[str | None]
    covered_by: Mapped[str | None]
    verified_at: Mapped[datetime | None]
    answered_at: Mapped[datetime]
