"""Routing: sticky, uniform, and what is written holds for the next request."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from primum.errors import InputError, MachineError
from primum.release.routing import Serving, ServingFile, place, route

LIVE, CANARY, OTHER = "11" * 32, "22" * 32, "33" * 32


def patients(seed: int, count: int) -> list[bytes]:
    random = np.random.default_rng([100, seed])
    return [random.bytes(16) for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_places_are_uniform_and_other_for_another_canary_or_key(seed: int) -> None:
    everyone, key = patients(seed, 4000), bytes([seed]) * 32
    here = np.array([place(one, canary=CANARY, key=key) for one in everyone])
    assert kstest(here, "uniform").pvalue > 0.001
    assert ((here >= 0) & (here < 1)).all()
    for other in (
        np.array([place(one, canary=OTHER, key=key) for one in everyone]),
        np.array([place(one, canary=CANARY, key=b"o" * 32) for one in everyone]),
    ):
        assert abs(np.corrcoef(here, other)[0, 1]) < 4 / np.sqrt(len(here))
    # Numbers that follow each other are as good as random ones.
    close = [place(b"%d" % number, canary=CANARY, key=key) for number in range(4000)]
    assert kstest(close, "uniform").pvalue > 0.001


def test_who_met_the_canary_still_does_when_the_share_is_raised() -> None:
    everyone, key, before = patients(9, 2000), b"k" * 32, set[bytes]()
    for share in (0.0, 0.01, 0.1, 0.3, 0.5, 1.0):
        serving = Serving(live=LIVE, canary=CANARY, share=share)
        now = {one for one in everyone if route(serving, one, key=key) == "canary"}
        assert before <= now
        assert abs(len(now) - 2000 * share) <= 4 * np.sqrt(2000 * share * (1 - share))
        before = now
    assert {route(serving.without_canary(), one, key=key) for one in everyone} == {"live"}


def test_nothing_is_served_without_a_live_model_or_with_a_short_key() -> None:
    with pytest.raises(InputError, match="live"):
        route(Serving(), b"one", key=b"k" * 32)
    assert route(Serving(live=LIVE), b"one", key=b"k" * 32) == "live"
    with pytest.raises(InputError, match="32"):
        route(Serving(live=LIVE, canary=CANARY, share=0.5), b"one", key=b"k" * 31)


def test_rolling_back_is_remembered() -> None:
    served = Serving(live=LIVE, canary=CANARY, share=0.2, shadow=OTHER)
    back = served.without_canary()
    assert back == Serving(live=LIVE, shadow=OTHER, rolled_back=CANARY)
    assert back.without_canary() == back


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("schema", {"schema": "2.0"}),
        ("live", {"live": "model"}),
        ("share", {"live": LIVE, "canary": CANARY, "share": 1.5}),
        ("share", {"live": LIVE, "canary": CANARY, "share": float("nan")}),
        ("share", {"live": LIVE, "share": 0.5}),
        ("canary", {"canary": CANARY, "share": 0.5}),
        ("canary", {"live": LIVE, "canary": LIVE, "share": 0.5}),
        ("rolled_back", {"live": LIVE, "canary": CANARY, "share": 0.5, "rolled_back": CANARY}),
        ("rolled_back", {"live": LIVE, "rolled_back": LIVE}),
    ],
)
def test_a_contradiction_is_refused_by_name(key: str, fields: dict[str, object]) -> None:
    with pytest.raises(InputError, match=rf"\({key}\)"):
        Serving(**fields)  # type: ignore[arg-type]


def test_what_is_written_holds_for_the_next_request_and_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "serving.json"
    first, second = Serving(live=LIVE, canary=CANARY, share=0.5), Serving(live=LIVE, rolled_back=CANARY)
    # As many bytes, so that only names and clocks can tell them apart, and as fast as the disk allows.
    third = Serving(live=LIVE, canary=OTHER, share=0.5)
    first.write(path)
    file = ServingFile(path)
    for served in (first, second, third, first) * 25:
        served.write(path)
        assert file.now() == served
        assert file.now() == served
        assert Serving.read(path) == served
    first.write(path)
    assert ServingFile(path).now() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["serving.json"]


def test_an_old_file_is_not_read_again_until_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "serving.json"
    Serving(live=LIVE).write(path)
    file = ServingFile(path)
    # Young: another may have been put in its place within one tick of the clock, so it is not trusted yet.
    assert file.now() is not file.now()
    time.sleep(1.1)
    first = file.now()
    assert file.now() is first
    Serving(live=OTHER).write(path)
    assert file.now() == Serving(live=OTHER)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema":"1.0"}', b"[1]", b"{", b"\xff"])
def test_a_file_that_cannot_be_read_serves_nobody(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "serving.json"
    file = ServingFile(path)
    with pytest.raises(InputError, match=r"serving\.json"):
        file.now()
    Serving(live=LIVE).write(path)
    assert file.now().live == LIVE
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"serving\.json"):
        file.now()


def test_a_disk_that_refuses_leaves_what_was(tmp_path: Path) -> None:
    path = tmp_path / "serving.json"
    path.mkdir()
    with pytest.raises(MachineError, match=r"serving\.json"):
        Serving(live=LIVE).write(path)
    assert os.listdir(tmp_path) == ["serving.json"]


WRITER = """
import itertools, sys
from pathlib import Path
from primum.release.routing import Serving
path = Path(sys.argv[1])
for model in itertools.cycle(("11" * 32, "22" * 32)):
    Serving(live=model).write(path)
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_writer_that_is_killed_leaves_the_old_or_the_new(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "serving.json"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    while not path.exists():
        time.sleep(0.005)
    ends = time.monotonic() + np.random.default_rng([101, seed]).uniform(0.01, 0.1)
    while time.monotonic() < ends:
        assert Serving.read(path).live in (LIVE, CANARY)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    assert Serving.read(path).live in (LIVE, CANARY)
    Serving(live=OTHER).write(path)
    assert Serving.read(path).live == OTHER
