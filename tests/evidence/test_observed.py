"""What a family observed, in an order of its own."""

import numpy as np

from primum.evidence.observed import Observed

RNG = np.random.default_rng(0)
PATIENT = np.repeat(np.arange(20.0), 3)


def observed(order: np.ndarray) -> Observed:
    values = {"score": np.round(RNG_VALUES, 1), "asked": ASKED, "patient": PATIENT}
    return Observed("data", {name: column[order] for name, column in values.items()})


RNG_VALUES = RNG.standard_normal(60)
ASKED = np.where(RNG.random(60) < 0.3, np.nan, 1.0)


def groups(one: Observed) -> set[tuple[float, ...]]:
    """The scores of each patient together, whatever their numbers."""
    patient, score = one.columns["patient"], one.columns["score"]
    return {tuple(sorted(score[patient == number].tolist())) for number in np.unique(patient)}


def test_the_order_of_the_records_leaves_no_trace_and_patients_stay_together() -> None:
    first, second = (observed(np.random.default_rng(seed).permutation(60)).arranged() for seed in (1, 2))
    assert groups(first) == groups(observed(np.arange(60)))
    assert np.array_equal(first.columns["score"], second.columns["score"])
    assert not np.array_equal(first.columns["patient"], np.sort(first.columns["patient"]))
    assert first.columns["patient"][0] == 0 and first.columns["patient"].max() == 19


def test_arranging_again_changes_nothing() -> None:
    once = observed(np.arange(60)).arranged()
    again = once.arranged()
    assert once.columns.keys() == again.columns.keys()
    for name, column in once.columns.items():
        assert np.array_equal(column, again.columns[name], equal_nan=True)


def test_a_family_that_could_not_be_asked_stays_empty() -> None:
    assert Observed("equity").arranged().columns == {}
