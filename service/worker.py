"""The background jobs of all subjects, shared among any number of workers."""

import asyncio

from service.accounts import jobs as accounts
from service.answers import jobs as answers
from service.batches import jobs as batches
from service.certificates import jobs as certificates
from service.invitations import jobs as invitations
from service.mail import jobs as mail
from service.ownership import jobs as ownership
from service.postgres.pools import Database
from service.processes.jobs import Jobs, do_jobs
from service.processes.vitals import tell_of_database, told_of
from service.settings import Settings

_SUBJECTS = (accounts, answers, batches, certificates, invitations, mail, ownership)


async def work(database_url: str, settings: Settings, stopped: asyncio.Event) -> None:
    """Run background jobs until `stopped` is set, then finish those in progress."""
    current: Database | None = None

    def jobs_of(database: Database) -> Jobs:
        nonlocal current
        current = database
        return [job for subject in _SUBJECTS for job in subject.jobs(database, settings)]

    def tell() -> None:
        if current is not None:
            tell_of_database("jobs", current)

    async with told_of("jobs", tell):
        await do_jobs(database_url, jobs_of, stopped)
