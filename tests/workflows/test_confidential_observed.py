"""The tables of the families outside the contrast: kept, read back, distrusted."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from primum.errors import InputError
from primum.evidence.finding import Message, Series
from primum.evidence.observed import Observed
from primum.workflows.confidential_observed import read_observed, write_observed

OBSERVED = Observed(
    "equity",
    {
        "patient": np.array([0.0, 0.0, 1.0, 2.0]),
        "sex": np.array([0.0, 0.0, 1.0, np.nan]),
        "called": np.array([1.0, -1.0, 0.0, 1.0]),
        "probability:ill": np.array([0.25, 0.5, 0.125, 1.0]),
    },
    {"sex": ("F", "M"), "called": ("well", "ill")},
    {"threshold": 0.5},
    {"equity.proxy": Message("no_attributes")},
    (Series("equity_calibration_sex", {"x": (0.0, None)}),),
)


def test_what_was_observed_is_read_back(tmp_path: Path) -> None:
    kept = write_observed(tmp_path, OBSERVED)
    again = read_observed(tmp_path, kept)
    assert again.names == OBSERVED.names and again.settings == OBSERVED.settings
    assert again.refused == OBSERVED.refused and again.series == OBSERVED.series
    arranged = OBSERVED.arranged()
    for name, column in arranged.columns.items():
        assert np.array_equal(column, again.columns[name], equal_nan=True)
    assert write_observed(tmp_path, again) == kept


def test_a_family_without_rows_needs_no_table(tmp_path: Path) -> None:
    nothing = Observed("data", refused={"data.labels": Message("no_attributes")})
    again = read_observed(tmp_path, write_observed(tmp_path, nothing))
    assert (again.family, dict(again.columns), again.refused) == ("data", {}, nothing.refused)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("patient", [0.0, 1.0, None, 2.0]),
        ("patient", [0.0, 1.0, 1.5, 2.0]),
        ("patient", [0.0, 1.0, 4.0, 2.0]),
        ("sex", [0.0, 1.0, 2.0, None]),
        ("sex", [0.0, 1.0, -2.0, None]),
        ("probability:ill", ["a", "b", "c", "d"]),
        ("probability:ill", [0.1, 0.2, 0.3, 1e200]),
    ],
)
def test_what_no_audit_writes_is_refused(tmp_path: Path, column: str, values: list[float]) -> None:
    kept = write_observed(tmp_path, OBSERVED)
    file = tmp_path / "equity.parquet"
    pl.read_parquet(file).with_columns(pl.Series(column, values)).write_parquet(file)
    with pytest.raises(InputError, match=column):
        read_observed(tmp_path, kept)


def test_a_lost_table_is_named(tmp_path: Path) -> None:
    kept = write_observed(tmp_path, OBSERVED)
    (tmp_path / "equity.parquet").unlink()
    with pytest.raises(InputError, match=r"equity\.parquet"):
        read_observed(tmp_path, kept)
