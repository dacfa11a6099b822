"""Recompute the whole log, and find what was changed since it was sealed."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from msgspec import Struct

from service.answers import queries
from service.answers.checkpoints import (
    Checkpoint,
    Dropped,
    UntrustedCheckpoint,
    VerifierKey,
    opened,
    opened_dropped,
    parsed_key,
)
from service.answers.merkle import HASH, TILE, Frontier, Tiles, folded
from service.answers.receipts import encoded, sealed
from service.errors import InvalidInput
from service.postgres.pools import Connection

# A whole number of tiles.
_AT_ONCE = 20 * TILE

# Answers from a clock that was set back may still wait to be sealed.
_LATE = timedelta(minutes=2)


async def differences(
    connection: Connection, keys: Sequence[VerifierKey], witnessed: Iterable[str]
) -> AsyncIterator[str]:
    """Yield what is wrong with the log, from its first answer to its last.

    Without keys, those on record are trusted. `witnessed` are checkpoints that were kept elsewhere.
    """
    recorded = await queries.select_log_keys(connection)
    trusted = list(keys) or readable_keys(recorded)
    if keys:
        given = {str(each) for each in keys}
        for key in sorted(given.symmetric_difference(recorded)):
            where = "given, but not on record" if key in given else "on record, but not given"
            yield f"the key {key} is {where}"
    expected: dict[int, bytes] = {}
    origins: set[str] = set()
    for note in witnessed:
        try:
            checkpoint = opened(note, trusted)
        except UntrustedCheckpoint as error:
            yield f"a checkpoint given can't be trusted: {error}"
            continue
        origins.add(checkpoint.origin)
        if expected.setdefault(checkpoint.size, checkpoint.root) != checkpoint.root:
            yield f"two checkpoints of {checkpoint.size} answers have different roots"
    # Before the log is: it may grow meanwhile, and has to have what they say.
    async for found in _checkpoints(connection, trusted):
        if isinstance(found, str):
            yield found
            continue
        origins.add(found.origin)
        if expected.setdefault(found.size, found.root) != found.root:
            yield f"the checkpoint of {found.size} answers was replaced by another"
    log = await queries.select_log(connection)
    if log is None:
        if expected or await queries.has_traces(connection):
            yield "the log is gone: there was one, and now nothing says how many answers it has"
        return
    for origin in sorted(origins - {log.origin}):
        yield f"the log is called {log.origin}, but has a checkpoint of {origin}"
    if log.size and not expected:
        yield "there is no checkpoint of the log"
    tree = Frontier()
    async for finding in _leaves(connection, log, tree, trusted, expected):
        yield finding
    async for finding in _inner_nodes(connection, tree.size):
        yield finding
    if tree.size != log.size:
        yield f"the log says that it has {log.size} answers, but {tree.size} are there"
    for size in sorted(size for size in expected if size > tree.size):
        yield f"answers {tree.size} to {size - 1} are missing: a checkpoint says there were {size}"
        break
    async for finding in _inserted(connection, log):
        yield finding


class Extent(Struct, frozen=True):
    """How many answers the log has, and of how many of them it has only the hashes."""

    answers: int
    dropped: int


async def extent_of(connection: Connection, keys: Sequence[VerifierKey]) -> Extent:
    """Return how much the log has. Without keys, those on record are trusted."""
    log = await queries.select_log(connection)
    trusted = list(keys) or readable_keys(await queries.select_log_keys(connection))
    dropped, _ = await _dropped(connection, trusted)
    return Extent(0 if log is None else log.size, dropped.count)


def readable_keys(recorded: Iterable[str]) -> list[VerifierKey]:
    """Return the keys on record. What is no key has signed nothing."""
    keys = []
    for each in recorded:
        with suppress(InvalidInput):
            keys.append(parsed_key(each))
    return keys


async def _checkpoints(
    connection: Connection, keys: Sequence[VerifierKey]
) -> AsyncIterator[Checkpoint | str]:
    """Yield each checkpoint, or what is wrong with it."""
    after = None
    while some := await queries.select_checkpoints(connection, after, 1000):
        for size, note in some:
            try:
                checkpoint = opened(note, keys)
            except UntrustedCheckpoint as error:
                yield f"the checkpoint of {size} answers can't be trusted: {error}"
                continue
            if checkpoint.size != size:
                yield f"the checkpoint of {size} answers says that there are {checkpoint.size}"
            else:
                yield checkpoint
        after = some[-1][0]


async def _dropped(
    connection: Connection, keys: Sequence[VerifierKey]
) -> tuple[Dropped, list[str]]:
    """Return what was dropped in all, and what is wrong with the notes of it."""
    counts: dict[UUID, int] = {}
    problems = []
    for note in await queries.select_drops(connection):
        try:
            dropped = opened_dropped(note, keys)
        except UntrustedCheckpoint as error:
            problems.append(f"a note of dropped answers can't be trusted: {error}")
            continue
        if dropped.before in counts:
            problems.append(f"two notes say that answers before {dropped.before} were dropped")
        counts[dropped.before] = dropped.count
    return Dropped(sum(counts.values()), max(counts, default=UUID(int=0))), problems


async def _leaves(
    connection: Connection,
    log: queries.Log,
    tree: Frontier,
    keys: Sequence[VerifierKey],
    expected: dict[int, bytes],
) -> AsyncIterator[str]:
    """Add all leaves to a tree, and yield what is wrong with them."""
    gone = 0
    dropped, problems = await _dropped(connection, keys)
    for problem in problems:
        yield problem
    for first in range(0, log.size, _AT_ONCE):
        last = min(first + _AT_ONCE, log.size)
        leaves = {
            leaf.position: leaf
            for leaf in await queries.select_leaves(connection, first, last - first)
        }
        if any(each.statement is None and not _is_in(each, dropped) for each in leaves.values()):
            # They may have been dropped meanwhile.
            dropped, _ = await _dropped(connection, keys)
        tiles = await queries.select_tiles(
            connection, [(0, number) for number in range(first // TILE, -(-last // TILE))]
        )
        for position in range(first, last):
            kept = _kept_hash(tiles, position)
            if len(kept) != HASH:
                yield f"the hash of answer {position} of the log is missing"
                return
            leaf = leaves.get(position)
            if leaf is None:
                yield f"answer {position} of the log is missing, with its id"
            elif leaf.statement is None:
                if _is_in(leaf, dropped):
                    gone += 1
                else:
                    yield f"answer {leaf.answer_id} is missing (number {position} of the log)"
            elif sealed(encoded(leaf.statement), leaf.nonce) != kept:
                yield f"answer {leaf.answer_id} was changed (number {position} of the log)"
            tree.add(kept)
            root = expected.get(tree.size)
            if root is not None and tree.root() != root:
                yield (
                    f"the log was rewritten: its first {tree.size} answers have another root than "
                    "the checkpoint that was signed"
                )
                return
    dropped, _ = await _dropped(connection, keys)
    if gone > dropped.count:
        yield (
            f"{gone - dropped.count} answers from before {dropped.before} are missing: of the "
            f"{gone} that are not there, only {dropped.count} were dropped"
        )


def _is_in(leaf: queries.Leaf, dropped: Dropped) -> bool:
    return leaf.answer_id < dropped.before


async def _inserted(connection: Connection, log: queries.Log) -> AsyncIterator[str]:
    """Yield what is there of answers that are not in the log."""
    position, tile = await queries.select_surplus(connection)
    if position is not None:
        yield f"an answer was inserted: as number {position}, which the log doesn't have"
    if tile is not None:
        yield f"tile {tile[1]} of level {tile[0]} has hashes that the log doesn't have, or too few"
    inserted = await queries.select_inserted(connection, log.sealed_until, _LATE)
    if inserted is not None:
        yield f"answer {inserted} was inserted: it is not in the log, but says that it should be"


async def _inner_nodes(connection: Connection, size: int) -> AsyncIterator[str]:
    """Yield which of the nodes that are kept above the leaves are wrong. Proofs are made of them."""
    level, count = 1, size // TILE
    while count:
        for first in range(0, count, TILE):
            numbers = range(first, min(first + TILE, count))
            below = await queries.select_tiles(connection, [(level - 1, each) for each in numbers])
            kept = await queries.select_tiles(connection, [(level, first // TILE)])
            for number in numbers:
                at = number % TILE * HASH
                node = kept.get((level, first // TILE), b"")[at : at + HASH]
                tile = below.get((level - 1, number), b"")
                if len(tile) != TILE * HASH or folded(tile) != node:
                    yield f"node {number} of level {level * 8} of the log's tree was changed"
                    return
        level, count = level + 1, count // TILE


def _kept_hash(tiles: Tiles, position: int) -> bytes:
    at = position % TILE * HASH
    return tiles.get((0, position // TILE), b"")[at : at + HASH]
