"""What is said of each site after a training: what it brought, how it pulled, whom the model serves there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import sem
from scipy.stats import t as student

from primum.evidence.canonical import plain
from primum.evidence.estimate import Estimate
from primum.evidence.ranking import auc
from primum.evidence.sites import calibration_in_the_large, distances_from_others, served_alike_p_value
from primum.records.cases import Cases
from primum.records.ragged import IntArray
from primum.records.tokens import Kind, TokenBatch
from primum.report.language import Language
from primum.report.site_report import render_sites
from primum.report.site_words import SITES_FILE, SITES_PAGE
from primum.train.federated.sites import LinearSite, NetworkSite, Site
from primum.train.federated.standing import Standing
from primum.train.federated.suspicion import FEWEST_SITES, History, Record, Suspicion, accused, suspicions

# Of each kind, healthy and ill, on whom an AUC is judged; of a class, for its share to be told.
FEWEST = 5


@dataclass(frozen=True, eq=False)
class Hospital:
    """A site with those of its patients who train nothing.

    Attributes
    ----------
    site : LinearSite or NetworkSite
    aside : Cases or TokenBatch
    classes : array of int, shape (patients,), or None
        The class of each of its patients, those aside too; None of histories.
    """

    site: LinearSite | NetworkSite
    aside: Cases | TokenBatch
    classes: IntArray | None


def classes_of_patients(part: Cases | TokenBatch) -> IntArray | None:
    """Give each patient the class of the first record; None of histories, which have none."""
    if isinstance(part, TokenBatch):
        return None
    labels: IntArray = part.labels[np.unique(part.subject_ids, return_index=True)[1]]
    return labels


@dataclass(frozen=True, eq=False)
class _Aside:
    """Patients of a site who train nothing, one row each (two, of a patient with records of both kinds)."""

    risks: NDArray[np.float64]
    ill: NDArray[np.bool_]
    patients: int

    @property
    def is_judged(self) -> bool:
        return bool(min(np.count_nonzero(self.ill), np.count_nonzero(~self.ill)) >= FEWEST)


def told_of_sites(
    hospitals: Sequence[Hospital], standing: Standing, model: Any, *, rounds: int, calibrated: bool
) -> dict[str, Any]:
    """Say of each site how much it brought, how it pulled, how it is served, and what speaks against it.

    Parameters
    ----------
    hospitals : sequence of Hospital
    standing : Standing
        After the last round.
    model : object
        What came of it.
    rounds : int
    calibrated : bool
        Whether honest sites were seen not to be accused in such a training. If not, nobody is: ``accused``
        and ``e_value`` are None, and what stood out is said alone.

    Returns
    -------
    dict
        Of ``sites.json``: ``sites``, ``fairness`` among them, ``classes`` and the ``judged_class``. Shares of
        classes with fewer than five patients are None.
    """
    everyone = sum(one.site.records for one in hospitals)
    enough = calibrated and len(hospitals) >= FEWEST_SITES
    seen, bad = _seen(standing), {one.site for one in accused(standing.history)}
    fits, together = _of_histories(hospitals, model) if _foretells(hospitals) else _of_cases(hospitals, model)
    sites = [
        {
            **_brought(one.site, everyone=everyone, rounds=rounds),
            **seen.get(one.site.name, _UNSEEN),
            **fit,
            "e_value": _e_value(standing.history, one.site.name) if enough else None,
            "accused": one.site.name in bad if enough else None,
        }
        for one, fit in zip(hospitals, fits, strict=True)
    ]
    return {"sites": sites, **together}


def _foretells(hospitals: Sequence[Hospital]) -> bool:
    return isinstance(hospitals[0].aside, TokenBatch)


def _of_cases(hospitals: Sequence[Hospital], model: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """How the model fits each site and which classes that holds; and all of them together."""
    classes = tuple(model.classes)
    target = 1 if len(classes) == 2 else 0
    aside = [_aside(model, one.aside, target) for one in hospitals]
    held = _held(
        [np.bincount(one.classes, minlength=len(classes)) for one in hospitals if one.classes is not None]
    )
    fits = [
        {"served": _served(apart), "calibration": _calibration(apart), **mix}
        for apart, mix in zip(aside, held, strict=True)
    ]
    fairness = _fairness(aside, [one.site.name for one in hospitals])
    return fits, {"fairness": fairness, "classes": classes, "judged_class": classes[target]}


def _of_histories(hospitals: Sequence[Hospital], model: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """How well events are foretold at each site; histories have no classes."""
    nothing = {"calibration": None, "class_shares": (), "distance": None, "distance_by_chance": None}
    fits = [{"served": _foretold(model, one.aside), **nothing} for one in hospitals]
    return fits, {"fairness": None, "classes": (), "judged_class": None}


def told_of_standing(standing: Standing) -> dict[str, Any]:
    """Say what a coordinator knows of each site, who has seen no patient: size, and how updates pulled."""
    everyone, seen = sum(standing.sizes.values()), _seen(standing)
    sites = [
        {"site": site, "records": records, "share": records / everyone, **seen.get(site, _UNSEEN)}
        for site, records in sorted(standing.sizes.items())
    ]
    return {"sites": sites, "rounds": standing.number}


def write_sites(folder: Path, told: Mapping[str, Any], *, language: Language) -> None:
    """Write ``sites.json`` and the page that is made of it."""
    said = plain(told)
    (folder / SITES_FILE).write_text(json.dumps(said, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (folder / SITES_PAGE).write_text(render_sites(said, language=language), encoding="utf-8")


_UNSEEN: Mapping[str, Any] = {
    "contribution": None,
    "rounds_answered": 0,
    "agreement": None,
    "agreement_by_round": (),
    "rounds_apart": None,
    "reason": None,
}


def _seen(standing: Standing) -> dict[str, dict[str, Any]]:
    """Return of each site what its updates tell; of the step taken, the part along it that the site sent."""
    whole = sum(float(np.nansum(each)) for each in standing.pull.values())
    against = {one.site: one for one in suspicions(standing.history)}
    told = {}
    for site, each in standing.agreement.items():
        cosines = np.array(each, float)
        answered = np.isfinite(cosines)
        told[site] = {
            "contribution": float(np.nansum(standing.pull[site])) / whole if whole > 0 else None,
            "rounds_answered": int(answered.sum()),
            "agreement": float(cosines[answered].mean()) if answered.any() else None,
            "agreement_by_round": [round(one, 4) for one in each],
            **_stood_out(standing.history.get(site), against.get(site)),
        }
    return told


def _brought(site: Site, *, everyone: int, rounds: int) -> dict[str, Any]:
    ledger = site.ledger(rounds)
    return {
        "site": site.name,
        "patients": site.patients,
        "records": site.records,
        "share": site.records / everyone,
        "ledger": None if ledger is None else ledger.as_json(),
    }


def _stood_out(record: Record | None, against: Suspicion | None) -> dict[str, Any]:
    """In how many rounds it lay apart from the others, and by what; None: nobody could see."""
    if record is None or against is None:
        return {"rounds_apart": None, "reason": None}
    return {"rounds_apart": int(np.count_nonzero(record.levels)), "reason": against.reason}


def _e_value(history: History, site: str) -> float | None:
    return history[site].e_value if site in history else None


def _aside(model: Any, cases: Any, target: int) -> _Aside:
    """Give each patient the mean risk of the records of each kind."""
    if not len(cases):
        return _Aside(np.empty(0), np.empty(0, bool), 0)
    risks, ill = model.predict_proba(cases)[:, target], cases.labels == target
    rows, place = np.unique(np.stack([cases.subject_ids, ill]), axis=1, return_inverse=True)
    mean = np.bincount(place.ravel(), risks) / np.bincount(place.ravel())
    return _Aside(mean, rows[1].astype(bool), len(np.unique(rows[0])))


def _served(aside: _Aside) -> dict[str, Any] | None:
    """AUC of the judged class against the rest on patients who trained nothing; None of too few to say."""
    if not aside.is_judged:
        return None
    found = _auc(aside)
    return {"auc": found.value, "low": found.low, "high": found.high, "patients": aside.patients}


def _auc(aside: _Aside) -> Estimate:
    return auc(aside.risks[aside.ill], aside.risks[~aside.ill])


def _calibration(aside: _Aside) -> dict[str, float] | None:
    """Mean risk said minus share of the ill among them."""
    if not aside.is_judged:
        return None
    found = calibration_in_the_large(aside.risks, aside.ill)
    return {"value": found.value, "low": found.low, "high": found.high}


def _fairness(aside: Sequence[_Aside], names: Sequence[str]) -> dict[str, Any] | None:
    """All patients aside, the site that is served worst, and whether sites differ by more than chance."""
    pooled = _Aside(
        np.concatenate([one.risks for one in aside]),
        np.concatenate([one.ill for one in aside]),
        sum(one.patients for one in aside),
    )
    overall = _served(pooled)
    judged = [place for place, one in enumerate(aside) if one.is_judged]
    if overall is None or len(judged) < 2:
        return overall and {**overall, "sites": len(judged), "worst": None, "gap": None, "p_value": None}
    at = np.repeat(judged, [aside[place].risks.size for place in judged])
    risks, ill = (np.concatenate([getattr(aside[one], name) for one in judged]) for name in ("risks", "ill"))
    each = {place: _auc(aside[place]).value for place in judged}
    worst = min(each, key=each.__getitem__)
    return {
        **overall,
        "sites": len(judged),
        "worst": names[worst],
        "gap": overall["auc"] - each[worst],
        "p_value": served_alike_p_value(risks, ill, at),
    }


def _held(counts: Sequence[IntArray]) -> list[dict[str, Any]]:
    """Shares of classes at each site and how far they are from the others'; None where few could be told.

    One class that is kept back alone would follow from the others: the next smallest is kept back with it.
    Sites with such a class are among no site's others, of whom it could be worked out.
    """
    told: list[dict[str, Any]] = []
    for count in counts:
        shown = count >= FEWEST
        if np.count_nonzero(~shown) == 1:
            shown[np.argsort(count, kind="stable")[:2]] = False
        shares = [
            float(one / count.sum()) if told_of else None for one, told_of in zip(count, shown, strict=True)
        ]
        told.append({"class_shares": shares, "distance": None, "distance_by_chance": None})
    whole = [place for place, one in enumerate(told) if None not in one["class_shares"]]
    if len(whole) > 1:
        for place, (far, chance) in zip(
            whole, distances_from_others(np.stack([counts[place] for place in whole])), strict=True
        ):
            told[place] |= {"distance": far, "distance_by_chance": chance}
    return told


def _foretold(model: Any, aside: Any) -> dict[str, Any] | None:
    """Mean log-probability of an event, in nats, over patients; nearer to zero is better."""
    events = [aside.kinds_of(one)[1:] == Kind.CLINICAL for one in range(len(aside))]
    log_p = zip(model.log_probs(aside), events, strict=True)
    means = np.array([one[where].mean() for one, where in log_p if where.any()])
    if len(means) < FEWEST:
        return None
    low, high = student.interval(0.95, len(means) - 1, means.mean(), sem(means))
    return {"log_likelihood": float(means.mean()), "low": low, "high": high, "patients": len(means)}
