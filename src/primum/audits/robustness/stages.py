"""The ways in which cases are changed, one after the other, and what the model answered to each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from primum.audits.privacy.label_only import Kind
from primum.audits.robustness.chance import random_patch, substituted
from primum.audits.robustness.corruptions import Surroundings, corrupt
from primum.audits.robustness.decision import decision
from primum.audits.robustness.gradient import apgd
from primum.audits.robustness.letters import letters
from primum.audits.robustness.noise import noise
from primum.audits.robustness.patch import patch, patch_black_box
from primum.audits.robustness.room import (
    Attack,
    Attacked,
    Room,
    WhiteBox,
    ask,
    refused,
    worse,
)
from primum.audits.robustness.smoothing import certify
from primum.audits.robustness.square import square
from primum.audits.robustness.transfer import train_surrogate, transfer
from primum.audits.robustness.universal import perturbed, universal_perturbation
from primum.audits.robustness.windows import window_at
from primum.errors import ModelError
from primum.evidence.contrast import FEWEST_PATIENTS, shown
from primum.evidence.finding import Message, Scalar, Series
from primum.evidence.measured import FloatArray, IntArray
from primum.evidence.robustness_answers import SEVERITIES, STRENGTHS
from primum.fit.protocol import ClassifierTrainable
from primum.models.predictors import Differentiable, Predictor
from primum.records.cases import Cases

STEPS, QUERIES, EPOCHS, SIDE, L2, SIGMA, SAMPLES = 10, 200, 5, 3, 1.0, 0.025, 100
LEVELS = 255
# Cases that are asked about hundreds of times each.
MOST_QUERIED = 150
_JUDGED, _UNIVERSAL = 4, 8


@dataclass(frozen=True, eq=False)
class Trial:
    """A model, the cases it is tried on, and what it has answered so far.

    Attributes
    ----------
    predictor : Predictor
    cases : Cases
        Patient by patient, the patients in random order.
    patients : int64, shape (cases,)
    around : Surroundings
    surrogate : ClassifierTrainable or None
    seed : int
    columns, refused, series
        As in :class:`primum.evidence.observed.Observed`.
    untaken : list of str
        Corruptions whose inputs the model does not take.
    """

    predictor: Predictor
    cases: Cases
    patients: IntArray
    around: Surroundings
    surrogate: ClassifierTrainable | None
    seed: int
    columns: dict[str, FloatArray] = field(default_factory=dict)
    refused: dict[str, Message] = field(default_factory=dict)
    untaken: list[str] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        """What a case is."""
        return self.around.kind

    @property
    def room(self) -> Room:
        """Where inputs may go."""
        return self.around.room

    @property
    def white_box(self) -> bool:
        """Whether attacks see gradients."""
        return isinstance(self.predictor, Differentiable) and self.kind != "sequence"

    @property
    def model(self) -> WhiteBox:
        """The predictor, of which it is known that it shows gradients."""
        return cast(WhiteBox, self.predictor)

    @property
    def queries(self) -> int:
        """Questions a case without gradients; twice as many at the strength that is judged by them."""
        return QUERIES if self.white_box else 2 * QUERIES

    @property
    def everyone(self) -> IntArray:
        """Rows of all cases."""
        return np.arange(len(self.cases))

    @property
    def queried(self) -> IntArray:
        """Rows of those that are asked about many times: whole patients, the first ones."""
        return np.arange(whole_patients(self.patients, most=MOST_QUERIED))

    @cached_property
    def halves(self) -> tuple[IntArray, IntArray]:
        """Rows of every second patient, and of the others."""
        place = np.cumsum(np.append(0, self.patients[1:] != self.patients[:-1]))
        return np.flatnonzero(place % 2 == 0), np.flatnonzero(place % 2 == 1)

    def keep(self, condition: str, rows: IntArray, answers: Attacked) -> None:
        """Note the answers about the cases at `rows`; those about others stay NaN."""
        self.put(f"{condition}:class", rows, answers.ends_in)
        self.put(f"{condition}:margin", rows, answers.margins)

    def put(self, name: str, rows: IntArray, values: NDArray[Any]) -> None:
        """Note numbers of the cases at `rows`."""
        self.columns.setdefault(name, np.full(len(self.cases), np.nan))[rows] = values

    def cannot(self, test: str, attack: Attack) -> bool:
        """Note why a test cannot be made, if it cannot."""
        reason = refused(attack, self.predictor, self.kind)
        if reason is not None:
            self.refused[test] = reason
        return reason is not None

    @property
    def settings(self) -> dict[str, Scalar]:
        """What shaped the numbers."""
        attack = "letters" if self.kind == "sequence" else "apgd" if self.white_box else "square"
        scalar = self.room.low.ndim == 0 and self.kind != "sequence"
        return {
            "kind": self.kind,
            "attack": attack,
            "white_box": self.white_box,
            "strength": _JUDGED,
            "levels": LEVELS,
            "sampled": shown(len(np.unique(self.patients))),
            "cases": shown(len(self.cases)),
            "cases_queried": shown(len(self.queried)),
            "steps": STEPS,
            "queries": self.queries,
            "epochs": EPOCHS,
            "patch_side": SIDE,
            "l2": L2,
            "universal_strength": _UNIVERSAL,
            "sigma": SIGMA,
            "samples": SAMPLES,
            "corruptions_not_taken": ", ".join(self.untaken),
            "whole_numbers": bool(self.cases.inputs[0].dtype.kind in "iu"),
            **({"range_low": float(self.room.low), "range_high": float(self.room.high)} if scalar else {}),
            **{
                f"patch_{axis}s": self.cases.inputs[0].shape[place]
                for axis, place in (("row", -2), ("column", -1))
                if self.cases.inputs[0].ndim > 2
            },
        }


def whole_patients(owners: IntArray, *, most: int) -> int:
    """Count the first rows that are whole patients and at most `most`; the first patient is among them."""
    ends = np.append(np.flatnonzero(owners[1:] != owners[:-1]) + 1, len(owners))
    fitting = ends[ends <= most]
    return int(fitting[-1] if len(fitting) else ends[0])


def _clean(trial: Trial) -> None:
    trial.keep("clean", trial.everyone, ask(trial.predictor, trial.cases))


def _evasion(trial: Trial) -> None:
    """Attack at each strength, and change at random by as much; a stronger attack includes the weaker."""
    rows = trial.everyone if trial.white_box else trial.queried
    cases, found = trial.cases.select(rows), None
    for strength in STRENGTHS:
        budget = strength / LEVELS
        queries = trial.queries if strength == _JUDGED else QUERIES
        one = _attacked(trial, cases, budget, queries)
        found = one if found is None else worse(found, one)
        trial.keep(f"evasion@{strength}", rows, found)
        chance = _by_chance(trial, trial.cases, budget)
        trial.keep(f"noise@{strength}", trial.everyone, chance)


def _attacked(trial: Trial, cases: Cases, budget: float, queries: int) -> Attacked:
    """Use the strongest attack there is for this model and kind of case."""
    if trial.kind == "sequence":
        count = _letters(cases, budget)
        return letters(
            trial.predictor, cases, trial.around.letters, budget=count, queries=queries, seed=trial.seed
        )
    if trial.white_box:
        return apgd(trial.model, cases, trial.room, budget=budget, steps=STEPS, seed=trial.seed)
    return square(
        trial.predictor,
        cases,
        trial.room,
        kind=trial.kind,
        budget=budget,
        queries=queries,
        seed=trial.seed,
    )


def _by_chance(trial: Trial, cases: Cases, budget: float) -> Attacked:
    if trial.kind != "sequence":
        return noise(trial.predictor, cases, trial.room, budget=budget, seed=trial.seed + 1)
    return substituted(
        trial.predictor, cases, trial.around.letters, count=_letters(cases, budget), seed=trial.seed + 1
    )


def _letters(cases: Cases, budget: float) -> int:
    """Count the letters that may be changed: so many parts of the shortest sequence."""
    return max(1, round(budget * min(len(one) for one in cases.inputs)))


def _black_box(trial: Trial) -> None:
    """Attack by scores and by labels alone; beside a white-box attack they tell whether it was blinded."""
    cases, rows = trial.cases.select(trial.queried), trial.queried
    budget = _JUDGED / LEVELS
    attacks: dict[Attack, Callable[..., Attacked]] = {"square": square, "decision": decision}
    for name, attack in attacks.items():
        test = f"robustness.{name}"
        if trial.cannot(test, name):
            continue
        if name == "square" and not trial.white_box:
            trial.refused[test] = Message("is_the_evasion")
            continue
        found = attack(
            trial.predictor,
            cases,
            trial.room,
            kind=trial.kind,
            budget=budget,
            queries=QUERIES,
            seed=trial.seed,
        )
        trial.keep(f"{name}@{_JUDGED}", rows, found)


def _l2(trial: Trial) -> None:
    if not trial.cannot("robustness.l2", "apgd"):
        given = trial.cases, trial.room
        found = apgd(trial.model, *given, budget=L2, norm="l2", steps=STEPS, seed=trial.seed)
        trial.keep("l2", trial.everyone, found)
        chance = noise(trial.predictor, *given, budget=L2, norm="l2", seed=trial.seed + 1)
        trial.keep("l2noise", trial.everyone, chance)


def _patch(trial: Trial) -> None:
    white = trial.white_box
    if trial.cannot("robustness.patch", "patch" if white else "patch_black_box"):
        return
    rows = trial.queried
    cases, kind = trial.cases.select(rows), trial.kind
    if white:
        found = patch(trial.model, cases, trial.room, kind=kind, size=SIDE, seed=trial.seed)
    else:
        found = patch_black_box(
            trial.predictor, cases, trial.room, kind=kind, size=SIDE, queries=QUERIES, seed=trial.seed
        )
    trial.keep("patch", rows, found)
    chance = random_patch(trial.predictor, cases, trial.room, kind=trial.kind, side=SIDE, seed=trial.seed + 1)
    trial.keep("patchnoise", rows, chance)
    if found.places is not None and cases.inputs[0].ndim > 2:
        for axis, place in (("row", -2), ("column", -1)):
            trial.put(f"patch:{axis}", rows, found.places[:, place])
    if white and trial.kind == "image" and found.places is not None:
        _one_patch(trial, found.places[~found.right])


def _one_patch(trial: Trial, places: IntArray) -> None:
    """Make one patch for all from half of the patients, where most were turned, and try it on the others."""
    shape, (fitted, tried) = trial.cases.inputs[0].shape, trial.halves
    if not len(places) or len({one.shape for one in trial.cases.inputs}) > 1:
        return
    known, counts = np.unique(places, axis=0, return_counts=True)
    corner = known[counts.argmax()][None]
    window = window_at(corner, (1, *shape), (2, 3), (SIDE, SIDE))[0]
    room = replace(trial.room, free=np.broadcast_to(window, shape) & trial.room.free)
    change = universal_perturbation(
        trial.model, trial.cases.select(fitted), room, budget=1.0, epochs=EPOCHS, seed=trial.seed
    )
    trial.keep("onepatch", tried, perturbed(trial.predictor, trial.cases.select(tried), room, change))
    row, column = corner[0]
    drawn = (change / (2 * (trial.room.high - trial.room.low)) + 0.5).mean(axis=0)
    drawn = drawn[row : row + SIDE, column : column + SIDE]
    at = np.indices(drawn.shape).reshape(2, -1).astype(np.float64)
    points = {"row": at[0], "column": at[1], "value": drawn.reshape(-1)}
    trial.series.append(
        Series("robustness_patch", {name: tuple(map(float, one)) for name, one in points.items()})
    )


def _universal(trial: Trial) -> None:
    """Make one change for all from half of the patients, and try it on the other half, both ways."""
    if trial.cannot("robustness.universal", "universal"):
        return
    if len({one.shape for one in trial.cases.inputs}) > 1:
        trial.refused["robustness.universal"] = Message("not_one_shape")
        return
    budget = _UNIVERSAL / LEVELS
    for fitted, tried in (trial.halves, trial.halves[::-1]):
        some, others = trial.cases.select(fitted), trial.cases.select(tried)
        change = universal_perturbation(
            trial.model, some, trial.room, budget=budget, epochs=EPOCHS, seed=trial.seed
        )
        trial.keep(f"universal@{_UNIVERSAL}", tried, perturbed(trial.predictor, others, trial.room, change))


def _transfer(trial: Trial) -> None:
    """Train another model on half of the patients, and try on the others what turns its verdicts."""
    if trial.cannot("robustness.transfer", "transfer"):
        return
    tried, taught = trial.halves
    lessons = trial.cases.select(taught)
    if len(np.unique(trial.patients[taught])) < FEWEST_PATIENTS or len(np.unique(lessons.labels)) < 2:
        trial.refused["robustness.transfer"] = Message("too_few_to_train")
        return
    for recipe in (trial.surrogate, None):  # what shows no gradients gives way to a network that does
        surrogate = train_surrogate(
            lessons, trial.predictor.classes, kind=trial.kind, recipe=recipe, seed=trial.seed
        )
        if isinstance(surrogate, Differentiable):
            break
    found = transfer(
        trial.predictor,
        cast(WhiteBox, surrogate),
        trial.cases.select(tried),
        trial.room,
        budget=_JUDGED / LEVELS,
        steps=STEPS,
        seed=trial.seed,
    )
    trial.keep(f"transfer@{_JUDGED}", tried, found)


def _corruptions(trial: Trial) -> None:
    """Ask about corrupted cases; a kind that gives inputs which the model does not take is left out."""
    for kind in trial.around.corruptions():
        try:
            answers = [
                ask(
                    trial.predictor,
                    corrupt(trial.cases, kind, severity=one, around=trial.around, seed=trial.seed),
                )
                for one in SEVERITIES
            ]
        except ModelError:
            trial.untaken.append(kind)
            continue
        for severity, found in zip(SEVERITIES, answers, strict=True):
            trial.keep(f"corruption:{kind}:{severity}", trial.everyone, found)
    if len(trial.untaken) == len(trial.around.corruptions()):
        trial.refused["robustness.corruption"] = Message("no_corruption")


def _certified(trial: Trial) -> None:
    if trial.cannot("robustness.certified", "noise"):
        return
    rows = trial.queried
    found = certify(
        trial.predictor, trial.cases.select(rows), trial.room, sigma=SIGMA, samples=SAMPLES, seed=trial.seed
    )
    trial.put("certified:class", rows, found.classes)
    trial.put("certified:radius", rows, found.radii)


STAGES: Sequence[tuple[str, Callable[[Trial], None]]] = (
    ("answers about a sample of held-out cases", _clean),
    ("attacks on held-out cases", _evasion),
    ("attacks on held-out cases, without gradients", _black_box),
    ("attacks of a given length", _l2),
    ("patches", _patch),
    ("one change for all patients", _universal),
    ("attacks by way of another model", _transfer),
    ("corrupted cases", _corruptions),
    ("certificates", _certified),
)
