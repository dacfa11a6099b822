"""The SQL statements about invitations."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from service.errors import Conflict
from service.invitations.records import Invitation, InvitationState, Link, OptOut, Reason
from service.postgres.pools import Connection

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
    FROM mail WHERE mail.subject_id = invitation.id AND mail.state IN ('sent', 'written')
) AS sent
"""


async def lock_inviter(connection: Connection, inviter_id: UUID) -> None:
    """Wait for other transactions that invite for an account, and keep new ones waiting."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('invitations of ' || $1, 0))",
        str(inviter_id),
    )


async def select_end(connection: Connection, lasts: timedelta) -> datetime:
    """Return when something ends that starts now and lasts that long."""
    return await connection.fetchval("SELECT now() + $1::interval", lasts)


async def lock_parties(connection: Connection, inviter_id: UUID, user_id: UUID | None) -> None:
    """Keep others from changing an inviter's name and a user's memberships."""
    await connection.execute("SELECT FROM account WHERE id = $1 FOR SHARE", inviter_id)
    await connection.execute("SELECT FROM membership WHERE user_id = $1 FOR SHARE", user_id)


async def lock_invitation(connection: Connection, invitation_id: UUID) -> None:
    """Wait for other transactions that change an invitation, and keep new ones waiting."""
    await connection.execute("SELECT FROM invitation WHERE id = $1 FOR UPDATE", invitation_id)


async def select_invitation(connection: Connection, invitation_id: UUID) -> Invitation | None:
    row = await connection.fetchrow(_INVITATIONS + "WHERE invitation.id = $1", invitation_id)
    return None if row is None else Invitation(*row)


async def select_link(
    connection: Connection, token_digest: bytes, *, stops: bool = False
) -> Link | None:
    """Return what a mailed link leads to. If it only `stops` invitations, either link does."""
    row = await connection.fetchrow(
        """
        SELECT invitation_id, mail_id FROM invitation_link
        WHERE token_digest = $1 OR ($2 AND stop_digest = $1)
        """,
        token_digest,
        stops,
    )
    if row is None:
        return None
    invitation = await select_invitation(connection, row["invitation_id"])
    assert invitation is not None
    return Link(invitation, is_current=invitation.mail_id == row["mail_id"])


async def insert_link(
    connection: Connection,
    invitation_id: UUID,
    mail_id: UUID,
    token_digest: bytes,
    stop_digest: bytes,
) -> None:
    """Add the links of an email about an invitation."""
    await connection.execute(
        """
        INSERT INTO invitation_link (token_digest, stop_digest, invitation_id, mail_id)
        VALUES ($1, $2, $3, $4)
        """,
        token_digest,
        stop_digest,
        invitation_id,
        mail_id,
    )


async def select_mailbox(connection: Connection, email: str) -> str:
    """Return the mailbox that an address leads to, under whichever of its spellings."""
    return await connection.fetchval("SELECT mailbox_of($1)", email)


async def select_pending_invitations(
    connection: Connection, inviter_id: UUID, emails: Sequence[str], reason: Reason
) -> list[Invitation]:
    """Return the invitations stored as pending, even if they are overdue."""
    rows = await connection.fetch(
        _INVITATIONS
        + """
        WHERE invitation.inviter_id = $1 AND invitation.email = ANY ($2) AND invitation.reason = $3
          AND invitation.state = 'pending'
        """,
        inviter_id,
        emails,
        reason,
    )
    return [Invitation(*row) for row in rows]


# The filters and the order of a list: before an id, by state, by reason, by address, and how many.
_PAGE = """
  AND ($2::uuid IS NULL OR invitation.id < $2)
  AND ($3::text IS NULL OR invitation_now.state = $3)
  AND ($4::text IS NULL OR invitation.reason = $4)
  AND ($5::text IS NULL OR invitation.email = $5)
  AND ($7::boolean IS NULL OR (invitation.reason = 'join_account') = $7)
ORDER BY invitation.id DESC
LIMIT $6
"""


async def select_sent_invitations(
    connection: Connection,
    inviter_id: UUID,
    *,
    before: UUID | None = None,
    state: InvitationState | None = None,
    reason: Reason | None = None,
    email: str | None = None,
    joins: bool | None = None,
    limit: int,
) -> list[Invitation]:
    """Return what an account sent, newest first. `before` is an id; filters combine.

    `joins` says whether to keep those to join the account, or those to connect.
    """
    rows = await connection.fetch(
        _INVITATIONS + "WHERE invitation.inviter_id = $1" + _PAGE,
        inviter_id,
        before,
        state,
        reason,
        email,
        limit,
        joins,
    )
    return [Invitation(*row) for row in rows]


# Invitations to connect that others sent to addresses the account speaks for. It must not learn of
# those that another account of the same member accepted.
_RECEIVED = """
WHERE invitation.inviter_id <> $1
  AND invitation.reason <> 'join_account'
  AND latest.state <> 'suppressed'
  AND (invitation.state <> 'accepted' OR invitation.acceptor_id = $1)
  AND invitation.email IN (SELECT email FROM account_address WHERE account_id = $1)
"""


async def select_received_invitations(
    connection: Connection,
    account_id: UUID,
    *,
    before: UUID | None = None,
    state: InvitationState | None = None,
    reason: Reason | None = None,
    email: str | None = None,
    limit: int,
) -> list[Invitation]:
    """Return what an account's members received, with the same filters."""
    rows = await connection.fetch(
        _INVITATIONS + _RECEIVED + _PAGE,
        account_id,
        before,
        state,
        reason,
        email,
        limit,
        None,
    )
    return [Invitation(*row) for row in rows]


async def select_received_invitation(
    connection: Connection, account_id: UUID, invitation_id: UUID
) -> Invitation | None:
    row = await connection.fetchrow(
        _INVITATIONS + _RECEIVED + "AND invitation.id = $2", account_id, invitation_id
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
) -> None:
    await connection.execute(
        """
        INSERT INTO invitation (
            id, inviter_id, email, reason, role, note, vendor_label, state, created_at, expires_at,
            mail_id
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', now(), $8, $9)
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
    )


async def update_invitation_resent(
    connection: Connection, invitation_id: UUID, expires_at: datetime, mail_id: UUID
) -> None:
    """Reopen an invitation with a new expiry and email.

    Raises `Conflict` if another like it is pending.
    """
    try:
        await connection.execute(
            """
            UPDATE invitation SET state = 'pending', ended_at = NULL, inviter_name = NULL,
                expires_at = $2, mail_id = $3
            WHERE id = $1 AND state IN ('pending', 'expired')
            """,
            invitation_id,
            expires_at,
            mail_id,
        )
    except asyncpg.UniqueViolationError:
        raise Conflict("a newer invitation like this one is pending") from None


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
    """Accept an account's invitations to another. Return their ids. Skips locked rows."""
    rows = await connection.fetch(
        """
        UPDATE invitation SET state = 'accepted', ended_at = clock_timestamp(), acceptor_id = $2,
            connection_id = $4,
            inviter_name = (SELECT name FROM account WHERE account.id = invitation.inviter_id)
        WHERE id IN (
            SELECT invitation.id
            FROM invitation
            JOIN account_address
                ON account_address.email = invitation.email AND account_address.account_id = $2
            WHERE invitation.inviter_id = $1
              AND invitation.reason = ANY ($3)
              AND invitation.state = 'pending' AND invitation.expires_at > clock_timestamp()
            FOR UPDATE OF invitation SKIP LOCKED
        )
        RETURNING id
        """,
        inviter_id,
        acceptor_id,
        reasons,
        connection_id,
    )
    return [row["id"] for row in rows]


async def expire_invitations(connection: Connection) -> list[tuple[UUID, UUID, str]]:
    """Mark a batch of overdue invitations. Return their ids, inviters, and addresses."""
    rows: list[Any] = await connection.fetch(
        """
        UPDATE invitation SET state = 'expired', ended_at = clock_timestamp(),
            inviter_name = (SELECT name FROM account WHERE account.id = invitation.inviter_id)
        -- An array, so that the limit is applied once, whatever the plan.
        WHERE id = ANY (ARRAY(
            SELECT id FROM invitation
            WHERE state = 'pending' AND expires_at <= clock_timestamp()
            ORDER BY expires_at
            LIMIT 500
            FOR UPDATE SKIP LOCKED
        ))
        RETURNING id, inviter_id, email
        """
    )
    return [(row["id"], row["inviter_id"], row["email"]) for row in rows]


async def select_unwanted_ids(connection: Connection, email: str) -> list[UUID]:
    """Lock the pending invitations that a recipient opted out of. Return their ids."""
    rows = await connection.fetch(
        """
        SELECT id FROM invitation
        WHERE mailbox_of(email) = mailbox_of($1) AND state = 'pending'
          AND has_opted_out(email, inviter_id, reason)
        ORDER BY inviter_id, id
        FOR UPDATE
        """,
        email,
    )
    return [row["id"] for row in rows]


async def insert_opt_out(
    connection: Connection,
    email: str,
    inviter_id: UUID | None,
    inviter_name: str | None,
    *,
    covers_joining: bool,
) -> bool:
    """Add an opt-out. Return whether it wasn't there."""
    return await connection.fetchval(
        """
        WITH former AS (
            SELECT covers_joining FROM invitation_opt_out
            WHERE email = $1 AND inviter_id IS NOT DISTINCT FROM $2
        )
        INSERT INTO invitation_opt_out (email, inviter_id, covers_joining, inviter_name)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT ON CONSTRAINT invitation_opt_out_unique DO UPDATE
            SET covers_joining = invitation_opt_out.covers_joining OR excluded.covers_joining
        RETURNING covers_joining IS DISTINCT FROM (SELECT covers_joining FROM former)
        """,
        email,
        inviter_id,
        covers_joining,
        inviter_name,
    )


async def update_opt_out_token(
    connection: Connection, email: str, inviter_id: UUID | None, token_digest: bytes
) -> None:
    """Set the link that undoes an opt-out."""
    await connection.execute(
        """
        UPDATE invitation_opt_out SET token_digest = $3
        WHERE email = $1 AND inviter_id IS NOT DISTINCT FROM $2
        """,
        email,
        inviter_id,
        token_digest,
    )


async def delete_opt_out(connection: Connection, email: str, inviter_id: UUID | None) -> bool:
    """Delete a mailbox's opt-out. Return whether it was there."""
    deleted = await connection.fetch(
        """
        DELETE FROM invitation_opt_out
        WHERE mailbox_of(email) = mailbox_of($1) AND inviter_id IS NOT DISTINCT FROM $2
        RETURNING email
        """,
        email,
        inviter_id,
    )
    return bool(deleted)


_OPT_OUTS = """
SELECT unwanted.email, unwanted.inviter_id, unwanted.inviter_name, unwanted.opted_out_at
FROM invitation_opt_out AS unwanted
"""


async def select_opt_outs(connection: Connection, email: str) -> list[OptOut]:
    """Return a mailbox's opt-outs: the one from everyone first, then by inviter."""
    rows = await connection.fetch(
        _OPT_OUTS
        + """
        WHERE mailbox_of(unwanted.email) = mailbox_of($1)
        ORDER BY unwanted.inviter_name NULLS FIRST LIMIT 200
        """,
        email,
    )
    return [OptOut(*row) for row in rows]


async def select_opt_out_of_token(connection: Connection, token_digest: bytes) -> OptOut | None:
    row = await connection.fetchrow(_OPT_OUTS + "WHERE unwanted.token_digest = $1", token_digest)
    return None if row is None else OptOut(*row)


async def has_opted_out(
    connection: Connection, email: str, inviter_id: UUID, reason: Reason
) -> bool:
    return await connection.fetchval("SELECT has_opted_out($1, $2, $3)", email, inviter_id, reason)
