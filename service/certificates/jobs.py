"""Facts about certificates that are kept for so many days and no longer."""

from datetime import timedelta
from functools import partial

from service.certificates.certificates import purge
from service.postgres.pools import Database
from service.processes.jobs import Jobs, Schedule
from service.settings import Settings

PURGES = "17 * * * *"


def jobs(database: Database, settings: Settings) -> Jobs:
    """Deletes facts once they are as old as the operator lets them get."""
    days = settings.facts_retention_days
    if days is None:
        return []
    return [Schedule("purge_facts", PURGES, partial(purge, database, timedelta(days=days)))]
