"""How the API presents connections and partner accounts."""

from datetime import datetime
from uuid import UUID

import msgspec

from service.connections.records import Partner, Side


class PartnerAccount(msgspec.Struct):
    """Another account that you know of."""

    id: UUID
    name: str


class ConnectionView(msgspec.Struct):
    """A live connection. `role` is your side of it. A time is `null` if it doesn't apply now.

    `name_shown_since`: since when your partner sees your name as an owner.
    `partner_name_shown_since`: since when you see its name. `asked_by_partner_at`: when your
    partner asked to see your name. `asked_at`: when you asked to see its name.
    """

    id: UUID
    role: Side
    partner: PartnerAccount
    started_at: datetime
    name_shown_since: datetime | None
    partner_name_shown_since: datetime | None
    asked_by_partner_at: datetime | None
    asked_at: datetime | None


def connection_view(partner: Partner) -> ConnectionView:
    return ConnectionView(
        id=partner.connection_id,
        role=partner.role,
        partner=PartnerAccount(partner.partner_id, partner.partner_name),
        started_at=partner.started_at,
        name_shown_since=partner.name_shown_since,
        partner_name_shown_since=partner.partner_name_shown_since,
        asked_by_partner_at=partner.asked_by_partner_at,
        asked_at=partner.asked_at,
    )
