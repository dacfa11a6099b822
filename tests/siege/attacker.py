"""A client that sends what an attack makes, at its pace, and counts what comes back."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

import msgspec

from tests.siege.connection import FAILURES, Connection

# How many seconds a connection waits to send more.
_MORE_AFTER = 1 / 16


class Orders(msgspec.Struct):
    """Which attack, for how many seconds, against which port, and with what."""

    attack: str
    seconds: float
    port: int
    authorization: str
    certificates: dict[str, str]


class Report(msgspec.Struct):
    """How many requests an attacker sent, what it got, and how much CPU time it took."""

    sent: int
    got: dict[str, int]
    cpu_seconds: float


class Attacker:
    """Carries out an attack, and counts."""

    def __init__(self, orders: Orders) -> None:
        self.port = orders.port
        self.authorization = orders.authorization
        self.certificates = orders.certificates
        self._seconds = orders.seconds
        self._sent = 0
        self._got: Counter[str] = Counter()
        self._cpu_seconds = 0.0

    def report(self) -> Report:
        """What was done so far."""
        waiting = self._sent - self._got.total()
        got = {**self._got, **({"no answer": waiting} if waiting else {})}
        return Report(self._sent, got, self._cpu_seconds)

    async def hold(
        self, connections: int, a_second: int, opening: bytes, more: bytes = b""
    ) -> None:
        """Send something once on each of so many connections, and keep them all open.

        So many are opened a second. With `more`, that follows again and again, until there is an answer.
        """
        held = [Connection(self.port) for _ in range(connections)]

        async def one(number: int) -> None:
            await asyncio.sleep(number / a_second)
            sending = asyncio.create_task(_keep_sending(held[number], more))
            try:
                await self._ask(held[number], opening)
            finally:
                sending.cancel()

        await self._for_a_while(one(number) for number in range(connections))

    async def repeat(self, connections: int, a_second: int, make: Callable[[int], bytes]) -> None:
        """Send one request after the other on each of so many connections, at most at that pace.

        `make` returns a request for the number of its connection.
        """

        async def one(number: int) -> None:
            connection = Connection(self.port)
            due = time.monotonic() + number / a_second
            while True:
                await asyncio.sleep(due - time.monotonic())
                await self._ask(connection, make(number))
                due = max(due + connections / a_second, time.monotonic())

        await self._for_a_while(one(number) for number in range(connections))

    async def _for_a_while(self, all_at_once: Iterable[Coroutine[Any, Any, None]]) -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        began, spent = time.monotonic(), time.process_time()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await asyncio.gather(*all_at_once)
        # Connections stay open for as long.
        await asyncio.sleep(began + self._seconds - time.monotonic())
        self._cpu_seconds = time.process_time() - spent

    async def _ask(self, connection: Connection, request: bytes) -> None:
        self._sent += 1
        try:
            status, _, _ = await connection.ask(request)
        except FAILURES:
            self._got["closed"] += 1
            # Whoever is turned away doesn't come back at once.
            await asyncio.sleep(0.1)
        else:
            self._got[str(status)] += 1


async def _keep_sending(connection: Connection, more: bytes) -> None:
    with suppress(*FAILURES):
        while more:
            await asyncio.sleep(_MORE_AFTER)
            await connection.send(more)
