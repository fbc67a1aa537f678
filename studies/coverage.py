"""Do the intervals, bounds and tests of `primum.evidence` keep their word where the truth is known?

Run ``python -m studies.coverage [--seed N] [--runs N]``; the tables are printed and written to
``docs/studies/coverage.md``.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from primum.evidence import auc, auc_difference, blind_scores, epsilon_lower_bound, pooled_threshold_p_value
from primum.evidence.operating_point import operating_point
from primum.evidence.ranking import FloatArray

DELTA = 1e-5
PAGE = Path(__file__).resolve().parents[1] / "docs" / "studies" / "coverage.md"


def gaussian_shift(epsilon: float) -> float:
    """Sensitivity over noise of the least private Gaussian mechanism allowed (Balle & Wang, ICML 2018)."""

    def excess(shift: float) -> float:
        upper = stats.norm.cdf(shift / 2 - epsilon / shift)
        return float(upper - math.exp(epsilon) * stats.norm.cdf(-shift / 2 - epsilon / shift) - DELTA)

    return float(brentq(excess, 1e-3, 50))


def independent_auc(members: FloatArray, others: FloatArray) -> tuple[float, float, float]:
    """AUC and 95 % interval again: scipy's Mann-Whitney U, the m x n kernel, numpy's variance, scipy's t."""
    value = stats.mannwhitneyu(members, others).statistic / (members.size * others.size)
    kernel = (np.sign(members[:, None] - others) + 1) / 2
    parts = [float(np.var(kernel.mean(axis=axis), ddof=1)) / kernel.shape[1 - axis] for axis in (0, 1)]
    weights = [part**2 / (kernel.shape[1 - axis] - 1) for axis, part in enumerate(parts)]
    spread = math.sqrt(sum(parts) + value * (1 - value) / min(kernel.shape) ** 2)
    half = stats.t.ppf(0.975, sum(parts) ** 2 / sum(weights)) * spread / (value * (1 - value))
    centre = math.log(value / (1 - value))
    low, high = (1 / (1 + math.exp(-(centre + sign * half))) for sign in (-1, 1))
    return float(value), low, high


def auc_rows(runs: int, seed: int) -> Iterator[list[str]]:
    """Coverage of the AUC: binormal scores, then scores rounded until most tie."""
    sizes = [(50, 50), (300, 300), (1000, 1000), (10, 300)]
    cases = [(true, m, n, False) for true in (0.5, 0.6, 0.75, 0.9, 0.97) for m, n in sizes]
    for true, m, n, tied in [*cases, (0.75, 50, 50, True), (0.75, 300, 300, True)]:
        random = np.random.default_rng([seed, m, n, round(100 * true)])
        shift = math.sqrt(2) * stats.norm.ppf(true)
        if tied:
            cells = np.diff(stats.norm.cdf([-np.inf, 0, 1, np.inf], loc=[[shift], [0]]))
            truth = float(cells[0] @ (np.cumsum(cells[1]) - cells[1] / 2))
        else:
            truth = true
        covered, widths = 0, []
        for _ in range(runs):
            groups = random.normal(shift, 1, m), random.normal(0, 1, n)
            estimate = auc(*(np.digitize(g, [0, 1]) for g in groups)) if tied else auc(*groups)
            covered += estimate.low <= truth <= estimate.high
            widths.append(estimate.high - estimate.low)
        kind = "three values only" if tied else "continuous"
        width = f"{np.mean(widths):.3f}"
        yield [f"{truth:.3f}", str(m), str(n), kind, f"{100 * covered / runs:.1f} %", width]


def difference_rows(runs: int, seed: int) -> Iterator[list[str]]:
    """Coverage of the paired difference of two AUCs: attack minus a noisier copy of it."""
    for shift, noise, size in ((1.0, 1.0, 50), (1.0, 1.0, 300), (2.5, 0.5, 300), (0.0, 1.0, 300)):
        random = np.random.default_rng([seed, size, round(10 * shift)])
        plain, noisy = (stats.norm.cdf(shift / math.sqrt(2 * (1 + extra))) for extra in (0, noise**2))
        covered = 0
        for _ in range(runs):
            members, others = random.normal(shift, 1, size), random.normal(0, 1, size)
            extra = random.normal(0, noise, (2, size))
            e = auc_difference(members, others, members + extra[0], others + extra[1])
            covered += e.low <= plain - noisy <= e.high
        yield [f"{plain:.3f}", f"{noisy:.3f}", str(size), f"{100 * covered / runs:.1f} %"]


def tpr_rows(runs: int, seed: int) -> Iterator[list[str]]:
    """Coverage of the TPR, and of the realised FPR, at the threshold used."""
    for shift in (0.0, 1.0, 3.0):
        for m, n, fpr in ((50, 300, 0.01), (300, 300, 0.01), (300, 1000, 0.01), (300, 1000, 0.1)):
            random = np.random.default_rng([seed, m, n, round(10 * shift)])
            covered = np.zeros(2)
            for _ in range(runs):
                point = operating_point(random.normal(shift, 1, m), random.normal(0, 1, n), fpr=fpr)
                truths = [float(stats.norm.sf(point.threshold - loc)) for loc in (shift, 0)]
                covered += [e.low <= t <= e.high for e, t in zip((point.tpr, point.fpr), truths, strict=True)]
            shares = (f"{100 * share:.1f} %" for share in covered / runs)
            yield [f"{shift:g}", str(m), str(n), f"{100 * fpr:g} %", *shares]


def epsilon_rows(runs: int, seed: int) -> Iterator[list[str]]:
    """How often the bound exceeds the true epsilon of a Gaussian mechanism, and how much of it is proved."""
    for epsilon in (0.5, 1.0, 4.0):
        for size in (1000, 10_000):
            random, shift = np.random.default_rng([seed, size, round(10 * epsilon)]), gaussian_shift(epsilon)
            bounds = np.array(
                [
                    epsilon_lower_bound(
                        random.normal(shift, 1, size), random.normal(0, 1, size), delta=DELTA
                    ).low
                    for _ in range(runs)
                ]
            )
            shares = [f"{100 * (bounds > epsilon).mean():.2f} %", f"{np.median(bounds):.3f}"]
            yield [f"{epsilon:g}", str(size), *shares, f"{bounds.max():.3f}"]


def false_alarm_rows(runs: int, seed: int) -> Iterator[list[str]]:
    """Count alarms of the pooled-threshold test beside the forbidden rule, on scores that tell nothing."""
    for size in (100, 300, 1000):
        random, alarms = np.random.default_rng([seed, size]), np.zeros(4)
        for _ in range(2 * runs):
            members, others = random.normal(size=size), random.normal(size=size)
            # the rule needs no minimum of non-members, so neither does this copy of it
            threshold = np.sort(others)[::-1][math.floor(0.01 * size)]
            low = stats.binomtest(int((members > threshold).sum()), size).proportion_ci(method="exact").low
            tied = pooled_threshold_p_value(members.round(), others.round())
            p = pooled_threshold_p_value(members, others)
            alarms += np.array([low > 0.01, p < 0.05, tied < 0.05, p < 0.01], np.float64)
        shares = (f"{100 * share:.1f} %" for share in alarms / (2 * runs))
        yield [str(size), *shares]


def blind_rows(runs: int, seed: int) -> Iterator[list[str]]:
    """Try the blind baseline between two draws of one population: 10 measurements and 1,024 code counts."""
    for m, n in ((300, 300), (300, 1000), (100, 100)):
        random = np.random.default_rng([seed, m, n])
        rates, estimates = 6 / (np.arange(1024) + 3.0), []
        for _ in range(runs // 5):
            counts = random.poisson(rates * random.gamma(1, 1, (m + n, 1)), (m + n, 1024))
            features = np.column_stack([random.normal(17_000, 900, (m + n, 10)), np.log1p(counts)])
            is_member = np.arange(m + n) < m
            scores = blind_scores(features, is_member, dense_columns=10)
            estimates.append(auc(scores[is_member], scores[~is_member]))
        values = np.array([e.value for e in estimates])
        alarms = np.mean([e.value >= 0.6 and e.low > 0.5 for e in estimates])
        covered = np.mean([e.low <= 0.5 <= e.high for e in estimates])
        centre = f"{values.mean():.4f} ± {values.std() / math.sqrt(len(values)):.4f}"
        yield [str(m), str(n), str(len(values)), centre, f"{values.std():.3f}",
               f"{100 * alarms:.1f} %", f"{100 * covered:.1f} %"]  # fmt: skip


def agreement_rows(runs: int, seed: int) -> Iterator[list[str]]:
    """Largest difference from the same quantities computed another way, with scipy."""
    random, worst = np.random.default_rng(seed), np.zeros(3)
    for _ in range(min(runs, 200)):
        m, n = random.integers(30, 400, 2)
        decimals = int(random.integers(0, 9))
        members, others = (
            random.normal(1, 1, m).round(decimals),
            random.normal(0, 1, max(n, 300)).round(decimals),
        )
        ours, theirs = auc(members, others), independent_auc(members, others)
        point = operating_point(members, others)
        hits = int((members > point.threshold).sum())
        exact = stats.binomtest(hits, int(m)).proportion_ci(0.95, method="exact")
        smooth, smooth_others = random.normal(1, 1, 300), random.normal(0, 1, 300)
        edge = np.sort(np.concatenate([smooth, smooth_others]))[-30]
        inside = int((smooth >= edge).sum())
        table = np.array([[inside, 30 - inside], [300 - inside, 270 + inside]])
        fisher = stats.fisher_exact(table, alternative="greater").pvalue
        gaps = [
            max(abs(a - b) for a, b in zip((ours.value, ours.low, ours.high), theirs, strict=True)),
            max(abs(point.tpr.low - exact.low), abs(point.tpr.high - exact.high)),
            abs(pooled_threshold_p_value(smooth, smooth_others, fpr=0.05) - fisher),
        ]
        worst = np.maximum(worst, gaps)
    names = ("AUC and its interval", "TPR interval", "pooled-threshold p")
    for name, gap in zip(names, worst, strict=True):
        yield [name, f"{gap:.1e}"]


Rows = Callable[[int, int], Iterator[list[str]]]
SECTIONS: tuple[tuple[str, str, tuple[str, ...], Rows], ...] = (
    ("AUC", "Coverage of the nominal 95 % interval (`auc`); asked for: at least 93 %.",
     ("true AUC", "members", "non-members", "scores", "covered", "mean width"), auc_rows),
    ("Difference of two AUCs", "Coverage of the nominal 95 % paired interval (`auc_difference`).",
     ("true AUC", "other AUC", "a side", "covered"), difference_rows),
    ("TPR at a low FPR", "Coverage of the population rates at the threshold used (`operating_point`); asked "
     "for: at least 93 %. Clopper-Pearson is conservative where few patients lie above the threshold.",
     ("shift", "members", "non-members", "target FPR", "TPR covered", "FPR covered"), tpr_rows),
    ("ε lower bound", "Gaussian mechanism, δ = 1e-5, one-sided 95 % (`epsilon_lower_bound`); asked for: "
     "exceeds the truth in at most 5 %, median at least ε/4 for ε of 1 and 4 at 10,000 a side.",
     ("true ε", "a side", "exceeds", "median bound", "largest bound"), epsilon_rows),
    ("False alarms at a low FPR", "Scores that tell nothing, target FPR 1 %, twice the runs. The first "
     "column is the rule that must not be used: it takes the threshold for fixed although non-members "
     "set it.",
     ("a side", "Clopper-Pearson low > 1 %", "pooled p < .05", "same, scores rounded", "pooled p < .01"),
     false_alarm_rows),
    ("Blind baseline", "Two draws of one population, so that the true AUC is .5; an alarm is AUC ≥ .60 with "
     "an interval above .5. Cross-fitted scores depend on one another, "
     "so the interval covers less than it says.",
     ("members", "non-members", "runs", "mean AUC", "standard deviation", "alarms", "covered"), blind_rows),
    ("Agreement with an independent implementation", "Largest absolute difference; asked for: at most 1e-6.",
     ("quantity", "difference"), agreement_rows),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of the statistics of primum.evidence")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=1500, help="simulations a line (default 1500)")
    options = parser.parse_args()
    command = f"python -m studies.coverage --seed {options.seed} --runs {options.runs}"
    lines = [
        "# Do the statistics keep their word?",
        "",
        "Simulations in which the truth is known, made by:",
        "",
    ]
    lines += [
        f"    {command}",
        "",
        f"Each line is {options.runs:,} simulations unless it says otherwise.",
        "",
    ]
    print("\n".join(lines))
    for title, text, header, rows in SECTIONS:
        part = [f"## {title}", "", text, "", _row(header), _row("---:" for _ in header)]
        print("\n".join(part))
        for cells in rows(options.runs, options.seed):
            part.append(_row(cells))
            print(part[-1], flush=True)
        lines += [*part, ""]
        print()
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(lines), encoding="utf-8")


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
