"""Roots and proofs against an independent implementation, and against vectors of Certificate Transparency."""

import random
from collections.abc import Sequence
from functools import cache

import pytest
from pymerkle import InmemoryTree, verify_consistency, verify_inclusion
from pymerkle.proof import InvalidProof, MerkleProof

from primum.trail.merkle import (
    BLOCK,
    EMPTY,
    Frontier,
    Tree,
    leaf_hash,
    proves_consistency,
    proves_inclusion,
    root_of,
)

# Leaves of the vectors that Google's Certificate Transparency code and the RFC 6962 drafts share.
VECTOR = [bytes.fromhex(one) for one in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
VECTOR.append(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
SIZES = (1, 2, 3, 7, 255, 256, 257, 511, 512, 600, 1023, 1025, 4096, 5001)


@cache
def records(count: int) -> tuple[bytes, ...]:
    draw = random.Random(count)
    return tuple(draw.randbytes(12) for _ in range(count))


def tree_of(size: int, *, seen: list[tuple[int, int]] | None = None) -> Tree:
    leaves = [leaf_hash(one) for one in records(size)]

    def read(start: int, stop: int) -> Sequence[bytes]:
        if seen is not None:
            seen.append((start, stop))
        assert start % BLOCK == 0 and stop - start <= BLOCK
        return leaves[start:stop]

    whole = range(0, size - size % BLOCK, BLOCK)
    return Tree(size, read, [root_of(leaves[one : one + BLOCK]) for one in whole])


@cache
def theirs(size: int) -> InmemoryTree:
    tree = InmemoryTree(algorithm="sha256")
    for one in records(size):
        tree.append_entry(one)
    return tree


@pytest.mark.parametrize("size", range(1, 9))
def test_the_vectors_of_certificate_transparency(size: int) -> None:
    leaves = [leaf_hash(one) for one in VECTOR[:size]]
    assert root_of(leaves).hex() == ROOTS[size - 1]
    assert Tree(size, lambda start, stop: leaves[start:stop], []).root().hex() == ROOTS[size - 1]


def test_the_empty_tree() -> None:
    assert root_of([]) == EMPTY == Tree(0, lambda *_: [], []).root() == Frontier().root()


@pytest.mark.parametrize("size", SIZES)
def test_roots_agree_with_pymerkle_and_however_they_are_made(size: int) -> None:
    leaves, tree = [leaf_hash(one) for one in records(size)], tree_of(size)
    assert tree.root() == theirs(size).get_root() == root_of(leaves)
    whole = size - size % BLOCK
    frontier = Frontier([root_of(leaves[one : one + BLOCK]) for one in range(0, whole, BLOCK)])
    assert frontier.root(leaves[whole:]) == tree.root()
    for smaller in {1, size // 2, size - 1} - {0}:
        assert tree.root(smaller) == root_of(leaves[:smaller])


def test_proofs_agree_with_pymerkle_on_random_trees_of_up_to_ten_thousand_leaves() -> None:
    draw = random.Random(8)
    for size in [draw.randrange(1, 10_001) for _ in range(6)] + [*SIZES, 10_000]:
        tree, other = tree_of(size), theirs(size)
        root = tree.root()
        for number in {0, size - 1, draw.randrange(size), draw.randrange(size)}:
            path = tree.inclusion(number)
            leaf = leaf_hash(records(size)[number])
            assert proves_inclusion(leaf, number, size, path, root)
            proof = other.prove_inclusion(number + 1)
            assert [bytes.fromhex(one) for one in proof.serialize()["path"][1:]] == path
            verify_inclusion(leaf, root, proof)
        for earlier in {1, size, draw.randrange(1, size + 1), draw.randrange(1, size + 1)}:
            path = tree.consistency(earlier)
            assert proves_consistency(earlier, size, path, tree.root(earlier), root)
            verify_consistency(other.get_root(earlier), root, other.prove_consistency(earlier, size))


def test_every_small_proof_holds_and_for_nothing_else() -> None:
    for size in range(1, 40):
        tree, root = tree_of(size), tree_of(size).root()
        leaves = [leaf_hash(one) for one in records(size)]
        for number in range(size):
            path = tree.inclusion(number)
            held = [one for one in range(size) if proves_inclusion(leaves[number], one, size, path, root)]
            assert held == [number]
            assert not proves_inclusion(leaves[number], number, size, [*path, EMPTY], root)
            assert not path or not proves_inclusion(leaves[number], number, size, path[:-1], root)
        for earlier in range(1, size + 1):
            path, before = tree.consistency(earlier), tree.root(earlier)
            assert proves_consistency(earlier, size, path, before, root)
            assert not proves_consistency(earlier, size, path, EMPTY, root)
            assert not proves_consistency(earlier, size, path, before, EMPTY)
            assert not proves_consistency(earlier, size, [*path, EMPTY], before, root)


def test_a_proof_reads_one_block_and_its_roots_are_made_once() -> None:
    seen: list[tuple[int, int]] = []
    tree = tree_of(5001, seen=seen)
    tree.root()
    seen.clear()
    tree.inclusion(300)
    tree.inclusion(301)
    assert seen == [(256, 512)]


def test_what_is_not_there_cannot_be_proven() -> None:
    tree = tree_of(7)
    for number, size in ((7, 7), (-1, 7), (3, 8), (3, 3)):
        with pytest.raises(ValueError, match="leaf"):
            tree.inclusion(number, size)
    for earlier, later in ((8, 8), (3, 2), (-1, 7)):
        with pytest.raises(ValueError, match="tree"):
            tree.consistency(earlier, later)
    assert not proves_inclusion(EMPTY, 1, 1, [], EMPTY)
    assert not proves_consistency(3, 2, [], EMPTY, EMPTY)
    assert proves_consistency(0, 7, [], EMPTY, tree.root())
    assert not proves_consistency(3, 7, [], tree.root(3), tree.root())


def test_their_proof_of_another_leaf_is_refused_by_them_too() -> None:
    proof: MerkleProof = theirs(7).prove_inclusion(3)
    with pytest.raises(InvalidProof):
        verify_inclusion(leaf_hash(b"other"), theirs(7).get_root(), proof)
