"""What is on record about domains: claims, ownerships, and the evidence for them."""

from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

from service.ownership.verification import Standing

Method: TypeAlias = Literal["attested", "dns"]


class Ownership(msgspec.Struct, frozen=True):
    """A period in which an account's claim to a domain is verified."""

    id: UUID
    account_id: UUID
    domain: str
    covers_subdomains: bool
    verified_at: datetime
    method: Method
    claim_id: UUID | None = None


class Claim(msgspec.Struct, frozen=True):
    """An account's claim to a domain, and its standing.

    `method` is that of its live ownership, if there is one. `hint` says what the latest check found
    instead of the code.
    """

    id: UUID
    account_id: UUID
    name: str
    covers_subdomains: bool
    code: str
    added_at: datetime
    standing: Standing
    next_check_at: datetime | None
    proves_subdomains: bool
    nameservers: list[str] | None
    at_risk: bool
    hint: str | None
    method: Method | None
    owns_subdomains: bool


class Evidence(msgspec.Struct, frozen=True):
    """A change to your domain. `evidence` is what the check found, as JSON; null if none ran."""

    id: UUID
    at: datetime
    change: str
    evidence: msgspec.Raw | None


class DueChecks(msgspec.Struct, frozen=True):
    """How many checks of domains are due and not begun, how many are `overdue`, and since when.

    The oldest is due for `oldest` seconds.
    """

    due: int
    overdue: int
    oldest: float
