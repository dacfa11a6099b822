"""What an account was told about certificates and sites, and what it retained."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from service.accounts.names import Status
from service.answers.receipts import Receipt


class AnswerView(Struct, frozen=True):
    """One answer, as it was told.

    `key_name` is the email address of who asked, if that was in a browser. `host` is what the owner
    was looked up for, and `cert_id` is `null` if a site was asked about. A `status` of `null` says
    that the call didn't ask who the owner is. `as_of` is the past instant that was asked about, if
    any. What identifies the owner is there only if you were told.
    """

    id: UUID
    answered_at: datetime
    as_of: datetime | None
    key_id: UUID
    key_name: str | None
    cert_id: str | None
    host: str | None
    status: Status | None
    confirmed_owner: str | None
    owner_account_id: UUID | None
    covered_by: str | None
    verified_at: datetime | None


class SealedAnswer(AnswerView, frozen=True, kw_only=True):
    """An answer, and its receipt once it is sealed, which takes about a minute."""

    receipt: Receipt | None


class RetainedView(Struct, frozen=True):
    """A certificate that your account retained, with the labels you gave it."""

    cert_id: str
    retained_at: datetime
    reference: str | None
    vendor: str | None
    campaign_id: str | None
    answer_id: UUID


class AnswerFilters(Struct, frozen=True, kw_only=True):
    """Which answers are wanted. Those that are set all apply; `until` is exclusive."""

    cert_id: str | None = None
    host: str | None = None
    status: Status | None = None
    since: datetime | None = None
    until: datetime | None = None
    key_id: UUID | None = None
    first_id: UUID | None = None
    last_id: UUID | None = None


class RetainedFilters(Struct, frozen=True, kw_only=True):
    """Which retained certificates are wanted. Those that are set all apply; `until` is exclusive."""

    reference: str | None = None
    vendor: str | None = None
    campaign_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
