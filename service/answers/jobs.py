"""The schedules that seal answers, and that keep them by month."""

from functools import partial
from urllib.parse import quote, urlsplit

import structlog

from service.answers.months import keep_months
from service.answers.sealing import seal
from service.postgres.pools import Database
from service.processes.jobs import EVERY_MINUTE, Jobs, Schedule
from service.settings import Settings
from service.tokens import load_log_signing_key

_log = structlog.get_logger("service.worker")

_EVERY_NIGHT = "41 2 * * *"


def jobs(database: Database, settings: Settings) -> Jobs:
    """Return the schedules that seal new answers, and that make and drop months."""
    try:
        seed = load_log_signing_key(settings.log_signing_key, settings.state_dir)
    except OSError as error:
        # Another worker may, and this one has much else to do.
        _log.warning("this worker seals no answers: it has no LOG_SIGNING_KEY", why=str(error))
        return []
    origin = origin_of(settings.public_url)
    return [
        Schedule("seal_answers", EVERY_MINUTE, partial(seal, database, origin, seed)),
        Schedule(
            "keep_answer_months",
            _EVERY_NIGHT,
            partial(keep_months, database, settings.answers_retention_months, seed),
        ),
    ]


def origin_of(public_url: str) -> str:
    """Return how a new log is called: by the service's host (C2SP tlog-checkpoint)."""
    # No user or password, which everyone would see, and no character that a note's name can't have.
    host = urlsplit(public_url).netloc.rpartition("@")[2]
    return f"{quote(host, safe=':[]')}/answers"
