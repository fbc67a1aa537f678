"""The data family: what was seen of the training cases, and what of it may be claimed.

Everything is by patient. Copies and unreal cases are counted, not inferred: chance would need one patient in
200. Wrong labels, marks and sites are inferred, against what clean data of the same difficulty would give.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from scipy import stats

from primum.evidence.contrast import FEWEST_PATIENTS, Frame, shown
from primum.evidence.curves import SMALLEST_CELL
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Message, Scalar
from primum.evidence.label_certainty import label_certainty
from primum.evidence.label_noise import Flips, flipped_labels
from primum.evidence.mark_site import site_of_mark
from primum.evidence.measured import BoolArray, FloatArray, IntArray
from primum.evidence.membership import wanted
from primum.evidence.observed import Observed
from primum.evidence.ranking import auc
from primum.evidence.rule import Rule
from primum.evidence.shares import share_difference, stratified_share_difference
from primum.evidence.verdicts import ALPHA, Claim

RULES = {
    "data.labels": Rule(
        "observed", "nobody", ("northcutt2021", "natarajan2013", "metz1998", "besag1991"), primary=True
    ),
    "data.duplicates": Rule("observed", "nobody", ("broder1997", "clopper1934")),
    "data.artificial": Rule("observed", "nobody", ("clopper1934",)),
    "data.backdoor": Rule("observed", "poisoner", ("gu2017", "tran2018", "chen2018", "wang2019")),
    "data.site": Rule("observed", "poisoner", ("northcutt2021", "phipson2010")),
    "data.outliers": Rule("observed", "nobody", ("mahalanobis1936",), claims=False),
}
MATERIAL = {
    "data.labels": 0.02,
    "data.duplicates": 0.02,
    "data.artificial": 0.02,
    "data.backdoor": 0.01,
    "data.site": 0.03,
}
# So many patients may be a copy, or no real case, by accident: a share that no claim is made of.
TOLERATED = 0.005
OUTLYING = 6.0
# So many times as far from the class, squared, as half of it is: hardly anybody without a backdoor.
APART = 10.0
_PERMUTATIONS, _QUARTERS = 1999, 4


@dataclass(frozen=True, eq=False)
class _Seen:
    """The columns of the family, by case and by patient."""

    observed: Observed
    frame: Frame

    def __getitem__(self, column: str) -> FloatArray:
        return self.observed.columns[column]

    def __contains__(self, column: str) -> bool:
        return column in self.observed.columns

    @cached_property
    def patient(self) -> IntArray:
        return np.unique(self["patient"], return_inverse=True)[1].astype(np.int64)

    @cached_property
    def people(self) -> int:
        return int(self.patient.max(initial=-1)) + 1

    @cached_property
    def label(self) -> IntArray:
        return self["label"].astype(np.int64)

    def mean(self, values: FloatArray | BoolArray) -> FloatArray:
        """Take the mean over each patient's cases, shape (people,)."""
        return np.bincount(self.patient, values, self.people) / np.bincount(self.patient)

    def any(self, values: BoolArray) -> BoolArray:
        """Tell of whom some case is so, shape (people,)."""
        return self.mean(values) > 0

    def first(self, values: FloatArray) -> FloatArray:
        """Take the value of each patient's first case, shape (people,)."""
        return np.asarray(values[np.unique(self.patient, return_index=True)[1]])

    def draft(self, test: str, settings: dict[str, Scalar]) -> Finding:
        """Start a finding."""
        whole = test.partition("@")[0]
        rule = RULES[whole]
        given = {**self.observed.settings, **settings, "members": shown(self.people)}
        return replace(
            replace(self.frame, attacker=rule.attacker).finding(test, given),
            primary=rule.primary,
            references=rule.references,
            material=MATERIAL.get(whole),
        )


def tainted_claims(
    observed: Observed, frame: Frame, *, only: Sequence[str] = ()
) -> tuple[list[Claim], list[Finding]]:
    """Judge what was seen of the training cases; the primary test, ``data.labels``, is always there.

    Parameters
    ----------
    observed : Observed
        Of :func:`primum.audits.data.observe.observe_data`.
    frame : Frame
    only : sequence of str
        Prefixes of the tests that were asked for; empty means all.

    Returns
    -------
    claims, described : list of Claim, list of Finding
        Harm is ``tainted``. Every judged estimate is a share of patients or of labels: 0 is good, more is
        worse.
    """
    seen = _Seen(observed, frame)
    asked = [test for test, rule in RULES.items() if rule.primary or wanted(test, only)]
    claims: list[Claim] = []
    described = [
        replace(
            seen.draft(test, {}), verdict="not_applicable", material=None, reasons=(observed.refused[test],)
        )
        for test in asked
        if test in observed.refused
    ]
    makers: dict[str, Callable[[_Seen], Claim]] = {
        "data.labels": _labels,
        "data.duplicates": partial(_counted, test="data.duplicates", column="copies"),
        "data.artificial": partial(_counted, test="data.artificial", column="artificial"),
        "data.backdoor": _backdoor,
        "data.site": _site,
    }
    for test in (test for test in asked if test not in observed.refused):
        if test == "data.outliers":
            described.append(_outliers(seen))
        elif seen.people < FEWEST_PATIENTS:
            few = Message("too_few_patients", {"needed": FEWEST_PATIENTS, "have": shown(seen.people)})
            claims.append(Claim(seen.draft(test, {}), "tainted", too_few=few, contrast=False))
        else:
            claims.append(makers[test](seen))
            if test == "data.site":
                described += _each_site(seen)
    return claims, described


def _labels(seen: _Seen) -> Claim:
    """Claim wrong labels: each class against the rest, Bonferroni over classes; a wrong label is in two."""
    classes = {
        int(name.partition(":")[2]): seen[name] for name in seen.observed.columns if name[:6] == "score:"
    }
    asked = {k: np.isfinite(score) for k, score in classes.items()}
    fits: dict[int, Flips] = {}
    for k, score in classes.items():
        mine = asked[k]
        place = np.unique(seen.patient[mine], return_inverse=True)[1]
        fits[k] = flipped_labels(score[mine], seen.label[mine] == k, place, seed=seen.frame.seed)
    halves = 1 if len(fits) == 1 else 2
    resampled = sum(fit.resampled for fit in fits.values()) / halves
    share = sum(fit.share for fit in fits.values()) / halves

    def at(level: float) -> Estimate:
        low, high = map(float, np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2]))
        # where no label stands out, resampling finds none either: nothing in N patients is at most so much
        high = max(high, share - float(np.log((1 - level) / 2)) / seen.people)
        return Estimate(
            "wrong_label_share",
            share,
            min(low, share),
            max(high, share),
            (seen.people,),
            "patient-bootstrap",
            level,
        )

    ranks = [
        auc(s[asked[k] & (seen.label == k)], s[asked[k] & (seen.label != k)]).value
        for k, s in classes.items()
    ]
    flagged = int(seen.any(seen["flagged"] > 0).sum())
    estimates = (at(0.95), _alone("out_of_fold_auc", float(np.mean(ranks)), seen.people))
    material, half = MATERIAL["data.labels"], at(0.95).high - share
    needed = round(seen.people * (half / max(material - share, material / 4)) ** 2)
    worst = min(fits, key=lambda k: fits[k].p_value)
    curve = label_certainty(classes[worst][asked[worst]], seen.label[asked[worst]] == worst, fits[worst])
    return Claim(
        replace(
            seen.draft("data.labels", {"flagged_patients": shown(flagged)}),
            p_value=min(1.0, len(fits) * min(fit.p_value for fit in fits.values())),
            estimates=estimates,
            series=(*seen.observed.series, curve),
        ),
        "tainted",
        needed=Message("needs_training_patients", {"needed": max(needed, seen.people + 1)}),
        corrected=at,
        contrast=False,
    )


def _counted(seen: _Seen, *, test: str, column: str) -> Claim:
    """Claim that something is so of patients; one to four are told, and judged, as one to four."""
    holds = seen.any(seen[column] > 0)
    number, of = int(holds.sum()), seen.people
    few = 0 < number < SMALLEST_CELL
    least, most = (1, SMALLEST_CELL - 1) if few else (number, number)

    def at(level: float) -> Estimate:
        tail = (1 - level) / 2
        low = float(stats.beta.ppf(tail, least, of - least + 1)) if least else 0.0
        high = float(stats.beta.ppf(1 - tail, most + 1, of - most)) if most < of else 1.0
        return Estimate(f"{column}_share", most / of, low, high, (of,), "clopper-pearson", level)

    settings: dict[str, Scalar] = {"tolerated": TOLERATED, f"{column}_patients": shown(number)}
    estimates = [at(0.95)]
    names = seen.observed.names.get(column, ())
    for place, name in enumerate(names[1:], 1):
        settings[f"{column}_{name}"] = shown(int(seen.any(seen[column] == place).sum()))
    smallest = int(np.ceil(np.log(0.025) / np.log(1 - MATERIAL[test])))
    return Claim(
        replace(
            seen.draft(test, settings),
            p_value=float(stats.binom.sf(least - 1, of, TOLERATED)),
            estimates=tuple(estimates),
        ),
        "tainted",
        needed=Message("needs_training_patients", {"needed": max(smallest, 2 * of)}),
        corrected=at,
        contrast=False,
    )


def _backdoor(seen: _Seen) -> Claim:
    """Claim that a mark belongs to a class: exact, one case a patient, over all marks and classes."""
    chosen = seen["judged"] > 0
    label, bears = seen.label[chosen], seen["mark"][chosen] > 0
    classes = len(seen.observed.names["label"])
    whole, carriers = np.bincount(label, minlength=classes), np.bincount(label[bears], minlength=classes)
    chances: FloatArray = np.asarray(stats.hypergeom.sf(carriers - 1, len(label), whole, carriers.sum()))
    worst = int(np.argmin(chances))
    tested = int(str(seen.observed.settings["marks_tested"]))
    p_value = min(1.0, max(1, tested * classes) * float(chances[worst])) if bears.any() else 1.0
    sides = bears[label == worst].astype(float), bears[label != worst].astype(float)

    def at(level: float) -> Estimate:
        return replace(share_difference(*sides, level=level), name="mark_difference")

    settings: dict[str, Scalar] = {"marked_patients": shown(int(bears.sum()))}
    said: tuple[Message, ...] = ()
    if bears.any():
        settings["mark_class"] = seen.observed.names["label"][worst]
    if "site" in seen and p_value < ALPHA:
        site, mine = seen["site"][chosen].astype(np.int64), label == worst
        more, said = site_of_mark(site[mine], bears[mine], seen.observed.names["site"])
        settings |= more
    beside = [
        _alone(name, float(str(value)), seen.people)
        for name, value in seen.observed.settings.items()
        if name in ("smallest_cluster", "cluster_silhouette", "trigger_ratio")
    ]
    if "spectral" in seen:
        settings["apart"] = APART
        beside += _inside(seen, worst)
    return Claim(
        replace(
            seen.draft("data.backdoor", settings),
            p_value=p_value,
            estimates=(at(0.95), *beside),
            reasons=said,
        ),
        "tainted",
        needed=Message("needs_training_patients", {"needed": 2 * seen.people}),
        corrected=at,
        contrast=False,
    )


def _inside(seen: _Seen, worst: int) -> Iterator[Estimate]:
    """Describe who stands apart inside the model: in the class where most do, and the mark's carriers."""
    asked = np.isfinite(seen["spectral"])
    shares = []
    for label in np.unique(seen.label[asked]):
        mine = asked & (seen.label == label)
        number = int(seen.any(mine & (seen["spectral"] > APART)).sum())
        shares.append(max(number, SMALLEST_CELL - 1 if number else 0) / int(seen.any(mine).sum()))
    if shares:
        yield _alone("apart_share", min(1.0, max(shares)), seen.people)
    mine = asked & (seen.label == worst)
    bears = mine & (seen["mark"] > 0)
    if 0 < bears.sum() < mine.sum():
        ranked = auc(seen["spectral"][bears], seen["spectral"][mine & ~bears])
        yield _alone("spectral_auc", ranked.value, seen.people)


def _sites(seen: _Seen) -> tuple[IntArray, FloatArray, IntArray, list[int]]:
    """Give site, share of flagged labels and stratum of each patient, and the sites with enough patients."""
    site = seen.first(seen["site"]).astype(np.int64)
    flagged = seen.mean(seen["flagged"])
    quarter = np.minimum((_QUARTERS * seen.mean(seen["sureness"])).astype(np.int64), _QUARTERS - 1)
    stratum = seen.first(seen["predicted"]).astype(np.int64) * _QUARTERS + quarter
    known = [place for place, name in enumerate(seen.observed.names["site"]) if name]
    return site, flagged, stratum, [s for s in known if (site == s).sum() >= FEWEST_PATIENTS]


def _site(seen: _Seen) -> Claim:
    """Hold each site against the others, among patients of like verdict and sureness; permuted by patient."""
    site, flagged, stratum, large = _sites(seen)
    holds = np.stack([site == place for place in large])
    sizes = holds.sum(axis=1)
    random = np.random.default_rng(seen.frame.seed)
    sorted_by = np.argsort(stratum, kind="stable")
    drawn = np.empty((_PERMUTATIONS, len(large)))
    for row in range(_PERMUTATIONS):
        moved = flagged[np.lexsort([random.random(len(site)), stratum])]
        drawn[row] = holds[:, sorted_by] @ moved / sizes
    centre, spread = drawn.mean(axis=0), np.maximum(drawn.std(axis=0), 1e-9)
    away = (holds @ flagged / sizes - centre) / spread
    as_extreme = ((drawn - centre) / spread).max(axis=1) >= away.max() - 1e-9
    worst = large[int(np.argmax(away))]

    def at(level: float) -> Estimate:
        each = [
            _site_difference(site == place, flagged, stratum, 1 - (1 - level) / len(large)) for place in large
        ]
        mine = each[large.index(worst)]
        return replace(mine, high=max(one.high for one in each), level=level)

    settings: dict[str, Scalar] = {"sites": len(large), "site": seen.observed.names["site"][worst]}
    return Claim(
        replace(
            seen.draft("data.site", settings),
            p_value=float((1 + as_extreme.sum()) / (1 + _PERMUTATIONS)),
            estimates=(at(0.95),),
        ),
        "tainted",
        needed=Message("needs_training_patients", {"needed": 2 * seen.people}),
        corrected=at,
        contrast=False,
    )


def _site_difference(here: BoolArray, flagged: FloatArray, stratum: IntArray, level: float) -> Estimate:
    found = stratified_share_difference(
        flagged[here], flagged[~here], stratum[here], stratum[~here], level=level
    )
    return replace(found, name="site_difference")


def _each_site(seen: _Seen) -> list[Finding]:
    """Describe every site with enough patients."""
    site, flagged, stratum, large = _sites(seen)
    names = seen.observed.names["site"]
    return [
        replace(
            seen.draft(f"data.site@site={names[place]}", {}),
            verdict="descriptive",
            material=None,
            subgroups=(f"site={names[place]}",),
            estimates=(_site_difference(site == place, flagged, stratum, 0.95),),
            reasons=(Message("reported_only"),),
        )
        for place in large
    ]


def _outliers(seen: _Seen) -> Finding:
    away = seen["outlier"]
    number = int(seen.any(np.nan_to_num(away) > OUTLYING).sum())
    share = max(number, SMALLEST_CELL - 1 if number else 0) / max(1, seen.people)
    return replace(
        seen.draft("data.outliers", {"outlying": OUTLYING, "outlying_patients": shown(number)}),
        verdict="descriptive",
        estimates=(_alone("outlier_share", share, seen.people),),
        reasons=(Message("reported_only"),),
    )


def _alone(name: str, value: float, people: int) -> Estimate:
    """Give a number beside what is judged, without an interval that would invite judging it."""
    return Estimate(name, value, float("nan"), float("nan"), (people,), "point")
