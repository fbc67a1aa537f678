"""Aggregation against loops written from the papers, examples worked by hand, and planted liars."""

import numpy as np
import pytest

from primum.errors import InputError
from primum.train.federated.aggregation import (
    RULES,
    Floats,
    Rule,
    aggregated,
    bulyan_selection,
    clipped,
    krum_scores,
    usable_rows,
)

ROBUST: tuple[Rule, ...] = ("median", "trimmed_mean", "krum", "multi_krum", "bulyan")


def drawn(sites: int, size: int = 7, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((sites, size)), rng.uniform(1, 9, sites)


def squared(one: Floats, other: Floats) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))


def score(rows: list[Floats], which: int, neighbours: int) -> float:
    far = sorted(squared(rows[which], row) for place, row in enumerate(rows) if place != which)
    return sum(far[: max(neighbours, 1)])


def by_loops(updates: Floats, weights: Floats, rule: str, f: int) -> list[float]:
    """Every rule once more, one number at a time."""
    rows, n = list(updates), len(updates)
    if rule == "mean":
        return [
            sum(w * x for w, x in zip(weights, column, strict=True)) / sum(weights) for column in updates.T
        ]
    if rule in ("krum", "multi_krum"):
        ranked = sorted(range(n), key=lambda one: score(rows, one, n - f - 2))
        kept = ranked[: 1 if rule == "krum" else n - f - 2]
        return [sum(rows[one][j] for one in kept) / len(kept) for j in range(updates.shape[1])]
    if rule == "bulyan":
        chosen = list[Floats]()
        while len(chosen) < n - 2 * f:
            best = min(range(len(rows)), key=lambda one: score(rows, one, len(rows) - f - 2))
            chosen.append(rows.pop(best))
        rows, kept_each = chosen, n - 4 * f
    answer = []
    for j in range(updates.shape[1]):
        column = sorted(float(row[j]) for row in rows)
        half = len(column) // 2
        middle = column[half] if len(column) % 2 else (column[half - 1] + column[half]) / 2
        if rule == "median":
            answer.append(middle)
        elif rule == "trimmed_mean":
            answer.append(sum(column[f : n - f]) / (n - 2 * f))
        else:
            answer.append(sum(sorted(column, key=lambda x: abs(x - middle))[:kept_each]) / kept_each)
    return answer


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("sites", "malicious"), [(15, 3), (15, 1), (12, 2), (11, 2), (7, 1), (4, 0), (3, 0)])
def test_rules_are_what_loops_give(rule: Rule, sites: int, malicious: int) -> None:
    for seed in range(5):
        updates, weights = drawn(sites, seed=seed)
        found = aggregated(updates, weights, rule=rule, malicious=malicious)
        np.testing.assert_allclose(found, by_loops(updates, weights, rule, malicious), rtol=1e-12, atol=1e-14)


def test_krum_by_hand() -> None:
    # n = 5, f = 1, two neighbours each: 0: 1+4, 1: 1+1, 2: 1+4, 4: 4+9, 100: far.
    line = np.array([[0.0], [1], [2], [4], [100]])
    distances = (line - line.T) ** 2
    assert krum_scores(distances, 1).tolist() == [5, 2, 5, 13, 96**2 + 98**2]
    assert aggregated(line, np.ones(5), rule="krum", malicious=1).tolist() == [1]
    # The two best are 1 and, of 0 and 2 that tie, the first.
    assert aggregated(line, np.ones(5), rule="multi_krum", malicious=1).tolist() == [0.5]


def test_bulyan_by_hand() -> None:
    line = np.array([[0.0], [1], [2], [3], [5], [8], [100]])
    # n = 7, f = 1, five picks. Four neighbours: 2 has 4+1+1+9 = 15, the least. Then of 0 1 3 5 8 100 three:
    # 1 has 1+4+16 = 21, 3 has 9+4+4 = 17. Of 0 1 5 8 100 two: 0 has 26, 1 has 17, 5 has 25. Of 0 5 8 100 one:
    # 5 and 8 tie at 9, the first is picked. Of 0 8 100 one: 0 and 8 tie at 64.
    assert bulyan_selection(line, 1) == [2, 3, 1, 4, 0]
    # Picked are 0 1 2 3 5; the three nearest to 2 are 1 2 3.
    assert aggregated(line, np.ones(7), rule="bulyan", malicious=1).tolist() == [2]


@pytest.mark.parametrize("rule", ROBUST)
@pytest.mark.parametrize("planted", [1e6, -1e99])
def test_planted_liars_do_not_move_a_robust_rule(rule: Rule, planted: float) -> None:
    updates, weights = drawn(15)
    low, high = updates[3:].min(0), updates[3:].max(0)
    updates[:3], weights[:3] = planted, 1e9
    found = aggregated(updates, weights, rule=rule, malicious=3)
    assert (low <= found).all() and (found <= high).all()
    mean = aggregated(updates, weights, rule="mean")
    assert not ((low <= mean) & (mean <= high)).any()


def test_one_coordinate_in_many_hides_from_krum_and_not_from_bulyan() -> None:
    # El Mhamdi et al.: in many dimensions an update may be off by far in one of them, and still be central.
    updates, weights = drawn(15, size=4000)
    updates[:3] = updates[3:].mean(0)
    updates[:3, 0] = 30
    krum, bulyan = (aggregated(updates, weights, rule=rule, malicious=3)[0] for rule in ("krum", "bulyan"))
    assert krum == 30 and abs(bulyan) < 1


@pytest.mark.parametrize(
    ("rule", "sites", "needs"),
    [("bulyan", 15, "n ≥ 4f \\+ 3 sites: against 4 malicious sites 19, and there are 15"),
     ("krum", 10, "n ≥ 2f \\+ 3 sites: against 4 malicious sites 11, and there are 10"),
     ("multi_krum", 10, "multi krum needs n ≥ 2f \\+ 3"),
     ("trimmed_mean", 8, "trimmed mean needs n ≥ 2f \\+ 1")],
)  # fmt: skip
def test_too_few_sites_are_refused_with_the_inequality(rule: Rule, sites: int, needs: str) -> None:
    updates, weights = drawn(sites)
    with pytest.raises(InputError, match=needs):
        aggregated(updates, weights, rule=rule, malicious=4)
    updates, weights = drawn(19)
    aggregated(updates, weights, rule=rule, malicious=4)


def test_updates_that_are_no_numbers_are_left_out_by_name() -> None:
    updates, weights = drawn(5)
    updates[1, 3], updates[2, 0], updates[4, 6] = np.nan, -np.inf, 1e200
    usable, refused = usable_rows(updates, ["Lille", "Lyon", "Metz", "Nice", "Brest"])
    assert usable.tolist() == [True, False, False, True, False]
    assert [one.parameters["site"] for one in refused] == ["Lyon", "Metz", "Brest"]
    assert "site Lyon holds numbers that are NaN" in str(refused[0])
    with pytest.raises(InputError, match="finite numbers"):
        aggregated(updates, weights, rule="mean")
    assert usable_rows(updates[usable], ["Lille", "Nice"])[1] == []


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_weights_that_make_no_sense_are_refused(wrong: float) -> None:
    updates, weights = drawn(4)
    weights[2] = wrong
    with pytest.raises(InputError, match="weight must be"):
        aggregated(updates, weights, rule="mean")
    with pytest.raises(InputError, match="0 malicious"):
        aggregated(updates, np.ones(4), rule="median", malicious=-1)


def test_clipping_shortens_the_long_and_turns_none() -> None:
    updates = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    np.testing.assert_allclose(clipped(updates, 1.0), np.array([[0.6, 0.8], [0.3, 0.4], [0, 0]]))
    with pytest.raises(InputError, match="above zero"):
        clipped(updates, 0.0)
