"""What happens to the database costs answers and changes nothing about them."""

import asyncio
import fcntl
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import asyncpg
import psutil
import pytest

from tests.builders import until
from tests.faults.stage import AT_MOST, Stage, ended
from tests.insights.vendor import check_error

# After so many answers about each certificate, a page of a table is full.
_ANSWERS_A_PAGE = 200


@asynccontextmanager
async def down(stage: Stage) -> AsyncIterator[None]:
    """The server is killed, and isn't started again during the block."""
    server, *children = stage.postgres()
    home = await _home(stage)
    starting = os.open(home / "start.lock", os.O_RDONLY)
    try:
        # Whoever starts it needs this.
        fcntl.flock(starting, fcntl.LOCK_EX)
        server.kill()
        await ended(server, *children)
        yield
    finally:
        os.close(starting)


@asynccontextmanager
async def stopped(stage: Stage) -> AsyncIterator[None]:
    """The server does nothing, and closes no connection."""
    processes = stage.postgres()
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


@asynccontextmanager
async def read_only(stage: Stage) -> AsyncIterator[None]:
    """Nothing can be written, as after a failover that left the service with a standby."""
    await stage.fetch("ALTER SYSTEM SET default_transaction_read_only = on")
    await stage.fetch("SELECT pg_reload_conf()")
    try:
        await until(lambda: _are_refused(stage))
        yield
    finally:
        await stage.fetch("ALTER SYSTEM RESET default_transaction_read_only")
        await stage.fetch("SELECT pg_reload_conf()")


@asynccontextmanager
async def out_of_connections(stage: Stage) -> AsyncIterator[None]:
    """Others have all the server's connections but those for superusers."""
    others: list[asyncpg.Connection[asyncpg.Record]] = []
    as_others = stage.database.replace("postgres@/", "confirmed_owner@/")
    try:
        while True:
            try:
                others.append(await asyncpg.connect(as_others))
            except asyncpg.TooManyConnectionsError:
                if not await stage.cut_off():
                    break
        yield
    finally:
        for other in others:
            other.terminate()


@asynccontextmanager
async def table_full(stage: Stage) -> AsyncIterator[None]:
    """The table of answers can't grow: where its map of free space would be is a full device."""
    (row,) = await stage.fetch(
        "SELECT tableoid::regclass::text AS partition FROM answer ORDER BY id DESC LIMIT 1"
    )
    # Writes the table anew, without the map that it may have.
    await stage.fetch(f"VACUUM FULL {row['partition']}")
    (row,) = await stage.fetch(
        "SELECT pg_relation_filepath($1::regclass) AS path", row["partition"]
    )
    free_space = await _home(stage) / "data" / f"{row['path']}_fsm"
    free_space.symlink_to("/dev/full")
    try:
        await _ask_until_refused(stage)
        yield
    finally:
        free_space.unlink()


@asynccontextmanager
async def disk_full(stage: Stage) -> AsyncIterator[None]:
    """The server can write to no file, and neither goes on without its log, nor starts."""
    run = psutil.Process(stage.service.process.pid)
    server, *children = stage.postgres()
    _limit_files(0, run, server, *children)
    try:
        await _ask_until_refused(stage)
        await ended(server, *children)
        yield
    finally:
        _limit_files(resource.RLIM_INFINITY, run)
        # It may have just started the server again.
        _limit_files(resource.RLIM_INFINITY, *run.children(recursive=True))


Fault = Callable[[Stage], AbstractAsyncContextManager[None]]
FAULTS: list[Fault] = [down, stopped, read_only, out_of_connections, table_full, disk_full]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_calls_are_refused_at_once_and_answered_again_by_the_same_process(
    stage: Stage, fault: Fault
) -> None:
    before = stage.service.workers()
    async with fault(stage):
        await stage.check_refused_at_once()
        # What says that a process is ready takes less room than most answers.
        await stage.check_probes(is_ready=None if fault is table_full else False)
        invited = await invite(stage)
    await stage.check_recovers()
    assert stage.service.workers() == before
    # Changes that were acknowledged nevertheless are there.
    for address in (*invited, *await invite(stage)):
        assert await stage.fetch("SELECT FROM invitation WHERE email = $1", address)


async def test_calls_that_wait_for_a_lock_are_given_up_within_their_deadline(stage: Stage) -> None:
    cert_id = next(iter(stage.told))
    async with stage.locked("ownership"):
        began = time.monotonic()
        for response in await asyncio.gather(*(stage.ask(cert_id) for _ in range(20))):
            check_error(response, 503)
        assert time.monotonic() - began < AT_MOST
        await stage.check_probes(is_ready=False)
    await stage.check_recovers()


async def test_database_that_is_shut_down_is_connected_to_again(stage: Stage) -> None:
    server, *_ = stage.postgres()
    server.send_signal(signal.SIGINT)
    await ended(server)
    await stage.check_recovers()


async def invite(stage: Stage) -> list[str]:
    """Invite somebody; return the address if that was acknowledged."""
    address = f"{uuid4().hex}@seller.example"
    body = {"emails": [address], "reason": "receive_leads"}
    response = await stage.call("POST", "/v1/invitations", stage.buyer, body)
    assert response.status_code in (201, 503), response.text
    return [address] if response.status_code == 201 else []


def _limit_files(size: int, *processes: psutil.Process) -> None:
    """Let processes, and those that they start, write no files beyond this size."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def _home(stage: Stage) -> Path:
    (row,) = await stage.fetch("SHOW data_directory")
    return Path(row[0]).parent


async def _are_refused(stage: Stage) -> bool:
    """Whether all calls are refused: some answers take less room than others."""
    return all([(await stage.ask(cert_id)).status_code != 200 for cert_id in stage.told])


async def _ask_until_refused(stage: Stage) -> None:
    """Give answers until there is no room for more; other failures are over after a few."""
    in_a_row = 0
    for _ in range(_ANSWERS_A_PAGE):
        in_a_row = in_a_row + 1 if await _are_refused(stage) else 0
        if in_a_row == 5:
            return
    raise AssertionError("there is still room")
