"""The SQL statements about emails."""

from datetime import datetime, timedelta
from uuid import UUID

from service.mail.records import Mail, MailState, Unsent
from service.postgres.pools import Connection


async def insert_mail(
    connection: Connection,
    mail_id: UUID,
    kind: str,
    recipient: str,
    subject_id: UUID | None,
    params: str,
    state: MailState,
    not_after: datetime | None,
) -> None:
    await connection.execute(
        """
        INSERT INTO mail (id, kind, recipient, subject_id, params, state, not_after)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        mail_id,
        kind,
        recipient,
        subject_id,
        params,
        state,
        not_after,
    )


async def update_mail_sending(connection: Connection, mail_id: UUID) -> Mail | None:
    """Mark an email as being sent and return it, or None if it was sent or must not be.

    One that is already being sent is sent again, since the earlier attempt didn't finish. Sign-in
    links go to users only; checking that here keeps the answer, and its timing, from whoever asked
    for the link. Invitations don't go to recipients who have opted out meanwhile, nor from accounts
    that are suspended.
    """
    await connection.execute(
        """
        UPDATE mail SET state = 'failed', error = 'your account was suspended; send it again'
        WHERE id = $1 AND state IN ('queued', 'sending', 'retrying') AND kind = 'invitation'
          AND EXISTS (
              SELECT FROM invitation
              JOIN account ON account.id = invitation.inviter_id
              WHERE invitation.id = mail.subject_id AND account.suspended_at IS NOT NULL
          )
        """,
        mail_id,
    )
    await connection.execute(
        """
        UPDATE mail SET state = 'suppressed'
        WHERE id = $1 AND state IN ('queued', 'sending', 'retrying') AND kind = 'invitation'
          AND EXISTS (
              SELECT FROM invitation
              WHERE invitation.id = mail.subject_id
                AND has_opted_out(mail.recipient, invitation.inviter_id, invitation.reason)
          )
        """,
        mail_id,
    )
    row = await connection.fetchrow(
        """
        UPDATE mail SET state = 'sending'
        WHERE id = $1 AND state IN ('queued', 'sending', 'retrying')
          AND (kind <> 'sign_in' OR recipient IN (SELECT email FROM app_user))
        RETURNING id, kind, recipient, params, created_at, coalesce(not_after < now(), false)
        """,
        mail_id,
    )
    return None if row is None else Mail(*row)


async def update_mail_state(
    connection: Connection, mail_id: UUID, state: MailState, error: str | None
) -> None:
    """Record the outcome of an attempt to send an email."""
    await connection.execute(
        """
        UPDATE mail SET state = $2, error = $3,
            sent_at = CASE WHEN $2 IN ('sent', 'written') THEN clock_timestamp() END
        WHERE id = $1 AND (state = 'sending' OR $2 IN ('sent', 'written'))
        """,
        mail_id,
        state,
        error,
    )


async def update_mail_cancelled(connection: Connection, subject_id: UUID) -> None:
    """Cancel the unsent emails about a subject."""
    await connection.execute(
        """
        UPDATE mail SET state = 'cancelled'
        WHERE subject_id = $1 AND state IN ('queued', 'sending', 'retrying')
        """,
        subject_id,
    )


async def delete_mails(connection: Connection, age: timedelta) -> None:
    """Delete a batch of emails older than `age`, except those whose subject reports delivery."""
    await connection.execute(
        """
        DELETE FROM mail WHERE id = ANY (ARRAY(
            SELECT id FROM mail
            WHERE created_at < now() - $1::interval AND subject_id IS NULL
            ORDER BY created_at
            LIMIT 5000
        ))
        """,
        age,
    )


async def select_unsent(connection: Connection, age: timedelta) -> Unsent:
    """Count the unsent emails that were queued within `age`, and those that failed in the last day."""
    row = await connection.fetchrow(
        """
        SELECT
            count(*) FILTER (WHERE state IN ('queued', 'sending')),
            count(*) FILTER (WHERE state = 'retrying'),
            count(*) FILTER (WHERE state = 'failed' AND created_at > now() - interval '1 day')
        FROM mail WHERE created_at > now() - $1::interval
        """,
        age,
    )
    assert row is not None
    return Unsent(*row)
