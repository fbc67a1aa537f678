"""How the answer changes when parts of a case are taken away or put back, in one order or another.

References
----------
Petsiuk, Das & Saenko, RISE, BMVC 2018 (deletion and insertion).
Blücher, Vielhaben & Strodthoff, Decoupling pixel flipping and occlusion strategy, TMLR 2024 (the difference
of both: a random order has 0, whatever is put in the place of what is taken away).
Castro, Gómez & Tejada, Computers & Operations Research 36 (2009) 1726 (Shapley values from random orders).
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats
from scipy.special import expit

from primum.audits.explanations.asked import FEWEST, Asked, Explained, away_from_background
from primum.evidence.finding import Series
from primum.evidence.measured import BoolArray
from primum.fit.explainers import Method, Parts, log_odds
from primum.models.predictors import Predictor
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

STEPS, ORDERS = 16, 8
# Shares of the case taken away, or put back, at which the curves are drawn.
SHARES = np.arange(STEPS + 1) / STEPS
_DRAWN = ("explained_order", "model_free_order", "best_order", "random_order")


def removal_curves(predictor: Predictor, parts: Parts, orders: IntArray, *, towards: int) -> FloatArray:
    """Take parts away, and put them back on the background, the first of an order first.

    Parameters
    ----------
    predictor : Predictor
    parts : Parts
    orders : int64, shape (k, parts)
        Each a permutation of the parts.
    towards : int
        Position of the class that is watched.

    Returns
    -------
    float64, shape (k, 2, 17)
        Probability of the class after deletion, then after insertion, of 0, 1/16, ... of the parts.
    """
    rank = np.argsort(orders, axis=1)[:, None]
    counts = np.rint(SHARES * parts.count)[:, None]
    keep = np.stack([rank >= counts, rank < counts], axis=1).reshape(-1, parts.count)
    return _probabilities(predictor, parts, keep, towards).reshape(len(orders), 2, len(SHARES))


def gain(curves: FloatArray) -> FloatArray:
    """Area under insertion minus area under deletion, shape (k,): 0 is a random order, lower is worse."""
    difference: FloatArray = np.trapezoid(curves[:, 1] - curves[:, 0], SHARES, axis=-1)  # type: ignore[assignment]
    return difference


def random_orders(
    predictor: Predictor, parts: Parts, *, towards: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Take parts away in eight random orders, four of them the others backwards.

    Returns
    -------
    float64, shape (8, 2, 17), and float64, shape (parts,)
        Curves as :func:`removal_curves`, and what each part adds to the probability when it comes, on
        average: an estimate of its Shapley value.
    """
    orders = np.stack([rng.permutation(parts.count) for _ in range(ORDERS // 2)])
    orders = np.concatenate([orders, orders[:, ::-1]])
    rank = np.argsort(orders, axis=1)[:, None]
    keep = (rank >= np.arange(parts.count + 1)[:, None]).reshape(-1, parts.count)
    paths = _probabilities(predictor, parts, keep, towards).reshape(ORDERS, parts.count + 1)
    values = np.zeros((ORDERS, parts.count))
    np.put_along_axis(values, orders, -np.diff(paths, axis=1), axis=1)
    counts = np.rint(SHARES * parts.count).astype(np.int64)
    return np.stack([paths[:, counts], paths[:, parts.count - counts]], axis=1), values.mean(axis=0)


def _probabilities(predictor: Predictor, parts: Parts, keep: BoolArray, towards: int) -> FloatArray:
    odds = log_odds(predictor, parts.keeping(keep), np.full(len(keep), towards))
    probabilities: FloatArray = expit(odds)
    return probabilities


def remove(
    asked: Asked, explained: Explained, shown: Method, *, progress: Callable[[int, int], None] | None = None
) -> tuple[dict[str, FloatArray], tuple[Series, ...]]:
    """Compare the order of each explanation with random ones, with one made without the model, and the best.

    Parameters
    ----------
    asked : Asked
    explained : mapping of method to sequence of float64
    shown : str
        The method whose curves are drawn.
    progress : callable or None
        Told (patients done, patients in all).

    Returns
    -------
    dict and tuple of Series
        Columns ``gain:…`` of each method, of ``free`` (by distance from the background), ``best`` (by sampled
        Shapley values) and ``random``, shape (n,), NaN where not asked; and both mean curves.
    """
    rng, spread = np.random.default_rng([asked.seed, 1]), asked.spread()
    columns = {f"gain:{name}": np.full(len(asked), np.nan) for name in (*explained, "free", "best", "random")}
    kept: dict[str, list[FloatArray]] = {name: [] for name in _DRAWN}
    for row, (parts, towards) in enumerate(zip(asked.parts, asked.verdicts.tolist(), strict=True)):
        random, shapley = random_orders(asked.predictor, parts, towards=towards, rng=rng)
        ranked: dict[str, FloatArray] = {
            name: all_[row] for name, all_ in explained.items() if row < len(all_)
        }
        ranked |= {"free": parts.totals(away_from_background(parts) / spread), "best": shapley}
        # Parts that an order does not tell apart come by chance.
        orders = np.stack([np.lexsort((rng.random(parts.count), -one)) for one in ranked.values()])
        curves = removal_curves(asked.predictor, parts, orders, towards=towards)
        for name, value in zip(ranked, gain(curves), strict=True):
            columns[f"gain:{name}"][row] = value
        columns["gain:random"][row] = gain(random).mean()
        named = dict(zip(ranked, curves, strict=True))
        everyone = (named[shown], named["free"], named["best"], random.mean(axis=0))
        for name, one in zip(_DRAWN, everyone, strict=True):
            kept[name].append(one)
        if progress:
            progress(row + 1, len(asked))
    if len(asked) < FEWEST:
        return columns, ()
    drawn = {name: np.stack(values) for name, values in kept.items()}
    deletion, insertion = ({name: one[:, side] for name, one in drawn.items()} for side in (0, 1))
    return columns, (_curve("explanations_deletion", deletion), _curve("explanations_insertion", insertion))


def _curve(name: str, curves: Mapping[str, FloatArray]) -> Series:
    """Mean over patients; of the order shown and of random ones with the 95 % interval of the mean."""
    columns = {"parts_changed": SHARES, **{key: values.mean(axis=0) for key, values in curves.items()}}
    for key in (_DRAWN[0], _DRAWN[-1]):
        half = half_width(curves[key])
        columns |= {f"{key}_low": columns[key] - half, f"{key}_high": columns[key] + half}
    return Series(name, {key: tuple(map(float, values)) for key, values in columns.items()})


def half_width(values: FloatArray) -> FloatArray:
    """Half the 95 % interval of a mean over patients, the first axis."""
    count = len(values)
    half: FloatArray = stats.t.ppf(0.975, count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count)
    return half
