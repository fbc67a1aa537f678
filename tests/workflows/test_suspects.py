"""Training cases that deserve a second look, for their owner only."""

import numpy as np

from primum.evidence.observed import Observed
from primum.workflows.suspects import suspects_table

COLUMNS = {
    "patient": np.array([0.0, 1.0, 2.0, 3.0, 4.0]),
    "case": np.array([10.0, 11.0, 12.0, 13.0, 14.0]),
    "label": np.array([0.0, 1.0, 0.0, 1.0, 1.0]),
    "flagged": np.array([1.0, 0.0, 1.0, 0.0, np.nan]),
    "suspicion": np.array([0.7, 0.1, 0.9, 0.2, np.nan]),
    "copies": np.array([0.0, 1.0, 1.0, 0.0, 0.0]),
    "mark": np.array([0.0, 0.0, 0.0, 1.0, 0.0]),
    "outlier": np.array([0.0, 9.0, -1.0, 0.0, np.nan]),
}
OBSERVED = Observed("data", COLUMNS, {"label": ("no", "yes")})


def test_the_surest_come_first_with_all_their_reasons() -> None:
    table = suspects_table(OBSERVED, marked=False)
    assert table is not None
    assert table.rows() == [
        (12, "no", 0.9, "label, copy"),
        (10, "no", 0.7, "label"),
        (11, "yes", 0.1, "copy, outlier"),
    ]


def test_carriers_of_a_mark_are_told_only_where_it_belongs_to_a_class() -> None:
    table = suspects_table(OBSERVED, marked=True)
    assert table is not None
    assert (13, "yes", 0.2, "mark") in table.rows()


def test_nobody_suspected_is_no_table() -> None:
    clean = {**COLUMNS, **{name: np.zeros(5) for name in ("flagged", "copies", "mark", "outlier")}}
    assert suspects_table(Observed("data", clean, OBSERVED.names), marked=True) is None
    assert suspects_table(Observed("data"), marked=True) is None
