"""SIGKILL at any moment: nothing acknowledged is lost, nothing half-written; the next writer goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Of each database; `python -m studies.trail` kills more than five hundred.
KILLS = 10


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_writer_that_is_killed_loses_nothing_that_it_knew_to_be_durable(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = str(tmp_path / "t.db") if kind == "sqlite" else str(request.getfixturevalue("postgres"))
    command = [sys.executable, "-m", "tests.trail.kills", url, str(tmp_path / "heads"), str(KILLS), "1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    counted = json.loads(ended.stdout)
    # All else is asserted there; here, that there was something to lose.
    assert counted["kills"] == KILLS
    assert counted["acknowledged"] > 20 * KILLS
    assert counted["dangling"] > 0
