"""Fifteen hundred damaged classifiers, each refused with a sentence or asked."""

from pathlib import Path

import pytest
from tests.fuzz.case_readers import case_outcome, case_schedule
from tests.fuzz.cases import pristine, read
from tests.fuzz.classifier_readers import CLASSIFIER_READERS
from tests.fuzz.readers import Reader

CASES = 1500


@pytest.mark.parametrize("reader", CLASSIFIER_READERS, ids=lambda reader: reader.name)
def test_what_is_whole_is_accepted(reader: Reader, tmp_path: Path) -> None:
    for files in pristine(reader):
        assert read(reader, files, tmp_path, case="whole") == "accepted"


@pytest.mark.parametrize("reader", CLASSIFIER_READERS, ids=lambda reader: reader.name)
def test_what_is_damaged_is_refused_or_asked(reader: Reader, tmp_path: Path) -> None:
    schedule = case_schedule(CASES, CLASSIFIER_READERS)
    found = [case_outcome(one, seed, tmp_path) for one, seed in schedule if one is reader]
    assert {"refused", "accepted"} == set(found)
