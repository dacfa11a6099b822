"""How connections and the accounts at their other end are told in the API."""

from datetime import datetime
from uuid import UUID

import msgspec

from service.connections.records import Partner, Side


class PartnerAccount(msgspec.Struct):
    """Another account that is known to yours."""

    id: UUID
    name: str


class ConnectionView(msgspec.Struct):
    """A live connection; `role` is your side of it. Times say since when, `null` that it is not so.

    `name_shown_since`: your partner sees your name as an owner; `partner_name_shown_since`: you see its
    name; `asked_by_partner_at`, `asked_at`: that was asked for by your partner, or by you.
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
