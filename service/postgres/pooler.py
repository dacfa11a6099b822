"""Connect by way of a pooler, such as PgBouncer, that lends a session to one transaction at a time.

What is set for a session would be lost there, or become someone else's, and so would prepared
statements. So each statement runs in a transaction, and each transaction begins with our settings.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any

from service.postgres.keepalive import KeptAlive

# What a pooler passes on when a client connects. It refuses or ignores all else.
_PASSED_ON = ("application_name", "timezone")


def _in_transaction(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(method)
    async def run(self: "Transacting", *args: Any, **options: Any) -> Any:
        if self.is_in_transaction():
            return await method(self, *args, **options)
        async with self.transaction():
            return await method(self, *args, **options)

    return run


class Transacting(KeptAlive):
    """A connection that runs whatever is in no transaction in one of its own."""

    settings = ""

    fetch = _in_transaction(KeptAlive.fetch)
    fetchrow = _in_transaction(KeptAlive.fetchrow)
    fetchval = _in_transaction(KeptAlive.fetchval)
    executemany = _in_transaction(KeptAlive.executemany)
    _execute_in_transaction = _in_transaction(KeptAlive.execute)

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        """Execute statements. What asyncpg begins a transaction with sets our settings as well."""
        if query.startswith("BEGIN"):
            return await super().execute(query + self.settings, *args, **options)
        return await self._execute_in_transaction(query, *args, **options)


def by_transaction(settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of an asyncpg pool whose transactions have these settings."""
    statements = "".join(f"SET LOCAL {name} = '{value}';" for name, value in settings.items())

    async def prepare(connection: Transacting) -> None:
        connection.settings = statements

    return {
        "connection_class": Transacting,
        "server_settings": {name: settings[name] for name in _PASSED_ON},
        "statement_cache_size": 0,
        "init": prepare,
    }
