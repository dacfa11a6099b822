"""Delete facts about certificates after the configured number of days."""

from datetime import timedelta
from functools import partial

from service.certificates.certificates import purge
from service.postgres.pools import Database
from service.processes.jobs import Jobs, Schedule
from service.settings import Settings

PURGES = "17 * * * *"


def jobs(database: Database, settings: Settings) -> Jobs:
    """Return the job that deletes facts older than the operator allows."""
    days = settings.facts_retention_days
    if days is None:
        return []
    return [Schedule("purge_facts", PURGES, partial(purge, database, timedelta(days=days)))]
