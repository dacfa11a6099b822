"""Seal answers: add them to the log, which then proves what was told.

One worker at a time does it, every minute. No call waits for it.
"""

import asyncio
import os
import time
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from uuid import UUID

from service.answers import queries
from service.answers.checkpoints import Signer
from service.answers.merkle import (
    append,
    edge_of,
    hash_of,
    inclusion_ranges,
    root_of,
    tiles_for,
)
from service.answers.receipts import NONCE, Receipt, Statement, encoded, sealed
from service.errors import ServiceError
from service.postgres.pools import Connection, Database

_AT_ONCE = 5000

# How much time is looked at together: as much as has few answers, even of batches.
_WINDOW = timedelta(seconds=1)

# How far back to look for answers from a clock that was set back. Longer than between two sealings.
_OVERLAP = timedelta(minutes=2)
_STEP = timedelta(seconds=5)

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)

# How many times as long as a group took sealing rests before the next, so that it leaves the
# processor to calls and batches.
_RESTS = 3.0

# How many seconds of a long backlog are sealed before what is sealed so far is signed.
_SIGNED_EVERY = 30.0


class BrokenLog(ServiceError):
    """The hashes of the log are not those of its latest checkpoint."""


async def seal(database: Database, origin: str, seed: bytes) -> int:
    """Seal all answers that are not sealed yet, and sign a checkpoint; return how many there were."""
    async with database.general.connection() as connection:
        horizon = await queries.select_horizon(connection)
        log = await queries.select_log(connection)
        # A clock that was set back has the horizon before what is sealed.
        start = _FIRST if log is None else min(log.sealed_until, horizon)
    count = 0
    signed = time.monotonic()
    following = await _late_answer(database, start) or await _next_answer(database, start, horizon)
    while following is not None:
        end = min(following + _WINDOW, horizon)
        count += await _seal_between(database, origin, following, end)
        following = await _next_answer(database, end, horizon)
        if time.monotonic() > signed + _SIGNED_EVERY:
            signed = time.monotonic()
            await _sign(database, origin, seed)
    async with database.general.transaction() as connection:
        await queries.take_log(connection, origin)
        await queries.update_sealed_until(connection, horizon)
    await _sign(database, origin, seed)
    return count


async def _late_answer(database: Database, before: datetime) -> datetime | None:
    """Return when the first answer that should have been sealed by then was given, if there is one."""
    since = before - _OVERLAP
    while since < before:
        # In steps, because a busy service gives hundreds of thousands of answers in that time.
        until = min(since + _STEP, before)
        async with database.general.connection() as connection:
            found = await queries.select_late(connection, since, until)
        if found is not None:
            return found
        since = until
    return None


async def _next_answer(database: Database, since: datetime, horizon: datetime) -> datetime | None:
    """Return when the next answer was given.

    The index tells quickly that a time has no answers, but not which of them is the first. So a
    longer time is looked at only after a shorter one without answers.
    """
    span = _WINDOW
    while since < horizon:
        until = min(since + span, horizon)
        async with database.general.connection() as connection:
            found = await queries.select_next_answer(connection, since, until)
        if found is not None:
            return found
        since, span = until, span * 4
    return None


async def _seal_between(database: Database, origin: str, since: datetime, until: datetime) -> int:
    count = 0
    after: tuple[datetime, UUID] | None = None
    while True:
        began = time.monotonic()
        async with database.general.transaction() as connection:
            log = await queries.take_log(connection, origin)
            some = await queries.select_unsealed(connection, since, until, after, _AT_ONCE)
            if some:
                await _append(connection, log, some)
        count += len(some)
        if len(some) < _AT_ONCE:
            return count
        after = some[-1].answered_at, some[-1].answer_id
        await asyncio.sleep(_RESTS * (time.monotonic() - began))


async def _append(connection: Connection, log: queries.Log, answers: list[Statement]) -> None:
    """Add leaves to the log. Raises `BrokenLog` if it is not as it was signed."""
    random = os.urandom(NONCE * len(answers))
    nonces = [random[at : at + NONCE] for at in range(0, len(random), NONCE)]
    leaves = [sealed(encoded(each), nonce) for each, nonce in zip(answers, nonces, strict=True)]
    edge = await queries.select_tiles(connection, edge_of(log.size))
    latest = await queries.select_checkpoint(connection)
    if (
        latest is not None
        and latest[0] == log.size
        and root_of(log.size, edge) != _root_in(latest[1])
    ):
        raise BrokenLog("the log is not as it was signed, so nothing is added: run “audit verify”")
    await queries.insert_sealed(
        connection,
        log.size,
        [each.answer_id for each in answers],
        nonces,
        append(edge, log.size, leaves),
        max(log.sealed_until, answers[-1].answered_at),
    )


def _root_in(note: str) -> bytes:
    """Return the root that a checkpoint of this log says, whoever signed it."""
    return b64decode(note.split("\n")[2])


async def _sign(database: Database, origin: str, seed: bytes) -> None:
    """Sign what the log has now, unless that was signed already."""
    async with database.general.transaction() as connection:
        log = await queries.take_log(connection, origin)
        latest = await queries.select_checkpoint(connection)
        if log.size == 0 or (latest is not None and latest[0] >= log.size):
            return
        edge = await queries.select_tiles(connection, tiles_for([(0, log.size)]))
        signer = Signer(log.origin, seed)
        note = signer.note(log.size, root_of(log.size, edge))
        await queries.insert_checkpoint(connection, log.size, note, str(signer.key))


async def receipt_of(connection: Connection, account_id: UUID, answer_id: UUID) -> Receipt | None:
    """Return the receipt of an account's answer, once it is sealed."""
    found = await queries.select_leaf(connection, account_id, answer_id)
    checkpoint = await queries.select_checkpoint(connection)
    if found is None or checkpoint is None or found[0] >= checkpoint[0]:
        return None
    position, nonce, statement = found
    size, note = checkpoint
    ranges = inclusion_ranges(position, size)
    tiles = await queries.select_tiles(connection, tiles_for(ranges))
    return Receipt(
        statement=encoded(statement).decode(),
        nonce=nonce.hex(),
        leaf_index=position,
        tree_size=size,
        path=[hash_of(each, tiles).hex() for each in ranges],
        checkpoint=note,
    )
