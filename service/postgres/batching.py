"""Natural batching: while one query is in flight, later calls queue up and share the next one.

A lone call goes straight through, and no call waits for a timer. Each call gets what it would have
gotten alone, and every query starts after the calls it serves.

Callers share what there is: a run takes as many items of each as there is room for. One whose item
held others up is answered apart from them for a while, item by item.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from cachetools import TTLCache

from service.errors import TookTooLong, Unavailable

# How long a caller whose item held others up is answered apart, in seconds.
APART_FOR = 10.0

# Into how many parts a run is split that failed for one of its items.
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
        self._apart: _Lane[Item, Result] = _Lane(self._answer, 1, 1)
        self._slow: TTLCache[Hashable, None] = TTLCache(1000, APART_FOR)

    async def ask(self, item: Item, caller: Hashable) -> Result:
        """Return the result for one of this caller's items, or raise what `run` raised for it.

        Raises `Unavailable` if too many items are waiting or the deadline has passed.
        """
        lane = self._apart if self._slow and caller in self._slow else self._together
        if lane.waiting >= self._longest_queue:
            raise Unavailable("too many calls are waiting")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        lane.add((caller, item, future))
        timer = loop.call_later(self._deadline, _give_up, future)
        try:
            return await future
        finally:
            timer.cancel()

    async def drain(self) -> None:
        """Wait until every waiting call has its result."""
        while workers := self._together.workers | self._apart.workers:
            await asyncio.wait(workers)

    async def _answer(
        self, batch: Sequence[_Entry[Item, Result]], *, is_part: bool = False
    ) -> None:
        # Skip calls that were canceled or timed out while they waited.
        batch = [entry for entry in batch if not entry[2].done()]
        if not batch:
            return
        self._observe(len(batch))
        try:
            results = await self._run([item for _, item, _ in batch])
        except Exception as error:  # noqa: BLE001 - passed on to the callers
            concerns_all = isinstance(error, Unavailable) and not isinstance(error, TookTooLong)
            if len(batch) > 1 and not concerns_all:
                # One item broke the run, or held it up. Splitting isolates it, so that the others
                # get their results.
                size = -(-len(batch) // _PARTS)
                for start in range(0, len(batch), size):
                    await self._answer(batch[start : start + size], is_part=True)
                return
            if isinstance(error, TookTooLong) and is_part:
                # It held up others before it was alone.
                self._slow[batch[0][0]] = None
            for _, _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, _, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)


class _Lane(Generic[Item, Result]):
    """Items that wait, by caller, and the tasks that answer them."""

    def __init__(
        self,
        answer: Callable[[Sequence[_Entry[Item, Result]]], Awaitable[None]],
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
            worker = asyncio.create_task(self._work())
            self.workers.add(worker)
            worker.add_done_callback(self.workers.discard)

    async def _work(self) -> None:
        while self._callers:
            await self._answer(self._next())

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


def _give_up(future: "asyncio.Future[Any]") -> None:
    if not future.done():
        future.set_exception(Unavailable("the answer took too long"))
