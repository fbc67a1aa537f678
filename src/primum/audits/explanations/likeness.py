"""Do explanations agree with each other, and with themselves when a case changes in nothing that matters?

References
----------
Alvarez-Melis & Jaakkola, On the robustness of interpretability methods, 2018 (stability).
Krishna et al., The disagreement problem in explainable machine learning, TMLR 2024 (agreement).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from primum.audits.explanations.asked import Asked, Explained, Totals
from primum.audits.explanations.planted import found, planted_classifier, planted_parts
from primum.audits.explanations.weights import similarity
from primum.fit.explainers import Method, cannot_explain
from primum.records.histories import FloatArray

# Of the deviation of the values.
NOISE = 0.05


def agreement(explained: Explained) -> dict[str, FloatArray]:
    """Correlate the ranks of the parts with those of each other method: ``agreement:method``, their mean."""
    few = min(map(len, explained.values()))
    return {
        f"agreement:{method}": np.mean(
            [_similar(explained[method], explained[other])[:few] for other in explained if other != method],
            axis=0,
        )
        for method in explained
    }


def stability(asked: Asked, explained: Explained) -> dict[str, FloatArray]:
    """Explain each case again with a little noise: ``stability:method``, the correlation of ranks.

    NaN where the noise turns the verdict: the explanation may then change. Not for letters.
    """
    rng, spread = np.random.default_rng([asked.seed, 2]), asked.spread()
    noisy = []
    for one in asked.cases.inputs:
        moved = one + NOISE * spread * rng.standard_normal(one.shape)
        if one.dtype.kind in "iu":
            limits = np.iinfo(one.dtype)
            moved = np.clip(np.rint(moved), limits.min, limits.max)
        noisy.append(moved.astype(one.dtype))
    # Explainers that draw at random draw anew: users see that, too.
    other = replace(asked.showing(noisy), seed=asked.seed + 1)
    same = asked.predictor.predict_proba(other.cases).argmax(axis=1) == asked.verdicts
    return {
        f"stability:{method}": np.where(same, _similar(totals, other.totals(method)), np.nan)
        for method, totals in explained.items()
    }


def recovery(asked: Asked, methods: Sequence[Method]) -> dict[str, FloatArray]:
    """Explain a model of ours that looks at known parts: ``planted:method``, 1: those rank first, .5: chance.

    Not for letters, bags, or cases with missing values.
    """
    looked_at = planted_parts(min(one.count for one in asked.parts), seed=asked.seed)
    model = planted_classifier(asked.parts, looked_at, kind=asked.kind)
    verdicts = model.predict_proba(asked.cases).argmax(axis=1)
    ours = Asked(
        model, asked.cases, asked.parts, verdicts, asked.background, asked.groups, asked.kind, asked.seed
    )
    return {
        f"planted:{method}": np.array([found(one, looked_at) for one in ours.totals(method)])
        for method in methods
        if cannot_explain(model, asked.cases, method, kind=asked.kind) is None
    }


def _similar(first: Totals, second: Totals) -> FloatArray:
    """Correlate case by case, as far as both go."""
    return np.array([similarity(a, b) for a, b in zip(first, second, strict=False)])
