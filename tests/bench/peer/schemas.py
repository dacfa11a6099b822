"""Requests and responses, as Pydantic models."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel

PropertyName: TypeAlias = Literal[
    "age_seconds",
    "approx_ip_geo",
    "bot_detected",
    "browser",
    "confirmed_owner",
    "confirmed_owner_detail",
    "created_at",
    "domain",
    "expires_at",
    "form_input_kpm",
    "form_input_method",
    "form_input_wpm",
    "ip",
    "is_framed",
    "is_masked",
    "num_sensitive_content_elements",
    "num_sensitive_form_elements",
    "os",
    "page_url",
    "parent_page_url",
    "seconds_on_page",
    "session_replay_status",
]


class Insights(BaseModel):
    properties: list[PropertyName]


class OperationsRequest(BaseModel):
    insights: Insights


class Version(BaseModel):
    full: str | None = None
    major: str | None = None
    minor: str | None = None
    patch: str | None = None


class Browser(BaseModel):
    full: str | None = None
    name: str | None = None
    user_agent: str | None = None
    version: Version | None = None


class OperatingSystem(BaseModel):
    full: str | None = None
    is_mobile: bool | None = None
    name: str | None = None
    version: Version | None = None


class Place(BaseModel):
    city: str | None = None
    country_code: str | None = None
    lat: float | None = None
    lon: float | None = None
    postal_code: str | None = None
    state: str | None = None
    time_zone: str | None = None


class ConfirmedOwnerDetail(BaseModel):
    status: str
    domain: str | None
    answer_id: UUID
    covered_by: str | None
    owner_account_id: UUID | None
    verified_at: str | None


class Properties(BaseModel):
    """Those that were asked for are set."""

    age_seconds: int | None = None
    approx_ip_geo: Place | None = None
    bot_detected: bool | None = None
    browser: Browser | None = None
    confirmed_owner: str | None = None
    confirmed_owner_detail: ConfirmedOwnerDetail | None = None
    created_at: str | None = None
    domain: str | None = None
    expires_at: str | None = None
    form_input_kpm: float | None = None
    form_input_method: list[str] | None = None
    form_input_wpm: float | None = None
    ip: str | None = None
    is_framed: bool | None = None
    is_masked: bool | None = None
    num_sensitive_content_elements: float | None = None
    num_sensitive_form_elements: float | None = None
    os: OperatingSystem | None = None
    page_url: str | None = None
    parent_page_url: str | None = None
    seconds_on_page: float | None = None
    session_replay_status: Any = None


class InsightsResult(BaseModel):
    properties: Properties


class OperationsResponse(BaseModel):
    outcome: Literal["success"]
    reason: str | None
    insights: InsightsResult


@dataclass(frozen=True)
class Told:
    """What an answer says, before it is put into the properties asked for."""

    answer_id: UUID
    answered_at: datetime
    kind: str
    created_at: datetime | None
    expires_at: datetime | None
    seconds_on_page: float | None
    last_event_at: datetime | None
    facts: dict[str, Any]
    host: str | None
    status: str
    owner_id: UUID | None
    owner_name: str | None
    covered_by: str | None
    verified_at: datetime | None
