"""Sending sign-in links, and cleanup of what has expired: links, sessions, counts, and keys."""

from datetime import timedelta
from functools import partial

import msgspec
from pgqueuer.models import Job

from service import allowance
from service.accounts import sign_in
from service.accounts.sign_in import LinkRequest
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
from service.web import idempotency

_AT_ONCE = 4

# For as long as somebody may wait for the link.
_RETRY = Retry(attempts=8, first=timedelta(seconds=1), last=timedelta(seconds=30))


def jobs(database: Database, settings: Settings) -> Jobs:
    """Return the job that sends sign-in links, and the schedules that delete what is over."""
    secret = load_secret(settings.secret_key, settings.state_dir)

    async def send_link(job: Job) -> None:
        assert job.payload is not None
        request = msgspec.json.decode(job.payload, type=LinkRequest)
        async with database.general.transaction() as connection:
            await sign_in.send_link(connection, secret, request)

    return [Entrypoint(sign_in.JOB, send_link, at_once=_AT_ONCE, retry=_RETRY)] + [
        Schedule(name, EVERY_FIVE_MINUTES, partial(in_transaction, database, forget))
        for name, forget in (
            ("forget_sign_ins", sign_in.purge),
            ("forget_allowances", allowance.purge),
            ("forget_idempotency_keys", idempotency.purge),
        )
    ]
