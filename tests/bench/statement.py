"""The statement that answers, without HTTP: as calls reach it, in batches, and how it is sent."""

import asyncio
import itertools
import math
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import psutil
import uvloop

from service.insights.asked import asked_of
from service.insights.confirmed_owner import confirmed_owner
from service.insights.operations import question_of
from service.insights.queries import Question
from service.postgres.pools import FOR_ANSWERS, Connection, Pool, open_database
from service.tokens import digest_of
from tests.bench.cluster import Filled, cert_id
from tests.bench.load import ALL, asking
from tests.bench.measuring import Turn, cpu_seconds

# As many as 64 connections make it: half of the calls wait while the others are answered.
BATCH = 32

# More than can be answered in a second.
_MOST_A_SECOND = 50_000


def batches(filled: Filled) -> Iterator[list[Question]]:
    """Questions for all properties of certificates at random, in batches without end."""
    some, digest = random.Random(), digest_of(filled.key)
    asked = asked_of(cert_id(1), msgspec.json.encode(asking(ALL)), has_vendor=False)
    while True:
        numbers = some.sample(range(1, filled.certificates + 1), BATCH)
        yield [question_of(digest, cert_id(number), asked) for number in numbers]


def answered_for(filled: Filled, seconds: int) -> Turn:
    """Answer for so long as fast as the service could, with as many batches in flight."""
    return uvloop.run(_answered(filled, seconds * _MOST_A_SECOND, seconds))


def answer_many(filled: Filled, rows: int) -> Turn:
    """Answer so many questions in the same way."""
    return uvloop.run(_answered(filled, rows, math.inf))


async def _answered(filled: Filled, rows: int, seconds: float) -> Turn:
    first, *asked = itertools.islice(batches(filled), rows // BATCH + 1)
    async with open_database(filled.url) as database:
        pool = database.answering
        # Each connection prepares the statement before the time counts.
        await asyncio.gather(*(confirmed_owner(pool, [each]) for each in first[:FOR_ANSWERS]))
        here, left = [psutil.Process()], iter(asked)
        server, postgres = cpu_seconds(here), filled.cpu_seconds()
        started = time.monotonic()
        lanes = (_answer_until(started + seconds, pool, left) for _ in range(FOR_ANSWERS))
        counts = await asyncio.gather(*lanes)
        took = time.monotonic() - started
        server, postgres = cpu_seconds(here) - server, filled.cpu_seconds() - postgres
        return Turn(sum(counts), took, server, postgres)


async def _answer_until(deadline: float, pool: Pool, asked: Iterator[list[Question]]) -> int:
    count = 0
    while time.monotonic() < deadline and (batch := next(asked, None)):
        answers = await confirmed_owner(pool, batch)
        assert all(answer.verdict == "answered" for answer in answers)
        count += len(batch)
    return count


@dataclass(frozen=True)
class Sent:
    """A statement as the service sends it: with which values, also as text, and in which session."""

    statement: str
    values: Sequence[Any]
    texts: Sequence[str]
    settings: Mapping[str, str]


async def sent_for(url: str, questions: Sequence[Question]) -> Sent:
    """Answer questions, and return what was sent for that."""
    logged: list[Any] = []
    async with open_database(url) as database, database.answering.connection() as connection:
        with connection.query_logger(logged.append):
            await confirmed_owner(cast("Pool", _Only(connection)), questions)
        settings = await connection.fetch(
            "SELECT name, setting FROM pg_settings WHERE source = 'client'"
        )
        (query,) = [each for each in logged if "INSERT INTO answer" in each.query]
        prepared = await connection.prepare(query.query)
        texts = [
            await connection.fetchval(f"SELECT ($1::{parameter.name})::text", value)
            for parameter, value in zip(prepared.get_parameters(), query.args, strict=True)
        ]
        return Sent(query.query, query.args, texts, dict(settings))


class _Only:
    """A pool of one connection, which is lent already."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        yield self._connection
