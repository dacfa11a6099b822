"""Natural batching: while one query is in flight, later calls queue up and share the next one.

A lone call goes straight through, and no call waits for a timer. Each call gets what it would have
gotten alone, and every query starts after the calls it serves.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from service.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


class NaturalBatcher(Generic[Item, Result]):
    """Batches single calls into runs of `run`, which returns one result per item.

    At most `in_flight` runs of at most `largest` items are active at once. At most `longest_queue`
    items wait for a run, and none waits for its result longer than `deadline` seconds.
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
        self._largest = largest
        self._in_flight = in_flight
        self._longest_queue = longest_queue
        self._deadline = deadline
        self._observe = observe
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    async def ask(self, item: Item) -> Result:
        """Return the result for one item, or raise what `run` raised for it.

        Raises `Unavailable` if too many items are waiting or the deadline has passed.
        """
        if len(self._waiting) >= self._longest_queue:
            raise Unavailable("too many calls are waiting")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if len(self._workers) < self._in_flight:
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        timer = loop.call_later(self._deadline, _give_up, future)
        try:
            return await future
        finally:
            timer.cancel()

    async def drain(self) -> None:
        """Wait until every waiting call has its result."""
        while self._workers:
            await asyncio.wait(self._workers)

    async def _work(self) -> None:
        while self._waiting:
            batch: list[tuple[Item, asyncio.Future[Result]]] = []
            while self._waiting and len(batch) < self._largest:
                entry = self._waiting.popleft()
                # Skip calls that were canceled or timed out while they waited.
                if not entry[1].done():
                    batch.append(entry)
            if batch:
                self._observe(len(batch))
                await self._answer(batch)

    async def _answer(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - passed on to the callers
            if len(batch) == 1 or isinstance(error, Unavailable):
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                # One item broke the run. Halving isolates it, so the others get their results.
                middle = len(batch) // 2
                await self._answer(batch[:middle])
                await self._answer(batch[middle:])
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)


def _give_up(future: asyncio.Future[Result]) -> None:
    if not future.done():
        future.set_exception(Unavailable("the answer took too long"))
