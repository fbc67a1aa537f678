"""What ``sites.json`` says of invented trainings."""

from typing import Any

import numpy as np

_BAD = {"site-04": "direction", "site-09": "direction", "site-13": "norm"}


def fifteen() -> dict[str, Any]:
    """Fifteen sites, of which three pull another way and two are too small to be judged."""
    random = np.random.default_rng(3)
    shares = np.sort(random.dirichlet(np.full(15, 1.5)))[::-1]
    names = [f"site-{place:02d}" for place in range(1, 16)]
    parts = np.where([name in _BAD for name in names], -0.2, 1.1) * shares
    parts /= parts.sum()
    sites = []
    for place, (name, share) in enumerate(zip(names, shares, strict=True)):
        bad, small = name in _BAD, place > 12
        agreement = np.clip(random.normal(-0.55 if bad else 0.75, 0.15, 20), -1, 1).round(4)
        told: list[float | None] = [*map(float, agreement)]
        if place == 7:
            told[4:6] = [None, None]
        auc = float(np.clip(random.normal(0.94, 0.02), 0.5, 0.99))
        half, ill = 0.04 + 0.004 * place, float(random.uniform(0.2, 0.8))
        sites.append(
            {
                **_site(name, float(share), told, float(parts[place])),
                "patients": round(float(share) * 4000),
                "served": None if small else _interval("auc", auc, half) | {"patients": 30},
                "calibration": None if small else _interval("value", float(random.normal(0, 0.04)), 2 * half),
                "class_shares": [None, None] if small else [1 - ill, ill],
                "distance": None if small else abs(ill - 0.5),
                "distance_by_chance": None if small else 0.11,
                "rounds_apart": 17 if bad else int(random.integers(0, 3)),
                "reason": _BAD.get(name),
                "e_value": 2400.0 if bad else 0.8,
                "accused": bad,
            }
        )
    worst: Any = min((one for one in sites if one["served"]), key=lambda one: one["served"]["auc"])
    fair = {"auc": 0.94, "low": 0.91, "high": 0.96, "patients": 412, "sites": 13, "worst": worst["site"]}
    fair |= {"gap": 0.94 - worst["served"]["auc"], "p_value": 0.31}
    return _told(sites, fair)


def two() -> dict[str, Any]:
    """Two hospitals, one of which is served worse; who stands out cannot be seen."""
    sites = [
        {
            **_site(name, share, [0.9, 0.8, 0.85, 0.7, 0.75], part),
            "patients": patients,
            "served": _interval("auc", auc, 0.05) | {"patients": patients // 9},
            "calibration": _interval("value", over, 0.06),
            "class_shares": [1 - ill, ill],
            "distance": 0.35,
            "distance_by_chance": 0.09,
        }
        for name, share, part, patients, auc, over, ill in (
            ("Centre hospitalier du Nord-Ouest et de la Vallée", 0.7, 0.58, 840, 0.93, -0.02, 0.3),
            ("St Mary's", 0.3, 0.42, 360, 0.78, 0.11, 0.65),
        )
    ]
    fair = {"auc": 0.88, "low": 0.83, "high": 0.92, "patients": 133, "sites": 2, "worst": "St Mary's"}
    return _told(sites, fair | {"gap": 0.1, "p_value": 0.002}) | {"unit": "record"}


def coordinated() -> dict[str, Any]:
    """What a coordinator knows, who has seen no patient."""
    shares = {"north": 0.5, "south": 0.3, "west": 0.2}
    sites = [_site(name, share, [0.8, None, 0.7], share) for name, share in shares.items()]
    for one in sites:
        for key in ("patients", "served", "calibration", "e_value", "accused", "ledger"):
            one.pop(key, None)
    return {"sites": sites, "rounds": 3}


def masked() -> dict[str, Any]:
    """Sites that masked what they sent and have few patients: hardly anything is known."""
    sites = [
        _site(f"site-0{place}", 0.25, [], None) | {"agreement": None, "patients": 3} for place in range(4)
    ]
    return _told([one | {"rounds_answered": 0, "class_shares": [None, None]} for one in sites], None)


def histories() -> dict[str, Any]:
    """Health records: events are foretold, and there are no classes."""
    told = two() | {"fairness": None, "classes": [], "judged_class": None}
    for one in told["sites"]:
        one |= {"calibration": None, "class_shares": [], "distance": None, "distance_by_chance": None}
        one["served"] = {"log_likelihood": -3.2, "low": -3.5, "high": -2.9, "patients": 40}
    return told


def hostile() -> dict[str, Any]:
    """Names that a site chose to do harm with."""
    told = two()
    wicked = "<script>alert(1)</script>{x}\u202e$\\frac{1}{0}$" + "A" * 80
    told["sites"][0]["site"], told["fairness"]["worst"] = wicked, wicked
    told["classes"], told["judged_class"] = ["{0}<b>", "</style>"], "</style>"
    return told


def _site(name: str, share: float, told: list[float | None], part: float | None) -> dict[str, Any]:
    known = [one for one in told if one is not None]
    return {
        "site": name,
        "patients": None,
        "records": round(4000 * share),
        "share": share,
        "contribution": part,
        "ledger": None,
        "rounds_answered": len(known),
        "agreement": float(np.mean(known)) if known else None,
        "agreement_by_round": told,
        "served": None,
        "calibration": None,
        "rounds_apart": None,
        "reason": None,
        "e_value": None,
        "accused": None,
    }


def _interval(name: str, value: float, half: float) -> dict[str, Any]:
    top = 0.998 if name == "auc" else 1.0
    return {name: value, "low": value - half, "high": min(top, value + 0.8 * half)}


def _told(sites: list[dict[str, Any]], fairness: dict[str, Any] | None) -> dict[str, Any]:
    rounds = max(len(one["agreement_by_round"]) for one in sites) or 3
    known = {"classes": ["normal", "pneumonia"], "judged_class": "pneumonia", "unit": "patient"}
    return {"sites": sites, "fairness": fairness, "rounds": rounds, **known}


ALL = {
    "fifteen": fifteen,
    "two": two,
    "coordinated": coordinated,
    "masked": masked,
    "histories": histories,
    "hostile": hostile,
}
