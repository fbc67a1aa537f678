"""Captured updates: what is written is read, and no file of an enemy's gets further than one sentence."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from primum.errors import InputError
from primum.fit.updates import Update, read_update, write_update

RNG = np.random.default_rng(0)
UPDATE = Update(
    "hospital-3", 2, "delta", 32, 4, 8, 0.5,
    {"layer.weight": RNG.standard_normal((3, 2)).astype(np.float32), "layer.bias": RNG.standard_normal(3),
     "scale": np.array(2.0)},
    {"layer.weight": RNG.standard_normal((3, 2)).astype(np.float32).T.reshape(3, 2), "scale": np.array(-1.0)},
)  # fmt: skip
ABOUT = {
    "schema": "1.0", "site": "a", "round": 0, "kind": "gradient", "cases": 1, "local_steps": 1, "batch": 1,
    "learning_rate": 1.0,
}  # fmt: skip


def damaged(file: Path, about: object, tensors: dict[str, Any] | None = None) -> None:
    given = {"before/w": np.zeros(2), "sent/w": np.zeros(2)} if tensors is None else tensors
    text = about if isinstance(about, str) else json.dumps(about)
    save_file(given, file, metadata={"primum_update": text})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_update(UPDATE, tmp_path / "one.safetensors")
    again = read_update(tmp_path / "one.safetensors")
    for name in ("site", "round", "kind", "cases", "local_steps", "batch", "learning_rate"):
        assert getattr(again, name) == getattr(UPDATE, name)
    for held, expected in ((again.before, UPDATE.before), (again.sent, UPDATE.sent)):
        assert held.keys() == expected.keys()
        for name, value in expected.items():
            assert held[name].dtype == value.dtype
            np.testing.assert_array_equal(held[name], value)


def test_gradient_of_a_delta_is_per_step_and_points_uphill() -> None:
    gradient = UPDATE.gradient()
    np.testing.assert_allclose(gradient["scale"], 1 / (0.5 * 4))
    assert gradient["layer.weight"].dtype == np.float64
    one = replace(UPDATE, kind="gradient", local_steps=1)
    np.testing.assert_array_equal(one.gradient()["scale"], -1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("site", "a\x1b[1m"), ("site", 3), ("site", "a" * 201), ("round", -1), ("round", True), ("cases", 0),
        ("cases", 1.5), ("batch", 2**40), ("local_steps", None), ("kind", "weights"), ("kind", ["delta"]),
        ("learning_rate", float("nan")), ("learning_rate", 0), ("learning_rate", "1"), ("schema", "9.0"),
        ("more", 1),
    ],
)  # fmt: skip
def test_fields_that_make_no_sense(tmp_path: Path, field: str, value: object) -> None:
    file = tmp_path / "one.safetensors"
    damaged(file, {**ABOUT, field: value})
    with pytest.raises(InputError, match="capture it again") as caught:
        read_update(file)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("field", sorted(ABOUT))
def test_missing_fields(tmp_path: Path, field: str) -> None:
    damaged(tmp_path / "one", {name: value for name, value in ABOUT.items() if name != field})
    with pytest.raises(InputError, match=f"field {field}"):
        read_update(tmp_path / "one")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 4000, json.dumps(ABOUT) + " " * 5000])
def test_metadata_that_are_none(tmp_path: Path, text: str) -> None:
    damaged(tmp_path / "one", text)
    with pytest.raises(InputError, match="schema"):
        read_update(tmp_path / "one")


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"before/w": np.zeros(2), "sent/w": np.array([0, np.nan])}, "NaN or infinite"),
        ({"before/w": np.array([np.inf, 0]), "sent/w": np.zeros(2)}, "NaN or infinite"),
        ({"before/w": np.zeros(2), "sent/w": np.zeros((2, 1))}, r"shape \[2, 1\] as it was sent and \[2\]"),
        ({"before/w": np.zeros(2), "sent/v": np.zeros(2)}, "tensors"),
        ({"before/w": np.zeros(2)}, "tensors"),
        ({"before/w": np.zeros(2), "sent/w": np.zeros(2), "other": np.zeros(2)}, "tensors"),
        ({"before/w\n": np.zeros(2), "sent/w\n": np.zeros(2)}, "tensors"),
        ({"before/w": np.zeros(2, np.int64), "sent/w": np.zeros(2, np.int64)}, "tensors"),
    ],
)
def test_tensors_that_make_no_sense(tmp_path: Path, tensors: dict[str, Any], says: str) -> None:
    damaged(tmp_path / "one", ABOUT, tensors)
    with pytest.raises(InputError, match=says):
        read_update(tmp_path / "one")


@pytest.mark.parametrize("spoil", [lambda all_: all_[:-3], lambda all_: b"", lambda all_: b"\xff" * 64])
def test_damaged_files(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "one"
    write_update(UPDATE, file)
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(InputError, match="not a safetensors file"):
        read_update(file)


def test_what_is_no_file_and_what_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        read_update(tmp_path)
    with (tmp_path / "large").open("wb") as file:
        file.truncate((1 << 32) + 1)
    with pytest.raises(InputError, match="4 GiB"):
        read_update(tmp_path / "large")


def test_nothing_is_written_that_could_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="site"):
        write_update(replace(UPDATE, site="a b"), tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_no_torch() -> None:
    program = (
        "import sys, primum.fit.updates, primum.audits.updates.matching; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
