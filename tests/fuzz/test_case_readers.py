"""Two thousand damaged cases, each refused with a sentence or read."""

from pathlib import Path

import pytest
from tests.fuzz.case_readers import CASE_READERS, case_outcome, case_schedule
from tests.fuzz.cases import pristine, read
from tests.fuzz.readers import Reader

CASES = 2000


@pytest.mark.parametrize("reader", CASE_READERS, ids=lambda reader: reader.name)
def test_what_is_whole_is_accepted(reader: Reader, tmp_path: Path) -> None:
    for files in pristine(reader):
        assert read(reader, files, tmp_path, case="whole") == "accepted"


@pytest.mark.parametrize("reader", CASE_READERS, ids=lambda reader: reader.name)
def test_what_is_damaged_is_refused_or_read(reader: Reader, tmp_path: Path) -> None:
    found = [case_outcome(one, seed, tmp_path) for one, seed in case_schedule(CASES) if one is reader]
    assert {"refused", "accepted"} == set(found)
