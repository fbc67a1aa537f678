"""What a model answered to changed cases, as verdicts by patient, and the plots that these give."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from primum.evidence.curves import SMALLEST_CELL
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Series
from primum.evidence.measured import BoolArray, FloatArray, IntArray
from primum.evidence.observed import Observed
from primum.evidence.paired import class_mean
from primum.evidence.ranking import auc

# In the series a kind of corruption is its place here: new ones go to the end.
CORRUPTIONS = (
    "noise",
    "blur",
    "motion",
    "contrast",
    "gamma",
    "compression",
    "occlusion",
    "rotation",
    "wander",
    "dropout",
    "gain",
    "missing",
    "substitution",
    "ends",
    "tiles",
)
SEVERITIES = (1, 2, 3, 4, 5)
STRENGTHS = (1, 2, 4, 8)  # of 255 parts of the range
_RADII, _CELLS = 21, 7


@dataclass(frozen=True, eq=False)
class Answers:
    """The columns of what was observed, one row a case; a condition is how the cases were changed."""

    observed: Observed

    @cached_property
    def patients(self) -> IntArray:
        """Whose case it is, shape (cases,)."""
        return self.observed.columns["patient"].astype(np.int64)

    @cached_property
    def labels(self) -> IntArray:
        """The true class, shape (cases,)."""
        return self.observed.columns["label"].astype(np.int64)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.observed.names["label"]

    def has(self, condition: str) -> bool:
        """Tell whether any case was put to the model in this condition."""
        return f"{condition}:class" in self.observed.columns

    def asked(self, *conditions: str) -> BoolArray:
        """Tell which cases were put to the model in all these conditions, shape (cases,)."""
        asked = [np.isfinite(self.observed.columns[f"{one}:class"]) for one in conditions]
        return np.asarray(np.all(asked, axis=0), np.bool_)

    def right(self, condition: str) -> BoolArray:
        """Tell which cases were given their true class, shape (cases,); False where not asked."""
        return np.asarray(self.observed.columns[f"{condition}:class"] == self.labels, np.bool_)

    def turned(self, *conditions: str, label: int | None = None) -> FloatArray:
        """Share of each patient's right verdicts that each condition turns, shape (patients, conditions).

        Patients without a right verdict (of class `label`), or not asked in every condition, are left out.
        """
        taking = self.asked("clean", *conditions) & self.right("clean")
        if label is not None:
            taking &= self.labels == label
        owner = np.unique(self.patients[taking], return_inverse=True)[1]
        total = [np.bincount(owner, ~self.right(one)[taking]) for one in conditions]
        shares: FloatArray = np.stack(total, axis=1) / np.bincount(owner)[:, None]
        return shares

    def balanced(
        self, condition: str, name: str = "balanced_accuracy", *, among: BoolArray | None = None
    ) -> Estimate:
        """Mean over classes of the share of right answers; `among` which cases, shape (cases,)."""
        taking = self.asked(condition) if among is None else among
        right = self.right(condition)[taking].astype(np.float64)
        return class_mean(right, patients=self.patients[taking], labels=self.labels[taking], name=name)

    def auc(self, condition: str, name: str = "auc", *, among: BoolArray | None = None) -> Estimate | None:
        """AUC of the second of two classes, the mean score of each patient; None where there is none."""
        taking = self.asked(condition) if among is None else among
        labels, patients = self.labels[taking], self.patients[taking]
        scores = np.where(labels == 1, 1.0, -1.0) * self.observed.columns[f"{condition}:margin"][taking]
        sides = [_means(scores[labels == one], patients[labels == one]) for one in (1, 0)]
        if len(self.classes) != 2 or min(map(len, sides)) < SMALLEST_CELL:
            return None
        return replace(auc(*sides), name=name, n=(len(np.unique(patients)),))

    def kinds(self) -> tuple[str, ...]:
        """Kinds of corruption that were tried."""
        return tuple(kind for kind in CORRUPTIONS if self.has(f"corruption:{kind}:1"))

    def lost(self, kind: str, severities: tuple[int, ...]) -> FloatArray:
        """Right as it stands minus right when corrupted, mean over severities, shape (cases,)."""
        names = [f"corruption:{kind}:{one}" for one in severities]
        kept = np.mean([self.right(one) for one in names], axis=0)
        lost: FloatArray = np.where(self.asked("clean", *names), self.right("clean") - kept, np.nan)
        return lost

    def class_mean(self, values: FloatArray, name: str, *, level: float = 0.95) -> Estimate:
        """Balanced mean of differences, shape (cases,), where there are any."""
        taking = np.isfinite(values)
        return class_mean(
            values[taking],
            patients=self.patients[taking],
            labels=self.labels[taking],
            lowest=-1.0,
            level=level,
            name=name,
        )


def _means(values: FloatArray, patients: IntArray) -> FloatArray:
    owner = np.unique(patients, return_inverse=True)[1]
    means: FloatArray = np.bincount(owner, values) / np.bincount(owner)
    return means


def _series(name: str, rows: list[dict[str, float | None]]) -> tuple[Series, ...]:
    if not rows:
        return ()
    return (Series(name, {key: tuple(row[key] for row in rows) for key in rows[0]}),)


def _limits(key: str, found: Estimate | None) -> dict[str, float | None]:
    """Value and limits as columns; of fewer than five patients none."""
    if found is None or found.n[0] < SMALLEST_CELL:
        return dict.fromkeys((key, f"{key}_low", f"{key}_high"))
    return {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}


def strength_curve(answers: Answers, attack: str) -> tuple[Series, ...]:
    """AUC and balanced accuracy at each strength (parts in 255 of the range), attacked and by chance changed.

    All points are of the same cases, those that were attacked at every strength. The AUC is left empty where
    there are more than two classes.
    """
    strengths = [0, *(one for one in STRENGTHS if answers.has(f"{attack}@{one}"))]
    names = {
        side: ["clean" if one == 0 else f"{side}@{one}" for one in strengths] for side in (attack, "noise")
    }
    among = answers.asked(*names[attack], *names["noise"])
    rows = []
    for strength, attacked, noisy in zip(strengths, names[attack], names["noise"], strict=True):
        row: dict[str, float | None] = {"strength": float(strength)}
        for prefix, condition in (("", attacked), ("noise_", noisy)):
            row |= _limits(f"{prefix}balanced_accuracy", answers.balanced(condition, among=among))
            row |= _limits(f"{prefix}auc", answers.auc(condition, among=among))
        rows.append(row)
    return _series("robustness_strength", rows)


def corruption_map(answers: Answers) -> tuple[Series, ...]:
    """Balanced accuracy and what is lost of it, by kind (its place in :data:`CORRUPTIONS`) and severity."""
    rows = []
    for kind in answers.kinds():
        for severity in SEVERITIES:
            row: dict[str, float | None] = {
                "kind": float(CORRUPTIONS.index(kind)),
                "severity": float(severity),
            }
            row |= _limits("balanced_accuracy", answers.balanced(f"corruption:{kind}:{severity}"))
            row |= _limits("lost", answers.class_mean(answers.lost(kind, (severity,)), "lost"))
            rows.append(row)
    return _series("robustness_corruption", rows)


def certified_right(answers: Answers, radius: float, name: str = "balanced_accuracy") -> Estimate:
    """Balanced accuracy that no change shorter than `radius` can take away."""
    columns = answers.observed.columns
    taking = np.isfinite(columns["certified:class"])
    held = (columns["certified:class"] == answers.labels) & (columns["certified:radius"] >= radius)
    return class_mean(
        held[taking].astype(np.float64),
        patients=answers.patients[taking],
        labels=answers.labels[taking],
        name=name,
    )


def certified_curve(answers: Answers) -> tuple[Series, ...]:
    """Certified balanced accuracy against the radius, in parts of the range."""
    radii = answers.observed.columns["certified:radius"]
    radii = np.linspace(0, np.nanmax(radii, initial=0.0), _RADII)
    rows: list[dict[str, float | None]] = [
        {"radius": float(one), **_limits("balanced_accuracy", certified_right(answers, float(one)))}
        for one in np.unique(radii)
    ]
    return _series("robustness_certified", rows)


def patch_places(answers: Answers) -> tuple[Series, ...]:
    """Share of the patients rightly judged whom a patch turns from each part of the image.

    At most seven parts by seven; fewer than five patients in a part are not counted out.
    """
    columns = answers.observed.columns
    if "patch:row" not in columns:
        return ()
    taking = answers.asked("clean", "patch") & answers.right("clean")
    everyone = len(np.unique(answers.patients[taking]))
    taking &= ~answers.right("patch")
    sides = [max(1, int(answers.observed.settings[f"patch_{axis}s"])) for axis in ("row", "column")]  # type: ignore[arg-type]
    parts = [min(side, _CELLS) for side in sides]
    place = [
        (columns[f"patch:{axis}"][taking] * part // side).astype(np.int64)
        for axis, part, side in zip(("row", "column"), parts, sides, strict=True)
    ]
    return _series("robustness_patch_places", list(_cells(place, answers.patients[taking], parts, everyone)))


def _cells(
    place: list[IntArray], patients: IntArray, parts: list[int], everyone: int
) -> Iterator[dict[str, float | None]]:
    for row in range(parts[0]):
        for column in range(parts[1]):
            here = len(np.unique(patients[(place[0] == row) & (place[1] == column)]))
            told = everyone >= SMALLEST_CELL and (here == 0 or here >= SMALLEST_CELL)
            yield {
                "row": float(row),
                "column": float(column),
                "turned": here / everyone if told else None,
            }
