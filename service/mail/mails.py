"""Emails: queued in a transaction, sent by a background job, at least once and rarely twice.

An email is queued with the change that causes it, so a rollback sends nothing. It can be canceled
when its subject ends. If a crash makes it go out twice, both copies have the same Message-ID.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import structlog
from uuid_utils.compat import uuid7

from service.mail import queries
from service.mail.letters import Tokens, html, letter_of, message_id, plain_text
from service.mail.records import Mail, MailState, Unsent
from service.mail.transport import MailFailed, message, send_by_smtp, write_to_outbox
from service.postgres.pools import Connection, Database
from service.processes import metrics
from service.processes.queue import enqueue
from service.settings import Smtp, mail_domain
from service.tokens import link_token, stop_token

JOB = "send_mail"

_KEPT = timedelta(days=30)

_log = structlog.get_logger("service.mail")


class Mailer(msgspec.Struct, frozen=True):
    """How emails are made and handed over. Without an SMTP server, they become outbox files."""

    public_url: str
    secret: bytes
    sender: str
    smtp: Smtp | None
    outbox: Path


async def queue_mail(
    connection: Connection,
    kind: str,
    recipient: str,
    *,
    mail_id: UUID | None = None,
    subject_id: UUID | None = None,
    not_after: datetime | None = None,
    suppressed: bool = False,
    params: Mapping[str, object],
) -> UUID:
    """Queue an email to be sent when this transaction commits. Return its id.

    If `suppressed`, it is only recorded. `params` fill in its words. `cancel_mails` cancels by
    `subject_id`.
    """
    mail_id = mail_id or uuid7()
    await queries.insert_mail(
        connection,
        mail_id,
        kind,
        recipient,
        subject_id,
        msgspec.json.encode(params).decode(),
        "suppressed" if suppressed else "queued",
        not_after,
    )
    if not suppressed:
        await enqueue(connection, JOB, mail_id.bytes)
    return mail_id


async def cancel_mails(connection: Connection, subject_id: UUID) -> None:
    """Cancel the unsent emails about a subject when this transaction commits."""
    await queries.update_mail_cancelled(connection, subject_id)


async def send_mail(database: Database, mailer: Mailer, mail_id: UUID, *, is_last: bool) -> None:
    """Send a queued email, unless it was sent, canceled, or suppressed meanwhile.

    Raises `MailFailed` if a retry can help. On the last attempt (`is_last`), it is marked as failed
    instead.
    """
    async with database.general.connection() as connection:
        mail = await queries.update_mail_sending(connection, mail_id)
    if mail is None:
        return
    try:
        if mail.is_too_late:
            raise MailFailed("it expired before it could be sent", is_final=True)
        await _hand_over(mailer, mail)
    except MailFailed as error:
        is_final = error.is_final or is_last
        async with database.general.connection() as connection:
            await queries.update_mail_state(
                connection, mail_id, "failed" if is_final else "retrying", str(error)
            )
        metrics.MAILS.labels(error.whose).inc()
        _log.warning(
            "mail not sent",
            mail_id=str(mail_id),
            why=str(error),
            server=error.said,
            about=error.whose,
            is_final=is_final,
        )
        if not is_final:
            raise
        return
    except Exception:
        # A fault of ours. The job is tried again, and the mail is not left as being sent.
        async with database.general.connection() as connection:
            await queries.update_mail_state(
                connection, mail_id, "failed" if is_last else "retrying", "an unexpected error"
            )
        raise
    async with database.general.connection() as connection:
        state: MailState = "written" if mailer.smtp is None else "sent"
        await queries.update_mail_state(connection, mail_id, state, None)
    metrics.MAILS.labels(state).inc()
    if mailer.smtp is None:
        _log.info("mail written to the outbox", mail_id=str(mail_id))


async def unsent(connection: Connection) -> Unsent:
    """Return how many emails of the last week wait to be sent, and how many of today's failed."""
    return await queries.select_unsent(connection, timedelta(days=7))


async def purge(connection: Connection) -> None:
    """Delete emails after a month, except those whose delivery invitations report."""
    await queries.delete_mails(connection, _KEPT)


async def _hand_over(mailer: Mailer, mail: Mail) -> None:
    tokens = Tokens(link_token(mailer.secret, mail.id), stop_token(mailer.secret, mail.id))
    letter = letter_of(mail.kind, msgspec.json.decode(mail.params), mailer.public_url, tokens)
    composed = message(
        sender=mailer.sender,
        recipient=mail.recipient,
        subject=letter.subject,
        message_id=message_id(mail.id, parseaddr(mailer.sender)[1].rpartition("@")[2]),
        date=mail.created_at,
        # One-click unsubscribe (RFC 2369, RFC 8058).
        headers={}
        if letter.unsubscribe is None
        else {
            "List-Unsubscribe": f"<{letter.unsubscribe}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        },
        text=plain_text(letter),
        html=html(letter),
    )
    if mailer.smtp is None:
        write_to_outbox(mailer.outbox, str(mail.id), composed)
    else:
        own_host = mail_domain(urlsplit(mailer.public_url).hostname or "localhost")
        await send_by_smtp(mailer.smtp, composed, mail.recipient, own_host)
