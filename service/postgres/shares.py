"""Each account's share of a pool, so that one that calls a lot waits for itself and for nobody else.

A request begins as nobody's. Once its caller is known, it counts against the caller's share. What
doesn't belong to a request, such as a job, is not limited.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar, Token
from weakref import WeakValueDictionary

from service.errors import Overloaded, TooManyCalls

# How many of the connections one account has at most, and all requests of unknown callers together.
OF_AN_ACCOUNT = 2
OF_UNKNOWN = 3

# How many requests of one account wait for its share, and for how many seconds.
LONGEST_QUEUE = 64
DEADLINE = 2.0

_UNKNOWN = ""

_caller: ContextVar[list[str] | None] = ContextVar("whose request", default=None)


def begin_request() -> Token[list[str] | None]:
    """From now on, limit what is done, as for a request that is nobody's yet."""
    return _caller.set([_UNKNOWN])


def end_request(begun: Token[list[str] | None]) -> None:
    """End the request that `begin_request` began."""
    _caller.reset(begun)


def belongs_to(caller: object) -> None:
    """Note whose the current request is: the id of an account or of a user."""
    noted = _caller.get()
    if noted is not None:
        noted[0] = str(caller)


def current() -> str | None:
    """Return whose the current request is: empty if nobody's yet, None outside of requests."""
    noted = _caller.get()
    return None if noted is None else noted[0]


class Shares:
    """The shares of one pool, and whose turn it is to change something."""

    def __init__(self) -> None:
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiting: Counter[str] = Counter()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place in the caller's share. Raises `TooManyCalls` or `Overloaded`."""
        caller = current()
        if caller is None:
            yield
            return
        size = OF_AN_ACCOUNT if caller else OF_UNKNOWN
        place = self._places.setdefault(caller, asyncio.Semaphore(size))
        await self._wait(caller, place)
        try:
            yield
        finally:
            place.release()

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """Wait until no other request of this caller changes anything in this process.

        Raises `TooManyCalls`.
        """
        turn = self._turns.setdefault(caller, asyncio.Lock())
        await self._wait(caller, turn)
        try:
            yield
        finally:
            turn.release()

    async def _wait(self, caller: str, place: asyncio.Semaphore | asyncio.Lock) -> None:
        if self._waiting[caller] >= LONGEST_QUEUE:
            raise self._busy(caller)
        self._waiting[caller] += 1
        try:
            async with asyncio.timeout(DEADLINE):
                await place.acquire()
        except TimeoutError:
            raise self._busy(caller) from None
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]

    @staticmethod
    def _busy(caller: str) -> TooManyCalls | Overloaded:
        if caller:
            return TooManyCalls("too many of your calls are waiting")
        return Overloaded("too many calls are waiting")
