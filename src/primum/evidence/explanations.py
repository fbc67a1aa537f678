"""Findings of the explanation family: can what is shown beside a verdict be believed?

An explanation that cannot be believed is *fragile*. Columns of the observed, one row a patient (rows of one
patient are averaged), NaN where not asked:

- ``gain:<method>``: area under insertion minus area under deletion when parts of the case go, and come, in
  the order of the explanation; a random order has 0. ``gain:best``: in the order of Shapley values sampled
  from the model. ``gain:free``: in the order of the distance from the background, which anyone can draw
  without the model. ``gain:random``.
- ``weights:<k>``: rank correlation of the explanation with that of the k-th copy of the model with other
  weights; ``weights_absolute``, ``input_alone``.
- ``stability:<method>``, ``agreement:<method>``, ``planted:<method>``.

References
----------
Fieller, J. R. Statist. Soc. B 16 (1954) 175 (interval of a ratio of means).
Waudby-Smith & Ramdas, J. R. Statist. Soc. B 86 (2024) 1 (tests of bounded means by betting).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from primum.evidence.contrast import FEWEST_PATIENTS, FloatArray, Frame, shown
from primum.evidence.curves import SMALLEST_CELL
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Message, Scalar
from primum.evidence.membership import wanted
from primum.evidence.observed import Observed
from primum.evidence.rule import Rule
from primum.evidence.verdicts import Claim

RULES: Mapping[str, Rule] = {
    "explanations.faithful": Rule(
        "observed",
        "none",
        ("petsiuk2018", "blucher2024", "castro2009", "waudbysmith2024", "fieller1954"),
        primary=True,
    ),
    "explanations.weights": Rule("observed", "none", ("adebayo2018", "binder2023")),
    "explanations.methods": Rule("observed", "none", ("petsiuk2018", "blucher2024"), claims=False),
    "explanations.agreement": Rule("observed", "none", ("krishna2024",), claims=False),
    "explanations.stability": Rule("observed", "none", ("alvarezmelis2018",), claims=False),
    "explanations.planted": Rule("observed", "none", ("yang2019",), claims=False),
}
# Fragile: what misses so much of what could be shown, or stays so alike under other weights.
MATERIAL_MISSED, MATERIAL_LIKENESS = 0.8, 0.5
_POWER, _BELIEVED = 0.8, 0.5
# Shares of the capital that are bet on each patient; an excess below -1 / .8 does not occur.
_STAKES = np.linspace(0.1, 0.8, 8)
# Below such a gain of the best order, the model's answer hardly depends on what is taken away.
_HEADROOM = 0.02


@dataclass(frozen=True, eq=False)
class _Ratio:
    """What is missed over what could be shown, of each patient; the ratio of their means is judged."""

    missed: FloatArray
    possible: FloatArray

    def excess(self, ratio: float) -> tuple[float, float]:
        """Mean of missed - ratio * possible, and its standard error."""
        values = self.missed - ratio * self.possible
        return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))

    def p_value(self, ratio: float) -> float:
        """One-sided test that no more than `ratio` is missed, right for gains however skewed, by betting.

        Whoever bets on an excess, patient by patient, multiplies the stake by k with chance 1/k at most
        while there is none. Stakes are fixed before; their capitals are averaged.
        """
        values = self.missed - ratio * self.possible
        capitals = np.maximum(1 + np.outer(_STAKES, values), 0).prod(axis=1)
        return float(min(1.0, 1 / max(capitals.mean(), 1e-300)))

    def estimate(self, level: float = 0.95) -> Estimate:
        """Fieller's interval; without ends where it has none."""
        reach = float(stats.t.ppf((1 + level) / 2, len(self.missed) - 1)) ** 2 / len(self.missed)
        (over, both), (_, under) = np.cov(self.missed, self.possible)
        top, bottom = float(self.missed.mean()), float(self.possible.mean())
        a, b, c = bottom**2 - reach * under, top * bottom - reach * both, top**2 - reach * over
        root = math.sqrt(max(b * b - a * c, 0)) if a > 0 else math.nan
        low, high = ((b - root) / a, (b + root) / a) if a > 0 else (math.nan, math.nan)
        return Estimate("missed_share", top / bottom, low, high, (len(self.missed),), "fieller", level)

    def smallest(self, alpha: float) -> float:
        """Return the missed share that is found significantly above the material one with a power of 80 %."""
        count, error = len(self.missed), self.excess(MATERIAL_MISSED)[1]
        won = math.log(len(_STAKES) / alpha) / count / _STAKES + _STAKES * count * error**2 / 2
        return MATERIAL_MISSED + (float(won.min()) + float(stats.norm.ppf(_POWER)) * error) / self.headroom

    def needed(self) -> int:
        """Patients of whom the interval ends below the material share, were half of it all missed."""
        error = self.excess(MATERIAL_MISSED)[1] * math.sqrt(len(self.missed))
        away = (MATERIAL_MISSED - _BELIEVED) * self.headroom
        return max(FEWEST_PATIENTS, math.ceil(((1.96 + float(stats.norm.ppf(_POWER))) * error / away) ** 2))

    @property
    def headroom(self) -> float:
        """Mean of what could be shown."""
        return float(self.possible.mean())

    def nothing_to_show(self) -> bool:
        """Whether the best order gains nothing that can be told from 0."""
        mean, error = float(self.possible.mean()), stats.sem(self.possible)
        return (
            mean - float(stats.t.ppf(0.975, len(self.possible) - 1)) * float(error) <= 0 or mean < _HEADROOM
        )


def explanations_claims(
    observed: Observed, frame: Frame, *, only: Sequence[str] = ()
) -> tuple[list[Claim], list[Finding]]:
    """Return what the family claims, its primary test first, and what it only describes.

    The primary test is always there; `only` holds prefixes of the others.

    Parameters
    ----------
    observed : Observed
        See the head of this module.
    frame : Frame
    only : sequence of str

    Returns
    -------
    list of Claim, list of Finding
        ``explanations.faithful``: the share that the explanation misses of what the best order shows beyond
        one that needs no model. 0: nothing is missed; 1: it is as good as none; higher is worse.
        ``explanations.weights``: mean rank correlation with the explanations of the same model with other
        weights. 0: another model, another explanation; 1: the model does not matter; higher is worse.
    """
    claims: list[Claim] = []
    described: list[Finding] = []
    columns = by_patient(observed)
    makers = {"explanations.faithful": _faithful, "explanations.weights": _weights}
    for test, rule in RULES.items():
        if not (rule.primary or wanted(test, only)):
            continue
        draft = replace(
            frame.finding(test, observed.settings),
            attacker=rule.attacker,
            primary=rule.primary,
            references=rule.references,
        )
        made: Claim | Finding
        if test in observed.refused:
            made = replace(draft, verdict="not_applicable", reasons=(observed.refused[test],))
        elif test in makers:
            made = makers[test](columns, draft, observed)
        else:
            made = _described(columns, draft, observed)
        if isinstance(made, Claim):
            claims.append(made)
        else:
            described.append(made)
    return claims, described


def by_patient(observed: Observed) -> dict[str, FloatArray]:
    """Average each column over the rows of a patient, shape (patients,); NaN where no row has a number."""
    patient = np.unique(observed.columns["patient"], return_inverse=True)[1]
    result = {}
    for name, values in observed.columns.items():
        known = np.isfinite(values)
        counts = np.bincount(patient, known)
        totals = np.bincount(patient, np.where(known, values, 0.0))
        result[name] = np.divide(totals, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return result


def _faithful(columns: Mapping[str, FloatArray], draft: Finding, observed: Observed) -> Claim | Finding:
    explainer = observed.settings["explainer"]
    asked = np.isfinite(columns[f"gain:{explainer}"])
    few = _too_few(draft, int(asked.sum()))
    if few is not None:
        return few
    gains = {name: values[asked] for name, values in columns.items() if name.startswith("gain:")}
    ratio = _missed(gains, f"gain:{explainer}")
    settings: dict[str, Scalar] = {**draft.settings, "explained_patients": int(asked.sum())}
    beside = tuple(_mean(f"gain_{name}", gains[f"gain:{key}"]) for name, key in _gains(explainer))
    series = tuple(one for one in observed.series if one.name != "explanations_weights")
    draft = replace(draft, settings=settings, series=series)
    if ratio.nothing_to_show():
        reason = Message("explanations_no_headroom")
        return replace(draft, verdict="not_applicable", reasons=(reason,), estimates=beside)
    return Claim(
        replace(
            draft,
            p_value=ratio.p_value(MATERIAL_MISSED),
            material=MATERIAL_MISSED,
            estimates=(ratio.estimate(), *beside),
        ),
        "fragile",
        needed=Message("explanations_needs_patients", {"needed": ratio.needed()}),
        corrected=ratio.estimate,
        smallest=ratio.smallest,
        contrast=False,
    )


def _gains(explainer: Scalar) -> Iterator[tuple[str, str]]:
    yield "explained", str(explainer)
    yield from ((name, name) for name in ("best", "free", "random"))


def _missed(gains: Mapping[str, FloatArray], name: str) -> _Ratio:
    """Count from the better of a random order, which gains 0, and the one that needs no model."""
    best, free = gains["gain:best"], gains["gain:free"]
    zero = free if free.mean() > 0 else np.zeros_like(free)
    return _Ratio(best - gains[name], best - zero)


def _weights(columns: Mapping[str, FloatArray], draft: Finding, observed: Observed) -> Claim | Finding:
    names = [name for name in columns if name.startswith("weights:")]
    asked = np.isfinite(columns[names[0]]) if names else np.zeros(0, np.bool_)
    few = _too_few(draft, int(asked.sum()))
    if few is not None:
        return few
    likeness = np.stack([columns[name][asked] for name in names])
    settings: dict[str, Scalar] = {**draft.settings, "explained_patients": int(asked.sum())}
    value, error = _crossed(likeness)
    freedom = min(likeness.shape) - 1
    count = (likeness.shape[1],)

    def estimate(level: float = 0.95) -> Estimate:
        half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
        low, high = max(value - half, -1.0), min(value + half, 1.0)
        return Estimate("weights_likeness", value, low, high, count, "t-patients-draws", level)

    beside = [_mean(name, columns[name][asked]) for name in ("weights_absolute", "input_alone")]
    series = tuple(one for one in observed.series if one.name == "explanations_weights")
    return Claim(
        replace(
            draft,
            settings=settings,
            series=series,
            p_value=float(stats.t.sf((value - MATERIAL_LIKENESS) / error, freedom)),
            material=MATERIAL_LIKENESS,
            estimates=(estimate(), *beside),
        ),
        "fragile",
        corrected=estimate,
        contrast=False,
    )


def _crossed(values: FloatArray) -> tuple[float, float]:
    """Mean over draws and patients, shape (draws, patients), and an error for new draws and new patients.

    Both variances are added, each with the noise of single values: a little too wide, never too narrow.
    """
    draws, patients = values.mean(axis=1), values.mean(axis=0)
    variance = draws.var(ddof=1) / len(draws) + patients.var(ddof=1) / len(patients)
    return float(values.mean()), max(math.sqrt(float(variance)), 1e-3)


def _described(columns: Mapping[str, FloatArray], draft: Finding, observed: Observed) -> Finding:
    kind = draft.test.partition(".")[2]
    estimates = tuple(_estimates(kind, columns))
    if not estimates:
        few = Message("too_few_patients", {"needed": SMALLEST_CELL, "have": "< 5"})
        return replace(draft, verdict="not_applicable", reasons=(few,))
    refused = [no for test, no in observed.refused.items() if test.startswith(f"{draft.test}:")]
    reasons = (Message("reported_only"), *refused)
    return replace(draft, verdict="descriptive", estimates=estimates, reasons=reasons)


def _estimates(kind: str, columns: Mapping[str, FloatArray]) -> Iterator[Estimate]:
    prefix = "gain:" if kind == "methods" else f"{kind}:"
    for name in (name for name in columns if name.startswith(prefix)):
        known = np.isfinite(columns[name])
        what = name.removeprefix(prefix)
        if known.sum() < SMALLEST_CELL or what in ("free", "best", "random"):
            continue
        if kind != "methods":
            yield _mean(name, columns[name][known])
            continue
        gains = {key: values[known] for key, values in columns.items() if key.startswith("gain:")}
        ratio = _missed(gains, name)
        if not ratio.nothing_to_show():
            yield replace(ratio.estimate(), name=f"missed_share:{what}")


def _too_few(draft: Finding, have: int) -> Claim | None:
    if have >= FEWEST_PATIENTS:
        return None
    too_few = Message("too_few_patients", {"needed": FEWEST_PATIENTS, "have": shown(have)})
    material = MATERIAL_MISSED if draft.primary else MATERIAL_LIKENESS
    return Claim(replace(draft, material=material), "fragile", too_few=too_few, contrast=False)


def _mean(name: str, values: FloatArray) -> Estimate:
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return Estimate(name, mean, mean - half, mean + half, (len(values),), "t-patients")
