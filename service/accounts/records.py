"""What is on record about accounts and their people."""

from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec


class Account(msgspec.Struct, frozen=True):
    """An account as it stands."""

    id: UUID
    name: str
    suspended_at: datetime | None


class Caller(msgspec.Struct, frozen=True):
    """The account whose API key came with a request, and the key."""

    account_id: UUID
    name: str
    api_key_id: UUID
    suspended_at: datetime | None


class AccountDetails(msgspec.Struct, frozen=True):
    """An account as its own people see it; `renamed_at` is when it last renamed itself."""

    id: UUID
    name: str
    created_at: datetime
    renamed_at: datetime | None


Role: TypeAlias = Literal["admin", "member"]


class User(msgspec.Struct, frozen=True):
    """A person, by e-mail address; the name is known once the person gave it."""

    id: UUID
    email: str
    name: str | None


class Member(msgspec.Struct, frozen=True):
    """A user of an account."""

    user_id: UUID
    email: str
    name: str | None
    role: Role
    since: datetime


class Membership(msgspec.Struct, frozen=True):
    """An account that a user belongs to, and that is not suspended."""

    account_id: UUID
    name: str
    role: Role


class SignInLink(msgspec.Struct, frozen=True):
    """A mailed link to sign in, and where it leads to: an invitation, or a page."""

    email: str
    invitation_id: UUID | None
    next_path: str | None
    expires_at: datetime
    used_at: datetime | None
    is_expired: bool


class Session(msgspec.Struct, frozen=True):
    """A user who is signed in."""

    id: UUID
    user: User
