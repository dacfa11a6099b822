"""Callers who ask all the time, and what became of each call."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import msgspec

from tests.builders import NO_VERIFIED, VERIFIED, until
from tests.faults.stage import Stage
from tests.insights.vendor import OWNER
from tests.siege.attacks import confirmed_owner
from tests.siege.connection import FAILURES, Connection

_PATIENCE = 30.0


class Load:
    """The calls about each certificate: how many were sent, and how many were answered.

    Each is told what is so, or gets an error that names no owner. Otherwise, all of it fails.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.sent: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        """By the status, or what the connection failed with."""
        self.cut_off = 0
        """How many responses began and didn't end."""
        self.is_over = False

    async def ask(self, first: int) -> None:
        """Ask on one connection, one call after the other."""
        with closing(Connection(self._stage.port)) as connection:
            for cert_id in itertools.islice(itertools.cycle(self._stage.told), first, None):
                if self.is_over:
                    return
                await self._ask(connection, cert_id)

    async def go_on(self, answers: int = 50) -> None:
        """Wait until so many more calls are answered."""
        enough = self.answered.total() + answers

        async def have_enough() -> bool:
            return self.answered.total() >= enough

        await until(have_enough)

    async def _ask(self, connection: Connection, cert_id: str) -> None:
        self.sent[cert_id] += 1
        sent = confirmed_owner(cert_id, self._stage.buyer.headers["Authorization"])
        try:
            async with asyncio.timeout(_PATIENCE):
                status, _, body = await connection.ask(sent)
        except FAILURES as error:
            connection.close()
            self.failed[type(error).__name__] += 1
            self.cut_off += bool(getattr(error, "partial", b""))
            await asyncio.sleep(0.05)
            return
        if status == 200:
            self.answered[cert_id] += 1
            told = msgspec.json.decode(body)["insights"]["properties"]["confirmed_owner"]
            assert told == self._stage.told[cert_id]
        else:
            self.failed[str(status)] += 1
            assert msgspec.json.decode(body)["outcome"] == "error"
            check_names_no_owner(body)
            await asyncio.sleep(0.05)


def check_names_no_owner(body: bytes) -> None:
    """Check that a response holds none of the values that tell of an owner."""
    for text in (OWNER, VERIFIED, NO_VERIFIED):
        assert text.encode() not in body


async def on_record(stage: Stage) -> Counter[str]:
    """How many answers the buyer has on record about each certificate."""
    rows = await stage.fetch(
        "SELECT cert_id, count(*) FROM answer WHERE account_id = $1 GROUP BY cert_id",
        stage.buyer.id,
    )
    return Counter(dict(map(tuple, rows)))


@asynccontextmanager
async def load(stage: Stage, connections: int) -> AsyncIterator[Load]:
    """Let so many callers ask during the block, and see to it that each answer is on record."""
    before = await on_record(stage)
    calls = Load(stage)
    async with asyncio.TaskGroup() as group:
        for first in range(connections):
            group.create_task(calls.ask(first))
        yield calls
        calls.is_over = True
    told = await on_record(stage)
    told.subtract(before)
    for cert_id, sent in calls.sent.items():
        assert calls.answered[cert_id] <= told[cert_id] <= sent
