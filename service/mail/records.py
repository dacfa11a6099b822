"""The records of emails."""

from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

MailState: TypeAlias = Literal[
    "queued", "sending", "retrying", "sent", "written", "failed", "cancelled", "suppressed"
]
"""“written” is to the outbox, where no mail server is configured."""


class Mail(msgspec.Struct, frozen=True):
    """An email to send now. `params` is JSON."""

    id: UUID
    kind: str
    recipient: str
    params: str
    created_at: datetime
    is_too_late: bool


class Unsent(msgspec.Struct, frozen=True):
    """How many emails are `queued` for their first attempt, are `retrying`, and `failed` today."""

    queued: int
    retrying: int
    failed: int
