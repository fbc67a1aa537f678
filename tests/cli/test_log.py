"""``--log-json``: what a machine reads on stderr."""

import json
from datetime import datetime
from typing import Any

import pytest
from tests.cli.conftest import FIRST_ID, Place

FIELDS = {"time", "level", "event", "stage", "patients", "seconds", "status", "message"}


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    said = capsys.readouterr().err
    assert str(FIRST_ID)[:9] not in said
    read = [json.loads(line) for line in said.splitlines()]
    assert all(one.keys() <= FIELDS and datetime.fromisoformat(one["time"]).tzinfo for one in read)
    return read


def test_each_stage_is_one_object_and_the_end_has_the_status(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    status = place.audit("--log-json", "--only", "membership")
    *stages, end = lines(capsys)
    assert {one["event"] for one in stages} == {"stage"}
    scored = [one for one in stages if one["stage"] == "scores of training patients"]
    assert [one["patients"] for one in scored] == [30]
    assert all(one["seconds"] >= 0 for one in stages)
    assert (end["event"], end["level"], end["status"]) == ("end", "info", status)
    assert "message" not in end


def test_what_went_wrong_is_one_object_too(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.model / "config.json").unlink()
    assert place.audit("--log-json") == 2
    (end,) = lines(capsys)
    assert (end["level"], end["status"]) == ("error", 2)
    assert "holds no config.json" in end["message"]
