"""The background jobs, which any number of workers do between them.

PgQueuer keeps the queue and the schedules in the database, and sees to it that each is taken by one
worker at a time. A worker that loses the database goes on trying until it is back.
"""

import asyncio
from datetime import timedelta
from uuid import UUID

import msgspec
import stamina
import structlog
from pgqueuer import PgQueuer
from pgqueuer.executors import (
    DatabaseRetryEntrypointExecutor,
    EntrypointExecutorParameters,
)
from pgqueuer.models import Job, Schedule

from service import allowance, idempotency
from service.accounts import sign_in
from service.connections.invitations import expire_due
from service.database import Database, connect, open_database
from service.errors import Unavailable
from service.insights.certificates import purge
from service.jobs import enqueue, waiting
from service.mail import mails
from service.mail.mails import Mailer
from service.ownership import claims
from service.ownership.dns_txt import system_resolvers
from service.settings import Settings
from service.tokens import load_secret

PURGES = "17 * * * *"
EVERY_MINUTE = "* * * * *"
TIDYING = "*/5 * * * *"

# A mail that can't be handed over is tried again after 5 s, 10 s and so on up to an hour, for a day.
_MAIL_ATTEMPTS = 34
_FIRST_RETRY = timedelta(seconds=5)
_LAST_RETRY = timedelta(hours=1)
_MAILS_AT_ONCE = 8

# Many checks are one job: to take one from the queue costs more than to check.
_CHECKS = "check_domains"
_CHECKS_A_JOB = 50
_CHECK_JOBS_AT_ONCE = 8
_CHECKS_AT_ONCE = 32
_DUE_AT_A_TIME = 1000
_CHECK_JOBS_WAITING = 2000

_log = structlog.get_logger("service.worker")

# New jobs are told of as they come; this is how soon it is noticed that nothing tells of them.
LOOKS_EVERY = timedelta(seconds=5)

# How many seconds jobs have to end when the worker is to.
_PATIENCE = 8.0


async def work(database_url: str, settings: Settings, stopped: asyncio.Event) -> None:
    """Do background jobs until told to stop; then end what is begun."""
    async for attempt in stamina.retry_context(
        on=Unavailable, attempts=None, timeout=None, wait_initial=0.5, wait_max=10.0
    ):
        with attempt:
            if not stopped.is_set():
                await _work_until(stopped, database_url, settings)


async def _work_until(stopped: asyncio.Event, database_url: str, settings: Settings) -> None:
    async with open_database(database_url) as database, connect(database_url) as connection:
        jobs = PgQueuer.from_asyncpg_connection(connection)
        mailer = Mailer(
            public_url=settings.public_url,
            secret=load_secret(settings.secret_key, settings.state_dir),
            sender=settings.mail_from,
            smtp=settings.smtp,
            outbox=settings.state_dir / "outbox",
        )

        @jobs.entrypoint(
            mails.JOB, concurrency_limit=_MAILS_AT_ONCE, executor_factory=_trying_again
        )
        async def send(job: Job) -> None:
            assert job.payload is not None
            is_last = job.attempts >= _MAIL_ATTEMPTS
            await mails.send_mail(database, mailer, UUID(bytes=job.payload), is_last=is_last)

        resolvers = settings.dns_resolvers or tuple(system_resolvers())

        under_way = asyncio.Semaphore(_CHECKS_AT_ONCE)

        @jobs.entrypoint(_CHECKS, concurrency_limit=_CHECK_JOBS_AT_ONCE)
        async def check_domains(job: Job) -> None:
            async def check(claim_id: UUID) -> None:
                async with under_way:
                    await claims.check(database, resolvers, claim_id, job.created)

            ids = msgspec.json.decode(job.payload or b"[]", type=list[UUID])
            checks = await asyncio.gather(*map(check, ids), return_exceptions=True)
            for error in checks:
                if error is not None:
                    # Its turn comes again.
                    _log.warning("domain not checked", error=type(error).__qualname__)

        @jobs.schedule("check_due_domains", EVERY_MINUTE)
        async def check_due_domains(schedule: Schedule) -> None:
            await enqueue_due_checks(database)

        @jobs.schedule("tidy_up", TIDYING)
        async def tidy_up(schedule: Schedule) -> None:
            await _tidy_up(database)

        days = settings.facts_retention_days
        if days is not None:

            @jobs.schedule("purge_facts", PURGES)
            async def purge_facts(schedule: Schedule) -> None:
                await purge(database, timedelta(days=days))

        # Whatever PgQueuer makes of a connection that is gone, there is no going on with it.
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        running = asyncio.create_task(jobs.run(dequeue_timeout=LOOKS_EVERY))
        ended = [running, *(asyncio.create_task(event.wait()) for event in (stopped, lost))]
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        if stopped.is_set():
            jobs.shutdown.set()
        elif not running.done():
            running.cancel()
        await asyncio.wait([running], timeout=_PATIENCE)
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        if not stopped.is_set():
            raise Unavailable("the jobs came to a stop") from (
                None if running.cancelled() else running.exception()
            )


async def enqueue_due_checks(database: Database) -> None:
    """Have every claim checked whose check is due, each once; not more than are soon done."""
    taken = [UUID(int=0)]
    while taken:
        async with database.general.transaction() as connection:
            if await waiting(connection, _CHECKS) >= _CHECK_JOBS_WAITING:
                return
            taken = await claims.take_due(connection, _DUE_AT_A_TIME)
            jobs = [
                msgspec.json.encode(taken[start : start + _CHECKS_A_JOB])
                for start in range(0, len(taken), _CHECKS_A_JOB)
            ]
            # After mails, which somebody waits for.
            await enqueue(connection, _CHECKS, *jobs, priority=-1)


def _trying_again(parameters: EntrypointExecutorParameters) -> DatabaseRetryEntrypointExecutor:
    return DatabaseRetryEntrypointExecutor(
        parameters=parameters,
        max_attempts=_MAIL_ATTEMPTS,
        initial_delay=_FIRST_RETRY,
        max_delay=_LAST_RETRY,
    )


async def _tidy_up(database: Database) -> None:
    """Note what has expired, and forget what nobody needs any more."""
    expired = 1
    while expired:
        async with database.general.transaction() as connection:
            expired = await expire_due(connection)
    for forget in (sign_in.purge, mails.purge, allowance.purge, idempotency.purge):
        try:
            async with database.general.transaction() as connection:
                await forget(connection)
        except Unavailable as error:
            # The others are not to wait for it.
            _log.warning("not tidied up", what=forget.__module__, why=str(error))
