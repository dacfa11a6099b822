"""How often something may be done a day, whoever of the processes is asked.

Counted in the transaction that does it: what is rolled back was not done.
"""

from datetime import timedelta

from service.database import Connection
from service.errors import LimitReached


async def take(connection: Connection, what: str, whose: str, limit: int) -> None:
    """Count one more, of at most `limit` on this day (UTC). Raises `LimitReached`."""
    used = await connection.fetchval(
        """
        INSERT INTO daily_use AS kept (day, what, whose, used)
        VALUES ((now() AT TIME ZONE 'UTC')::date, $1, $2, 1)
        ON CONFLICT (day, what, whose) DO UPDATE SET used = kept.used + 1 WHERE kept.used < $3
        RETURNING used
        """,
        what,
        whose,
        limit,
    )
    if used is None:
        raise LimitReached(
            await connection.fetchval(
                """
                SELECT ceil(extract(epoch FROM date_trunc('day', now(), 'UTC') + interval '1 day'
                    - now()))::integer
                """
            )
        )


async def purge(connection: Connection) -> None:
    """Forget what was counted on days gone by."""
    await connection.execute(
        "DELETE FROM daily_use WHERE day < (now() AT TIME ZONE 'UTC')::date - $1::interval",
        timedelta(days=1),
    )
