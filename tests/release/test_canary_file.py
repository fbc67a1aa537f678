"""The canary on disk: each patient once, whoever feeds it and whenever it is killed; and what follows."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from primum.errors import InputError, MachineError
from primum.evidence.finding import Finding
from primum.release.canary import Canary
from primum.release.canary_file import CanaryFile
from primum.release.outcomes import Outcome
from primum.release.routing import Serving, ServingFile, route

LIVE, CANARY, KEY = "11" * 32, "22" * 32, b"k" * 32


def begun() -> Canary:
    return Canary.begin(live=LIVE, canary=CANARY)


def test_a_planted_regression_is_gone_at_the_next_request_and_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "serving.json"
    Serving(live=LIVE, canary=CANARY, share=0.5).write(path)
    serving, random = ServingFile(path), np.random.default_rng(97)
    watched = CanaryFile.begin(tmp_path / "canary", begun(), key=KEY)
    for _ in range(1000):
        patient, now = random.bytes(16), serving.now()
        arm = route(now, patient, key=KEY)
        wrong = bool(random.random() < (0.8 if arm == "canary" else 0.1))
        if watched.observe(patient, Outcome(arm, now.share, error=wrong)).decision.roll_back:
            now.without_canary().write(path)
            break
    assert Serving.read(path) == serving.now() == Serving(live=LIVE, rolled_back=CANARY)
    assert CanaryFile(tmp_path / "canary", key=KEY).read().decision.reason == "error_rate"
    met = random.bytes(16)
    assert route(ServingFile(path).now(), met, key=KEY) == route(serving.now(), met, key=KEY) == "live"


def test_the_file_counts_each_patient_once_in_each_stream(tmp_path: Path) -> None:
    file = CanaryFile.begin(tmp_path / "canary", begun(), key=KEY)
    file.observe(b"one", Outcome("live", 0.5, refused=False))
    file.observe(b"one", Outcome("live", 0.5, refused=True, error=True))
    file.observe(b"one", Outcome("live", 0.5, refused=True, error=False))
    canary = CanaryFile(tmp_path / "canary", key=KEY).observe(b"two", Outcome("canary", 0.5, error=False))
    errors, refusals = canary.state.tests["error_rate"].seen, canary.state.tests["refusals"].seen
    assert (errors.tested, errors.reference, errors.reference_sum) == (1, 1, 1)
    assert (refusals.tested, refusals.reference, refusals.reference_sum) == (0, 1, 0)
    assert b"one" not in (tmp_path / "canary").read_bytes()
    assert (tmp_path / "canary").stat().st_mode & 0o077 == 0
    assert file.report(Finding("x", "leak", True, CANARY, "33")).decision.roll_back
    assert file.observe(b"three", Outcome("live", 0.5, error=False)).decision.reason == "harmful_finding"
    assert file.read().decision.roll_back


def test_the_file_names_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "canary"
    with pytest.raises(InputError, match="no canary"):
        CanaryFile(path, key=KEY)
    path.write_bytes(b"something else, long enough to be looked at" * 50)
    with pytest.raises(InputError, match="no canary"):
        CanaryFile(path, key=KEY).read()
    with pytest.raises(InputError, match="already"):
        CanaryFile.begin(path, begun(), key=KEY)
    with pytest.raises(MachineError):
        CanaryFile.begin(tmp_path / "missing" / "canary", begun(), key=KEY)
    CanaryFile.begin(tmp_path / "other", begun(), key=KEY)
    connection = sqlite3.connect(tmp_path / "other")
    connection.execute("UPDATE canary SET state = ?", (b"{}",))
    connection.commit()
    connection.close()
    with pytest.raises(InputError, match="other"):
        CanaryFile(tmp_path / "other", key=KEY).read()


FEEDER = """
import sys
from pathlib import Path
from primum.release.canary_file import CanaryFile
from primum.release.outcomes import Outcome
file, start = CanaryFile(Path(sys.argv[1]), key=b"k" * 32), int(sys.argv[2])
for number in range(start, start + int(sys.argv[3])):
    file.observe(b"%d" % number, Outcome("live", 0.5, error=number % 3 == 0))
"""


def test_a_process_that_is_killed_counts_wholly_or_not(tmp_path: Path) -> None:
    path = tmp_path / "canary"
    file = CanaryFile.begin(path, begun(), key=KEY)
    child = subprocess.Popen([sys.executable, "-c", FEEDER, str(path), "0", "1000000"])
    while file.read().state.tests["error_rate"].seen.reference < 20:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    seen = file.read().state.tests["error_rate"].seen.reference
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM counted").fetchone() == (seen,)
    connection.close()
    # Whoever goes on counts them again: those that are there stay as they are.
    for number in range(seen + 1):
        after = file.observe(b"%d" % number, Outcome("live", 0.5, error=True))
    assert after.state.tests["error_rate"].seen.reference == seen + 1


def test_two_processes_feed_one_file(tmp_path: Path) -> None:
    path = tmp_path / "canary"
    file = CanaryFile.begin(path, begun(), key=KEY)
    # Their patients overlap: 0 to 39, and 20 to 59.
    children = [
        subprocess.Popen([sys.executable, "-c", FEEDER, str(path), str(start), "40"]) for start in (0, 20)
    ]
    assert [child.wait() for child in children] == [0, 0]
    seen = file.read().state.tests["error_rate"].seen
    assert (seen.reference, seen.reference_sum) == (60, 20)
