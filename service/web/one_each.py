"""One of something long for each account at a time, such as an import."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID
from weakref import WeakValueDictionary

from service.errors import Overloaded, TooManyCalls

# How many seconds an account's next one waits for the one before.
_DEADLINE = 5.0


class OneEach:
    """What is in progress in this process: one of each account, and at most so many of all."""

    def __init__(self, what: str, most: int) -> None:
        self._what = what
        self._most = most
        self._accounts: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def one_more(self, account_id: UUID) -> AsyncIterator[None]:
        """Begin one. Raises `TooManyCalls` or `Overloaded`."""
        if len(self._accounts) >= self._most:
            raise Overloaded(f"too many {self._what}s are in progress")
        own = self._accounts.setdefault(account_id, asyncio.Lock())
        try:
            async with asyncio.timeout(_DEADLINE):
                await own.acquire()
        except TimeoutError:
            raise TooManyCalls(f"another {self._what} of yours is in progress") from None
        try:
            yield
        finally:
            own.release()
