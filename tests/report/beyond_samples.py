"""A report on everything: each family beyond privacy with findings that its own statistics made."""

from dataclasses import replace
from functools import cache

import numpy as np
from studies.robustness_power import corrupted, drawn, everything
from tests.evidence import equity_worlds, test_explanations, test_tainted
from tests.report import samples

from primum.evidence.audit import Audit
from primum.evidence.beside import CLAIMS_BESIDE
from primum.evidence.contrast import Frame
from primum.evidence.finding import Finding, Message, Scalar
from primum.evidence.observed import Observed
from primum.evidence.verdicts import judge

ASKED: dict[str, Scalar] = {
    "strength": 4,
    "levels": 255,
    "steps": 10,
    "queries": 200,
    "patch_side": 3,
    "universal_strength": 8,
}
FRAME = Frame("0" * 64, "1" * 64, "none", "observed", 0)


def observed(*, harm: bool) -> list[Observed]:
    """What each family observed: of a model that fails everywhere, or nowhere."""
    robust = drawn(
        np.random.default_rng(0), everything(0.4 if harm else 0.02, 0.02) | corrupted(0.2 if harm else 0.0)
    )
    robust = replace(robust, settings={**robust.settings, **ASKED})
    columns = test_tainted.columns(1200, flips=0.1 if harm else 0.0)
    data = Observed("data", columns, test_tainted.NAMES, {"marks_tested": 3})
    missed = test_explanations.gains(1.2 if harm else 0.1)
    said = Observed(
        "explanations",
        {"patient": np.arange(100.0), **missed},
        settings={"explainer": "x", "explainer_name": "Integrated Gradients"},
        refused={"explanations.weights": Message("explanations_needs_weights")},
    )
    return [robust, equity_worlds.observed(20_000, seed=1, gap=0.15 if harm else 0.0), data, said]


@cache
def findings(*, harm: bool) -> tuple[Finding, ...]:
    """Judge them together."""
    claims, described = [], []
    for one in observed(harm=harm):
        more, beside = CLAIMS_BESIDE[one.family](one, FRAME)
        claims += more
        described += beside
    return (*judge(claims), *described)


def harmful() -> Audit:
    """No leak; fragile, tainted, unfair, and not to be believed."""
    base = samples.ALL["clean"]()
    return replace(base, findings=(*base.findings, *findings(harm=True)))


def harmless() -> Audit:
    """Nothing was found, of any family."""
    base = samples.ALL["clean"]()
    return replace(base, findings=(*base.findings, *findings(harm=False)))


def no_privacy() -> Audit:
    """As after ``--only robustness,data,equity,explanations``."""
    base = samples.ALL["clean"]()
    overlap = [one for one in base.findings if one.test == "data.overlap"]
    return replace(base, findings=(*overlap, *findings(harm=True)))


def leaking_too() -> Audit:
    """A leak leads whatever else is wrong."""
    base = samples.ALL["leaking"]()
    return replace(base, findings=(*base.findings, *findings(harm=True)))


ALL = {"harmful": harmful, "harmless": harmless, "no privacy": no_privacy, "leaking too": leaking_too}
