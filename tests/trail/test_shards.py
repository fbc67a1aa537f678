"""A trail of several shards: each is begun in the sight of the first, and none can go, or come, unseen."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import text
from tests.trail.changes import PUBLIC
from tests.trail.witnesses import Running, witness
from tests.trail.world import KEY, PATIENTS, entry

from primum.cli.main import run
from primum.errors import InputError, MachineError
from primum.trail.chain import Chain, shards_of
from primum.trail.export import check_export, export_lines
from primum.trail.heads import SignedHead
from primum.trail.log import Trail
from primum.trail.queries import Query, find
from primum.trail.store import Store
from primum.trail.verification import verify_all
from primum.trail.verified import Verified
from primum.trail.witness import FileWitness, HttpWitness, Witness
from primum.trail.witness_places import gathered

SHARDS = 0, 1, 5


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with witness(tmp_path_factory.mktemp("witness"), stop=signal.SIGINT) as one:
        yield one


@dataclass(frozen=True)
class World:
    """A trail, its name, a file of heads and an address that keep them."""

    url: str
    name: str
    places: tuple[str, str]

    def heads(self) -> list[SignedHead]:
        return gathered(self.places[:1], self.name)

    def seen(self, *, witnessed: bool = False) -> dict[int, Verified]:
        heads = self.heads() if witnessed else []
        return {one.shard: one for one in verify_all(Store(self.url), key=PUBLIC, witnessed=heads)}

    def codes(self, *, witnessed: bool = False) -> dict[int, list[str]]:
        seen = self.seen(witnessed=witnessed)
        return {shard: [problem.code for problem in one.problems] for shard, one in seen.items()}

    def sql(self, *statements: str) -> None:
        with Store(self.url).engine.begin() as connection:
            for table in ("record", "block", "head"):
                for guard in ("kept", "fixed"):
                    connection.execute(text(f"DROP TRIGGER IF EXISTS trail_{table}_{guard}"))
            for one in statements:
                connection.execute(text(one))

    def take_away(self, shard: int) -> None:
        """Remove all that a shard has."""
        where = f"position >= {shard << 40} AND position < {shard + 1 << 40}"
        self.sql(*(f"DELETE FROM trail_{table} WHERE {where}" for table in ("record", "block", "head")))


@pytest.fixture
def world(tmp_path: Path, running: Running) -> World:
    url, kept = str(tmp_path / "t.db"), tmp_path / "heads"
    Trail.create(url, key=KEY)
    for shard in SHARDS:
        witnesses: list[Witness] = [FileWitness(kept), HttpWitness(running.url, key=running.key)]
        with Trail(url, shard=shard, key=KEY, witnesses=witnesses, head_every=3600) as trail:
            for waiting in [trail.submit(entry(number)) for number in range(2, 300, 3)]:
                waiting.result()
    # The first shard went on when the others were begun: all of it is signed.
    with Trail(url, key=KEY, witnesses=witnesses) as trail:
        trail.sign_head()
        name = trail.name
    return World(url, name, (str(kept), f"{running.url}#{running.key}"))


def test_all_are_verified(world: World) -> None:
    assert world.codes() == world.codes(witnessed=True) == {shard: [] for shard in SHARDS}
    seen = world.seen(witnessed=True)
    assert [seen[shard].size for shard in SHARDS] == [103, 101, 101]
    assert seen[0].begun == {1, 5} and all(one.witnessed_to == one.size for one in seen.values())


def test_a_witness_says_which_it_saw(world: World) -> None:
    url, _, key = world.places[1].partition("#")
    assert HttpWitness(url, key=key).shards(world.name) == [*SHARDS]
    assert HttpWitness(url, key=key).shards("0" * 32) == []
    by_size = {(one.head.shard, one.head.size) for one in gathered(world.places[1:], world.name)}
    assert by_size == {(one.head.shard, one.head.size) for one in world.heads()}
    assert {one.head.shard for one in gathered(world.places[1:], world.name, shard=5)} == {5}


@pytest.mark.parametrize("shard", [1, 5])
def test_one_that_was_taken_away_whole_is_missed(world: World, shard: int) -> None:
    world.take_away(shard)
    rest: dict[int, list[str]] = {one: [] for one in SHARDS if one != shard}
    assert world.codes() == {**rest, shard: ["shard"]}
    assert set(world.codes(witnessed=True)[shard]) == {"truncated", "lost_head", "shard"}


def test_a_column_does_not_hide_that_it_was_begun(world: World) -> None:
    world.take_away(5)
    world.sql("UPDATE trail_record SET kind = 'access' WHERE kind = 'trail.created' AND position < 1 << 40")
    assert world.codes()[5] == ["shard"]


def test_one_that_nobody_began_is_a_stranger(world: World) -> None:
    store = Store(world.url)
    with store.writing(9) as connection:
        Chain(world.name, 9).write(connection, [entry(2)])
    assert world.codes()[9] == ["stranger"]


def test_the_first_one_cannot_go_either(world: World) -> None:
    world.take_away(0)
    assert set(world.codes()) == {*SHARDS} and world.codes()[1] == ["stranger"]
    assert "truncated" in world.codes(witnessed=True)[0]


def test_it_is_begun_in_both_or_not_at_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, turn = Chain.write, iter(range(9))

    def failing(chain: Chain, *given: object) -> object:
        if next(turn) == 1:
            raise MachineError("The disk is full.")
        return plain(chain, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Chain, "write", failing)
    with pytest.raises(MachineError):
        Trail(world.url, shard=7)
    assert set(world.codes()) == {*SHARDS}
    Trail(world.url, shard=7).close()
    assert world.codes() == {shard: [] for shard in (*SHARDS, 7)}


def test_what_was_read_before_is_not_read_again(world: World) -> None:
    seen = verify_all(Store(world.url), key=PUBLIC, witnessed=world.heads(), resume=True)
    assert [(one.shard, one.start == one.size, one.holds) for one in seen] == [
        (s, True, True) for s in SHARDS
    ]

    # Which were begun was not read, and that is said; whole, it was.
    unseen = [{code for code, _ in one.unseen(key_given=True)} for one in seen]
    assert ["shards" in codes for codes in unseen] == [True, False, False]
    whole = verify_all(Store(world.url), key=PUBLIC)
    assert not any({"shards", "others"} & {code for code, _ in one.unseen(key_given=True)} for one in whole)
    world.take_away(5)
    (one,) = verify_all(Store(world.url), key=PUBLIC, only=1)
    assert (one.shard, one.holds) == (1, True) and "others" in dict(one.unseen(key_given=True))


def written(world: World, path: Path) -> list[bytes]:
    lines = list(export_lines(Store(world.url), Query(patient=PATIENTS[2])))
    path.write_bytes(b"".join(lines))
    return lines


def test_all_of_a_patient_is_exported_and_proven(world: World, tmp_path: Path) -> None:
    lines = written(world, path := tmp_path / "e")
    checked = check_export(path, key=PUBLIC)
    assert [one.head.shard for one in checked.heads] == [*SHARDS]
    store = Store(world.url)
    with store.reading() as connection:
        assert shards_of(connection) == [*SHARDS]
        found = [(one.shard, one.number) for one in find(connection, Query(patient=PATIENTS[2]))]
    records = [json.loads(one).get("record") for one in lines]
    assert [(one["shard"], one["number"]) for one in records if one] == found
    assert checked.records == len(found) and {shard for shard, _ in found} == {*SHARDS}


def test_no_part_of_an_export_goes_or_moves(world: World, tmp_path: Path) -> None:
    lines = written(world, path := tmp_path / "e")
    heads = [place for place, one in enumerate(lines) if b'"signature"' in one] + [len(lines) - 1]
    first, second, third = (lines[a:b] for a, b in pairwise(heads))
    altered = [
        [*first, *third, *second],
        [*first, *second[1:], *third],
        [*first, *second, *second],
    ]
    Trail.create(other := str(tmp_path / "other.db"), key=KEY)
    with Trail(other, key=KEY), Trail(other, shard=1, key=KEY) as trail:
        trail.append(entry(2))
    foreign = list(export_lines(Store(other), Query(patient=PATIENTS[2])))
    assert len(foreign) == 4
    altered.append([*first, *foreign[1:3], *third])
    for one in altered:
        count = sum(b'"proof"' in line for line in one)
        path.write_bytes(b"".join([*one, b'{"end":%d}\n' % count]))
        with pytest.raises(InputError, match="this is not what was signed"):
            check_export(path, key=PUBLIC)


def test_the_commands(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    key = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(key)
    assert run(["trail", "verify", "t.db", "--witness", world.places[0], "--lang", "en"]) == 0
    said = capsys.readouterr()
    assert [said.out.count(f"Chain {shard}:") for shard in SHARDS] == [1, 1, 1]
    assert "Records read" in said.err
    assert run(["trail", "verify", "t.db", "--shard", "5", "--lang", "en"]) == 0
    alone = capsys.readouterr().out
    assert "Chain 5" not in alone and "The other chains, and whether this one was begun" in alone
    assert run(["trail", "head", "t.db", "--key", "key.pem", "--lang", "en"]) == 0
    assert capsys.readouterr().out.count("Signed a head") == 3
    assert run(["trail", "status", "t.db", "--lang", "en"]) == 0
    assert capsys.readouterr().out.count("under a signed head") == 3
    assert run(["trail", "show", "t.db", "--patient", PATIENTS[2], "--lang", "en"]) == 0
    shown = [one.partition("/")[0] for one in capsys.readouterr().out.splitlines()[:-1]]
    assert set(shown) == {"0", "1", "5"}
    for command in (["show", "t.db"], ["status", "t.db"], ["export", "t.db", "--out", "x"]):
        assert run(["trail", *command, "--shard", "3", "--lang", "en"]) == 2
        assert "The trail has no chain 3" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    world.take_away(1)
    assert run(["trail", "verify", "t.db", "--lang", "en"]) == 1
    assert "the first chain says that this one was begun" in capsys.readouterr().out
