"""The Merkle tree of RFC 9162, section 2.1, over hashes that are kept in tiles.

No kept library fits: the one for Python is under the GPL, and keeps every node of the tree.

A node is the root of a full subtree: level 0 has the leaves, and node i of level n is over the leaves
from i·2^n. Tiles hold 256 nodes of each eighth level (C2SP tlog-tiles); those between are computed.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TypeAlias

HASH = 32
TILE = 256
_TILE_LEVELS = 8

Range: TypeAlias = tuple[int, int]
"""The leaves from the first number up to, and without, the second."""

Tiles: TypeAlias = dict[tuple[int, int], bytes]
"""The hashes in each tile, by its level and number."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node, from those of its two children."""
    return hashlib.sha256(b"\1" + left + right).digest()


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Return the ranges whose hashes prove that a leaf is in a tree (section 2.1.3.1)."""
    ranges: list[Range] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _left_size(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(first: int, second: int) -> list[Range]:
    """Return the ranges whose hashes prove that a tree begins with another (section 2.1.4.1)."""
    ranges: list[Range] = []
    start, end, is_whole = 0, second, True
    while first < end:
        middle = start + _left_size(end - start)
        if first <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start, is_whole = middle, False
    if not is_whole:
        ranges.append((start, end))
    return ranges[::-1]


def nodes_of(leaves: Range) -> Iterator[tuple[int, int]]:
    """Yield the level and number of the full subtrees that a range consists of, largest first."""
    start, end = leaves
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def tiles_for(ranges: Sequence[Range]) -> set[tuple[int, int]]:
    """Return the tiles that the hashes of ranges are computed from."""
    return {
        (level // _TILE_LEVELS, (number << level % _TILE_LEVELS) // TILE)
        for leaves in ranges
        for level, number in nodes_of(leaves)
    }


def hash_of(leaves: Range, tiles: Tiles) -> bytes:
    """Return the hash of a range, from the tiles that `tiles_for` names."""
    right: bytes | None = None
    for level, number in reversed(list(nodes_of(leaves))):
        node = _node(level, number, tiles)
        right = node if right is None else node_hash(node, right)
    return hashlib.sha256().digest() if right is None else right


def root_of(size: int, tiles: Tiles) -> bytes:
    """Return the root of a tree of so many leaves."""
    return hash_of((0, size), tiles)


def append(tiles: Tiles, size: int, leaves: Sequence[bytes]) -> Tiles:
    """Return the tiles that change when the hashes of leaves are added to a tree of that size.

    `tiles` are those of `edge_of`.
    """
    changed: Tiles = {}
    level, number, added = 0, size, list(leaves)
    while added:
        following: list[bytes] = []
        first = number
        tile = bytearray(tiles.get((level, number // TILE), b""))[: number % TILE * HASH]
        for each in added:
            tile += each
            number += 1
            if number % TILE == 0:
                changed[level, number // TILE - 1] = bytes(tile)
                following.append(folded(bytes(tile)))
                tile = bytearray()
        if tile:
            changed[level, number // TILE] = bytes(tile)
        level, number, added = level + 1, first // TILE, following
    return changed


def edge_of(size: int) -> set[tuple[int, int]]:
    """Return the tiles that the next leaf, and the root of a tree of that size, depend on."""
    return {(level, size // TILE ** (level + 1)) for level in range(8)} | tiles_for([(0, size)])


def root_from_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes | None:
    """Return the root that a proof of inclusion leads to; None if it can't be one (2.1.3.2)."""
    if not 0 <= index < size:
        return None
    node, last, found = index, size - 1, leaf
    for hash_ in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            found = node_hash(hash_, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, hash_)
        node, last = node >> 1, last >> 1
    return found if last == 0 else None


def is_consistent(
    first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]
) -> bool:
    """Whether a proof shows that a tree begins with all leaves of another (section 2.1.4.2)."""
    if first == second:
        return first_root == second_root and not path
    if not 0 < first < second:
        return False
    hashes = list(path)
    if first & (first - 1) == 0:
        hashes.insert(0, first_root)
    if not hashes:
        return False
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = hashes[0]
    for hash_ in hashes[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(hash_, old), node_hash(hash_, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, hash_)
        node, last = node >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


class Frontier:
    """The roots of the full subtrees of a tree, to which leaves are only added."""

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Add the hash of a leaf."""
        self._roots.append(leaf)
        self.size += 1
        done = self.size
        while done & 1 == 0:
            right, left = self._roots.pop(), self._roots.pop()
            self._roots.append(node_hash(left, right))
            done >>= 1

    def root(self) -> bytes:
        """Return the root of the tree so far."""
        right = self._roots[-1] if self._roots else hashlib.sha256().digest()
        for left in reversed(self._roots[:-1]):
            right = node_hash(left, right)
        return right


def _left_size(size: int) -> int:
    """Return the largest power of two that is smaller than a size."""
    return 1 << (size - 1).bit_length() - 1


def _node(level: int, number: int, tiles: Tiles) -> bytes:
    width = 1 << level % _TILE_LEVELS
    start = number * width
    tile = tiles[level // _TILE_LEVELS, start // TILE]
    at = start % TILE * HASH
    return folded(tile[at : at + width * HASH])


def folded(tile: bytes) -> bytes:
    """Return the root of a full subtree over hashes."""
    hashes = [tile[at : at + HASH] for at in range(0, len(tile), HASH)]
    while len(hashes) > 1:
        hashes = [node_hash(*hashes[at : at + 2]) for at in range(0, len(hashes), 2)]
    return hashes[0]
