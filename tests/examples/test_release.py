"""The release from end to end says what its page promises."""

import re
import runpy
from pathlib import Path

import pytest

from primum.cli.main import run
from primum.release.routing import Serving
from primum.trail.queries import Query, find
from primum.trail.record import read_record
from primum.trail.store import Store

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_two_of_three_sign_a_canary_goes_wrong_and_the_trail_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    registry = runpy.run_path(str(EXAMPLES / "release_walkthrough.py"))["main"](tmp_path)
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    first, second = (registry.find(f"signals:{version}") for version in (1, 2))
    assert (first.state, second.state) == ("live", "rolled_back")
    served = registry.serving()
    assert (served.live, served.canary, served.rolled_back) == (first.digest, None, second.digest)
    assert re.search(r"rolled back after \d+ patients: error_rate", said)
    assert "The test set has now served 2 times." in said
    assert "Nothing was altered: 24 records, 1 signed heads" in said
    store = Store(str(tmp_path / "trail.db"))
    with store.reading() as connection:
        kinds = [read_record(one.body)["kind"] for one in find(connection, Query(model=second.digest))]
    assert kinds[-1] == "release.rollback"
    assert kinds.count("approval") == 2
    store.close()
    place = ["--registry", str(tmp_path / "registry"), "--trail", str(tmp_path / "trail.db"), "--lang", "en"]
    assert run(["release", "check", *place]) == 0
    # Whoever takes the rollback off the history, and puts the canary back, is found out.
    last = max((tmp_path / "registry" / "history").iterdir())
    last.unlink()
    Serving(live=first.digest, canary=second.digest, share=0.5).write(tmp_path / "registry" / "serving.json")
    capsys.readouterr()
    assert run(["release", "check", *place]) == 1
    assert "Record 23 of the trail is of an event that the registry lacks." in capsys.readouterr().out
