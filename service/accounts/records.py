"""The records of accounts and their people."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec


class Account(msgspec.Struct, frozen=True):
    """An account in its current state."""

    id: UUID
    name: str
    suspended_at: datetime | None


# The name of the allowance that `Limits.purchases` limits.
PURCHASES = "calls to the vendor"


class Limits(msgspec.Struct, frozen=True):
    """What an account may use. An operator may give it other limits than these."""

    calls: int = 256
    """Calls to the Certificate API in progress at the same time."""
    certificates: int = 1_000_000
    """Certificates that it has imported."""
    certificate_bytes: int = 2_000_000_000
    """What is recorded about them, in bytes."""
    purchases: int = 10_000
    """Calls to the vendor per day (UTC)."""


class Caller(msgspec.Struct, frozen=True):
    """The account whose API key came with a request, that key's id, and the account's limits."""

    account_id: UUID
    name: str
    api_key_id: UUID
    suspended_at: datetime | None
    limits: Limits = Limits()


class ApiKey(msgspec.Struct, frozen=True):
    """An active API key. `last_used_at` is within a minute; null if it was never used."""

    id: UUID
    name: str | None
    created_at: datetime
    last_used_at: datetime | None


class Used(msgspec.Struct, frozen=True):
    """What an account has used of its limits; `purchases` are today's."""

    certificates: int
    certificate_bytes: int
    purchases: int


class AccountDetails(msgspec.Struct, frozen=True):
    """Your account: when you last renamed it, what it may use, and what it has used of that."""

    id: UUID
    name: str
    created_at: datetime
    renamed_at: datetime | None
    limits: Limits
    used: Used


Role: TypeAlias = Literal["admin", "member"]
Topic: TypeAlias = Literal["connections", "domains"]
"""What an account's admins get emails about."""


class User(msgspec.Struct, frozen=True):
    """A person, identified by email address. `name` is None until the person gives it."""

    id: UUID
    email: str
    name: str | None


class Member(msgspec.Struct, frozen=True):
    """A user of your account."""

    user_id: UUID
    email: str
    name: str | None
    role: Role
    since: datetime


class Membership(msgspec.Struct, frozen=True):
    """An account that a user belongs to and that is not suspended.

    `answers` is whether its keys may answer for the user, and `muted` what the user wants no emails
    about.
    """

    account_id: UUID
    name: str
    role: Role
    answers: bool
    muted: Sequence[Topic]


class SignInLink(msgspec.Struct, frozen=True):
    """An emailed sign-in link, and where it leads: to an invitation or a page."""

    email: str
    invitation_id: UUID | None
    next_path: str | None
    expires_at: datetime
    used_at: datetime | None
    is_expired: bool


class LiveSession(msgspec.Struct, frozen=True):
    """A session of a user that has not ended, and when it will."""

    id: UUID
    started_at: datetime
    expires_at: datetime


class Session(msgspec.Struct, frozen=True):
    """The session of a signed-in user."""

    id: UUID
    user: User
