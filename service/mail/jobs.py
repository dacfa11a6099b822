"""The jobs that send emails and delete old ones."""

from datetime import timedelta
from functools import partial
from uuid import UUID

from pgqueuer.models import Job

from service.mail import mails
from service.mail.mails import Mailer
from service.postgres.pools import Database
from service.processes.jobs import (
    EVERY_FIVE_MINUTES,
    Entrypoint,
    Jobs,
    Retry,
    Schedule,
    in_transaction,
)
from service.settings import Settings
from service.tokens import load_secret

# An email that can't be handed over is retried after 5 s, 10 s, and so on up to an hour, for a day.
RETRY = Retry(attempts=34, first=timedelta(seconds=5), last=timedelta(hours=1))

_AT_ONCE = 8


def jobs(database: Database, settings: Settings) -> Jobs:
    """Return the jobs that send queued emails and delete old ones."""
    mailer = Mailer(
        public_url=settings.public_url,
        secret=load_secret(settings.secret_key, settings.state_dir),
        sender=settings.mail_from,
        smtp=settings.smtp,
        outbox=settings.state_dir / "outbox",
    )

    async def send(job: Job) -> None:
        assert job.payload is not None
        is_last = job.attempts >= RETRY.attempts
        await mails.send_mail(database, mailer, UUID(bytes=job.payload), is_last=is_last)

    return [
        Entrypoint(mails.JOB, send, at_once=_AT_ONCE, retry=RETRY),
        Schedule(
            "forget_mails", EVERY_FIVE_MINUTES, partial(in_transaction, database, mails.purge)
        ),
    ]
