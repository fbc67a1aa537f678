"""Audits as the suite would write them, with invented figures."""

from dataclasses import replace

import numpy as np

from primum.evidence.audit import Audit
from primum.evidence.estimate import Estimate
from primum.evidence.finding import HARM_WORDS, Finding, Message, Scalar, Series, Verdict
from primum.evidence.identity import ModelRef

MODEL, DATA = "3f9a" * 16, "b07c" * 16
HOSTILE = (
    "<script>alert(1)</script></style>[bold]x[/bold] $x_ {{7*7}} {0} \x1b[31m\u202eevil\u2066 \u4f60 --> ]]>"
)
RUN = {
    "date": "2026-11-22T01:00:00+00:00",
    "stages": {"statistics": 12.5, "a later stage": 1.25},
    "machine": {"processors": 2, "system": "Linux"},
    "versions": {"primum": "0.1.0"},
}
REFERENCES = ("tonekaboni2025", "watson2022", "carlini2022", "delong1988", "das2025", "holm1979")


def estimate(
    name: str,
    value: float,
    low: float,
    high: float,
    *,
    n: tuple[int, ...] = (300, 1000),
    method: str = "delong-logit",
) -> Estimate:
    return Estimate(name, value, low, high, n, method)


def finding(
    test: str,
    verdict: Verdict,
    *estimates: Estimate,
    reasons: tuple[Message, ...] = (),
    material: float | None = None,
    p_value: float | None = None,
    settings: dict[str, Scalar] | None = None,
    series: tuple[Series, ...] = (),
    primary: bool = False,
) -> Finding:
    group = test.partition("@")[2]
    return Finding(
        test,
        verdict,
        verdict in HARM_WORDS,
        MODEL,
        DATA,
        primary=primary,
        p_value=p_value,
        p_adjusted=None if p_value is None else min(1.0, 9 * p_value),
        material=material,
        estimates=estimates,
        subgroups=(group,) if group else (),
        attacker="scores",
        settings=settings or {},
        seed=7,
        references=REFERENCES if test.startswith("membership.combined") else (),
        reasons=reasons,
        series=series,
    )


def roc(strength: float) -> Series:
    false = np.unique(np.round(np.geomspace(0.001, 1, 70), 3))
    true = false ** (1 / (1 + strength))
    half = 1.96 * np.sqrt(true * (1 - true) / 300)
    columns = (
        false,
        true,
        np.clip(true - half, 0, 1),
        np.clip(true + half, 0, 1),
        np.clip(false * 1.1, 0, 1),
    )
    names = ("fpr", "tpr", "tpr_low", "tpr_high", "blind_tpr")
    return Series(
        "roc", {name: tuple(map(float, column)) for name, column in zip(names, columns, strict=True)}
    )


def risk(shift: float) -> Series:
    edges = np.linspace(-3, 5, 25)
    centres = (edges[1:] + edges[:-1]) / 2
    null = 100 * np.exp(-(centres**2) / 2) / 3 * 1.2
    members = np.round(100 * np.exp(-((centres - shift) ** 2) / 2) / 3 * 1.2)
    spread = 1.96 * np.sqrt(null + 1)
    return Series(
        "risk",
        {
            "score_low": (None, *map(float, edges[1:-1])),
            "score_high": (*map(float, edges[1:-1]), None),
            "members": tuple(None if 0 < count < 5 else float(count) for count in members),
            "held_out": tuple(None if 0 < count < 5 else float(round(count)) for count in null),
            "null_low": tuple(map(float, np.clip(null - spread, 0, None))),
            "null_high": tuple(map(float, null + spread)),
        },
    )


def overlap() -> Finding:
    return finding(
        "data.overlap",
        "none_found",
        estimate("near_duplicate_share", 0.0, float("nan"), 0.0037, method="clopper-pearson"),
        reasons=(Message("no_overlap"),),
        material=0.05,
        primary=True,
    )


def audit(
    *findings: Finding, members: int = 300, held_out: int = 1000, name: str = "ehr-llama-0.9M"
) -> Audit:
    return Audit(
        ModelRef(name, MODEL, "computed", {"model.safetensors": "00" * 32, "config.json": "11" * 32}),
        {"members": DATA, "held_out": "5e1d" * 16, "reference": "77aa" * 16},
        {"members": members, "held_out": held_out, "reference": 500},
        "primum audit models/ehr-llama --records cohort --reference models/reference --seed 7",
        7,
        findings,
        {
            "version": "0.1.0",
            "parameters": 871424,
            "context_length": 512,
            "held_out_loss": 3.42,
            "unigram_loss": 4.61,
        },
    )


_HARM = Message("harm_found")
_SETTINGS: dict[str, Scalar] = {
    "score": "ratio",
    "members": 300,
    "held_out": 1000,
    "reference_models": 1,
    "smallest_detectable": 0.547,
    "patients_needed": 246,
    "min_k_share": 0.2,
}


def _auc(value: float, low: float, high: float, blind: float = 0.52) -> tuple[Estimate, ...]:
    return (
        estimate("auc", value, low, high),
        estimate(
            "auc_stratified",
            value - 0.01,
            low - 0.02,
            high + 0.01,
            method="delong-logit, 12 strata, 1180 of 1300 patients",
        ),
        estimate("auc_bootstrap", value, low, high, method="bootstrap-percentile"),
        estimate("blind_auc", blind, blind - 0.03, blind + 0.03),
        estimate(
            "auc_minus_blind",
            value - blind,
            low - blind - 0.02,
            high - blind + 0.02,
            method="bootstrap-percentile",
        ),
    )


def _tpr(value: float, low: float, high: float) -> tuple[Estimate, ...]:
    return (
        estimate("tpr", value, low, high, method="clopper-pearson"),
        estimate("realised_fpr", 0.01, 0.0048, 0.0183, method="clopper-pearson"),
        estimate("blind_tpr", 0.013, 0.004, 0.034, method="clopper-pearson"),
        estimate("tpr_minus_blind", value - 0.013, low - 0.03, high + 0.01, method="bootstrap-percentile"),
    )


def _combined(
    verdict: Verdict,
    auc: tuple[Estimate, ...],
    *reasons: Message,
    p_value: float,
    series: tuple[Series, ...] = (),
    **settings: Scalar,
) -> Finding:
    return finding(
        "membership.combined.auc",
        verdict,
        *auc,
        reasons=reasons,
        material=0.55,
        p_value=p_value,
        settings={**_SETTINGS, **settings},
        series=series,
        primary=True,
    )


def _bold(
    verdict: Verdict, tpr: tuple[Estimate, ...], reason: Message, *, p_value: float | None = None
) -> Finding:
    test = "membership.combined.tpr"
    return finding(test, verdict, *tpr, reasons=(reason,), material=0.02, p_value=p_value)


def _group(
    name: str, verdict: Verdict, reason: Message, *found: Estimate, p_value: float | None = None
) -> Finding:
    test = f"membership.combined.auc@{name}"
    return finding(test, verdict, *found, reasons=(reason,), material=0.55, p_value=p_value)


def _told(test: str, shown: Estimate) -> Finding:
    return finding(test, "descriptive", shown, reasons=(Message("reported_only"),))


def _untested(test: str, code: str, **parameters: Scalar) -> Finding:
    return finding(test, "not_applicable", reasons=(Message(code, parameters),))


def leaking_groups() -> list[Finding]:
    groups = {
        "sex=F": (0.96, 0.94, 0.975, 160),
        "sex=M": (0.95, 0.92, 0.97, 140),
        "age=60-79": (0.97, 0.95, 0.985, 88),
        "site=A": (0.955, 0.93, 0.97, 190),
        "family=hiv": (0.981, 0.94, 0.995, 31),
        "rare": (0.992, 0.97, 0.998, 42),
    }
    return [
        _group(name, "leak", _HARM, estimate("auc", value, low, high, n=(n, 3 * n)), p_value=1e-9)
        for name, (value, low, high, n) in groups.items()
    ]


def leaking() -> Audit:
    epsilon = Estimate(
        "epsilon",
        4.2,
        3.1,
        float("nan"),
        (300, 1000),
        "clopper-pearson on held-back patients, one-sided, delta 1e-05",
    )
    return audit(
        overlap(),
        _combined(
            "leak",
            _auc(0.957, 0.945, 0.967),
            _HARM,
            Message("duplicates_dropped", {"pairs": 12}),
            p_value=1e-30,
            series=(roc(9), risk(2.0)),
        ),
        _bold("leak", _tpr(0.71, 0.655, 0.7607), _HARM, p_value=1e-40),
        *(
            _told(f"membership.{attack}.auc", estimate("auc", value, value - 0.02, value + 0.02))
            for attack, value in (("loss", 0.81), ("min_k", 0.79), ("min_k_pp", 0.84), ("ratio", 0.957))
        ),
        *leaking_groups(),
        _group("oldest", "inconclusive", Message("too_few_patients", {"needed": 20, "have": 11})),
        _untested("membership.canary", "no_canaries"),
        _told("membership.epsilon", epsilon),
        _untested("membership.named", "needs_recipe", references=16),
    )


def clean() -> Audit:
    needed = {"needed_members": 310, "needed_held_out": 310}
    return audit(
        overlap(),
        _combined(
            "none_found",
            _auc(0.507, 0.474, 0.541, blind=0.49),
            Message("below_material"),
            p_value=0.34,
            series=(roc(0.03), risk(0.05)),
        ),
        _bold("none_found", _tpr(0.0067, 0.0008, 0.0189), Message("below_material"), p_value=0.71),
        _group(
            "sex=F",
            "none_found",
            Message("detectable_but_immaterial"),
            estimate("auc", 0.498, 0.45, 0.546, n=(160, 520)),
            p_value=0.5,
        ),
        _group(
            "rare",
            "inconclusive",
            Message("needs_patients", needed),
            estimate("auc", 0.55, 0.43, 0.66, n=(42, 3)),
            p_value=0.2,
        ),
        _untested("membership.named", "needs_recipe", references=16),
    )


def confounded() -> Audit:
    blind = Message("not_beyond_blind")
    return audit(
        overlap(),
        _combined(
            "confounded",
            _auc(0.74, 0.71, 0.77, blind=0.81),
            Message("blind_explains", {"blind_auc": 0.81}),
            blind,
            p_value=1e-20,
            series=(roc(2), risk(0.8)),
        ),
        _bold("confounded", _tpr(0.12, 0.085, 0.16), blind),
    )


def inconclusive() -> Audit:
    n = (50, 40)
    return audit(
        overlap(),
        _combined(
            "inconclusive",
            (estimate("auc", 0.56, 0.44, 0.67, n=n), estimate("blind_auc", 0.51, 0.39, 0.63, n=n)),
            Message("needs_patients", {"needed_members": 690, "needed_held_out": 552}),
            p_value=0.16,
            score="mean of normal scores",
            reference_models=0,
            smallest_detectable=0.65,
        ),
        _bold("inconclusive", (), Message("too_few_patients", {"needed": 300, "have": 40})),
        _untested("membership.ratio.auc", "needs_reference"),
        members=50,
        held_out=40,
    )


def with_canaries() -> Audit:
    copies, value = (1, 2, 4, 8, 16), (0.58, 0.71, 0.96, 0.99, 0.998)
    low, high = tuple(v - 0.05 for v in value), tuple(min(1.0, v + 0.03) for v in value)
    columns = {"copies": copies, "auc": value, "low": low, "high": high, "planted": (50, 50, 50, 50, 3)}
    planted = finding(
        "membership.canary",
        "descriptive",
        *(
            estimate(f"auc_d{d}", v, a, b, n=(50, 50))
            for d, v, a, b in zip(copies, value, low, high, strict=True)
        ),
        reasons=(Message("reported_only"),),
        series=(Series("canary", {key: tuple(float(x) for x in column) for key, column in columns.items()}),),
    )
    leaky = leaking()
    return replace(leaky, findings=tuple(planted if f.test == planted.test else f for f in leaky.findings))


def hostile() -> Audit:
    base = leaking()
    wicked = finding(
        f"membership.combined.auc@site={HOSTILE}",
        "leak",
        estimate("auc", 0.9, 0.8, 0.95, method=HOSTILE),
        estimate(HOSTILE, 0.9, 0.8, 0.95),
        reasons=(
            Message(HOSTILE, {HOSTILE: HOSTILE}),
            Message("model_cannot", {"protocol": HOSTILE}),
            Message("overlap_found", {"share": HOSTILE}),
        ),
        settings={HOSTILE: HOSTILE},
        material=0.55,
    )
    unknown = replace(wicked, test=HOSTILE, attacker=HOSTILE, references=(HOSTILE,), subgroups=())
    return replace(
        base,
        model=ModelRef(HOSTILE, HOSTILE, "declared", {HOSTILE: HOSTILE}),
        command=f"primum audit {HOSTILE}",
        data={**base.data, HOSTILE: HOSTILE},
        context={**base.context, HOSTILE: HOSTILE},
        findings=(*base.findings, wicked, unknown),
    )


ALL = {
    "leaking": leaking,
    "clean": clean,
    "confounded": confounded,
    "inconclusive": inconclusive,
    "canaries": with_canaries,
    "hostile": hostile,
}
