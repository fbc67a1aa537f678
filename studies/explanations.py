"""Explanations: do the tests leave good explainers alone, and do they find bad ones?

Small convolutional networks, each with a seed of its own: trained on 240 synthetic chest-like images of 14 x
14 pixels, asked about 40 others; half of them with a tenth of the labels wrong. Good explainers are captum's
on the model itself: integrated gradients, KernelSHAP, occlusion; LIME and Grad-CAM stand beside them as they
are. Bad ones are known to be bad: random numbers; edges of the image, and its distance from the mean image,
which need no model; integrated gradients of the same network with other weights; integrated gradients upside
down. "Called fragile" is a raw p below .05 with the material effect reached, before any correction.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from primum.audits.explanations.asked import Asked, Totals, away_from_background, draw
from primum.audits.explanations.likeness import recovery
from primum.audits.explanations.planted import found, planted_parts
from primum.audits.explanations.removal import remove
from primum.audits.explanations.weights import layers_of, randomised, redraw
from primum.audits.privacy.case_subjects import CaseSubjects
from primum.evidence.contrast import Frame
from primum.evidence.explanations import explanations_claims
from primum.evidence.identity import ModelRef
from primum.evidence.observed import Observed
from primum.evidence.verdicts import Claim
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.explainers import METHODS, Method, Parts, cannot_explain
from primum.fit.loop import LoopSettings
from primum.models.opened import OpenedClassifier
from primum.records.synthetic_cases import ImageSettings, synthetic_images
from primum.records.synthetic_cases.images import IMAGE_CLASSES
from studies.tables import Table, write_page

MODELS, TRAINED_ON, ASKED, FIRST_SEED = 40, 240, 40, 1000
# Of the slow explainers the first so many patients are asked.
SLOW = 24
GOOD: tuple[Method, ...] = ("integrated_gradients", "kernel_shap", "occlusion")
FRAME = Frame("0" * 64, "0" * 64, "none", "observed", 0)
Floats = NDArray[np.float64]


def asked_of(seed: int) -> Asked:
    """Train a network of its own and put cases that it never saw before it."""
    drawn = synthetic_images(2 * (TRAINED_ON + ASKED), seed=seed, settings=ImageSettings(size=14))
    cases = drawn.select(np.unique(drawn.subject_ids, return_index=True)[1][: TRAINED_ON + ASKED])
    train, test = cases.select(np.arange(TRAINED_ON)), cases.select(TRAINED_ON + np.arange(ASKED))
    wrong = (np.random.default_rng(seed).random(TRAINED_ON) < 0.1) & bool(seed % 2)
    train = replace(train, labels=np.where(wrong, 1 - train.labels, train.labels))
    loop = LoopSettings(8, batch=16, learning_rate=3e-3, warmup=0.15)
    model = ClassifierRecipe("image", IMAGE_CLASSES, loop, 32).fit(train, seed=seed)
    opened = OpenedClassifier(ModelRef("model", "0" * 64, "computed", {}), model, 0)
    everyone = np.arange(ASKED)
    subjects = CaseSubjects(everyone, np.zeros(ASKED, np.bool_), test, everyone, seed)
    return draw(opened, subjects, kind="image", groups=(), patients=ASKED, seed=seed)


def edges(parts: Parts) -> Floats:
    """Where the picture changes; no model is asked."""
    picture = parts.values[0].astype(np.float64)
    return parts.totals(np.hypot(*np.gradient(picture))[None])


def bad_explainers(asked: Asked, totals: Totals) -> Mapping[str, Totals]:
    rng = np.random.default_rng([asked.seed, 9])
    layers = layers_of(asked.predictor.module)  # type: ignore[attr-defined]
    stranger = randomised(asked.predictor, layers=layers, seed=asked.seed)
    return {
        "random numbers": [rng.random(one.count) for one in asked.parts],
        "edges": [edges(one) for one in asked.parts],
        "distance from the mean image": [one.totals(away_from_background(one)) for one in asked.parts],
        "gradients of other weights": asked.totals("integrated_gradients", predictor=stranger),
        "gradients upside down": [-one for one in totals],
    }


def fragile(claim: object) -> bool:
    if not isinstance(claim, Claim) or claim.draft.p_value is None or claim.draft.material is None:
        return False
    return claim.draft.p_value < 0.05 and claim.draft.estimates[0].value >= claim.draft.material


def judged(columns: Mapping[str, Floats], explainer: str) -> dict[str, tuple[bool, float]]:
    """Whether each claim calls an explainer fragile, and its estimate."""
    patient = np.arange(ASKED, dtype=np.float64)
    observed = Observed("explanations", {"patient": patient, **columns}, settings={"explainer": explainer})
    claims, _ = explanations_claims(observed, FRAME)
    return {
        one.draft.test: (fragile(one), one.draft.estimates[0].value) for one in claims if one.draft.estimates
    }


def model_run(seed: int) -> dict[tuple[str, str], tuple[bool, float]]:
    """One network: every explainer before both claims, and on the planted model."""
    asked, result = asked_of(seed), {}
    methods = [m for m in METHODS if cannot_explain(asked.predictor, asked.cases, m, kind="image") is None]
    explained: dict[str, Totals] = {
        method: (asked.first(SLOW) if method in ("kernel_shap", "lime") else asked).totals(method)
        for method in methods
    }
    explained |= bad_explainers(asked, explained["integrated_gradients"])
    columns, _ = remove(asked, explained, "integrated_gradients")  # type: ignore[arg-type]
    for name in explained:
        weights: dict[str, Floats] = {}
        if name in ("grad_cam", "integrated_gradients", "occlusion"):
            redrawn = redraw(asked.first(20), explained[name], name)  # type: ignore[arg-type]
            assert redrawn is not None
            weights = {key: np.append(one, np.full(ASKED - 20, np.nan)) for key, one in redrawn[0].items()}
        elif name in ("edges", "distance from the mean image"):
            weights = {f"weights:{number}": np.ones(ASKED) for number in range(8)}
            weights |= {"weights_absolute": np.ones(ASKED), "input_alone": np.ones(ASKED)}
        for test, seen in judged({**columns, **weights}, name).items():
            result[name, test] = seen
    looked_at = planted_parts(asked.parts[0].count, seed=seed)
    planted = {key.partition(":")[2]: one for key, one in recovery(asked.first(10), tuple(methods)).items()}
    for name in ("random numbers", "edges", "distance from the mean image"):
        planted[name] = np.array([found(one, looked_at) for one in explained[name]])
    return result | {(name, "planted"): (False, float(one.mean())) for name, one in planted.items()}


def told(runs: list[dict[tuple[str, str], tuple[bool, float]]], name: str, test: str) -> tuple[str, str]:
    seen = [run[name, test] for run in runs if (name, test) in run]
    if not seen:
        return "not asked", ""
    count, of = sum(alarm for alarm, _ in seen), len(seen)
    high = stats.beta.ppf(0.975, count + 1, of - count) if count < of else 1.0
    low = stats.beta.ppf(0.025, count, of - count + 1) if count else 0.0
    return f"{count} of {of} ({low:.0%} to {high:.0%})", f"{np.median([value for _, value in seen]):.2f}"


def boundary(draws: int = 1000) -> Table:
    """Explainers that miss exactly the material share, gains skewed and in [0, 1]: raw p below .05."""
    table = Table("Patients", "Distribution of what could be shown", "p < .05")
    shapes: Mapping[str, Callable[[np.random.Generator, int], Floats]] = {
        "even": lambda rng, n: rng.random(n),
        "many near 0": lambda rng, n: rng.beta(0.3, 2, n),
        "most near 1": lambda rng, n: rng.beta(3, 0.5, n),
    }
    for patients in (20, 40, 100):
        for name, shape in shapes.items():
            rng, alarms = np.random.default_rng(patients), 0
            for _ in range(draws):
                possible = shape(rng, patients)
                gained = possible * rng.beta(0.2, 0.8, patients)
                columns = {"gain:x": gained, "gain:best": possible, "gain:free": np.zeros(patients)}
                observed = Observed(
                    "explanations",
                    {"patient": np.arange(float(patients)), **columns, "gain:random": np.zeros(patients)},
                    settings={"explainer": "x"},
                )
                claims, _ = explanations_claims(observed, FRAME, only=("explanations.faithful",))
                alarms += bool(claims) and (claims[0].draft.p_value or 1.0) < 0.05
            table.add(patients, name, f"{alarms / draws:.1%}")
    return table


def main() -> None:
    import torch

    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MODELS
    runs = []
    for number in range(count):
        runs.append(model_run(FIRST_SEED + number))
        print(number + 1, "of", count, file=sys.stderr, flush=True)
    table = Table(
        "Explainer", "Called fragile by what it shows", "Median share missed",
        "Called fragile by its likeness under other weights", "Median likeness", "Planted parts found (AUC)",
    )  # fmt: skip
    names = dict.fromkeys(name for run in runs for name, _ in run)
    for name in sorted(names, key=lambda one: (one not in GOOD, one not in METHODS)):
        row = (*told(runs, name, "explanations.faithful"), *told(runs, name, "explanations.weights"))
        table.add(name.replace("_", " "), *row, told(runs, name, "planted")[1])
    for test in ("explanations.faithful", "explanations.weights"):
        alarms = [run[name, test][0] for run in runs for name in GOOD if (name, test) in run]
        high = stats.beta.ppf(0.975, sum(alarms) + 1, len(alarms) - sum(alarms))
        print(test, sum(alarms), "of", len(alarms), "good explainers called fragile; at most", high)
    write_page("explanations", __doc__, table, boundary())


if __name__ == "__main__":
    main()
