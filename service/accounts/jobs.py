"""Cleanup of expired sign-in links and sessions, past counts, and old idempotency keys."""

from functools import partial

from service import allowance
from service.accounts import sign_in
from service.postgres.pools import Database
from service.processes.jobs import EVERY_FIVE_MINUTES, Jobs, Schedule, in_transaction
from service.settings import Settings
from service.web import idempotency


def jobs(database: Database, settings: Settings) -> Jobs:
    """Return the schedules that delete what is no longer needed."""
    del settings
    return [
        Schedule(name, EVERY_FIVE_MINUTES, partial(in_transaction, database, forget))
        for name, forget in (
            ("forget_sign_ins", sign_in.purge),
            ("forget_allowances", allowance.purge),
            ("forget_idempotency_keys", idempotency.purge),
        )
    ]
