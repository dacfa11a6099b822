"""Expiry of invitations."""

from functools import partial

from service.invitations.invitations import expire_due
from service.postgres.pools import Database
from service.processes.jobs import EVERY_FIVE_MINUTES, Jobs, Schedule
from service.settings import Settings


def jobs(database: Database, settings: Settings) -> Jobs:
    """Return the schedule that marks overdue invitations as expired."""
    del settings
    return [Schedule("expire_invitations", EVERY_FIVE_MINUTES, partial(_expire_all, database))]


async def _expire_all(database: Database) -> None:
    expired = 1
    while expired:
        async with database.general.transaction() as connection:
            expired = await expire_due(connection)
