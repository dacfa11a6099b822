"""Keep answers in a partition for each month, and drop old months as a whole."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from service import audit
from service.answers import queries
from service.answers.checkpoints import Dropped, Signer
from service.postgres.pools import Connection, Database

_log = structlog.get_logger("service.answers")


async def keep_months(database: Database, months: int | None, seed: bytes) -> None:
    """Make the partitions of this month and the next two, and drop those older than so many months.

    `months` is None to keep all answers. Only the hashes of dropped ones are kept, in the log, with a
    signed note of how many they are. So nobody without the key can pass off others as dropped.
    """
    async with database.general.connection() as connection:
        now = await queries.select_horizon(connection)
        partitions = await queries.select_months(connection)
        limit = None
        if months is not None:
            year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
            first = datetime(year, month + 1, 1, tzinfo=UTC)
            limit = await queries.least_id_at(connection, first)
    async with database.general.transaction() as connection:
        # The first partition has all months until it ends, and maybe this one, too.
        until = partitions[0][1] if partitions else None
        await queries.make_months(connection, [now, *_following(now)], until)
    for partition, end in partitions:
        if limit is not None and end is not None and end <= limit:
            async with database.general.transaction() as connection:
                await _drop(connection, partition, end, seed)


async def _drop(connection: Connection, partition: str, end: UUID, seed: bytes) -> None:
    answers, unsealed = await queries.count_answers(connection, partition)
    if unsealed:
        _log.warning("a month is kept: not all of its answers are sealed", month=partition)
        return
    log = await queries.select_log(connection)
    if log is not None and answers:
        note = Signer(log.origin, seed).note_of_dropped(Dropped(answers, end))
        await queries.insert_drop(connection, end, note)
    await queries.drop_month(connection, partition)
    await audit.record(
        connection, "answers.dropped", actor=audit.SERVICE, answers=answers, month=partition
    )


def _following(now: datetime) -> list[datetime]:
    """Return times in the next two months."""
    first = now.replace(day=15)
    return [first + timedelta(days=30), first + timedelta(days=60)]
