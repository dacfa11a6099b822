"""What a process lacks, or what ends it, costs answers and changes nothing about them."""

import asyncio
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import httpx
import psutil

from service.processes.serving import free_address
from service.web.front import MOST_REQUESTS
from tests.builders import until
from tests.faults.load import check_names_no_owner, load, on_record
from tests.faults.stage import MOST_FILES, Stage, ended
from tests.siege.connection import FAILURES, Connection, request


@contextmanager
def crowd(stage: Stage, size: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Have so many connections, each of which sends this and then nothing."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    connections: list[socket.socket] = []
    try:
        connections.extend(joined(stage, sent) for _ in range(size))
        yield connections
    finally:
        for connection in connections:
            connection.close()


def joined(stage: Stage, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", stage.port), timeout=10)
    connection.sendall(sent)
    return connection


def unfinished(stage: Stage) -> bytes:
    """A call whose body doesn't come."""
    head = request(
        "POST",
        f"/{0:040x}",
        Authorization=stage.crowd.headers["Authorization"],
        Content_Type="application/json",
        Content_Length="1000",
    )
    return head + b"{"


async def test_calls_beyond_what_a_process_takes_are_refused_at_once(stage: Stage) -> None:
    with crowd(stage, MOST_REQUESTS, unfinished(stage)) as connections:

        async def is_full() -> bool:
            # A call that was answered meanwhile may have kept one out.
            connections.append(joined(stage, unfinished(stage)))
            return (await stage.ask(next(iter(stage.told)))).status_code == 503

        await until(is_full)
        await stage.check_refused_at_once()
        await stage.check_probes(is_ready=True)
    await stage.check_recovers()


async def test_connections_leave_the_file_descriptors_that_answers_need(stage: Stage) -> None:
    (worker,) = stage.service.workers()
    with crowd(stage, MOST_FILES, b""):

        async def is_full() -> bool:
            before = worker.num_fds()
            await asyncio.sleep(0.2)
            return before == worker.num_fds() > MOST_FILES // 2

        await until(is_full)
        await stage.cut_off()
        await stage.check_recovers()
        assert worker.num_fds() < MOST_FILES
    # Those who came too late have their turn.
    await stage.reconnect()
    await stage.check_recovers()
    assert stage.service.workers() == [worker]


async def test_process_without_memory_names_no_owner_and_is_replaced_at_worst(
    stage: Stage,
) -> None:
    (worker,) = stage.service.workers()
    soft, hard = worker.rlimit(resource.RLIMIT_AS)
    worker.rlimit(resource.RLIMIT_AS, (worker.memory_info().vms, hard))
    large = request(
        "POST",
        f"/{next(iter(stage.told))}",
        b'{"match_lead": {"email": "%s@mail.example"}}' % (b"x" * 60_000),
        Authorization=stage.buyer.headers["Authorization"],
    )
    sent = succeeded = 0

    async def ask() -> None:
        nonlocal sent, succeeded
        sent += 1
        with closing(Connection(stage.port)) as connection, suppress(*FAILURES):
            status, _, body = await connection.ask(large)
            succeeded += status == 200
            check_names_no_owner(body)

    while succeeded == sent < 5000:
        await asyncio.gather(*(ask() for _ in range(200)))
    assert succeeded < sent
    with suppress(psutil.NoSuchProcess):
        worker.rlimit(resource.RLIMIT_AS, (soft, hard))
    await until(lambda: is_back(stage))
    await stage.check_recovers()


async def test_service_that_is_told_to_stop_finishes_what_it_has_accepted(stage: Stage) -> None:
    before = await on_record(stage)
    async with load(stage, 32) as calls:
        await calls.go_on(300)
        began = time.monotonic()
        assert await asyncio.to_thread(stage.service.stop, signal.SIGTERM) == 0
        assert time.monotonic() - began < 10
        await asyncio.to_thread(stage.start)
        await calls.go_on()
    # Nothing was put on record that its caller wasn't told as a whole.
    assert calls.cut_off == 0
    assert await on_record(stage) - before == calls.answered


async def test_service_stops_within_ten_seconds_whatever_its_callers_and_jobs_wait_for(
    stage: Stage,
) -> None:
    serving, jobs = stage.service.workers(), stage.service.job_workers()
    for worker in jobs:
        worker.suspend()
    with crowd(stage, 50, unfinished(stage)):
        began = time.monotonic()
        stage.service.process.terminate()
        await ended(*serving, *jobs)
        assert time.monotonic() - began < 10
        assert await asyncio.to_thread(stage.service.process.wait, 15) == 0


async def test_next_run_takes_over_from_one_that_was_killed(stage: Stage) -> None:
    async with load(stage, 16) as calls:
        await calls.go_on()
        workers = [*stage.service.workers(), *stage.service.job_workers()]
        server, *_ = stage.postgres()
        stage.service.stop(signal.SIGKILL)
        await ended(*workers, seconds=10)
        assert free_address("127.0.0.1", stage.port)
        assert stage.postgres()[0] == server
        await asyncio.to_thread(stage.start)
        assert stage.postgres()[0] == server
        server.kill()
        await ended(server)
        await stage.check_recovers()
        await calls.go_on()


async def is_back(stage: Stage) -> bool:
    """Whether there is a process that answers."""
    with suppress(httpx.TransportError):
        return (await stage.ask(next(iter(stage.told)))).status_code == 200
    return False
