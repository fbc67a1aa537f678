"""In which order test files run where two processes share them (``--no-loadscope-reorder``)."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AXE = "tests/report/test_axe.py"
# Each takes longer than most: begun last, one of them would leave the other process without work.
LONGEST = (
    "workflows/test_demo_cases.py",
    "cli/test_classifier.py",
    "workflows/test_workers.py",
    "report/test_axe.py",
    "workflows/test_kinds.py",
    "workflows/test_demo.py",
    "house/test_wheelhouse.py",
    "workflows/test_federated_deployed_secure.py",
    "workflows/test_federated_deployed_line.py",
    "workflows/test_federated_deployed.py",
    "fuzz/test_readers.py",
    "fuzz/test_classifier_readers.py",
    "fuzz/test_case_readers.py",
    "report/test_beyond.py",
    "train/federated/test_secure.py",
    "train/federated/test_rounds.py",
    "examples/test_classifiers.py",
    "cli/test_train.py",
    "evidence/test_shares.py",
)
INSTALLING = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    places = {f"tests/{name}": place for place, name in enumerate(LONGEST)}
    files = [item.nodeid.partition("::")[0] for item in items]
    # Where there is no browser, it comes while others are tested: one of the processes sees to it.
    first = getattr(config, "workerinput", {"workerid": "gw0"})["workerid"] == "gw0"
    if AXE in files and first and not config.option.collectonly and not shutil.which("chromium"):
        config.stash[INSTALLING] = subprocess.Popen(
            [str(ROOT / ".ci" / "debian"), "chromium"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


def pytest_unconfigure(config: pytest.Config) -> None:
    if INSTALLING in config.stash:
        config.stash[INSTALLING].wait()
