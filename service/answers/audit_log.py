"""Recompute the whole log, and find what was changed since it was sealed."""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import timedelta

from service.answers import queries
from service.answers.checkpoints import (
    Checkpoint,
    UntrustedCheckpoint,
    VerifierKey,
    opened,
    parsed_key,
)
from service.answers.merkle import HASH, TILE, Frontier, Tiles, folded
from service.answers.receipts import encoded, sealed
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
    log = await queries.select_log(connection)
    if log is None:
        if any(witnessed):
            yield "the log is gone: there was a checkpoint, and now there is no log"
        return
    trusted = list(keys) or [parsed_key(each) for each in await queries.select_log_keys(connection)]
    expected: dict[int, bytes] = {}
    for note in witnessed:
        try:
            checkpoint = opened(note, trusted)
        except UntrustedCheckpoint as error:
            yield f"a checkpoint given can't be trusted: {error}"
            continue
        if expected.setdefault(checkpoint.size, checkpoint.root) != checkpoint.root:
            yield f"two checkpoints of {checkpoint.size} answers have different roots"
    tree = Frontier()
    async for found in _checkpoints(connection, trusted):
        if isinstance(found, str):
            yield found
        elif expected.setdefault(found.size, found.root) != found.root:
            yield f"the checkpoint of {found.size} answers was replaced by another"
    async for finding in _leaves(connection, log, tree, expected):
        yield finding
    async for finding in _inner_nodes(connection, tree.size):
        yield finding
    if tree.size != log.size:
        yield f"the log says that it has {log.size} answers, but {tree.size} are there"
    for size in sorted(size for size in expected if size > tree.size):
        yield f"answers {tree.size} to {size - 1} are missing: a checkpoint says there were {size}"
        break
    inserted = await queries.select_inserted(connection, log.sealed_until - _LATE)
    if inserted is not None:
        yield f"answer {inserted} was inserted: it is not in the log, but says that it should be"


async def size_of(connection: Connection) -> int:
    """Return how many answers the log has."""
    log = await queries.select_log(connection)
    return 0 if log is None else log.size


async def _checkpoints(
    connection: Connection, keys: Sequence[VerifierKey]
) -> AsyncIterator[Checkpoint | str]:
    """Yield each checkpoint, or what is wrong with it."""
    after = 0
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


async def _leaves(
    connection: Connection, log: queries.Log, tree: Frontier, expected: dict[int, bytes]
) -> AsyncIterator[str]:
    """Add all leaves to a tree, and yield what is wrong with them."""
    for first in range(0, log.size, _AT_ONCE):
        last = min(first + _AT_ONCE, log.size)
        leaves = {
            leaf.position: leaf
            for leaf in await queries.select_leaves(connection, first, last - first)
        }
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
                if log.kept_from is None or leaf.answer_id >= log.kept_from:
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
