"""One door a module, as its ``CONTEXT`` and ``TOKENS`` ask."""

from collections.abc import Iterator

import pytest
from tests.conformance.doors import NAMES, Answers, Door, through


@pytest.fixture(params=NAMES, scope="module")
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder, asked = tmp_path_factory.mktemp("door"), request.module
    with through(request.param, folder, tokens=asked.TOKENS, context=asked.CONTEXT) as door:
        yield door


@pytest.fixture
def model(door: Door) -> Answers:
    answers: Answers = door.model
    return answers
