"""Keep answers in a partition for each month, and drop old months as a whole."""

from datetime import UTC, datetime, timedelta

from service import audit
from service.answers import queries
from service.postgres.pools import Database


async def keep_months(database: Database, months: int | None) -> None:
    """Make the partitions of this month and the next two, and drop those older than so many months.

    `months` is None to keep all answers. Only the hashes of dropped ones are kept, in the log.
    """
    async with database.general.connection() as connection:
        now = await queries.select_horizon(connection)
        partitions = await queries.select_months(connection)
        log = await queries.select_log(connection)
        limit = None
        if months is not None:
            year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
            first = datetime(year, month + 1, 1, tzinfo=UTC)
            # Nothing is dropped that isn't sealed.
            if log is not None and log.sealed_until >= first:
                limit = await queries.least_id_at(connection, first)
    async with database.general.transaction() as connection:
        await queries.make_months(connection, [now, *_following(now)])
    for partition, end in partitions:
        if limit is not None and end is not None and end <= limit:
            async with database.general.transaction() as connection:
                count = await queries.drop_month(connection, partition, end)
                await audit.record(
                    connection,
                    "answers.dropped",
                    actor=audit.SERVICE,
                    answers=count,
                    month=partition,
                )


def _following(now: datetime) -> list[datetime]:
    """Return times in the next two months."""
    first = now.replace(day=15)
    return [first + timedelta(days=30), first + timedelta(days=60)]
