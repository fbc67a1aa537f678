"""False alarms and power of the robustness tests where the truth is known.

Verdicts are drawn, without any model: of each patient's right verdicts an attack turns a share, chance
another, and patients whose verdict is easily turned by the one are easily turned by the other. Where nothing
is planted both shares are alike, so that every alarm is false. A third of the patients is of the rarer class;
with several cases a patient, these go together. Alarms are raw p below .05 before correction for several
tests; "fragile" is the verdict of one test judged alone, for which the share must also reach what matters,
.05.

Of corruption the null is a model as often right as before, though not of the same patients, under every one
of eight kinds at every severity; the kind that happens to look worst is judged.
"""

import sys
import time
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from primum.evidence.contrast import Frame
from primum.evidence.finding import Scalar
from primum.evidence.observed import Observed
from primum.evidence.robustness import PRIMARY, robustness_claims
from primum.evidence.robustness_answers import CORRUPTIONS, SEVERITIES, STRENGTHS
from primum.evidence.verdicts import judge
from studies.tables import Table, write_page

Classes = NDArray[np.int64]
FRAME = Frame("0" * 64, "1" * 64, "probabilities", "observed", 0)
SETTINGS: Mapping[str, Scalar] = {
    "white_box": True, "sigma": 0.05, "attack": "apgd", "patch_rows": 28, "patch_columns": 28
}  # fmt: skip
RUNS, KINDS = 600, CORRUPTIONS[:8]
TURNED = (PRIMARY, "robustness.patch", "robustness.universal")


def observed(conditions: Mapping[str, Classes], *, labels: Classes, patients: Classes) -> Observed:
    """Write columns from the class that each condition gives."""
    columns = {"patient": patients.astype(np.float64), "label": labels.astype(np.float64)}
    for name, classes in conditions.items():
        columns[f"{name}:class"] = classes.astype(np.float64)
        columns[f"{name}:margin"] = np.where(classes == labels, 1.0, -1.0)
    return Observed("robustness", columns, {"label": ("benign", "malignant")}, SETTINGS)


def drawn(
    rng: np.random.Generator,
    turned: Mapping[str, float],
    *,
    count: int = 150,
    each: int = 1,
    right: float = 0.9,
    kept: Iterable[str] = (),
) -> Observed:
    """Draw patients of two classes, of whose right verdicts each condition turns a share at random.

    In the conditions `kept` as many verdicts are right as without, of other patients.
    """
    patients = np.repeat(np.arange(count), each)
    labels = np.repeat(np.arange(count) % 3 == 0, each).astype(np.int64)
    labels = np.where(rng.random(len(labels)) < 0.1, 1 - labels, labels)
    clean = np.where(rng.random(len(labels)) < right, labels, 1 - labels)
    made = {"clean": clean}
    frail = 2 * rng.random(count)[patients]  # what is easily turned once is easily turned again
    for name, share in turned.items():
        made[name] = np.where(rng.random(len(labels)) < share * frail, 1 - clean, clean)
    for name in kept:
        made[name] = np.where(rng.random(len(labels)) < right, labels, 1 - labels)
    return observed(made, labels=labels, patients=patients)


def everything(share: float, chance: float) -> dict[str, float]:
    """Name every condition, attacks turning one share and chance another."""
    noise = {f"noise@{one}": chance for one in STRENGTHS} | {"patchnoise": chance, "l2noise": chance}
    attacks = [f"evasion@{one}" for one in STRENGTHS] + ["patch", "universal@8", "l2", "square@4"]
    return noise | dict.fromkeys([*attacks, "decision@4", "transfer@4"], share)


def corrupted(lost: float, kinds: Iterable[str] = KINDS) -> dict[str, float]:
    """Name corruptions at every severity."""
    return {f"corruption:{kind}:{one}": lost for kind in kinds for one in SEVERITIES}


def alarms(worlds: Iterable[Observed], tests: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Count of each test the raw alarms and the verdicts of harm when it is judged alone."""
    found = dict.fromkeys(tests, (0, 0))
    for world in worlds:
        for claim in robustness_claims(world, FRAME, only=tests)[0]:
            test = claim.draft.test
            if test in found and claim.draft.p_value is not None:
                raw, harm = found[test]
                found[test] = raw + (claim.draft.p_value < 0.05), harm + judge([claim])[0].harmful
    return found


def interval(count: int, runs: int) -> str:
    """Write a share with its Clopper-Pearson interval."""
    low = betaincinv(count, runs - count + 1, 0.025) if count else 0.0
    high = betaincinv(count + 1, runs - count, 0.975) if count < runs else 1.0
    return f"{count / runs:.3f} ({low:.3f}-{high:.3f})"


def main(runs: int = RUNS) -> None:
    """Write the page."""
    start = time.process_time()
    false = Table("test", "patients", "cases each", "runs", "raw alarms", "fragile")
    for count, each in ((40, 1), (150, 1), (400, 1), (40, 3), (150, 3)):
        rng = np.random.default_rng([count, each])
        worlds = (drawn(rng, everything(0.15, 0.15), count=count, each=each) for _ in range(runs))
        for test, (raw, harm) in alarms(worlds, TURNED).items():
            false.add(test, count, each, runs, interval(raw, runs), interval(harm, runs))
        rng = np.random.default_rng([count, each, 1])
        worlds = (drawn(rng, {}, count=count, each=each, right=0.8, kept=corrupted(0)) for _ in range(runs))
        for test, (raw, harm) in alarms(worlds, ("robustness.corruption",)).items():
            false.add(test, count, each, runs, interval(raw, runs), interval(harm, runs))
    power = Table("test", "patients", "planted", "runs", "raw alarms", "fragile")
    for count in (60, 150, 400):
        for planted in (0.02, 0.05, 0.1, 0.2):
            rng, few = np.random.default_rng([count, int(100 * planted)]), runs // 4
            worlds = (drawn(rng, everything(0.02 + planted, 0.02), count=count) for _ in range(few))
            raw, harm = alarms(worlds, (PRIMARY,))[PRIMARY]
            power.add(PRIMARY, count, planted, few, interval(raw, few), interval(harm, few))
            one = corrupted(0.01) | corrupted(0.01 + planted / 0.8, ("blur",))
            worlds = (drawn(rng, one, count=count) for _ in range(few // 2))
            test = "robustness.corruption"
            raw, harm = alarms(worlds, (test,))[test]
            power.add(test, count, planted, few // 2, interval(raw, few // 2), interval(harm, few // 2))
    spent = time.process_time() - start
    notes = (
        f"{spent:.0f} CPU-seconds. Planted: of attacks the share of right verdicts turned beyond chance, "
        "chance turning .02; of corruption the balanced accuracy lost to one of eight kinds, else .008."
    )
    write_page("robustness_power", __doc__, false, power, notes=notes)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS)
