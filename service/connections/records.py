"""The records of connections and grants."""

from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

Side: TypeAlias = Literal["buyer", "seller"]


Outcome: TypeAlias = Literal["granted", "declined", "withdrawn", "disconnected"]


class Partner(msgspec.Struct, frozen=True):
    """A live connection as one of its accounts sees it. `role` is that account's own.

    The times say since when its name or the partner's is shown, and since when each has been asked
    for. None means not now.
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
