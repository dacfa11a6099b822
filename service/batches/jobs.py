"""The jobs that work on batches, and the schedule that queues what was left undone."""

import asyncio
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog
from pgqueuer.models import Job

from service.batches import batches, steps
from service.batches.records import Fault
from service.errors import ServiceError
from service.postgres.pools import Database
from service.processes.jobs import EVERY_MINUTE, Entrypoint, Jobs, Retry, Schedule
from service.settings import Settings

# Of all batches together: in one worker, and in all of them. A worker that was killed counts for half
# a minute.
_IN_A_WORKER = 3
_AT_ONCE = 64

# The database may be away for a while. Afterwards, the schedule finds what was left.
_RETRY = Retry(attempts=10, first=timedelta(seconds=1), last=timedelta(seconds=30))

# Much longer than a part of an upload may take to arrive.
_ABANDONED_AFTER = timedelta(minutes=5)

_log = structlog.get_logger("service.worker")


def jobs(database: Database, settings: Settings) -> Jobs:
    """Return the job that does what a batch needs next, and the schedule that finds forgotten ones."""
    del settings
    under_way = asyncio.Semaphore(_IN_A_WORKER)

    async def work_on(job: Job) -> None:
        assert job.payload is not None
        batch_id = UUID(job.payload.decode())
        try:
            async with under_way:
                await steps.work_on(database, batch_id)
        except ServiceError:
            raise
        except Exception:  # noqa: BLE001 - it would happen again, and somebody waits
            _log.exception("batch failed", batch_id=str(batch_id))
            detail = "this service failed at it, whatever is in the file: tell who runs the service"
            await batches.fail(database, batch_id, Fault("internal_error", detail))

    return [
        Entrypoint(batches.JOB, work_on, at_once=_AT_ONCE, retry=_RETRY),
        Schedule(
            "tidy_up_batches", EVERY_MINUTE, partial(batches.tidy_up, database, _ABANDONED_AFTER)
        ),
    ]
