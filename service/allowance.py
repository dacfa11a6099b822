"""How often something may be done per hour or day, counted across all processes.

Each use is counted in the transaction that does it, so a rollback also undoes the count.
"""

from typing import Literal

from service.errors import LimitReached
from service.postgres.pools import Connection


async def take(
    connection: Connection,
    what: str,
    whose: str,
    limit: int,
    *,
    per: Literal["hour", "day"] = "day",
) -> None:
    """Count one use, of at most `limit` in this hour or day (UTC). Raises `LimitReached`."""
    used = await connection.fetchval(
        """
        INSERT INTO allowance AS kept (since, what, whose, used)
        VALUES (date_trunc($4, now(), 'UTC'), $1, $2, 1)
        ON CONFLICT (since, what, whose) DO UPDATE SET used = kept.used + 1 WHERE kept.used < $3
        RETURNING used
        """,
        what,
        whose,
        limit,
        per,
    )
    if used is None:
        raise LimitReached(
            await connection.fetchval(
                """
                SELECT ceil(extract(epoch FROM
                    date_trunc($1, now(), 'UTC') + ('1 ' || $1)::interval - now()))::integer
                """,
                per,
            )
        )


async def purge(connection: Connection) -> None:
    """Delete the counts of past hours and days."""
    await connection.execute("DELETE FROM allowance WHERE since < now() - interval '1 day'")
