"""What is on record about connections and grants."""

from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

Side: TypeAlias = Literal["buyer", "seller"]


Outcome: TypeAlias = Literal["granted", "declined", "withdrawn", "disconnected"]


class Partner(msgspec.Struct, frozen=True):
    """A live connection, as one of its accounts sees it; `role` is that account's own.

    Since when its own name is shown, or the partner's is, and since when that has been asked for.
    """

    connection_id: UUID
    role: Side
    partner_id: UUID
    partner_name: str
    started_at: datetime
    name_shown_since: datetime | None
    partner_name_shown_since: datetime | None
    asked_by_partner_at: datetime | None
    asked_at: datetime | None
