"""A disk that is full, really: what was acknowledged stays, nothing is half-written, and writing goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_MOUNT = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not MAY_MOUNT, reason="this user may not mount a small disk")
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_and_nothing_half_written(tmp_path: Path, seed: int) -> None:
    command = ["unshare", "-rm", sys.executable, "-m", "tests.trail.full_disk", str(tmp_path), str(seed)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout.splitlines()[-1])
    assert seen["refused"] and all("nothing was half-written" in one for one in seen["refused"])
    assert (seen["when_full"], seen["at_the_end"]) == ([], [])
    known = seen["acknowledged"]
    # Each number once, all of them there; what was refused left nothing behind. How many fit on the disk is
    # chance: what is committed together shares its pages.
    assert len(known) > 20 and known == list(range(1, seen["size_when_full"]))
    assert seen["after"] == list(range(seen["size_when_full"], seen["size_when_full"] + 50))
    assert seen["size"] == seen["size_when_full"] + 50 and seen["heads"] == 1
