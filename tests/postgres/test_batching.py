"""Natural batching, with runs that finish when the test says so."""

import asyncio
from collections.abc import Sequence

import pytest

from service.errors import TookTooLong, Unavailable
from service.postgres.batching import NaturalBatcher


class Runs:
    """Records batches. Each waits to be released, unless the gate starts open."""

    def __init__(self, *, gated: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        if not gated:
            self.gate.set()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.gate.wait()
        if 13 in items:
            raise ValueError("poisoned")
        return [item * 10 for item in items]


async def started(runs: Runs, batches: int) -> None:
    """Wait until this many batches have started."""
    for _ in range(100):
        if len(runs.batches) >= batches:
            return
        await asyncio.sleep(0)
    raise AssertionError(runs.batches)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_lone_call_goes_straight_through() -> None:
    runs = Runs()
    batcher = NaturalBatcher(runs)
    assert await batcher.ask(1, "one") == 10
    assert await batcher.ask(2, "one") == 20
    assert runs.batches == [[1], [2]]


async def test_call_right_after_another_waits_for_nothing() -> None:
    batcher = NaturalBatcher(Runs(), in_flight=1, deadline=0.05)
    for number in range(10):
        assert await batcher.ask(number, "one") == number * 10


async def test_calls_during_a_query_share_the_next_one_and_get_their_own_results() -> None:
    runs = Runs(gated=True)
    batcher = NaturalBatcher(runs, in_flight=1)
    first = asyncio.create_task(batcher.ask(1, "one"))
    await started(runs, 1)
    others = [asyncio.create_task(batcher.ask(n, "one")) for n in (2, 3, 4)]
    await settle()
    runs.gate.set()
    assert await asyncio.gather(first, *others) == [10, 20, 30, 40]
    assert runs.batches == [[1], [2, 3, 4]]


async def test_batches_are_no_larger_than_allowed() -> None:
    runs = Runs(gated=True)
    batcher = NaturalBatcher(runs, in_flight=1, largest=2)
    calls = [asyncio.create_task(batcher.ask(n, "one")) for n in range(1, 6)]
    await started(runs, 1)
    runs.gate.set()
    assert await asyncio.gather(*calls) == [10, 20, 30, 40, 50]
    assert [len(batch) for batch in runs.batches] == [2, 2, 1]


async def test_no_more_queries_are_in_flight_than_allowed() -> None:
    runs = Runs(gated=True)
    batcher = NaturalBatcher(runs, in_flight=2, largest=1)
    calls = [asyncio.create_task(batcher.ask(n, "one")) for n in range(1, 6)]
    await settle()
    assert len(runs.batches) == 2
    runs.gate.set()
    await asyncio.gather(*calls)


async def test_full_queue_refuses_at_once() -> None:
    runs = Runs(gated=True)
    batcher = NaturalBatcher(runs, in_flight=1, longest_queue=2)
    calls = [asyncio.create_task(batcher.ask(1, "one"))]
    await started(runs, 1)
    calls += [asyncio.create_task(batcher.ask(n, "one")) for n in (2, 3)]
    await settle()
    with pytest.raises(Unavailable) as raised:
        await batcher.ask(4, "one")
    assert raised.value.retry_after == 1
    runs.gate.set()
    assert await asyncio.gather(*calls) == [10, 20, 30]


async def test_call_that_waits_too_long_is_told_so_and_is_not_asked_about_later() -> None:
    runs = Runs(gated=True)
    batcher = NaturalBatcher(runs, in_flight=1, deadline=0.05)
    first, second = (
        asyncio.create_task(batcher.ask(1, "one")),
        asyncio.create_task(batcher.ask(2, "one")),
    )
    await started(runs, 1)
    third = asyncio.create_task(batcher.ask(3, "one"))
    for call in (first, second, third):
        with pytest.raises(Unavailable):
            await call
    runs.gate.set()
    await batcher.drain()
    assert runs.batches == [[1, 2]]


async def test_cancelled_calls_harm_nobody() -> None:
    runs = Runs(gated=True)
    batcher = NaturalBatcher(runs, in_flight=1)
    in_flight = asyncio.create_task(batcher.ask(1, "one"))
    await started(runs, 1)
    waiting, neighbour = (
        asyncio.create_task(batcher.ask(2, "one")),
        asyncio.create_task(batcher.ask(3, "one")),
    )
    await settle()
    in_flight.cancel()
    waiting.cancel()
    await settle()
    runs.gate.set()
    assert await neighbour == 30
    assert runs.batches == [[1], [3]]
    assert await batcher.ask(4, "one") == 40


async def test_poisoned_item_fails_alone() -> None:
    runs = Runs(gated=True)
    batcher = NaturalBatcher(runs, in_flight=1)
    first = asyncio.create_task(batcher.ask(1, "one"))
    await started(runs, 1)
    calls = [asyncio.create_task(batcher.ask(n, "one")) for n in (11, 12, 13, 14, 15)]
    await settle()
    runs.gate.set()
    results = await asyncio.gather(first, *calls, return_exceptions=True)
    assert [r if isinstance(r, int) else type(r) for r in results] == [
        10, 110, 120, ValueError, 140, 150,
    ]  # fmt: skip


async def test_unavailable_database_is_not_asked_again_for_each_of_the_batch() -> None:
    tries = 0

    async def run(items: Sequence[int]) -> list[int]:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        raise Unavailable("the database is out of reach")

    batcher = NaturalBatcher(run, in_flight=1)
    calls = [asyncio.create_task(batcher.ask(n, "one")) for n in range(8)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    assert tries == 1


async def test_draining_waits_for_every_call() -> None:
    runs = Runs(gated=True)
    batcher = NaturalBatcher(runs, in_flight=1)
    calls = [asyncio.create_task(batcher.ask(n, "one")) for n in (1, 2)]
    await settle()
    drained = asyncio.create_task(batcher.drain())
    await settle()
    assert not drained.done()
    runs.gate.set()
    await drained
    assert all(call.done() for call in calls)


class Slow:
    """A database that stops statements at a deadline: those with a slow item."""

    def __init__(self, *slow: int) -> None:
        self.slow = set(slow)
        self.batches: list[list[int]] = []

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        if self.slow.intersection(items):
            await asyncio.sleep(0.02)
            raise TookTooLong("statement timeout")
        await asyncio.sleep(0.001)
        return list(items)


async def test_batch_that_takes_too_long_is_split_and_the_slow_item_alone_fails() -> None:
    run = Slow(70)
    batcher = NaturalBatcher(run, in_flight=1)
    calls = [asyncio.create_task(batcher.ask(n, n)) for n in range(128)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [n for n, result in enumerate(results) if result != n] == [70]
    assert isinstance(results[70], TookTooLong)
    # The last time, apart from the others.
    assert [len(batch) for batch in run.batches if 70 in batch] == [128, 1, 1]


async def test_slow_item_of_a_caller_with_many_is_found_in_few_steps() -> None:
    run = Slow(70)
    batcher = NaturalBatcher(run, in_flight=1)
    calls = [asyncio.create_task(batcher.ask(n, "one")) for n in range(128)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [n for n, result in enumerate(results) if result != n] == [70]
    assert [len(batch) for batch in run.batches if 70 in batch] == [128, 1]


async def test_who_held_others_up_is_answered_apart_from_them() -> None:
    run = Slow(1)
    batcher = NaturalBatcher(run, in_flight=1)
    first = [asyncio.create_task(batcher.ask(n, n)) for n in range(8)]
    await asyncio.gather(*first, return_exceptions=True)
    run.batches.clear()
    calls = [asyncio.create_task(batcher.ask(n % 8, n % 8)) for n in range(32)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(result == n % 8 for n, result in enumerate(results) if n % 8 != 1)
    assert all(batch == [1] for batch in run.batches if 1 in batch)


async def test_item_that_took_too_long_by_bad_luck_gets_its_result_after_all() -> None:
    run = Slow(1)
    batcher = NaturalBatcher(run, in_flight=1)
    call = asyncio.create_task(batcher.ask(1, "one"))
    await asyncio.sleep(0.01)
    run.slow.clear()
    assert await call == 1
    assert run.batches == [[1], [1]]


async def test_nobody_waits_while_the_items_of_one_who_held_others_up_take_their_time() -> None:
    run = Slow(*range(100))
    batcher = NaturalBatcher(run, in_flight=1)
    held_up = [asyncio.create_task(batcher.ask(n, "busy")) for n in range(100)]
    assert await batcher.ask(100, "other") == 100
    assert await batcher.ask(101, "other") == 101
    assert [len(batch) for batch in run.batches if len(batch) > 1] == [101, 100]
    assert not any(call.done() for call in held_up[5:])
    for call in held_up:
        call.cancel()


@pytest.mark.parametrize("callers", [1, 4])
async def test_database_that_is_slow_for_everyone_accuses_nobody(callers: int) -> None:
    run = Slow(*range(8))
    batcher = NaturalBatcher(run, in_flight=1)
    calls = [asyncio.create_task(batcher.ask(n, n % callers)) for n in range(8)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, TookTooLong) for result in results)
    run.slow.clear()
    run.batches.clear()
    await asyncio.gather(*(batcher.ask(n, n % callers) for n in range(8)))
    assert len(run.batches) == 1


async def test_callers_have_equal_shares_of_a_batch() -> None:
    runs = Runs(gated=True)
    batcher = NaturalBatcher(runs, in_flight=1, largest=4)
    calls = [asyncio.create_task(batcher.ask(0, "busy"))]
    await started(runs, 1)
    calls += [asyncio.create_task(batcher.ask(n, "busy")) for n in range(100, 110)]
    calls += [asyncio.create_task(batcher.ask(n, "other")) for n in (1, 2)]
    calls += [asyncio.create_task(batcher.ask(3, "third"))]
    await settle()
    runs.gate.set()
    await asyncio.gather(*calls)
    assert sorted(runs.batches[1]) == [1, 3, 100, 101]
    assert min(runs.batches[2]) == 2
    assert [len(batch) for batch in runs.batches] == [1, 4, 4, 4, 1]
