"""Natural batching: while one query is in flight, later calls queue up and share the next one.

A lone call goes straight through, and no call waits for a timer. Each call gets what it would have
gotten alone, and every query starts after the calls it serves.

Callers share what there is: a run takes as many items of each as there is room for. Items that take
too long are answered apart, one by one, and so is, for a while, all that a caller asks whose items
held others up.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast

from cachetools import TTLCache

from service.errors import Overloaded, TookTooLong, Unavailable

# How long a caller whose items held others up is answered apart, in seconds.
APART_FOR = 60.0

# Into how many parts a run of one caller's items is split that one of them broke.
_PARTS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")

_Entry: TypeAlias = tuple[Hashable, Item, asyncio.Future[Result]]


class NaturalBatcher(Generic[Item, Result]):
    """Batches single calls into runs of `run`, which returns one result per item.

    At most `in_flight` runs of at most `largest` items are active at once, and one more of those
    who are answered apart. At most `longest_queue` items wait for a run, and none waits for its
    result longer than `deadline` seconds.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        largest: int = 128,
        in_flight: int = 2,
        longest_queue: int = 1024,
        deadline: float = 3.0,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._run = run
        self._longest_queue = longest_queue
        self._deadline = deadline
        self._observe = observe
        self._together: _Lane[Item, Result] = _Lane(self._answer, largest, in_flight)
        self._apart: _Lane[Item, Result] = _Lane(self._answer_apart, 1, 1)
        self._slow: TTLCache[Hashable, None] = TTLCache(1000, APART_FOR)
        # Those who wait, in the order in which their deadlines come.
        self._deadlines: deque[tuple[float, asyncio.Future[Result]]] = deque()
        self._sweeps = False

    async def ask(self, item: Item, caller: Hashable) -> Result:
        """Return the result for one of this caller's items, or raise what `run` raised for it.

        Raises `Unavailable` if too many items are waiting or the deadline has passed.
        """
        lane = self._apart if self._slow and caller in self._slow else self._together
        if lane.waiting >= self._longest_queue:
            raise Overloaded("too many calls are waiting")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        lane.add((caller, item, future))
        while self._deadlines and self._deadlines[0][1].done():
            self._deadlines.popleft()
        self._deadlines.append((loop.time() + self._deadline, future))
        if not self._sweeps:
            self._sweep(loop)
        return await future

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up those whose deadline has passed, and come back for the next.

        A timer for each would take half the time of all else that is done for one here.
        """
        while self._deadlines and (
            self._deadlines[0][1].done() or self._deadlines[0][0] <= loop.time()
        ):
            _, future = self._deadlines.popleft()
            if not future.done():
                future.set_exception(Unavailable("the answer took too long"))
        self._sweeps = bool(self._deadlines)
        if self._sweeps:
            loop.call_at(self._deadlines[0][0], self._sweep, loop)

    async def drain(self) -> None:
        """Wait until every waiting call has its result."""
        while workers := self._together.workers | self._apart.workers:
            await asyncio.wait(workers)

    async def _answer(self, batch: Sequence[_Entry[Item, Result]]) -> bool:
        """Give each call its result. Return whether that was not possible in one run in time."""
        # Skip calls that were canceled or timed out while they waited.
        batch = [entry for entry in batch if not entry[2].done()]
        if not batch:
            return False
        self._observe(len(batch))
        try:
            results = await self._run([item for _, item, _ in batch])
        except TookTooLong:
            await self._answer_slow(batch)
            return True
        except Exception as error:  # noqa: BLE001 - passed on to the callers
            if len(batch) == 1 or isinstance(error, Unavailable):
                _fail(batch, error)
                return False
            # One item broke the run. Splitting isolates it, so that the others get their results.
            size = -(-len(batch) // _PARTS)
            for start in range(0, len(batch), size):
                await self._answer(batch[start : start + size])
            return False
        _tell(batch, results)
        return False

    async def _answer_slow(self, batch: Sequence[_Entry[Item, Result]]) -> None:
        """Answer each caller's items on their own, and apart from the others those that are slow."""
        callers: dict[Hashable, list[_Entry[Item, Result]]] = {}
        for entry in batch:
            callers.setdefault(entry[0], []).append(entry)
        if len(callers) == 1:
            for entry in batch:
                self._apart.add(entry)
            return
        slow = [
            caller
            for caller, own in sorted(callers.items(), key=lambda each: len(each[1]))
            if await self._answer(own)
        ]
        # If everyone's took too long, it was no one's fault.
        if len(slow) < len(callers):
            self._slow.update(dict.fromkeys(slow))

    async def _answer_apart(self, batch: Sequence[_Entry[Item, Result]]) -> None:
        batch = [entry for entry in batch if not entry[2].done()]
        try:
            _tell(batch, await self._run([item for _, item, _ in batch]) if batch else ())
        except Exception as error:  # noqa: BLE001 - passed on to the callers
            _fail(batch, error)


class _Lane(Generic[Item, Result]):
    """Items that wait, by caller, and the tasks that answer them."""

    def __init__(
        self,
        answer: Callable[[Sequence[_Entry[Item, Result]]], Awaitable[object]],
        largest: int,
        in_flight: int,
    ) -> None:
        self._answer = answer
        self._largest = largest
        self._in_flight = in_flight
        self._callers: dict[Hashable, deque[_Entry[Item, Result]]] = {}
        self.waiting = 0
        self.workers: set[asyncio.Task[None]] = set()

    def add(self, entry: _Entry[Item, Result]) -> None:
        """Add an item, and start to work on it if it need not wait."""
        self._callers.setdefault(entry[0], deque()).append(entry)
        self.waiting += 1
        if len(self.workers) < self._in_flight:
            self.workers.add(asyncio.create_task(self._work()))

    async def _work(self) -> None:
        while self._callers:
            await self._answer(self._next())
        # At once, because an item that is added before this task has ended needs another.
        self.workers.remove(cast("asyncio.Task[None]", asyncio.current_task()))

    def _next(self) -> list[_Entry[Item, Result]]:
        """Take the next batch: as many items of each caller, as long as it has that many."""
        batch: list[_Entry[Item, Result]] = []
        while self._callers and (room := self._largest - len(batch)):
            share = max(1, room // len(self._callers))
            for caller in list(self._callers)[:room]:
                items = self._callers.pop(caller)
                batch.extend(items.popleft() for _ in range(min(share, len(items))))
                if items:
                    # Behind those who have had nothing yet.
                    self._callers[caller] = items
        self.waiting -= len(batch)
        return batch


def _tell(batch: Sequence[_Entry[Item, Result]], results: Sequence[Result]) -> None:
    for (_, _, future), result in zip(batch, results, strict=True):
        if not future.done():
            future.set_result(result)


def _fail(batch: Sequence[_Entry[Any, Any]], error: Exception) -> None:
    for _, _, future in batch:
        if not future.done():
            future.set_exception(error)
