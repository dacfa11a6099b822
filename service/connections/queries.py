"""The statements about connections, grants and invitations."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from service.database import Connection
from service.errors import Conflict
from service.mail.queries import MailState

Side: TypeAlias = Literal["buyer", "seller"]
Outcome: TypeAlias = Literal["granted", "declined", "withdrawn", "disconnected"]
InvitationState: TypeAlias = Literal["pending", "accepted", "declined", "cancelled", "expired"]
Reason: TypeAlias = Literal[
    "receive_leads",
    "send_leads",
    "domain_ownership_visibility",
    "confirm_domain_ownership",
    "share_lead_quality_reports",
    "join_account",
]


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


class Invitation(msgspec.Struct, frozen=True):
    """An invitation, and what became of its mails. One past its end is “expired”, noted so or not."""

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


async def lock_pair(connection: Connection, one: UUID, other: UUID) -> datetime:
    """Wait until no other transaction changes what is between two accounts. The time from then on."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('between ' || $1 || ' and ' || $2, 0))",
        *sorted((str(one), str(other))),
    )
    return await connection.fetchval("SELECT clock_timestamp()")


async def select_live_connection(
    connection: Connection, buyer_id: UUID, seller_id: UUID
) -> UUID | None:
    return await connection.fetchval(
        "SELECT id FROM connection WHERE buyer_id = $1 AND seller_id = $2 AND ended_at IS NULL",
        buyer_id,
        seller_id,
    )


async def select_live_connection_between(
    connection: Connection, one: UUID, other: UUID
) -> UUID | None:
    """The longest-standing live connection of two accounts, whoever of them buys."""
    return await connection.fetchval(
        """
        SELECT id FROM connection
        WHERE ended_at IS NULL
          AND (buyer_id, seller_id) IN (($1::uuid, $2::uuid), ($2::uuid, $1::uuid))
        ORDER BY started_at LIMIT 1
        """,
        one,
        other,
    )


async def insert_connection(
    connection: Connection,
    connection_id: UUID,
    buyer_id: UUID,
    seller_id: UUID,
    started_at: datetime,
) -> None:
    await connection.execute(
        "INSERT INTO connection (id, buyer_id, seller_id, started_at) VALUES ($1, $2, $3, $4)",
        connection_id,
        buyer_id,
        seller_id,
        started_at,
    )


async def end_connection(connection: Connection, connection_id: UUID, ended_at: datetime) -> None:
    await connection.execute(
        "UPDATE connection SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL",
        connection_id,
        ended_at,
    )


async def select_live_grant(connection: Connection, owner_id: UUID, viewer_id: UUID) -> UUID | None:
    return await connection.fetchval(
        "SELECT id FROM visibility_grant WHERE owner_id = $1 AND viewer_id = $2 AND ended_at IS NULL",
        owner_id,
        viewer_id,
    )


async def insert_grant(
    connection: Connection,
    grant_id: UUID,
    connection_id: UUID,
    owner_id: UUID,
    viewer_id: UUID,
    started_at: datetime,
) -> None:
    await connection.execute(
        """
        INSERT INTO visibility_grant (id, connection_id, owner_id, viewer_id, started_at)
        VALUES ($1, $2, $3, $4, $5)
        """,
        grant_id,
        connection_id,
        owner_id,
        viewer_id,
        started_at,
    )


async def end_grant(
    connection: Connection, owner_id: UUID, viewer_id: UUID, ended_at: datetime
) -> bool:
    """Whether there was a live one."""
    ended = await connection.fetchval(
        """
        UPDATE visibility_grant SET ended_at = $3
        WHERE owner_id = $1 AND viewer_id = $2 AND ended_at IS NULL
        RETURNING id
        """,
        owner_id,
        viewer_id,
        ended_at,
    )
    return ended is not None


_PARTNERS = """
SELECT
    connection.id,
    CASE WHEN connection.buyer_id = $1 THEN 'buyer' ELSE 'seller' END,
    partner.id,
    partner.name,
    connection.started_at,
    shown.started_at,
    seen.started_at,
    asked_by_partner.requested_at,
    asked.requested_at
FROM connection
JOIN account AS partner
    ON partner.id = CASE WHEN connection.buyer_id = $1 THEN connection.seller_id
        ELSE connection.buyer_id END
LEFT JOIN visibility_grant AS shown
    ON shown.owner_id = $1 AND shown.viewer_id = partner.id AND shown.ended_at IS NULL
LEFT JOIN visibility_grant AS seen
    ON seen.owner_id = partner.id AND seen.viewer_id = $1 AND seen.ended_at IS NULL
LEFT JOIN grant_request AS asked_by_partner
    ON asked_by_partner.owner_id = $1 AND asked_by_partner.viewer_id = partner.id
    AND asked_by_partner.ended_at IS NULL
LEFT JOIN grant_request AS asked
    ON asked.owner_id = partner.id AND asked.viewer_id = $1 AND asked.ended_at IS NULL
WHERE $1 IN (connection.buyer_id, connection.seller_id)
  AND connection.ended_at IS NULL
"""


async def select_partner(
    connection: Connection, account_id: UUID, connection_id: UUID
) -> Partner | None:
    row = await connection.fetchrow(_PARTNERS + "AND connection.id = $2", account_id, connection_id)
    return None if row is None else Partner(*row)


async def select_partners(
    connection: Connection,
    account_id: UUID,
    *,
    before: UUID | None = None,
    role: Side | None = None,
    shown_to: bool = False,
    limit: int | None = None,
) -> list[Partner]:
    """An account's live connections, the latest first: from before that one, in that role.

    Or only those to whose other side the account shows its name.
    """
    rows = await connection.fetch(
        _PARTNERS
        + """
        AND ($2::uuid IS NULL OR connection.id < $2)
        AND ($3::text IS NULL OR ($3 = 'buyer') = (connection.buyer_id = $1))
        AND (NOT $4::boolean OR shown.id IS NOT NULL)
        ORDER BY connection.id DESC
        LIMIT $5
        """,
        account_id,
        before,
        role,
        shown_to,
        limit,
    )
    return [Partner(*row) for row in rows]


# Whether an account speaks for one of its members: for an admin, and for whoever belongs to no other.
# Of other accounts' people it could otherwise get hold of what was sent to them there.
_SPEAKS_FOR = """
(
    membership.role = 'admin'
    OR NOT EXISTS (
        SELECT FROM membership AS other
        WHERE other.user_id = membership.user_id AND other.account_id <> membership.account_id
    )
)
"""

_PARTNER_OF_EMAIL = f"""
  AND partner.id IN (
      SELECT membership.account_id
      FROM membership JOIN app_user ON app_user.id = membership.user_id
      WHERE app_user.email = $2 AND {_SPEAKS_FOR}
  )
ORDER BY connection.id
"""  # noqa: S608 - constants alone


async def select_partners_of_email(
    connection: Connection, account_id: UUID, email: str
) -> list[Partner]:
    """An account's live connections to accounts that the user of an address belongs to."""
    rows = await connection.fetch(
        _PARTNERS + _PARTNER_OF_EMAIL,
        account_id,
        email,
    )
    return [Partner(*row) for row in rows]


async def insert_grant_request(
    connection: Connection,
    request_id: UUID,
    connection_id: UUID,
    owner_id: UUID,
    viewer_id: UUID,
    requested_at: datetime,
) -> bool:
    """Whether there was none open."""
    inserted = await connection.fetchval(
        """
        INSERT INTO grant_request (id, connection_id, owner_id, viewer_id, requested_at)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (owner_id, viewer_id) WHERE ended_at IS NULL DO NOTHING
        RETURNING id
        """,
        request_id,
        connection_id,
        owner_id,
        viewer_id,
        requested_at,
    )
    return inserted is not None


async def end_grant_request(
    connection: Connection, owner_id: UUID, viewer_id: UUID, ended_at: datetime, outcome: Outcome
) -> bool:
    """Whether there was an open one."""
    ended = await connection.fetchval(
        """
        UPDATE grant_request SET ended_at = $3, outcome = $4
        WHERE owner_id = $1 AND viewer_id = $2 AND ended_at IS NULL
        RETURNING id
        """,
        owner_id,
        viewer_id,
        ended_at,
        outcome,
    )
    return ended is not None


_INVITATIONS = """
SELECT
    invitation.id,
    invitation.inviter_id,
    coalesce(invitation.inviter_name, inviter.name),
    inviter.suspended_at IS NULL,
    invitation.email,
    invitation.reason,
    invitation.role,
    invitation.note,
    invitation.vendor_label,
    invitation_now.state,
    invitation.created_at,
    invitation.expires_at,
    invitation.ended_at,
    invitation.acceptor_id,
    invitation.connection_id,
    invitation.mail_id,
    sent.count,
    sent.last_at,
    latest.state,
    latest.error
FROM invitation
JOIN account AS inviter ON inviter.id = invitation.inviter_id
JOIN mail AS latest ON latest.id = invitation.mail_id
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN invitation.state = 'pending' AND invitation.expires_at <= clock_timestamp() THEN 'expired'
        ELSE invitation.state
    END AS state
) AS invitation_now
CROSS JOIN LATERAL (
    SELECT count(*) AS count, max(mail.sent_at) AS last_at
    FROM mail WHERE mail.subject_id = invitation.id AND mail.state = 'sent'
) AS sent
"""


async def lock_inviter(connection: Connection, inviter_id: UUID) -> None:
    """Wait until no other transaction invites for an account, and keep others from it."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('invitations of ' || $1, 0))",
        str(inviter_id),
    )


async def select_end(connection: Connection, lasts: timedelta) -> datetime:
    """When ends what begins now and lasts so long."""
    return await connection.fetchval("SELECT now() + $1::interval", lasts)


async def lock_parties(connection: Connection, inviter_id: UUID, user_id: UUID | None) -> None:
    """Keep an inviter's name, and what a user may do for accounts, as they are."""
    await connection.execute("SELECT FROM account WHERE id = $1 FOR SHARE", inviter_id)
    await connection.execute("SELECT FROM membership WHERE user_id = $1 FOR SHARE", user_id)


async def lock_invitation(connection: Connection, invitation_id: UUID) -> None:
    """Wait until no other transaction changes an invitation, and keep others from it."""
    await connection.execute("SELECT FROM invitation WHERE id = $1 FOR UPDATE", invitation_id)


async def select_invitation(connection: Connection, invitation_id: UUID) -> Invitation | None:
    row = await connection.fetchrow(_INVITATIONS + "WHERE invitation.id = $1", invitation_id)
    return None if row is None else Invitation(*row)


async def select_invitation_of_token(
    connection: Connection, token_digest: bytes
) -> Invitation | None:
    row = await connection.fetchrow(
        _INVITATIONS + "WHERE invitation.token_digest = $1", token_digest
    )
    return None if row is None else Invitation(*row)


async def select_pending_invitation(
    connection: Connection, inviter_id: UUID, email: str, reason: Reason
) -> Invitation | None:
    """The one that is noted as pending, though it may be past its end."""
    row = await connection.fetchrow(
        _INVITATIONS
        + """
        WHERE invitation.inviter_id = $1 AND invitation.email = $2 AND invitation.reason = $3
          AND invitation.state = 'pending'
        """,
        inviter_id,
        email,
        reason,
    )
    return None if row is None else Invitation(*row)


async def select_sent_invitations(
    connection: Connection,
    inviter_id: UUID,
    *,
    before: UUID | None,
    state: InvitationState | None,
    reason: Reason | None,
    email: str | None,
    limit: int,
) -> list[Invitation]:
    """What an account sent, the latest first: before that one, in that state, and so on."""
    rows = await connection.fetch(
        _INVITATIONS
        + """
        WHERE invitation.inviter_id = $1
          AND ($2::uuid IS NULL OR invitation.id < $2)
          AND ($3::text IS NULL OR invitation_now.state = $3)
          AND ($4::text IS NULL OR invitation.reason = $4)
          AND ($5::text IS NULL OR invitation.email = $5)
        ORDER BY invitation.id DESC
        LIMIT $6
        """,
        inviter_id,
        before,
        state,
        reason,
        email,
        limit,
    )
    return [Invitation(*row) for row in rows]


# What others sent to members of an account, other than to join some account, and that it may still
# accept or has dealt with. Of what another account of that member accepted it learns nothing.
_RECEIVED = f"""
  AND invitation.inviter_id <> $1
  AND invitation.reason <> 'join_account'
  AND latest.state <> 'suppressed'
  AND (invitation.state <> 'accepted' OR invitation.acceptor_id = $1)
  AND invitation.email IN (
      SELECT app_user.email
      FROM membership JOIN app_user ON app_user.id = membership.user_id
      WHERE membership.account_id = $1 AND {_SPEAKS_FOR}
  )
"""  # noqa: S608 - constants alone


async def select_received_invitations(
    connection: Connection,
    account_id: UUID,
    *,
    before: UUID | None,
    state: InvitationState | None,
    reason: Reason | None,
    email: str | None,
    limit: int,
) -> list[Invitation]:
    """What an account's members received, in the same way."""
    rows = await connection.fetch(
        _INVITATIONS
        + """
        WHERE ($2::uuid IS NULL OR invitation.id < $2)
          AND ($3::text IS NULL OR invitation_now.state = $3)
          AND ($4::text IS NULL OR invitation.reason = $4)
          AND ($5::text IS NULL OR invitation.email = $5)
        """
        + _RECEIVED
        + """
        ORDER BY invitation.id DESC
        LIMIT $6
        """,
        account_id,
        before,
        state,
        reason,
        email,
        limit,
    )
    return [Invitation(*row) for row in rows]


async def select_received_invitation(
    connection: Connection, account_id: UUID, invitation_id: UUID
) -> Invitation | None:
    row = await connection.fetchrow(
        _INVITATIONS + "WHERE invitation.id = $2" + _RECEIVED, account_id, invitation_id
    )
    return None if row is None else Invitation(*row)


async def insert_invitation(
    connection: Connection,
    invitation_id: UUID,
    inviter_id: UUID,
    email: str,
    reason: Reason,
    role: str | None,
    note: str | None,
    vendor_label: str | None,
    expires_at: datetime,
    mail_id: UUID,
    token_digest: bytes,
) -> None:
    await connection.execute(
        """
        INSERT INTO invitation (
            id, inviter_id, email, reason, role, note, vendor_label, state, created_at, expires_at,
            mail_id, token_digest
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', now(), $8, $9, $10)
        """,
        invitation_id,
        inviter_id,
        email,
        reason,
        role,
        note,
        vendor_label,
        expires_at,
        mail_id,
        token_digest,
    )


async def update_invitation_resent(
    connection: Connection,
    invitation_id: UUID,
    expires_at: datetime,
    mail_id: UUID,
    token_digest: bytes,
) -> None:
    """Open an invitation again, for its whole time and with another token.

    Raises `Conflict` if there is another like it that is pending.
    """
    try:
        await connection.execute(
            """
            UPDATE invitation SET state = 'pending', ended_at = NULL, inviter_name = NULL,
                expires_at = $2, mail_id = $3, token_digest = $4
            WHERE id = $1 AND state IN ('pending', 'expired')
            """,
            invitation_id,
            expires_at,
            mail_id,
            token_digest,
        )
    except asyncpg.UniqueViolationError:
        raise Conflict("there is a later invitation like this one, which is pending") from None


async def end_invitation(
    connection: Connection,
    invitation_id: UUID,
    state: InvitationState,
    acceptor_id: UUID | None = None,
    connection_id: UUID | None = None,
) -> None:
    await connection.execute(
        """
        UPDATE invitation SET state = $2, ended_at = clock_timestamp(), acceptor_id = $3,
            connection_id = $4,
            inviter_name = (SELECT name FROM account WHERE account.id = invitation.inviter_id)
        WHERE id = $1 AND state = 'pending'
        """,
        invitation_id,
        state,
        acceptor_id,
        connection_id,
    )


async def accept_crossing_invitations(
    connection: Connection,
    inviter_id: UUID,
    acceptor_id: UUID,
    reasons: Sequence[Reason],
    connection_id: UUID,
) -> list[UUID]:
    """Take what an account invited another to as accepted: the ids. Those being changed are left."""
    rows = await connection.fetch(
        f"""
        UPDATE invitation SET state = 'accepted', ended_at = clock_timestamp(), acceptor_id = $2,
            connection_id = $4,
            inviter_name = (SELECT name FROM account WHERE account.id = invitation.inviter_id)
        WHERE id IN (
            SELECT invitation.id
            FROM invitation
            JOIN app_user ON app_user.email = invitation.email
            JOIN membership
                ON membership.user_id = app_user.id AND membership.account_id = $2
                AND {_SPEAKS_FOR}
            WHERE invitation.inviter_id = $1
              AND invitation.reason = ANY ($3)
              AND invitation.state = 'pending' AND invitation.expires_at > clock_timestamp()
            FOR UPDATE OF invitation SKIP LOCKED
        )
        RETURNING id
        """,  # noqa: S608 - constants alone
        inviter_id,
        acceptor_id,
        reasons,
        connection_id,
    )
    return [row["id"] for row in rows]


async def expire_invitations(connection: Connection) -> list[tuple[UUID, UUID, str]]:
    """Note which pending ones are past their end: their ids, inviters and addresses."""
    rows: list[Any] = await connection.fetch(
        """
        UPDATE invitation SET state = 'expired', ended_at = clock_timestamp(),
            inviter_name = (SELECT name FROM account WHERE account.id = invitation.inviter_id)
        WHERE id IN (
            SELECT id FROM invitation
            WHERE state = 'pending' AND expires_at <= clock_timestamp()
            ORDER BY expires_at
            LIMIT 500
            FOR UPDATE SKIP LOCKED
        )
        RETURNING id, inviter_id, email
        """
    )
    return [(row["id"], row["inviter_id"], row["email"]) for row in rows]


async def select_pending_ids(
    connection: Connection, email: str, inviter_id: UUID | None
) -> list[UUID]:
    """The pending invitations to an address, from that account or from any, locked."""
    rows = await connection.fetch(
        """
        SELECT id FROM invitation
        WHERE email = $1 AND ($2::uuid IS NULL OR inviter_id = $2) AND state = 'pending'
        ORDER BY inviter_id, id
        FOR UPDATE
        """,
        email,
        inviter_id,
    )
    return [row["id"] for row in rows]


async def insert_opt_out(connection: Connection, email: str, inviter_id: UUID | None) -> None:
    await connection.execute(
        """
        INSERT INTO invitation_opt_out (email, inviter_id) VALUES ($1, $2)
        ON CONFLICT ON CONSTRAINT invitation_opt_out_unique DO NOTHING
        """,
        email,
        inviter_id,
    )


async def has_opted_out(connection: Connection, email: str, inviter_id: UUID) -> bool:
    return await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM invitation_opt_out
            WHERE email = $1 AND (inviter_id IS NULL OR inviter_id = $2)
        )
        """,
        email,
        inviter_id,
    )
