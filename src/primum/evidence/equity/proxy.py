"""Whether the protected attributes can be read from the score, or from inputs that are said to be neutral."""

from collections.abc import Mapping

import numpy as np
from scipy.special import logit

from primum.evidence.blind import blind_guesses
from primum.evidence.equity.answers import FEWEST, Answers, Group
from primum.evidence.estimate import Estimate
from primum.evidence.measured import BoolArray, FloatArray
from primum.evidence.ranking import auc

MOST_PATIENTS = 20_000
_LEAST = 1e-6


def proxies(
    answers: Answers, groups: tuple[Group, ...], neutral: Mapping[str, FloatArray], *, seed: int
) -> dict[Group, tuple[Estimate, ...]]:
    """Guess of each patient whether the patient is of a group, by ridge regression that saw other patients.

    Parameters
    ----------
    answers : Answers
    groups : tuple of Group
    neutral : mapping of str to float64, shape (n,)
        Such guesses from the neutral inputs, by name of the group; NaN where not asked.
    seed : int
        Of the folds, and of the sample where there are more than 20,000 patients.

    Returns
    -------
    mapping of Group to tuple of Estimate
        AUC of the guesses, .5 where they tell nothing, higher is more telling: ``proxy_score`` from the
        model's probabilities, ``proxy_label`` from the true class alone (what the illness itself tells),
        ``proxy_neutral`` from the neutral inputs. Groups of fewer than 20 patients, or with fewer outside,
        are left out.
    """
    sample = np.sort(np.random.default_rng(seed).permutation(answers.people)[:MOST_PATIENTS])
    given = list(answers.probability.values())
    scores = np.stack([*given, *(logit(one.clip(_LEAST, 1 - _LEAST)) for one in given)], axis=1)
    labels = np.stack([answers.label == target for target in answers.probability], axis=1)
    features = {"proxy_score": scores, "proxy_label": labels.astype(np.float64)}
    means = {name: by_patient(answers, values)[sample] for name, values in features.items()}
    members = membership(answers, groups)[sample]
    found: dict[Group, list[Estimate]] = {group: [] for group in groups}
    for name, rows in means.items():
        guesses = guesses_of(rows, members, seed=seed)
        for place, group in enumerate(groups):
            found[group] += _auc(name, guesses[:, place], members[:, place])
    for place, group in enumerate(groups):
        if group.name in neutral:
            guess = by_patient(answers, neutral[group.name][:, None])[sample, 0]
            found[group] += _auc("proxy_neutral", guess, members[:, place])
    return {group: tuple(estimates) for group, estimates in found.items() if estimates}


def membership(answers: Answers, groups: tuple[Group, ...]) -> FloatArray:
    """Say who is in a group (1), outside (0), or unknown (NaN), shape (people, groups).

    A patient with cases on both sides counts as of the group.
    """
    found = np.full((answers.people, len(groups)), np.nan)
    for place, group in enumerate(groups):
        inside, outside = answers.sides(group)
        found[answers.patient[outside], place] = 0
        found[answers.patient[inside], place] = 1
    return found


def guesses_of(features: FloatArray, members: FloatArray, *, seed: int) -> FloatArray:
    """Cross-fitted guesses of each group, shape (patients, groups), NaN where the truth is unknown."""
    guesses = np.full(members.shape, np.nan)
    for place in range(members.shape[1]):
        known = np.isfinite(members[:, place])
        truth: BoolArray = members[known, place : place + 1] > 0
        rows = features[known]
        guesses[known, place] = blind_guesses(rows, truth, dense_columns=rows.shape[1], seed=seed)[:, 0]
    return guesses


def by_patient(answers: Answers, values: FloatArray) -> FloatArray:
    """Take the mean over each patient's cases: from shape (cases, k) to (people, k)."""
    if answers.single:
        whole = np.empty_like(values)
        whole[answers.patient] = values
        return whole
    sums = [np.bincount(answers.patient, answers.weight * column, answers.people) for column in values.T]
    return np.stack(sums, axis=1)


def _auc(name: str, guesses: FloatArray, members: FloatArray) -> list[Estimate]:
    sides = [guesses[(members == side) & np.isfinite(guesses)] for side in (1, 0)]
    if min(map(len, sides)) < FEWEST:
        return []
    found = auc(*sides)
    return [Estimate(name, found.value, found.low, found.high, found.n, found.method)]
