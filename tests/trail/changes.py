"""Every way to change one thing of a trail; each must be found, and its place named."""

import json
import random
from collections.abc import Callable
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.trail.world import KEY, Held, World, sql

from primum.trail.heads import head_line, public_hex, read_head, sign_head
from primum.trail.merkle import BLOCK, leaf_hash, root_of
from primum.trail.record import canonical_record, origin
from primum.trail.verification import verify
from primum.trail.verified import Verified

STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = public_hex(KEY)
Range = tuple[int, int]


def rows(held: Held) -> list[tuple[int, bytes, bytes]]:
    asked = "SELECT position, leaf, body FROM trail_record ORDER BY position"
    return [tuple(one) for one in sql(held.connection, asked)]


def _flip(value: bytes, draw: random.Random) -> bytes:
    where = draw.randrange(len(value))
    return value[:where] + bytes([value[where] ^ 1 << draw.randrange(8)]) + value[where + 1 :]


def _flip_body(held: Held, draw: random.Random) -> Range:
    number, _, body = draw.choice(rows(held))
    sql(held.connection, "UPDATE trail_record SET body = ? WHERE position = ?", _flip(body, draw), number)
    return number, number


def _flip_leaf(held: Held, draw: random.Random) -> Range:
    number, leaf, _ = draw.choice(rows(held))
    sql(held.connection, "UPDATE trail_record SET leaf = ? WHERE position = ?", _flip(leaf, draw), number)
    return number, number


def _cut_or_lengthen(held: Held, draw: random.Random) -> Range:
    number, _, body = draw.choice(rows(held))
    changed = draw.choice([body[: draw.randrange(len(body))], body + b" ", b"", body + body])
    sql(held.connection, "UPDATE trail_record SET body = ? WHERE position = ?", changed, number)
    return number, number


def _rewrite_one(held: Held, draw: random.Random, change: Callable[[dict[str, object]], None]) -> Range:
    """Change a record and its own hash, as one would who knows how the trail is made."""
    number, _, body = draw.choice(rows(held))
    document = json.loads(body)
    change(document)
    changed = canonical_record(document)
    statement = "UPDATE trail_record SET body = ?, leaf = ? WHERE position = ?"
    sql(held.connection, statement, changed, leaf_hash(changed), number)
    return number, number


def _other_author(held: Held, draw: random.Random) -> Range:
    return _rewrite_one(held, draw, lambda document: document.update(by="dr.nobody"))


def _other_clock(held: Held, draw: random.Random) -> Range:
    moved = f"20{draw.randrange(10, 99)}-01-01T00:00:00.000000Z"
    return _rewrite_one(held, draw, lambda document: document.update(at=moved))


def _other_chain(held: Held, draw: random.Random) -> Range:
    return _rewrite_one(held, draw, lambda document: document.update(after=draw.randbytes(32).hex()))


def _delete(held: Held, draw: random.Random) -> Range:
    kept = rows(held)
    first = draw.randrange(len(kept))
    last = min(first + draw.choice([0, 0, 1, 5, 100]), len(kept) - 1)
    sql(held.connection, "DELETE FROM trail_record WHERE position BETWEEN ? AND ?", first, last)
    return first, last


def _swap(held: Held, draw: random.Random) -> Range:
    (one, *first), (two, *second) = sorted(draw.sample(rows(held), 2))
    for number, (leaf, body) in ((one, second), (two, first)):
        statement = "UPDATE trail_record SET leaf = ?, body = ? WHERE position = ?"
        sql(held.connection, statement, leaf, body, number)
    return one, two


def _truncate(held: Held, draw: random.Random) -> Range:
    size = draw.randrange(0, 300)
    sql(held.connection, "DELETE FROM trail_record WHERE position >= ?", size)
    return size, 299


def _truncate_with_its_heads(held: Held, draw: random.Random) -> Range:
    size = draw.randrange(0, 300)
    sql(held.connection, "DELETE FROM trail_record WHERE position >= ?", size)
    sql(held.connection, "DELETE FROM trail_head WHERE position > ?", size)
    sql(held.connection, "DELETE FROM trail_block WHERE position >= ?", size // BLOCK)
    return size, 299


def _insert(held: Held, draw: random.Random) -> Range:
    """Put a record between others: a new one, or one that was there before (a replay)."""
    kept = rows(held)
    where, (_, leaf, body) = draw.randrange(len(kept) + 1), draw.choice(kept)
    if draw.random() < 0.5:
        body = body.replace(b'"by":"', b'"by":"x')
        leaf = leaf_hash(body)
    sql(held.connection, "UPDATE trail_record SET position = -position - 2 WHERE position >= ?", where)
    sql(held.connection, "UPDATE trail_record SET position = -position - 1 WHERE position < 0")
    statement = "INSERT INTO trail_record (position, leaf, body, kind, at) VALUES (?, ?, ?, 'access', '')"
    sql(held.connection, statement, where, leaf, body)
    return where, max(where, 299)


def _erase_without_saying(held: Held, draw: random.Random) -> Range:
    number = draw.randrange(300)
    sql(held.connection, "UPDATE trail_record SET body = NULL WHERE position = ?", number)
    return number, number


def _heads(held: Held) -> list[tuple[int, bytes]]:
    return [tuple(one) for one in sql(held.connection, "SELECT position, body FROM trail_head")]


def _flip_head(held: Held, draw: random.Random) -> Range:
    size, body = draw.choice(_heads(held))
    sql(held.connection, "UPDATE trail_head SET body = ? WHERE position = ?", _flip(body, draw), size)
    return size - 1, size - 1


def _delete_head(held: Held, draw: random.Random) -> Range:
    size, _ = draw.choice(_heads(held))
    sql(held.connection, "DELETE FROM trail_head WHERE position = ?", size)
    return size - 1, size - 1


def _replay_head(held: Held, draw: random.Random) -> Range:
    (size, _), (_, other) = draw.sample(_heads(held), 2)
    sql(held.connection, "UPDATE trail_head SET body = ? WHERE position = ?", other, size)
    return size - 1, size - 1


def _forge_head(held: Held, draw: random.Random) -> Range:
    """A head of another key, of another trail, at another time, or over other records."""
    size, body = draw.choice(_heads(held))
    head = read_head(body).head
    key, forged = draw.choice(
        [
            (STRANGER, replace(head, key=public_hex(STRANGER))),
            (STRANGER, head),
            (KEY, replace(head, trail="0" * 32)),
            (KEY, replace(head, at="2020-01-01T00:00:00.000000Z")),
            (KEY, replace(head, root=draw.randbytes(32).hex())),
            (KEY, replace(head, size=head.size - 1)),
        ]
    )
    statement = "UPDATE trail_head SET body = ? WHERE position = ?"
    sql(held.connection, statement, head_line(sign_head(forged, key)), size)
    # Signed with the trail's key over another root, all since the head before is in doubt.
    return max((one - 1 for one, _ in _heads(held) if one < size), default=0), size - 1


def _change_block(held: Held, draw: random.Random) -> Range:
    statement = "UPDATE trail_block SET root = ?" if draw.random() < 0.5 else "DELETE FROM trail_block"
    given = (draw.randbytes(32),) if "UPDATE" in statement else ()
    sql(held.connection, statement, *given)
    return 0, BLOCK - 1


def rewrite_all(held: Held, draw: random.Random) -> Range:
    """Rewrite everything from a record on, sign every head anew with the true key: only a witness knows."""
    kept, start = rows(held), draw.randrange(300)
    trail = held.facts()["trail"]
    leaves = [leaf for _, leaf, _ in kept[:start]]
    for number, _, body in kept[start:]:
        document = json.loads(body)
        document["after"] = (leaves[-1] if leaves else origin(trail, 0)).hex()
        document["by"] = "dr.nobody" if number == start else document["by"]
        changed = canonical_record(document)
        leaves.append(leaf_hash(changed))
        statement = "UPDATE trail_record SET body = ?, leaf = ? WHERE position = ?"
        sql(held.connection, statement, changed, leaves[-1], number)
    sql(held.connection, "UPDATE trail_block SET root = ?", root_of(leaves[:BLOCK]))
    for size, body in _heads(held):
        head = replace(read_head(body).head, root=root_of(leaves[:size]).hex())
        line = head_line(sign_head(head, KEY))
        sql(held.connection, "UPDATE trail_head SET body = ? WHERE position = ?", line, size)
    later = [size for size, _ in _heads(held) if size > start]
    return start, min(later) - 1


CHANGE = {
    one.__name__.strip("_"): one
    for one in (
        _flip_body,
        _flip_leaf,
        _cut_or_lengthen,
        _other_author,
        _other_clock,
        _other_chain,
        _delete,
        _swap,
        _truncate,
        _truncate_with_its_heads,
        _insert,
        _erase_without_saying,
        _flip_head,
        _delete_head,
        _replay_head,
        _forge_head,
        _change_block,
        rewrite_all,
    )
}


def named(seen: Verified, place: Range) -> bool:
    """Whether the first problem that is named meets the records that were changed."""
    first = seen.problems[0]
    return first.number <= place[1] and first.last >= place[0]


def changed(world: World, held: Held, kind: str, *, times: int, seed: int) -> int:
    """Change one thing that often, and count how often something was changed; each is found and named."""
    draw, count = random.Random(f"{kind} {seed}"), 0
    for _ in range(times):
        before = rows(held), _heads(held), list(sql(held.connection, "SELECT * FROM trail_block"))
        sql(held.connection, "SAVEPOINT one")
        place = CHANGE[kind](held, draw)
        after = rows(held), _heads(held), list(sql(held.connection, "SELECT * FROM trail_block"))
        seen = verify(held, key=PUBLIC, witnessed=world.witnessed)
        sql(held.connection, "ROLLBACK TO one")
        assert before == after or seen.problems, (kind, place)
        assert before == after or named(seen, place), (kind, place, seen.problems)
        count += before != after
    return count
