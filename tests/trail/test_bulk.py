"""The bulk loader of studies makes what a writer makes."""

from pathlib import Path

import pytest
from tests.trail.bulk import MOST, load, patient_number
from tests.trail.changes import PUBLIC
from tests.trail.world import KEY, entry

from primum.trail.export import check_export, export_lines
from primum.trail.log import Trail
from primum.trail.queries import Query
from primum.trail.store import Store
from primum.trail.verification import verify


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_is_loaded_is_what_a_writer_makes(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = str(tmp_path / "t.db") if kind == "sqlite" else str(request.getfixturevalue("postgres"))
    load(url, 3_001, patients=20, seed=4)
    store = Store(url)
    seen = verify(store, key=PUBLIC, deep=True)
    assert (seen.problems, seen.size, seen.covered, seen.open_intents) == ([], 3_001, 3_001, [])
    history = tmp_path / "history.jsonl"
    history.write_bytes(b"".join(export_lines(store, Query(patient=patient_number(0)))))
    assert 0.9 * MOST <= check_export(history, key=PUBLIC).records <= 1.1 * MOST
    with Trail(url, key=KEY) as trail:
        assert trail.append(entry(2)).number == 3_001
    assert verify(store, key=PUBLIC, deep=True).covered == 3_002
    store.close()
