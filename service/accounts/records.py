"""The records of accounts and their people."""

from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec


class Account(msgspec.Struct, frozen=True):
    """An account in its current state."""

    id: UUID
    name: str
    suspended_at: datetime | None


class Caller(msgspec.Struct, frozen=True):
    """The account whose API key came with a request, and that key's id."""

    account_id: UUID
    name: str
    api_key_id: UUID
    suspended_at: datetime | None


class ApiKey(msgspec.Struct, frozen=True):
    """An active API key. `last_used_at` is within a minute; null if it was never used."""

    id: UUID
    name: str | None
    created_at: datetime
    last_used_at: datetime | None


class AccountDetails(msgspec.Struct, frozen=True):
    """Your account. `renamed_at` is when you last renamed it."""

    id: UUID
    name: str
    created_at: datetime
    renamed_at: datetime | None


Role: TypeAlias = Literal["admin", "member"]


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
    """An account that a user belongs to and that is not suspended."""

    account_id: UUID
    name: str
    role: Role


class SignInLink(msgspec.Struct, frozen=True):
    """An emailed sign-in link, and where it leads: to an invitation or a page."""

    email: str
    invitation_id: UUID | None
    next_path: str | None
    expires_at: datetime
    used_at: datetime | None
    is_expired: bool


class Session(msgspec.Struct, frozen=True):
    """The session of a signed-in user."""

    id: UUID
    user: User
