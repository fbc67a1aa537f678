"""The Merkle tree of RFC 9162 over the records: roots, inclusion and consistency proofs.

Only leaves and the roots of whole blocks of 256 leaves are kept; every other node is made again when a proof
needs it, at the cost of reading one block.

References
----------
Laurie, Messeri & Stradling, RFC 9162 (Certificate Transparency 2.0), sections 2.1.1 to 2.1.5, 2021.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final

BLOCK: Final = 256
EMPTY: Final = sha256(b"").digest()


def leaf_hash(record: bytes) -> bytes:
    """Hash one record: sha256 of a zero byte and its bytes."""
    return sha256(b"\0" + record).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two nodes: sha256 of a one byte and both."""
    return sha256(b"\1" + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Merkle tree hash of leaf hashes; of none, the hash of nothing.

    Examples
    --------
    >>> root_of([leaf_hash(b"")]).hex()[:16]
    '6e340b9cffb37a98'
    """
    if not leaves:
        return EMPTY
    level = list(leaves)
    while len(level) > 1:
        level = _above(level)
    return level[0]


def _above(level: list[bytes]) -> list[bytes]:
    """Hash nodes by pairs; one that is left over goes up as it is."""
    odd = [level[-1]] if len(level) % 2 else []
    pairs = zip(level[0::2], level[1::2], strict=False)
    return [sha256(b"\1" + left + right).digest() for left, right in pairs] + odd


def _levels(nodes: list[bytes]) -> list[list[bytes]]:
    """Give the nodes and all levels above them, up to their root."""
    levels = [nodes]
    while len(levels[-1]) > 1:
        levels.append(_above(levels[-1]))
    return levels


def _siblings(levels: list[list[bytes]], place: int) -> list[bytes]:
    """Give what a node is hashed with on its way up, nearest first."""
    path = []
    for level in levels[:-1]:
        if place ^ 1 < len(level):
            path.append(level[place ^ 1])
        place >>= 1
    return path


class Frontier:
    """The roots of the complete subtrees of a growing tree, largest first: all that its root depends on.

    Parameters
    ----------
    blocks : sequence of bytes
        Roots of the whole blocks, in order.
    """

    def __init__(self, blocks: Sequence[bytes] = ()) -> None:
        self._peaks: list[tuple[int, bytes]] = []
        self.blocks = 0
        for one in blocks:
            self.add(one)

    def add(self, block: bytes) -> None:
        """Add the root of one more whole block."""
        level, root = 0, block
        while self._peaks and self._peaks[-1][0] == level:
            root = node_hash(self._peaks.pop()[1], root)
            level += 1
        self._peaks.append((level, root))
        self.blocks += 1

    def root(self, rest: Sequence[bytes] = ()) -> bytes:
        """Give the root of the blocks and of `rest`, fewer leaves than a block."""
        roots = [root for _, root in self._peaks] + ([root_of(rest)] if rest else [])
        if not roots:
            return EMPTY
        found = roots.pop()
        while roots:
            found = node_hash(roots.pop(), found)
        return found


def _split(count: int) -> int:
    """Give the largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


class Tree:
    """Proofs over records that are kept elsewhere.

    Parameters
    ----------
    size : int
        How many leaves there are.
    leaves : callable
        Gives the leaf hashes from one number up to, and without, another; asked within one block only.
    blocks : sequence of bytes
        Roots of the whole blocks.
    """

    def __init__(
        self, size: int, leaves: Callable[[int, int], Sequence[bytes]], blocks: Sequence[bytes]
    ) -> None:
        self.size = size
        self._leaves = lru_cache(maxsize=64)(leaves)
        # A patient's records come in groups: their proofs share blocks, and all share what is above them.
        self._within = lru_cache(maxsize=64)(self._block_levels)
        self._upward = lru_cache(maxsize=1)(self._upper_levels)
        self._blocks = blocks
        self._upper: dict[tuple[int, int], bytes] = {}

    def root(self, size: int | None = None) -> bytes:
        """Give the root over the first `size` leaves, by default all."""
        size = self.size if size is None else size
        return self._range(0, size) if size else EMPTY

    def inclusion(self, number: int, size: int | None = None) -> list[bytes]:
        """Prove that leaf `number` is in the tree of the first `size` leaves; nearest sibling first."""
        size = self.size if size is None else size
        if not 0 <= number < size <= self.size:
            raise ValueError("no such leaf")
        block, place = divmod(number, BLOCK)
        return _siblings(self._within(block, size), place) + _siblings(self._upward(size), block)

    def consistency(self, earlier: int, later: int | None = None) -> list[bytes]:
        """Prove that the tree of `later` leaves only adds to that of `earlier`; empty if that is trivial."""
        later = self.size if later is None else later
        if not 0 <= earlier <= later <= self.size:
            raise ValueError("no such tree")
        if earlier in (0, later):
            return []
        path: list[bytes] = []
        start, stop, whole = 0, later, True
        while earlier != stop:
            middle = start + _split(stop - start)
            if earlier <= middle:
                path.append(self._range(middle, stop))
                stop = middle
            else:
                path.append(self._range(start, middle))
                start, whole = middle, False
        if not whole:
            path.append(self._range(start, stop))
        return path[::-1]

    def _block_levels(self, block: int, size: int) -> list[list[bytes]]:
        first = block * BLOCK
        leaves = self._leaves(first, min(first + BLOCK, self.size))
        return _levels(list(leaves[: size - first]))

    def _upper_levels(self, size: int) -> list[list[bytes]]:
        whole, rest = divmod(size, BLOCK)
        last = [self._within(whole, size)[-1][0]] if rest else []
        return _levels(list(self._blocks[:whole]) + last)

    def _range(self, start: int, stop: int) -> bytes:
        """Give the root over a range whose start is a multiple of the power of two at or above its length."""
        if start // BLOCK == (stop - 1) // BLOCK:
            if stop - start == BLOCK:
                return self._blocks[start // BLOCK]
            first = start - start % BLOCK
            block = self._leaves(first, min(first + BLOCK, self.size))
            return root_of(block[start - first : stop - first])
        if (found := self._upper.get((start, stop))) is None:
            middle = start + _split(stop - start)
            found = node_hash(self._range(start, middle), self._range(middle, stop))
            self._upper[start, stop] = found
        return found


def proves_inclusion(leaf: bytes, number: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Check an inclusion proof (RFC 9162, 2.1.3.2)."""
    if not 0 <= number < size:
        return False
    here, last, found = number, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if here & 1 or here == last:
            found = node_hash(sibling, found)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        here, last = here >> 1, last >> 1
    return last == 0 and found == root


def proves_consistency(
    earlier: int, later: int, path: Sequence[bytes], earlier_root: bytes, later_root: bytes
) -> bool:
    """Check a consistency proof (RFC 9162, 2.1.4.2); the tree of nothing is consistent with every other."""
    if not 0 <= earlier <= later:
        return False
    if earlier == later:
        return not path and earlier_root == later_root
    if earlier == 0:
        return not path and earlier_root == EMPTY
    nodes = list(path)
    if not earlier & (earlier - 1):
        nodes.insert(0, earlier_root)
    if not nodes:
        return False
    here, last = earlier - 1, later - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    old = new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if here & 1 or here == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            new = node_hash(new, node)
        here, last = here >> 1, last >> 1
    return last == 0 and old == earlier_root and new == later_root
