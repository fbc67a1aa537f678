"""From what was measured of each patient to judged findings: one road for the audit and its recomputation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from primum.evidence.beside import CLAIMS_BESIDE
from primum.evidence.contrast import Frame
from primum.evidence.families import family_claims
from primum.evidence.finding import Finding, Message, Scalar
from primum.evidence.measured import BoolArray, Curve, FloatArray, IntArray, Measured
from primum.evidence.membership import CanaryScores, PatientScores, design_blind, membership_claims
from primum.evidence.observed import Observed
from primum.evidence.overlap import overlap_finding
from primum.evidence.rules import families_wanted
from primum.evidence.verdicts import Claim, judge


@dataclass(frozen=True)
class Overlap:
    """Held-out patients who nearly repeat a training patient, of how many, beside how many members."""

    duplicated: int
    held_out: int
    members: int


@dataclass(frozen=True, eq=False)
class Measurements:
    """All that the findings of one audit are made of; needs neither the model nor the records.

    Attributes
    ----------
    scores : PatientScores
    measured : sequence of Measured
        One or more a family; rows are positions in the order of `scores`.
    canaries : CanaryScores or None
    frame : Frame
    overlap : Overlap or None
        None where nobody saw the records themselves.
    settings : mapping of str to scalar
        What shaped the scores of the membership family.
    only : tuple of str
        Prefixes of the tests that were asked for; empty means all.
    observed : sequence of Observed
        At most one a family.
    """

    scores: PatientScores
    measured: Sequence[Measured]
    canaries: CanaryScores | None
    frame: Frame
    overlap: Overlap | None
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    observed: Sequence[Observed] = ()


def findings_of(measurements: Measurements) -> tuple[Finding, ...]:
    """Judge everything that may alarm together, so that the error budget is the command's.

    The order of the patients makes no difference: see :func:`order_of`.

    Parameters
    ----------
    measurements : Measurements

    Returns
    -------
    tuple of Finding
        ``data.overlap`` first, then the claims with their verdicts, then what is only described.
    """
    given = _arranged(measurements)
    frame, scores = given.frame, given.scores
    claims: list[Claim] = []
    described: list[Finding] = []
    if "membership" in families_wanted(given.only, scores.suite):
        claims, described = membership_claims(
            scores, frame, canaries=given.canaries, settings=given.settings, only=given.only
        )
    for family in given.measured:
        more_claims, more_described = family_claims(family, scores, frame, only=given.only)
        claims += more_claims
        described += more_described
    for one in given.observed:
        more_claims, more_described = CLAIMS_BESIDE[one.family](one.arranged(), frame, only=given.only)
        claims += more_claims
        described += more_described
    return (
        _overlap(frame, given.overlap),
        *judge(claims, design_blind=design_blind(scores)),
        *described,
    )


def _overlap(frame: Frame, found: Overlap | None) -> Finding:
    if found is None:
        draft = replace(frame.finding("data.overlap", {}), primary=True)
        return replace(draft, verdict="not_applicable", reasons=(Message("no_inputs"),))
    return overlap_finding(frame, duplicated=found.duplicated, held_out=found.held_out, members=found.members)


def columns_of(measurements: Measurements) -> dict[str, FloatArray | BoolArray | IntArray]:
    """Name every number by patient, shape (n,) each, NaN where a test did not ask the patient.

    A score bears the name of its test. Of a test that guesses facts, ``test:fact`` is the guess,
    ``test:fact:true`` the truth and ``test:fact:blind`` the guess made without the model.
    """
    scores = measurements.scores
    columns: dict[str, FloatArray | BoolArray | IntArray] = {
        "member": scores.is_member,
        "blind": scores.blind,
        "stratum": scores.strata,
        **scores.components,
        **{f"in:{name}": mask for name, mask in scores.subgroups.items()},
    }
    if scores.under_references is not None:
        columns |= {f"reference:{place}": one for place, one in enumerate(scores.under_references.T)}
    for family in measurements.measured:
        values = dict(family.scores)
        for test, guesses in family.guesses.items():
            for place, fact in enumerate(guesses.names):
                values[f"{test}:{fact}"] = guesses.scores[:, place]
                values[f"{test}:{fact}:true"] = guesses.labels[:, place].astype(np.float64)
                if guesses.blind is not None:
                    values[f"{test}:{fact}:blind"] = guesses.blind[:, place]
        for name, value in values.items():
            columns[name] = column = np.full(len(scores.is_member), np.nan)
            column[family.rows] = value
    return columns


def order_of(measurements: Measurements) -> IntArray:
    """Order the patients by their own numbers: the same whatever order they come in.

    Bootstraps and random halves depend on the order of the patients, and the order of the records names them.
    Sorted numbers say nothing of the second; a last digit that differs moves a patient by one place at most.

    Returns
    -------
    int64, shape (n,)
        Positions; patients alike in every number may stand for each other.
    """
    columns = columns_of(measurements)
    # Who is a member comes last: else the order would tell where the records of a side begin.
    member = columns.pop("member")
    return _sorted_by(*columns.values(), member)


def _sorted_by(*columns: ArrayLike) -> IntArray:
    """Sort by the first column, where it ties by the next, and so on; NaN last."""
    return np.lexsort([np.asarray(column) for column in reversed(columns)])


def _arranged(given: Measurements) -> Measurements:
    order, scores = order_of(given), given.scores
    place = np.argsort(order)
    canaries = given.canaries
    if canaries is not None:
        pair = canaries.pair
        paired = [] if pair is None else [pair]
        mixed = _sorted_by(canaries.score, canaries.planted, canaries.copies, *paired)
        canaries = CanaryScores(
            canaries.score[mixed],
            canaries.planted[mixed],
            canaries.copies[mixed],
            None if pair is None else pair[mixed],
        )
    return replace(
        given,
        scores=PatientScores(
            scores.is_member[order],
            scores.blind[order],
            scores.strata[order],
            {name: values[order] for name, values in scores.components.items()},
            {name: mask[order] for name, mask in scores.subgroups.items()},
            None if scores.under_references is None else scores.under_references[order],
            scores.suite,
        ),
        measured=[_moved(family, place) for family in given.measured],
        canaries=canaries,
    )


def _moved(family: Measured, place: IntArray) -> Measured:
    """Follow the patients to their new places, in ascending order."""
    rows = place[family.rows]
    order = np.argsort(rows)
    return replace(
        family,
        rows=rows[order],
        scores={test: values[order] for test, values in family.scores.items()},
        guesses={test: guesses.within(order) for test, guesses in family.guesses.items()},
        curves={
            test: {name: Curve(one.x, one.values[order], one.unit) for name, one in curves.items()}
            for test, curves in family.curves.items()
        },
    )
