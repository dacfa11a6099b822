"""Cleanup jobs delete only expired data."""

from collections.abc import Callable

import pytest

from service.accounts import jobs as accounts_jobs
from service.mail import jobs as mail_jobs
from service.mail.mails import queue_mail
from service.postgres.pools import Database
from service.processes.jobs import Jobs, Schedule
from service.settings import Settings
from tests.builders import World
from tests.conftest import SETTINGS
from tests.parties import party
from tests.surfer import signed_in

# The column that decides when each table's rows are deleted.
TIMES = {
    "user_session": "expires_at",
    "sign_in_link": "expires_at",
    "allowance": "since",
    "idempotent_request": "created_at",
    "mail": "created_at",
}


@pytest.mark.parametrize(("age", "is_kept"), [("0 days", True), ("60 days", False)])
async def test_jobs_forget_what_is_over(world: World, age: str, is_kept: bool) -> None:
    company = await party(world)
    await company.do("POST", "/v1/domains", {"names": ["a.example"]}, "k")
    await signed_in(world, company.email)
    async with world.database.general.transaction() as connection:
        await queue_mail(connection, "declined", company.email, params={})
    for table, column in TIMES.items():
        await world.fetch(f"UPDATE {table} SET {column} = {column} - interval '{age}'")
        assert await world.fetch(f"SELECT FROM {table}"), table
    subjects: list[Callable[[Database, Settings], Jobs]] = [accounts_jobs.jobs, mail_jobs.jobs]
    for jobs in subjects:
        for job in jobs(world.database, SETTINGS):
            if isinstance(job, Schedule):
                await job.work()
    for table in TIMES:
        assert bool(await world.fetch(f"SELECT FROM {table}")) is is_kept, table
