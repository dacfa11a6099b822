"""How often something may be done per hour or day, counted across all processes.

Each use is counted in the transaction that does it, so a rollback also undoes the count.
"""

from typing import Literal, TypeAlias

from service.errors import LimitReached
from service.postgres.pools import Connection
from service.web import rate_limits
from service.web.rate_limits import Used

Period: TypeAlias = Literal["hour", "day"]

_SECONDS: dict[Period, int] = {"hour": 3600, "day": 86400}


async def take(
    connection: Connection,
    what: str,
    whose: str,
    limit: int,
    *,
    per: Period = "day",
    is_told: bool = True,
) -> None:
    """Count one use, of at most `limit` in this hour or day (UTC). Raises `LimitReached`.

    `what` names the limit to the caller. Unless `is_told`, neither its name nor what is left of it is
    told, since it also counts what others do.
    """
    row = await connection.fetchrow(
        """
        WITH taken AS (
            INSERT INTO allowance AS kept (since, what, whose, used)
            VALUES (date_trunc($4, now(), 'UTC'), $1, $2, 1)
            ON CONFLICT (since, what, whose) DO UPDATE SET used = kept.used + 1
            WHERE kept.used < $3
            RETURNING used
        )
        SELECT (SELECT used FROM taken), ceil(extract(epoch FROM
            date_trunc($4, now(), 'UTC') + ('1 ' || $4)::interval - now()))::integer
        """,
        what,
        whose,
        limit,
        per,
    )
    assert row is not None
    used, reset = row
    if is_told:
        remaining = 0 if used is None else limit - used
        rate_limits.note(Used(what, limit, _SECONDS[per], remaining, reset))
    if used is None:
        # Imported late, because commands import this module and few of them need this.
        from service.processes import metrics

        metrics.LIMITS.labels(what).inc()
        raise LimitReached(reset, f"the limit of {limit} {what} per {per}" if is_told else None)


async def used_of(connection: Connection, what: str, whose: str, *, per: Period = "day") -> int:
    """Return how much of a limit is used up in this hour or day (UTC)."""
    used: int | None = await connection.fetchval(
        """
        SELECT used FROM allowance
        WHERE since = date_trunc($3, now(), 'UTC') AND what = $1 AND whose = $2
        """,
        what,
        whose,
        per,
    )
    return used or 0


async def purge(connection: Connection) -> None:
    """Delete the counts of past hours and days."""
    await connection.execute("DELETE FROM allowance WHERE since < now() - interval '1 day'")
