"""The tree of the log is that of RFC 9162, as an oracle written from the RFC computes it."""

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.answers.merkle import (
    HASH,
    TILE,
    Frontier,
    Tiles,
    append,
    consistency_ranges,
    edge_of,
    hash_of,
    inclusion_ranges,
    is_consistent,
    leaf_hash,
    root_from_inclusion,
    root_of,
    tiles_for,
)


def left_size(size: int) -> int:
    """Section 2.1.1: the largest power of two smaller than the size."""
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def root(leaves: Sequence[bytes]) -> bytes:
    """Section 2.1.1, but of leaves that are hashed already."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = left_size(len(leaves))
    return hashlib.sha256(b"\1" + root(leaves[:k]) + root(leaves[k:])).digest()


def inclusion(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = left_size(len(leaves))
    if index < k:
        return [*inclusion(index, leaves[:k]), root(leaves[k:])]
    return [*inclusion(index - k, leaves[k:]), root(leaves[:k])]


def consistency(first: int, leaves: Sequence[bytes], is_whole: bool = True) -> list[bytes]:
    """Section 2.1.4.1."""
    if first == len(leaves):
        return [] if is_whole else [root(leaves)]
    k = left_size(len(leaves))
    if first <= k:
        return [*consistency(first, leaves[:k], is_whole), root(leaves[k:])]
    return [*consistency(first - k, leaves[k:], False), root(leaves[:k])]


def some_leaves(count: int) -> list[bytes]:
    return [leaf_hash(number.to_bytes(4)) for number in range(count)]


def kept(leaves: Sequence[bytes], sizes: Sequence[int] = ()) -> Tiles:
    """The tiles of a log to which leaves are added so that it has each of the sizes in between."""
    tiles: Tiles = {}
    for size, following in pairwise([0, *sorted(sizes), len(leaves)]):
        edge = {each: tiles[each] for each in edge_of(size) if each in tiles}
        tiles |= append(edge, size, leaves[size:following])
    return tiles


# One that has a tile of the second level, full tiles, and one that is not full.
MANY = some_leaves(2 * TILE + 77)
TILES = kept(MANY)
SIZES = st.integers(1, 40) | st.integers(1, len(MANY))


@st.composite
def places(draw: st.DrawFn) -> tuple[int, int]:
    """A leaf, and the size of a tree that has it."""
    size = draw(SIZES)
    return draw(st.integers(0, size - 1)), size


@st.composite
def pairs(draw: st.DrawFn) -> tuple[int, int]:
    """The sizes of two trees, the second at least as large."""
    second = draw(SIZES)
    return draw(st.integers(1, second)), second


def proof_of_inclusion(index: int, size: int) -> list[bytes]:
    ranges = inclusion_ranges(index, size)
    tiles = {each: TILES[each] for each in tiles_for(ranges)}
    return [hash_of(each, tiles) for each in ranges]


def proof_of_consistency(first: int, second: int) -> list[bytes]:
    ranges = consistency_ranges(first, second)
    tiles = {each: TILES[each] for each in tiles_for(ranges)}
    return [hash_of(each, tiles) for each in ranges]


def test_empty_tree_has_the_root_of_the_rfc() -> None:
    assert root_of(0, {}) == Frontier().root() == hashlib.sha256(b"").digest()


def test_leaves_and_nodes_are_told_apart() -> None:
    assert leaf_hash(b"L123456") == hashlib.sha256(b"\0L123456").digest()
    assert root_of(2, kept(MANY[:2])) == hashlib.sha256(b"\1" + MANY[0] + MANY[1]).digest()


@given(size=st.integers(0, len(MANY)))
def test_root_is_that_of_the_rfc(size: int) -> None:
    tiles = {each: TILES[each] for each in tiles_for([(0, size)])}
    assert root_of(size, tiles) == root(MANY[:size])


@given(size=st.integers(0, len(MANY)))
def test_root_of_leaves_that_are_added_one_by_one_is_the_same(size: int) -> None:
    tree = Frontier()
    for leaf in MANY[:size]:
        tree.add(leaf)
    assert (tree.size, tree.root()) == (size, root(MANY[:size]))


@given(sizes=st.lists(st.integers(0, len(MANY)), max_size=12))
def test_tiles_are_the_same_however_leaves_are_added(sizes: list[int]) -> None:
    assert kept(MANY, sizes) == TILES


@pytest.mark.parametrize("size", [1, TILE - 1, TILE, TILE + 1, 2 * TILE, len(MANY)])
def test_tiles_have_the_hashes_of_every_eighth_level(size: int) -> None:
    tiles = kept(MANY[:size])
    assert b"".join(tiles[0, number] for number in range(-(-size // TILE))) == b"".join(MANY[:size])
    above = [root(MANY[at : at + TILE]) for at in range(0, size - TILE + 1, TILE)]
    assert tiles.get((1, 0), b"") == b"".join(above)
    assert len(tiles) == -(-size // TILE) + bool(above)


def test_tree_of_three_levels_of_tiles_has_the_same_root() -> None:
    size = TILE**2 + 3
    leaves = some_leaves(size)
    tiles = kept(leaves, [TILE**2 - 1, TILE**2])
    tree = Frontier()
    for leaf in leaves:
        tree.add(leaf)
    assert tree.root() == root_of(size, {each: tiles[each] for each in tiles_for([(0, size)])})
    assert len(tiles[2, 0]) == HASH


@given(place=places())
def test_proof_of_inclusion_is_that_of_the_rfc_and_leads_to_the_root(
    place: tuple[int, int],
) -> None:
    index, size = place
    path = proof_of_inclusion(index, size)
    assert path == inclusion(index, MANY[:size])
    assert root_from_inclusion(index, size, MANY[index], path) == root(MANY[:size])


@given(sizes=pairs())
def test_proof_of_consistency_is_that_of_the_rfc_and_is_accepted(sizes: tuple[int, int]) -> None:
    first, second = sizes
    path = proof_of_consistency(first, second)
    assert path == consistency(first, MANY[:second])
    assert is_consistent(first, second, root(MANY[:first]), root(MANY[:second]), path)


@st.composite
def alterations(draw: st.DrawFn, path: list[bytes]) -> list[bytes]:
    """A path with a bit turned, or with hashes added, taken away, repeated, or swapped."""
    altered = list(path)
    kinds = ["add"] if not path else ["add", "turn", "remove", "repeat", "swap"]
    at = draw(st.integers(0, max(0, len(path) - 1)))
    match draw(st.sampled_from(kinds)):
        case "add":
            altered.insert(at, draw(st.sampled_from(MANY) | st.binary(min_size=32, max_size=32)))
        case "turn":
            byte, bit = draw(st.integers(0, HASH - 1)), 1 << draw(st.integers(0, 7))
            content = bytearray(path[at])
            content[byte] ^= bit
            altered[at] = bytes(content)
        case "remove":
            del altered[at]
        case "repeat":
            altered.insert(at, path[at])
        case _:
            other = draw(st.integers(0, len(path) - 1))
            altered[at], altered[other] = altered[other], altered[at]
    return altered


@given(place=places(), data=st.data())
def test_altered_proof_of_inclusion_is_refused(place: tuple[int, int], data: st.DataObject) -> None:
    index, size = place
    path = proof_of_inclusion(index, size)
    altered = data.draw(alterations(path))
    assume(altered != path)
    assert root_from_inclusion(index, size, MANY[index], altered) != root(MANY[:size])


@given(sizes=pairs(), data=st.data())
def test_altered_proof_of_consistency_is_refused(
    sizes: tuple[int, int], data: st.DataObject
) -> None:
    first, second = sizes
    path = proof_of_consistency(first, second)
    altered = data.draw(alterations(path))
    assume(altered != path)
    assert not is_consistent(first, second, root(MANY[:first]), root(MANY[:second]), altered)


@given(place=places(), other=st.integers(-3, len(MANY) + 3))
def test_proof_is_of_no_other_leaf_or_place(place: tuple[int, int], other: int) -> None:
    index, size = place
    assume(other != index)
    path = proof_of_inclusion(index, size)
    found = root_from_inclusion(index, size, leaf_hash(other.to_bytes(4, signed=True)), path)
    assert found != root(MANY[:size])
    found = root_from_inclusion(other, size, MANY[index], path)
    assert found is None or (0 <= other < size and found != root(MANY[:size]))


@given(place=places(), size=SIZES)
def test_path_of_another_length_than_the_tree_has_leads_nowhere(
    place: tuple[int, int], size: int
) -> None:
    index, right_size = place
    path = proof_of_inclusion(index, right_size)
    leads = index < size and len(path) == len(inclusion_ranges(index, size))
    assert (root_from_inclusion(index, size, MANY[index], path) is not None) == leads


@given(sizes=pairs(), other=st.integers(-3, len(MANY)))
def test_proof_of_consistency_is_of_no_other_roots(sizes: tuple[int, int], other: int) -> None:
    first, second = sizes
    assume(other not in sizes)
    path = proof_of_consistency(first, second)
    roots, wrong = (root(MANY[:first]), root(MANY[:second])), leaf_hash(b"another")
    assert not is_consistent(first, second, wrong, roots[1], path)
    assert not is_consistent(first, second, roots[0], wrong, path)
    assert not is_consistent(other, second, root(MANY[: max(0, other)]), roots[1], path)


def test_larger_tree_is_no_beginning_of_a_smaller_one() -> None:
    path = proof_of_consistency(3, 7)
    assert not is_consistent(7, 3, root(MANY[:7]), root(MANY[:3]), path)
    assert not is_consistent(0, 7, root([]), root(MANY[:7]), path)
    assert not is_consistent(3, 7, root(MANY[:3]), root(MANY[:7]), [])
    assert is_consistent(7, 7, root(MANY[:7]), root(MANY[:7]), [])
    assert not is_consistent(7, 7, root(MANY[:7]), root(MANY[:7]), path)


@pytest.mark.parametrize("size", [2**53, 2**63 - 1, 2**64, 2**10_000], ids=int.bit_length)
def test_numbers_of_any_size_take_no_time(size: int) -> None:
    path = [MANY[0]] * 64
    for index in (0, 1, size // 2, size - 2, size - 1, size, -1):
        assert root_from_inclusion(index, size, MANY[0], path) != MANY[0]
        assert not is_consistent(max(index, 1), size, MANY[0], MANY[1], path)


@pytest.mark.parametrize("size", [2**53 - 1, 2**53, 2**53 + 1])
def test_proof_from_the_largest_tree_reads_few_tiles(size: int) -> None:
    for number in (1, 2, 2**30 + 1, size // 2 + 1, size - 1):
        for ranges in (consistency_ranges(number, size), inclusion_ranges(number, size)):
            assert len(ranges) <= 55
            assert len(tiles_for(ranges)) <= 14
