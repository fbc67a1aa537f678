"""Every single change of a trail is found and its place named; and what cannot be found is said."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.trail.changes import CHANGE, PUBLIC, STRANGER, changed, rewrite_all, rows
from tests.trail.world import KEY, Held, World, build, entry, opened, sql

from primum.errors import InputError
from primum.trail.heads import Head, SignedHead, head_line, public_hex, sign_head
from primum.trail.log import Trail
from primum.trail.merkle import leaf_hash, root_of
from primum.trail.record import canonical_record
from primum.trail.store import Store
from primum.trail.verification import verify

# Of every kind together; `python -m studies.trail` makes more than ten thousand.
CHANGES = 1_800


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def held(world: World) -> Iterator[Held]:
    with opened(world) as store:
        yield store


def test_nothing_is_found_in_what_nobody_changed(world: World) -> None:
    for deep in (False, True):
        seen = verify(Store(world.url), key=PUBLIC, witnessed=world.witnessed, deep=deep)
        assert (seen.problems, seen.size, seen.covered, seen.witnessed_to) == ([], 300, 300, 300)
        assert (seen.heads, seen.witnessed) == (10, 5)
        assert seen.open_intents == []


@pytest.mark.parametrize("kind", CHANGE)
def test_every_single_change_is_found_and_its_place_named(world: World, held: Held, kind: str) -> None:
    assert changed(world, held, kind, times=CHANGES // len(CHANGE), seed=1) > CHANGES // len(CHANGE) // 2


def test_a_rewritten_end_that_no_head_covers_is_stated_by_its_length(tmp_path: Path) -> None:
    world = build(tmp_path, size=330)
    with opened(world) as held:
        sql(held.connection, "DELETE FROM trail_record WHERE position >= 320")
        seen = verify(held, key=PUBLIC, witnessed=world.witnessed)
    assert (seen.problems, seen.size, seen.covered) == ([], 320, 300)
    assert dict(seen.unseen(key_given=True)) == {
        "tail": 20,
        "unwitnessed": 20,
        "columns": 320,
        "clock": 320,
    }


def test_without_a_witness_a_rewriting_by_the_key_is_not_seen_and_that_is_said(world: World) -> None:
    with opened(world) as held:
        rewrite_all(held, random.Random(3))
        seen = verify(held, key=PUBLIC)
        assert verify(held, key=PUBLIC, witnessed=world.witnessed).problems
    assert seen.holds and seen.covered == 300
    assert dict(seen.unseen(key_given=False)) == {
        "unwitnessed": 300,
        "key": 300,
        "columns": 300,
        "clock": 300,
    }


@pytest.mark.parametrize("start", [1, 100, 256, 299, 300])
def test_from_a_witnessed_head_on(world: World, start: int) -> None:
    with opened(world) as held:
        given = {"key": PUBLIC, "witnessed": world.witnessed, "start": start}
        seen = verify(held, **given)  # type: ignore[arg-type]
        assert (seen.problems, seen.size, seen.covered) == ([], 300, 300)
        assert ("before", start) in seen.unseen(key_given=True)
        sql(held.connection, "UPDATE trail_record SET leaf = zeroblob(32) WHERE position = ?", start - 1)
        assert verify(held, **given).problems  # type: ignore[arg-type]
        sql(held.connection, "DELETE FROM trail_record WHERE position >= 50")
        assert verify(held, **given).problems[-1].code in ("truncated", "root", "missing")  # type: ignore[arg-type]


def test_from_a_size_that_nobody_witnessed(world: World) -> None:
    with pytest.raises(InputError, match="No witnessed head has 77 records"):
        verify(Store(world.url), key=PUBLIC, witnessed=world.witnessed, start=77)


@pytest.mark.parametrize("column", ["kind", "refers_to", "at", "by", "patient", "model"])
def test_deep_compares_what_searches_look_at(world: World, held: Held, column: str) -> None:
    sql(held.connection, "SAVEPOINT one")
    sql(held.connection, f"UPDATE trail_record SET {column} = '5' WHERE position = 41")
    shallow, deep = (verify(held, key=PUBLIC, deep=one) for one in (False, True))
    sql(held.connection, "ROLLBACK TO one")
    assert shallow.holds
    assert [(one.code, one.number) for one in deep.problems] == [("columns", 41)]


def test_deep_refuses_what_could_not_have_been_written(tmp_path: Path) -> None:
    """Signed and chained as it should be, yet no record: only deep reads it."""
    url = str(tmp_path / "t.db")
    Trail.create(url, key=KEY)
    wrong = '"name":"Jeanne"', '"at":"1999-01-01T00:00:00.000000Z"', '"refers_to":99'
    with Trail(url, key=KEY) as trail:
        name = trail.name
        for _ in wrong:
            trail.append(entry(2))
    store = Store(url)
    with opened(World(url, 4, ())) as held:
        after = rows(held)[0][1]
        for number, said in enumerate(wrong, 1):
            document = json.loads(rows(held)[number][2]) | {"after": after.hex()}
            key, value = json.loads("{" + said + "}").popitem()
            changed = canonical_record(document | {key: value})
            after = leaf_hash(changed)
            statement = "UPDATE trail_record SET body = ?, leaf = ? WHERE position = ?"
            sql(held.connection, statement, changed, after, number)
        root = root_of([leaf for _, leaf, _ in rows(held)]).hex()
        head = sign_head(Head(name, 0, 4, root, "2026-01-01T00:00:00.000000Z", PUBLIC), KEY)
        sql(held.connection, "DELETE FROM trail_head")
        sql(held.connection, "INSERT INTO trail_head VALUES (4, ?)", head_line(head))
        assert verify(held, key=PUBLIC).holds
        found = {(one.code, one.number) for one in verify(held, key=PUBLIC, deep=True).problems}
    assert {("record", 1), ("time", 2), ("columns", 2), ("reference", 3)} <= found
    store.close()


@pytest.mark.parametrize(("name", "value"), [("trail", "0" * 32), ("key", public_hex(STRANGER))])
def test_facts_that_were_changed_make_every_head_a_stranger(world: World, name: str, value: str) -> None:
    with opened(world) as held:
        sql(held.connection, "UPDATE trail_fact SET value = ? WHERE name = ?", value, name)
        seen = verify(held, witnessed=world.witnessed)
    assert {one.code for one in seen.problems} >= {"head"}


def test_a_witness_of_another_trail_vouches_for_nothing(world: World, tmp_path: Path) -> None:
    other = build(tmp_path, size=10, heads=(10,))
    seen = verify(Store(world.url), key=PUBLIC, witnessed=other.witnessed)
    assert [one.code for one in seen.problems] == ["head"]
    assert seen.witnessed_to == 0


def test_no_more_problems_are_kept_than_people_read(world: World) -> None:
    with opened(world) as held:
        sql(held.connection, "UPDATE trail_record SET body = x'00'")
        assert len(verify(held, key=PUBLIC, witnessed=world.witnessed).problems) == 20


def test_signed_heads_only_count_as_what_was_signed(world: World) -> None:
    one = world.witnessed[0]
    assert one.signed_by(PUBLIC)
    assert not one.signed_by(public_hex(STRANGER))
    assert not one.signed_by("zz")
    assert not SignedHead(replace(one.head, size=2), one.signature).signed_by(PUBLIC)
