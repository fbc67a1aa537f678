import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from tests import tiny
from tests.workflows.conftest import World

from primum.audits.privacy.extraction import Passage
from primum.errors import InputError, Interrupted, MachineError
from primum.evidence.canonical import canonical_bytes
from primum.evidence.finding import Message
from primum.evidence.measured import Curve, Guesses, Measured
from primum.models.causal import CausalModel
from primum.models.portable import from_arrays, to_arrays
from primum.records.tokens import TokenBatch
from primum.workflows.audit import run_audit
from primum.workflows.kept import Kept
from primum.workflows.kept_folder import keeping, key_of
from primum.workflows.kept_values import from_bytes, to_bytes
from primum.workflows.plan import AuditPlan


def same(one: Any, other: Any) -> bool:
    """Equal in type and every bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, sparse.csr_matrix):
        return one.shape == other.shape and all(
            same(getattr(one, part), getattr(other, part)) for part in ("data", "indices", "indptr")
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "__dataclass_fields__"):
        return all(same(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)
    return bool(one == other or (one != one and other != other))


def test_values_come_back_bit_by_bit() -> None:
    scores = np.array([0.1, np.nan, -np.inf, -0.0])
    measured = Measured(
        np.arange(4),
        {"a": scores},
        {"b": Guesses(("x",), scores[:, None], scores[:, None] > 0)},
        {"c": {"d": Curve((1.0, 10.0), np.ones((4, 2), np.float32), "unit")}},
        {"samples": 3, "share": 0.1 + 0.2, "calibrated": False, "nothing": None, "name": "é"},
        {"e": Message("model_cannot", {"protocol": "Scorer"})},
    )
    matrix = sparse.csr_matrix(np.eye(3)[[2, 0]])
    value = ([measured], (Passage(1, 2, 3, ("A",), None),), 1.25, matrix, np.array(["F", "??"]))
    assert same(from_bytes(to_bytes(value)), value)


def test_what_would_need_a_pickle_is_not_written() -> None:
    with pytest.raises(TypeError):
        to_bytes(object())
    with pytest.raises(ValueError, match="pickle"):
        to_bytes(np.array([object()]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:],
        lambda data: bytes([data[0] ^ 1]) + data[1:],
    ],
)
def test_a_damaged_piece_is_made_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    kept, made = Kept(tmp_path, "k" * 64), []

    def make() -> int:
        made.append(1)
        return len(made)

    assert (kept.piece("one", make), kept.piece("one", make)) == (1, 1)
    place = tmp_path / "one.piece"
    place.write_bytes(damage(place.read_bytes()))
    assert (kept.piece("one", make), kept.piece("one", make)) == (2, 2)


def test_a_piece_of_another_audit_or_name_is_not_used(tmp_path: Path) -> None:
    Kept(tmp_path, "a" * 64).write("one", 1)
    assert Kept(tmp_path, "a" * 64).read("one") == 1
    assert Kept(tmp_path, "b" * 64).read("one") is None
    (tmp_path / "one.piece").rename(tmp_path / "two.piece")
    assert Kept(tmp_path, "a" * 64).read("two") is None


def test_the_folder_goes_with_the_end_and_stays_for_what_can_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "report.unfinished"
    endings: list[tuple[BaseException, type[BaseException], bool]] = [
        (InputError("No."), InputError, False),
        (MachineError("Full."), MachineError, True),
        (ZeroDivisionError(), ZeroDivisionError, True),
        (KeyboardInterrupt(), Interrupted, True),
    ]
    for raised, heard, stays in endings:
        with pytest.raises(heard), keeping(folder, key="a" * 64) as kept:
            kept.write("one", 1)
            raise raised
        assert folder.exists() == stays
    with keeping(folder, key="a" * 64) as kept:
        assert kept and kept.read("one") == 1
    assert not folder.exists()
    with pytest.raises(KeyboardInterrupt), keeping(folder, key="a" * 64):
        raise KeyboardInterrupt
    assert not folder.exists()


def test_one_command_and_one_audit_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "report.unfinished"
    with pytest.raises(Interrupted), keeping(folder, key="a" * 64) as kept:
        with pytest.raises(InputError, match="Another command is at work"), keeping(folder, key="a" * 64):
            pass
        kept.write("one", 1)
        raise KeyboardInterrupt
    with pytest.raises(InputError, match="what another audit had finished"), keeping(folder, key="b" * 64):
        pass
    assert Kept(folder, "a" * 64).read("one") == 1
    (folder / "key").write_text("aa", encoding="utf-8")
    with keeping(folder, key="b" * 64) as kept:
        assert kept.read("one") is None


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "report.unfinished").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(MachineError, match="Not a directory"),
        keeping(tmp_path / "report.unfinished", key="a"),
    ):
        pass
    assert os.listdir(tmp_path / "elsewhere") == []


def test_whatever_shapes_a_finding_is_in_the_key(world: World) -> None:
    plan = AuditPlan(world.opened(), *world.sides(), names={"members": "1"})
    reference = replace(world.opened(), ref=replace(plan.model.ref, digest="0"))
    others = [
        replace(plan, model=reference),
        replace(plan, names={"members": "2"}),
        replace(plan, references=[reference]),
        replace(plan, recipe_count=2),
        replace(plan, only=("membership",)),
        replace(plan, membership="randomised"),
        replace(plan, drop_overlap=True),
        replace(plan, seed=1),
        replace(plan, sampled=60),
        replace(plan, show_records=True),
    ]
    keys = [key_of(one) for one in (plan, *others)]
    keys.append(key_of(plan, recipe="primum.fit.causal_recipe:plain_llama"))
    assert len(set(keys)) == len(keys)
    assert key_of(replace(plan, command="primum audit --lang fr")) == keys[0]


def test_an_audit_of_kept_pieces_asks_nothing_and_finds_the_same(tmp_path: Path, world: World) -> None:
    plan = AuditPlan(world.opened(), *world.sides(), sampled=40, only=("membership", "extraction"))
    kept = Kept(tmp_path, key_of(plan))
    first = run_audit(plan, kept=kept)
    heard: list[str] = []
    silent = replace(plan, model=replace(plan.model, scorer=object()))
    again = run_audit(silent, kept=kept, progress=lambda stage, _: heard.append(stage))
    assert canonical_bytes(first.audit) == canonical_bytes(again.audit)
    assert canonical_bytes(first.audit) == canonical_bytes(run_audit(plan).audit)
    assert heard[0] == "what an interrupted audit kept"


@dataclass
class Counted:
    """A recipe that counts its trainings, of models that can be kept or not."""

    portable: bool
    trained: int = 0

    def fit(
        self, train: TokenBatch, *, validation: TokenBatch | None, max_steps: int | None, seed: int
    ) -> CausalModel:
        self.trained += 1
        model = tiny.build(vocabulary=50, seed=seed)
        if not self.portable:
            model.module.__class__ = type("Other", (type(model.module),), {})
        return model


@pytest.mark.parametrize("portable", [True, False])
def test_a_model_is_trained_once_if_it_can_be_kept(tmp_path: Path, portable: bool) -> None:
    recipe, batch = Counted(portable), tiny.random_batch([9, 5], vocabulary=50)
    once = Kept(tmp_path, "a" * 64).trained(recipe)
    models = [once.fit(batch, validation=None, max_steps=None, seed=seed) for seed in (1, 1, 2)]
    assert recipe.trained == (2 if portable else 3)
    first, again, other = (one.log_probs(batch)[0] for one in models)
    fresh = tiny.build(vocabulary=50, seed=1).log_probs(batch)[0]
    assert same(first, again) and same(first, fresh) and not same(first, other)
    once.fit(batch.select(np.array([0])), validation=None, max_steps=None, seed=1)
    assert recipe.trained == (3 if portable else 4)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_model_taken_apart_answers_the_same(architecture: str) -> None:
    model, batch = tiny.build(architecture, vocabulary=50), tiny.random_batch([30, 5], vocabulary=50)
    parts = to_arrays(model)
    assert parts is not None
    again = from_arrays(from_bytes(to_bytes(parts)))
    assert same(model.log_probs(batch), again.log_probs(batch))
    assert to_arrays(object()) is None
