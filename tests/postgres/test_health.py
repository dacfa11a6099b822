"""While the database doesn't respond, nobody waits for it."""

import asyncio
import time

import asyncpg
import pytest

from service.errors import TookTooLong, Unavailable
from service.postgres.health import PROBED_EVERY, Health
from tests.builders import until


class Server:
    """A database server that fails as the test says."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.probes = 0

    async def probe(self) -> None:
        self.probes += 1
        if self.error is not None:
            raise self.error


def fail(health: Health, error: Exception) -> None:
    with pytest.raises(Unavailable), health.watched():
        raise error


async def test_server_that_does_not_answer_is_asked_by_probes_alone_until_it_does() -> None:
    server = Server()
    health = Health(server.probe)
    server.error = TimeoutError()
    fail(health, TimeoutError())

    async def is_down() -> bool:
        return health.is_down

    await until(is_down)
    started = time.monotonic()
    with pytest.raises(Unavailable), health.watched():
        pytest.fail("the server was asked")
    assert time.monotonic() - started < 0.25
    server.error = None
    await asyncio.sleep(3 * PROBED_EVERY)
    with health.watched():
        pass


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), ConnectionResetError(), asyncpg.ConnectionDoesNotExistError("gone")],
    ids=lambda error: type(error).__name__,
)
async def test_one_failure_of_a_server_that_answers_costs_no_other_call(error: Exception) -> None:
    server = Server()
    health = Health(server.probe)
    fail(health, error)
    with health.watched():
        pass
    await asyncio.sleep(0)
    with health.watched():
        pass
    assert server.probes == 1


@pytest.mark.parametrize(
    "answer",
    [asyncpg.TooManyConnectionsError("too many"), asyncpg.InvalidPasswordError("no")],
    ids=lambda error: type(error).__name__,
)
async def test_refused_probe_is_an_answer(answer: Exception) -> None:
    server = Server()
    server.error = answer
    health = Health(server.probe)
    fail(health, ConnectionResetError())
    await asyncio.sleep(0.01)
    assert not health.is_down


async def test_statement_that_the_server_stops_says_that_it_is_there() -> None:
    server = Server()
    health = Health(server.probe)
    with pytest.raises(TookTooLong), health.watched():
        raise asyncpg.QueryCanceledError("statement timeout")
    await asyncio.sleep(0)
    assert server.probes == 0
