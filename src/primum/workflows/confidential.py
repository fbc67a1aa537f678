"""The confidential folder: every number by patient from which the findings are made, kept and read back.

``scores.parquet`` holds one row a patient; ``curves.parquet`` the curves of the same patients;
``canaries.parquet`` one row a planted record or twin; ``measurements.json`` says which column is what. None
holds an identifier, and the rows are sorted by their own numbers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from primum.errors import InputError, MachineError, clean_text
from primum.evidence.audit import SCHEMA
from primum.evidence.canonical import canonical_bytes
from primum.evidence.claims import Measurements, Overlap, columns_of
from primum.evidence.contrast import Frame
from primum.evidence.documents import read_as
from primum.evidence.finding import Message, Scalar
from primum.evidence.measured import Curve, FloatArray, Guesses, IntArray, Measured
from primum.evidence.membership import (
    COMPONENTS,
    CanaryScores,
    PatientScores,
    Suite,
    combined_score,
)
from primum.evidence.rules import RULES
from primum.records.parquet_columns import write_parquet
from primum.workflows.confidential_observed import KeptObserved, read_observed, write_observed
from primum.workflows.confidential_table import KeptTable

CONFIDENTIAL = "confidential"
SCORES, CURVES, CANARIES, KEPT = "scores.parquet", "curves.parquet", "canaries.parquet", "measurements.json"
_MOST_STRATA = 10_000


@dataclass(frozen=True)
class _KeptGuesses:
    test: str
    facts: tuple[str, ...]
    blind: bool


@dataclass(frozen=True)
class _KeptCurve:
    test: str
    name: str
    x: tuple[float, ...]
    unit: str

    def columns(self) -> list[str]:
        return [f"{self.test}:{self.name}:{place}" for place in range(len(self.x))]


@dataclass(frozen=True)
class _KeptRefusal:
    test: str
    reason: Message


@dataclass(frozen=True)
class _KeptFamily:
    scores: tuple[str, ...]
    guesses: tuple[_KeptGuesses, ...]
    curves: tuple[_KeptCurve, ...]
    refused: tuple[_KeptRefusal, ...]
    settings: Mapping[str, Scalar]


@dataclass(frozen=True)
class _Kept:
    frame: Frame
    overlap: Overlap | None
    only: tuple[str, ...]
    components: tuple[str, ...]
    subgroups: tuple[str, ...]
    canaries: bool
    families: tuple[_KeptFamily, ...]
    references: int = 0
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    suite: Suite = "sequence"
    observed: tuple[KeptObserved, ...] = ()
    schema: str = SCHEMA


def write_measurements(folder: Path, measurements: Measurements, *, order: IntArray) -> None:
    """Write the tables of the confidential folder, patients in `order`, and what their columns are."""
    write_parquet(scores_table(measurements, order), folder / SCORES)
    write_parquet(_curves_table(measurements, order), folder / CURVES)
    if canaries := measurements.canaries:
        columns = {"score": canaries.score, "planted": canaries.planted, "copies": canaries.copies}
        if canaries.pair is not None:
            columns["pair"] = canaries.pair
        write_parquet(pl.DataFrame(columns).sort(list(columns)), folder / CANARIES)
    kept = _Kept(
        measurements.frame,
        measurements.overlap,
        measurements.only,
        tuple(measurements.scores.components),
        tuple(measurements.scores.subgroups),
        measurements.canaries is not None,
        tuple(map(_kept_family, measurements.measured)),
        0 if measurements.scores.under_references is None else measurements.scores.under_references.shape[1],
        measurements.settings,
        measurements.scores.suite,
        tuple(write_observed(folder, one) for one in measurements.observed),
    )
    (folder / KEPT).write_bytes(canonical_bytes(kept))


def scores_table(measurements: Measurements, order: IntArray) -> pl.DataFrame:
    """One row a patient, in `order`; null where a test did not ask the patient."""
    components, columns = measurements.scores.components, columns_of(measurements)
    if components:
        columns = {"combined": combined_score(components)[1], **columns}
    numbered = {"patient": np.arange(len(order)), **{name: column[order] for name, column in columns.items()}}
    return pl.DataFrame(numbered, nan_to_null=True)


def _curves_table(measurements: Measurements, order: IntArray) -> pl.DataFrame:
    columns: dict[str, NDArray[Any]] = {"patient": np.arange(len(order))}
    for family in measurements.measured:
        for kept in _kept_curves(family):
            values = family.curves[kept.test][kept.name].values
            for name, value in zip(kept.columns(), values.T, strict=True):
                column = np.full(len(order), np.nan)
                column[family.rows] = value
                columns[name] = column[order]
    return pl.DataFrame(columns, nan_to_null=True)


def _kept_family(family: Measured) -> _KeptFamily:
    return _KeptFamily(
        tuple(family.scores),
        tuple(_KeptGuesses(test, one.names, one.blind is not None) for test, one in family.guesses.items()),
        tuple(_kept_curves(family)),
        tuple(_KeptRefusal(test, reason) for test, reason in family.refused.items()),
        family.settings,
    )


def _kept_curves(family: Measured) -> Iterator[_KeptCurve]:
    for test, curves in family.curves.items():
        for name, curve in curves.items():
            yield _KeptCurve(test, name, curve.x, curve.unit)


def read_measurements(folder: Path) -> Measurements:
    """Read what :func:`write_measurements` wrote; the files may come from anyone.

    Raises
    ------
    MachineError
        There is no ``scores.parquet``: it stayed where the audit was made.
    InputError
        A file is missing or broken, or a column is missing, of another type, or holds what it cannot hold.
    """
    if not (folder / SCORES).is_file():
        raise MachineError(
            "{file} is not there: recompute where the audit was made, its confidential folder stays there.",
            file=clean_text(folder / SCORES),
        )
    kept = read_as(_Kept, folder / KEPT)
    tests = [test for one in kept.families for test in (*one.scores, *(each.test for each in one.guesses))]
    refused = [each.test for one in kept.families for each in one.refused]
    unknown = {*tests, *refused} - RULES.keys() | set(kept.components) - set(COMPONENTS[kept.suite])
    if unknown:
        raise InputError(
            "{file} names a test that this version does not know: use the version of primum that wrote it.",
            file=KEPT,
        )
    scores, curves = KeptTable(folder, SCORES), KeptTable(folder, CURVES)
    strata = scores.column("stratum", pl.Int64)
    if strata.min(initial=0) < 0 or strata.max(initial=0) >= _MOST_STRATA or kept.frame.seed < 0:
        raise scores.misfit("stratum")
    return Measurements(
        scores=PatientScores(
            scores.column("member", pl.Boolean),
            scores.column("blind", pl.Float64),
            strata,
            {name: scores.column(name, pl.Float64) for name in kept.components},
            {name: scores.column(f"in:{name}", pl.Boolean) for name in kept.subgroups},
            _under_references(scores, kept.references),
            kept.suite,
        ),
        measured=[_read_family(one, scores, curves) for one in kept.families],
        canaries=_read_canaries(folder) if kept.canaries else None,
        frame=kept.frame,
        overlap=kept.overlap,
        settings=kept.settings,
        only=kept.only,
        observed=[read_observed(folder, one) for one in kept.observed],
    )


def _under_references(scores: "KeptTable", references: int) -> FloatArray | None:
    if references == 0:
        return None
    if not 0 < references <= scores.frame.width:
        raise scores.misfit("reference:0")
    columns = [scores.column(f"reference:{place}", pl.Float64) for place in range(references)]
    return np.stack(columns, axis=1)


def _read_family(kept: _KeptFamily, scores: KeptTable, curves: KeptTable) -> Measured:
    values = {test: scores.column(test, pl.Float64, gaps=True) for test in kept.scores}
    guessed = {one.test: _guess_columns(one, scores) for one in kept.guesses}
    known = [*values.values(), *(part for parts in guessed.values() for part in parts.values())]
    asked = np.any([np.isfinite(column.reshape(len(column), -1)).any(axis=1) for column in known], axis=0)
    rows = np.flatnonzero(asked) if known else np.empty(0, np.int64)
    guesses = {}
    for one in kept.guesses:
        parts = {name: columns[rows] for name, columns in guessed[one.test].items()}
        whole = all(np.isfinite(part).all() for part in parts.values())
        if not whole or not np.isin(parts["true"], (0, 1)).all():
            raise scores.misfit(one.test)
        guesses[one.test] = Guesses(one.facts, parts["guess"], parts["true"] == 1, parts.get("blind"))
    drawn: dict[str, dict[str, Curve]] = {}
    for curve in kept.curves:
        places = [curves.column(name, pl.Float64, gaps=True) for name in curve.columns()]
        if not places or len(places[0]) != len(asked):
            raise curves.misfit(curve.name)
        drawn.setdefault(curve.test, {})[curve.name] = Curve(
            curve.x, np.stack(places, axis=1)[rows], curve.unit
        )
    return Measured(
        rows,
        scores={test: column[rows] for test, column in values.items()},
        guesses=guesses,
        curves=drawn,
        settings=kept.settings,
        refused={one.test: one.reason for one in kept.refused},
    )


def _guess_columns(kept: _KeptGuesses, scores: KeptTable) -> dict[str, FloatArray]:
    """Guesses, truths and blind guesses of one test, shape (n, facts) each."""
    if not kept.facts:
        raise scores.misfit(kept.test)
    endings = {"guess": "", "true": ":true", **({"blind": ":blind"} if kept.blind else {})}
    names = [f"{kept.test}:{fact}" for fact in kept.facts]
    return {
        part: np.stack([scores.column(name + ending, pl.Float64, gaps=True) for name in names], axis=1)
        for part, ending in endings.items()
    }


def _read_canaries(folder: Path) -> CanaryScores:
    table = KeptTable(folder, CANARIES)
    return CanaryScores(
        table.column("score", pl.Float64),
        table.column("planted", pl.Boolean),
        table.column("copies", pl.Int64),
        table.column("pair", pl.Int64) if "pair" in table.frame.columns else None,
    )
