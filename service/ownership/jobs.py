"""Check claims to domains when they are due.

A job holds many checks, because taking a job from the queue costs more than a check.
"""

import asyncio
from functools import partial
from uuid import UUID

import msgspec
import structlog
from pgqueuer.models import Job

from service.ownership import claims
from service.ownership.dns_txt import resolvers_of
from service.postgres.pools import Database
from service.processes.jobs import EVERY_MINUTE, Entrypoint, Jobs, Schedule
from service.processes.queue import enqueue, waiting
from service.settings import Settings

CHECKS = "check_domains"

_CHECKS_A_JOB = 50
_JOBS_AT_ONCE = 8
_CHECKS_AT_ONCE = 32
_DUE_AT_A_TIME = 1000
_JOBS_WAITING = 2000

_log = structlog.get_logger("service.worker")


def jobs(database: Database, settings: Settings) -> Jobs:
    """Return the jobs that queue due checks every minute, and run them."""
    resolvers = resolvers_of(settings.dns_resolvers)
    under_way = asyncio.Semaphore(_CHECKS_AT_ONCE)

    async def check_domains(job: Job) -> None:
        async def check(claim_id: UUID) -> None:
            async with under_way:
                await claims.check(database, resolvers, claim_id, job.created)

        ids = msgspec.json.decode(job.payload or b"[]", type=list[UUID])
        checks = await asyncio.gather(*map(check, ids), return_exceptions=True)
        for error in checks:
            if error is not None:
                # It will be due again.
                _log.warning("domain not checked", error=type(error).__qualname__)

    return [
        Entrypoint(CHECKS, check_domains, at_once=_JOBS_AT_ONCE),
        Schedule("check_due_domains", EVERY_MINUTE, partial(enqueue_due_checks, database)),
    ]


async def enqueue_due_checks(database: Database) -> None:
    """Queue each claim that is due for a check once, and no more than will soon be done."""
    taken = [UUID(int=0)]
    while taken:
        async with database.general.transaction() as connection:
            if await waiting(connection, CHECKS) >= _JOBS_WAITING:
                return
            taken = await claims.take_due(connection, _DUE_AT_A_TIME)
            payloads = [
                msgspec.json.encode(taken[start : start + _CHECKS_A_JOB])
                for start in range(0, len(taken), _CHECKS_A_JOB)
            ]
            # After emails, which people wait for.
            await enqueue(connection, CHECKS, *payloads, priority=-1)
