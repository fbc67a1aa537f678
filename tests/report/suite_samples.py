"""Audits of the whole suite, with invented figures: one that leaks everywhere, one that does not."""

from dataclasses import replace

from tests.report import samples
from tests.report.samples import HOSTILE, estimate, finding, risk

from primum.evidence.audit import Audit
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Message, Scalar, Series, Verdict
from primum.evidence.rules import RULES as ALL_RULES
from primum.evidence.rules import RULES_OF

RULES = RULES_OF["sequence"]

_N = (250, 250)
LADDER = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 50.0)
_BANDS = tuple(float(step) for step in range(-4, 5))
_ASKED: dict[str, Scalar] = {"members": 250, "held_out": 250}
SETTINGS: dict[str, dict[str, Scalar]] = {
    "trajectory": {"known_events": 10, "samples": 8},
    "sensitive": {},
    "embedding": {"chance": 0.002},
    "perturbation": {"most_values": 9},
    "knowledge": {
        "cost_queries": 100,
        "fewer_than_50": 61,
        "k_star_1": None,
        "k_star_bits_1": None,
        "k_star_100": 5,
        "k_star_bits_100": 41.25,
        "k_star_10000": -1,
        "k_star_bits_10000": 0.0,
    },
    "extraction": {"known_events": 5, "queries": 100, "passage_codes": 8},
    "bias": {"models": 32},
    "attribute": {"attributes": 1, "queries": 4},
    "inversion": {"steps": 10, "line_up": 10, "chance": 0.1},
    "structure": {"rows_kept": 250},
}
GROUPS = ("sex=F", "sex=M", "rare", f"site={HOSTILE}")


def curve(name: str, x: tuple[float, ...], *, gap: float, start: float = 0.0, slope: float = 0.02) -> Series:
    """Members `gap` above the others from the third place on; the last place but one has too few patients."""
    rows: list[tuple[float | None, ...]] = []
    for place, value in enumerate(x):
        other = start + slope * place
        difference = gap if place > 1 else 0.0
        told = (other + difference, other, difference, difference - 0.03, difference + 0.03, 250.0, 250.0)
        rows.append((value, *((None,) * 7 if place == len(x) - 2 else told)))
    names = ("x", "members_mean", "held_out_mean", "difference", "difference_low", "difference_high")
    columns = zip((*names, "members", "held_out"), zip(*rows, strict=True), strict=True)
    return Series(name, dict(columns))


SERIES: dict[str, tuple[Series, ...]] = {
    "knowledge.depth": (curve("knowledge_depth", LADDER, gap=1.5, start=-6.0, slope=0.3),),
    "knowledge.cost": tuple(
        curve(f"extraction_cost_{n}", LADDER, gap=gap) for n, gap in ((1, 0.0), (100, 0.2), (10_000, 0.6))
    ),
    "extraction.passages": (curve("extraction", (1.0, 10.0, 100.0, 1000.0, 10000.0), gap=0.1),),
    "perturbation.age": (curve("perturbation_age", _BANDS, gap=-0.2),),
    "perturbation.sex": (curve("perturbation_sex", (0.0, 1.0, 2.0, 3.0), gap=-0.1),),
    "perturbation.site": (curve("perturbation_site", (0.0, 1.0, 2.0, 3.0), gap=-0.1),),
    "perturbation.dates": (curve("perturbation_dates", _BANDS, gap=-0.1),),
    "trajectory.distance": (replace(risk(1.0), name="trajectory_distance"),),
}


def _estimates(measure: str, effect: float) -> tuple[Estimate, ...]:
    if measure == "auc":
        return (estimate("auc", 0.5 + effect, 0.46 + effect, 0.54 + effect, n=_N),)
    if measure == "guesses":
        names = ("auroc_difference", "auroc_difference_corrected", "auroc_difference:hiv")
        return tuple(estimate(name, effect, effect - 0.04, effect + 0.04, n=_N) for name in names)
    nan = float("nan")
    return (
        estimate("share_difference", effect, effect - 0.012, effect + 0.012, n=_N),
        Estimate("members_mean", 0.01 + effect, nan, nan, (250,), "mean"),
        Estimate("held_out_mean", 0.01, nan, nan, (250,), "mean"),
        estimate("stratified_share_difference", effect, effect - 0.02, effect + 0.02, n=_N),
    )


def tested(test: str, verdict: Verdict, effect: float, *reasons: Message, drawn: bool = False) -> Finding:
    rule = ALL_RULES[test]
    one = finding(
        test,
        verdict,
        *_estimates(rule.measure, effect),
        reasons=reasons,
        material={"auc": 0.55, "share": 0.02, "guesses": 0.05}[rule.measure],
        p_value=1e-9 if verdict == "leak" else 0.4,
        settings={**_ASKED, **SETTINGS[test.partition(".")[0]]},
        series=SERIES.get(test, ()) if drawn else (),
        primary=rule.primary,
    )
    return replace(one, attacker=rule.attacker)


def by_group(test: str, effect: float) -> list[Finding]:
    name = "auc" if RULES[test].measure == "auc" else "share_difference"
    centre = effect + (0.5 if name == "auc" else 0.0)
    found = []
    for place, group in enumerate(GROUPS):
        value, n = centre + 0.01 * place, (40, 90)
        pooled = estimate(f"{name}_pooled", value, value - 0.01, value + 0.01, n=n, method="partial-pooling")
        alone = estimate(name, value + 0.02, value - 0.05, value + 0.08, n=n)
        reason = Message("reported_only")
        found.append(finding(f"{test}@{group}", "descriptive", pooled, alone, reasons=(reason,)))
    return found


def leaking_suite() -> Audit:
    """Everything leaks but recognition of patients by the scores."""
    effects = {"auc": 0.3, "share": 0.12, "guesses": 0.17}
    harm = Message("harm_found")
    claims = [
        tested(test, "leak" if rule.claims else "descriptive", effects[rule.measure], harm, drawn=True)
        for test, rule in RULES.items()
    ]
    groups = [
        one
        for test, rule in RULES.items()
        if rule.primary and rule.measure != "guesses"
        for one in by_group(test, effects[rule.measure])
    ]
    clean = samples.clean().findings
    return samples.audit(*clean[:3], *claims, *clean[3:], *groups, members=1000, name="ehr-suite")


def clean_suite() -> Audit:
    """Nothing leaks; embeddings are not there; two attacks had too few patients, one of them primary."""
    below = Message("below_material")
    few = Message("needs_patients", {"needed_members": 900, "needed_held_out": 900})
    cannot = Message("model_cannot", {"protocol": "Embedder"})
    claims = []
    for test, rule in RULES.items():
        if test.startswith("embedding."):
            claims.append(finding(test, "not_applicable", reasons=(cannot,), primary=rule.primary))
        elif test in {"trajectory.codes", "trajectory.verbatim"}:
            claims.append(tested(test, "inconclusive", 0.01, few))
        elif rule.claims:
            claims.append(tested(test, "none_found", 0.001, below))
    return samples.audit(*samples.clean().findings, *claims, members=1000, name="ehr-suite")


def only(*leaks: str, confounded: tuple[str, ...] = ()) -> Audit:
    """Return the clean suite in which these tests leak, and those are confounded."""
    base = clean_suite()
    kept = [
        tested(f.test, "leak", 0.2, Message("harm_found"))
        if f.test in leaks
        else tested(f.test, "confounded", 0.2, Message("not_beyond_blind"))
        if f.test in confounded
        else f
        for f in base.findings
    ]
    return replace(base, findings=tuple(kept))


def leaking_classifier() -> Audit:
    """Everything leaks of a classifier whose cases nobody knows by patient."""
    effects = {"auc": 0.3, "share": 0.12, "guesses": 0.17}
    shaped: dict[str, Scalar] = {"score": "rmia", "shadow_models": 8, "label_only_queries": 33}
    recognised = [
        replace(one, attacker="probabilities", settings={**one.settings, **shaped})
        for one in samples.leaking().findings
        if one.test.startswith(("data.", "membership.combined"))
    ]
    claims = [
        tested(test, "leak" if rule.claims else "descriptive", effects[rule.measure], Message("harm_found"))
        for test, rule in RULES_OF["classifier"].items()
        if test != "bias.future" and rule.measure != "observed"
    ]
    absent = [
        finding(
            "membership.named", "not_applicable", reasons=(Message("needs_shadows_to_name", {"shadows": 32}),)
        ),
        finding("bias.future", "not_applicable", reasons=(Message("needs_recipe", {"references": 16}),)),
    ]
    whole = samples.audit(*recognised, *claims, *absent, members=1000, name="chest-classifier")
    context: dict[str, Scalar] = {
        "kind": "image",
        "unit": "case",
        "classes": 2,
        "held_out_balanced_accuracy": 0.91,
        "training_balanced_accuracy": 1.0,
        "version": "0.1.0",
    }
    return replace(whole, context=context)


ALL = {
    **samples.ALL,
    "leaking suite": leaking_suite,
    "clean suite": clean_suite,
    "leaking classifier": leaking_classifier,
}
