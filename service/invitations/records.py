"""The records of invitations."""

from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

from service.mail.records import MailState

InvitationState: TypeAlias = Literal["pending", "accepted", "declined", "cancelled", "expired"]


Reason: TypeAlias = Literal[
    "receive_leads",
    "send_leads",
    "domain_ownership_visibility",
    "confirm_domain_ownership",
    "share_lead_quality_reports",
    "join_account",
]


class Invitation(msgspec.Struct, frozen=True):
    """An invitation and its emails. An overdue one is “expired” even before a job marks it so."""

    id: UUID
    inviter_id: UUID
    inviter_name: str
    is_inviter_active: bool
    email: str
    reason: Reason
    role: Literal["admin", "member"] | None
    note: str | None
    vendor_label: str | None
    state: InvitationState
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    acceptor_id: UUID | None
    connection_id: UUID | None
    mail_id: UUID
    sent_count: int
    last_sent_at: datetime | None
    delivery: MailState
    delivery_error: str | None


class OptOut(msgspec.Struct, frozen=True):
    """An address that wants no invitations from an inviter, or from anyone if that is None."""

    email: str
    inviter_id: UUID | None
    inviter_name: str | None
    opted_out_at: datetime


class Link(msgspec.Struct, frozen=True):
    """What a mailed link leads to. It `is_current` if no newer email about the invitation was sent."""

    invitation: Invitation
    is_current: bool
