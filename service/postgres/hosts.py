"""Connect to the one of several servers that takes writes.

A URL may name several, `postgresql://user@one:5432,two:5432/database`, of which one is the primary, and
after a failover another one. All are tried at once. In turns, one that is gone without saying so would
use up the time that connecting may take.
"""

import asyncio
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg


async def connect_to_primary(url: str, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    """Connect with asyncpg's options, to the first server that accepts and takes writes.

    Raises what the first one in the URL raised, if there is none.
    """
    urls = _urls(url)
    if len(urls) == 1:
        return await asyncpg.connect(url, **options)
    if "target_session_attrs=" not in url:
        options["target_session_attrs"] = "read-write"
    attempts = [asyncio.create_task(asyncpg.connect(each, **options)) for each in urls]
    waiting = set(attempts)
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                if attempt.exception() is None:
                    attempts.remove(attempt)
                    return attempt.result()
        return attempts[0].result()
    finally:
        for attempt in attempts:
            _abandon(attempt)


def _urls(url: str) -> list[str]:
    """Return a URL for each host."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{user}{at}{host}")) for host in hosts.split(",")]


def _abandon(attempt: "asyncio.Task[asyncpg.Connection[asyncpg.Record]]") -> None:
    if not attempt.done():
        attempt.cancel()
    elif not attempt.cancelled() and attempt.exception() is None:
        attempt.result().terminate()
