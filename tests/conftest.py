"""In which order test files run where two processes share them (``--no-loadscope-reorder``)."""

import pytest

# Each takes longer than most: begun last, one of them would leave the other process without work.
LONGEST = (
    "workflows/test_demo_cases.py",
    "cli/test_classifier.py",
    "report/test_axe.py",
    "workflows/test_workers.py",
    "workflows/test_kinds.py",
    "workflows/test_demo.py",
    "report/test_beyond.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {f"tests/{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))
