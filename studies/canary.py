"""The canary: how seldom it is rolled back for nothing, and after how many patients when it is worse.

Every canary is simulated whole, five streams under one budget of 5 %, on patients in the order in which their
outcomes become known. **False rollback**: 1,000 canaries that are no worse than the live model, up to 20,000
patients, in hospitals of several kinds; disagreement lies at the bound that the policy allows, which is the
worst case. **Delay**: patients of both arms until half of 1,000 canaries are rolled back, beside the size of
the best test at a fixed horizon, which knew the effect and was looked at once: the one-sided test of two
shares (normal approximation; Fisher's exact test needs more) at 80 % and 90 % power. The fixed test has the
whole 5 %, the canary's stream 3 % of it; the ratio beside a fixed test at 3 % too is given for honesty.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from primum.evidence.sequential import (
    MEANS_BLOCK,
    SHARES_BLOCK,
    Kind,
    bound_log_factors,
    log_e_values,
    means_log_factors,
    shares_log_factors,
)
from primum.release.outcomes import STREAMS, WEIGHTS, Stream, Watch
from studies.tables import Table, write_page

RUNS, PATIENTS = 1000, 20_000
LENGTHS = (500, 2_000, 20_000, 100_000)
ALPHA, BOUND = 0.05, Watch().disagreement
Values = NDArray[np.float64]
Marks = NDArray[np.bool_]
Streams = dict[Stream, tuple[Marks, Values, Values]]
"""By stream, in the order of settlement: of the canary or not, the outcome, the share when routed."""


def path(kind: Kind, canary: Marks, values: Values, shares: Values) -> tuple[NDArray[np.int64], Values]:
    """Patients settled at each step, and the log e-value after it."""
    if kind == "bound":
        return np.arange(1, values.size + 1), log_e_values(bound_log_factors(values, bound=BOUND))
    size = MEANS_BLOCK if kind == "means" else SHARES_BLOCK
    ends, factors = [], []
    for share in np.unique(shares):
        places: NDArray[np.int64] = np.flatnonzero(shares == share)
        places = places[: len(places) // size * size].reshape(-1, size)
        who, what = canary[places], values[places]
        ours, counts = (what * who).sum(1), who.sum(1)
        ends.append(places[:, -1] + 1)
        factors.append(
            means_log_factors(counts, ours, (what * ~who).sum(1))
            if kind == "means"
            else shares_log_factors(counts, ours.astype(int), what.sum(1).astype(int))
        )
    end = np.concatenate(ends)
    order = np.argsort(end)
    return end[order], log_e_values(np.concatenate(factors, axis=1)[:, order])


def alarm(kind: Kind, data: tuple[Marks, Values, Values], *, alpha: float) -> float:
    """Patients settled when the e-value reached 1 / alpha; infinite where it never did."""
    ends, said = path(kind, *data)
    reached = said >= math.log(1 / alpha)
    return float(ends[reached.argmax()]) if reached.any() else math.inf


KINDS: dict[Stream, Kind] = {
    "error_rate": "shares",
    "refusals": "shares",
    "agreement": "bound",
    "latency": "shares",
    "calibration": "means",
}


def rolled_back(streams: Streams) -> float:
    """Patients settled when any stream rolled the canary back."""
    return min(alarm(KINDS[name], data, alpha=ALPHA * WEIGHTS[name]) for name, data in streams.items())


def same(
    random: np.random.Generator,
    *,
    share: float | Values,
    rate: float | Values,
    late: bool = False,
    returning: bool = False,
    worse: float = 0.0,
    patients: int = PATIENTS,
) -> Streams:
    """Make a canary that is the live model again, or `worse` by that many errors: all five streams."""
    shares = np.broadcast_to(np.asarray(share, np.float64), patients)
    risks = np.broadcast_to(np.asarray(rate, np.float64), patients)
    if returning:  # one patient's cases are alike; whose first case is settled first, counts first
        risks = random.beta(0.2, 1.8, patients)
    canary = random.random(patients) < shares
    wrong = random.random(patients) < risks + worse * canary
    truth = random.random(patients)
    happened = random.random(patients) < truth
    values: dict[Stream, Values] = {
        "error_rate": wrong.astype(np.float64),
        "refusals": (random.random(patients) < 0.03).astype(np.float64),
        "agreement": (random.random(patients) < BOUND).astype(np.float64),
        "latency": (random.random(patients) < np.clip(risks, 0, 0.5)).astype(np.float64),
        "calibration": (truth - happened) ** 2,
    }
    settled = np.arange(patients, dtype=np.float64)
    if late:  # errors become known later than the rest
        settled = settled + random.exponential(np.where(wrong, 900, 100))
    order = np.argsort(settled)
    return {
        name: (canary[order], values[name][order], shares[order])
        if name in ("error_rate", "calibration")
        else (canary, values[name], shares)
        for name in STREAMS
    }


TIME = np.arange(PATIENTS)
TREND = 0.02 + 0.4 * TIME / PATIENTS
RAISED = np.select([TIME < 1000, TIME < 4000, TIME < 9000], [0.01, 0.05, 0.2], 0.5)
HOSPITALS: dict[str, Callable[[np.random.Generator], Streams]] = {
    "share 10 %, errors 5 %": lambda random: same(random, share=0.1, rate=0.05),
    "share 50 %, errors 20 %": lambda random: same(random, share=0.5, rate=0.2),
    "share 1 %, errors 10 %": lambda random: same(random, share=0.01, rate=0.1),
    "errors rise from 2 % to 42 %": lambda random: same(random, share=0.2, rate=TREND),
    "wards of 5 % and 35 % by turns": lambda random: same(
        random, share=0.5, rate=np.where(TIME % 2, 0.35, 0.05)
    ),
    "weeks of 5 % and 40 %": lambda random: same(random, share=0.3, rate=np.where(TIME // 37 % 2, 0.4, 0.05)),
    "share raised 1, 5, 20, 50 % while errors rise": lambda random: same(random, share=RAISED, rate=TREND),
    "the same, labels late and errors later": lambda random: same(
        random, share=RAISED, rate=TREND, late=True
    ),
    "risks differ between patients": lambda random: same(random, share=0.2, rate=0.1, returning=True),
    "share 50 %, errors 20 %, for longer": lambda random: same(
        random, share=0.5, rate=0.2, patients=LENGTHS[-1]
    ),
}


def false_rollbacks() -> Table:
    table = Table(
        "No difference, and",
        *(f"Rolled back by {length:,} patients" for length in LENGTHS),
        "Allowed",
        "Holds",
    )
    for number, (name, make) in enumerate(HOSPITALS.items()):
        ends = np.array([rolled_back(make(np.random.default_rng([80, number, run]))) for run in range(RUNS)])
        last = LENGTHS[-1] if "longer" in name else PATIENTS
        counts = [int((ends <= length).sum()) if length <= last else "" for length in LENGTHS]
        table.add(name, *counts, f"≤ {RUNS // 20}", bool((ends < math.inf).mean() <= ALPHA))
    return table


def budgets() -> Table:
    """Compare the two ways to spend one budget: shared out, or on the weighted mean of the e-values."""
    table = Table("Five streams, share 20 %, errors 10 %", "Shared out", "On the mean of the e-values")
    for name, worse in (("no difference: rolled back of 1,000", 0.0), ("5 points worse: median delay", 0.05)):
        apart, together = np.empty(RUNS), np.empty(RUNS)
        for run in range(RUNS):
            streams = same(np.random.default_rng([85, run]), share=0.2, rate=0.1, worse=worse)
            mean = np.full(PATIENTS + 1, -math.inf)
            for stream, data in streams.items():
                ends, said = path(KINDS[stream], *data)
                after = np.searchsorted(ends, np.arange(PATIENTS + 1), side="right")
                mean = np.logaddexp(mean, math.log(WEIGHTS[stream]) + np.concatenate([[0.0], said])[after])
            reached = mean >= math.log(1 / ALPHA)
            apart[run], together[run] = rolled_back(streams), reached.argmax() if reached.any() else math.inf
        both = (apart, together)
        found = [np.median(one) if worse else (one < math.inf).sum() for one in both]
        table.add(name, *(round(float(one)) for one in found))
    return table


def wrong_ways() -> Table:
    """Count what the rules of the unit and of concurrent patients prevent."""
    table = Table("The error rate's test alone, at 5 %", "Runs rolled back of 1,000")
    every, past, delayed, within = 0, 0, 0, 0
    for run in range(RUNS):
        random = np.random.default_rng([81, run])
        cases = np.repeat(np.arange(PATIENTS // 20), 20)[random.permutation(PATIENTS)]
        risk, group = random.beta(0.2, 1.8, PATIENTS // 20), random.random(PATIENTS // 20) < 0.2
        wrong = (random.random(PATIENTS) < risk[cases]).astype(np.float64)
        every += alarm("shares", (group[cases], wrong, np.ones(PATIENTS)), alpha=ALPHA) < math.inf
        drifting = random.random(2000) < 0.05 + 0.05 * np.arange(2000) / 2000
        said = log_e_values(bound_log_factors(drifting, bound=0.05))
        past += bool((said >= math.log(1 / ALPHA)).any())
        canary, risks = random.random(PATIENTS) < 0.2, 0.44 - TREND
        order = np.argsort(np.arange(PATIENTS) + 1000 * canary, kind="stable")
        later = (random.random(PATIENTS) < risks)[order].astype(np.float64)
        delayed += alarm("shares", (canary[order], later, np.ones(PATIENTS)), alpha=ALPHA) < math.inf
        within += (
            alarm("shares", (canary[order], later, (order // 500).astype(np.float64)), alpha=ALPHA) < math.inf
        )
    table.add("no difference, 1,000 patients with 20 cases each, every case counted", every)
    table.add("no difference, errors rise from 5 % to 10 %, canary compared with the past 5 %", past)
    table.add(
        "no difference, errors fall from 42 % to 2 %, the canary's labels come 1,000 patients later",
        delayed,
    )
    table.add("the same, only patients compared who came in one period of 500", within)
    return table


def fixed_size(rate: float, worse: float, *, share: float, alpha: float, power: float) -> float:
    """Patients of both arms that the one-sided test of two shares needs, which knows both rates."""
    pooled = share * worse + (1 - share) * rate
    spread = math.sqrt(pooled * (1 - pooled) * (1 / share + 1 / (1 - share)))
    other = math.sqrt(worse * (1 - worse) / share + rate * (1 - rate) / (1 - share))
    return float(((ndtri(1 - alpha) * spread + ndtri(power) * other) / (worse - rate)) ** 2)


def delays(
    rate: float, worse: float, *, share: float, alpha: float, after: int = 0, period: int = PATIENTS
) -> Values:
    """Patients until each of the runs rolls back on the error rate, from the first who is worse off."""
    found = []
    for run in range(RUNS):
        random = np.random.default_rng([82, run, int(1000 * rate), int(1000 * worse), int(100 * share)])
        canary = random.random(PATIENTS) < share
        wrong = random.random(PATIENTS) < np.where(canary & (after <= TIME), worse, rate)
        data = (canary, wrong.astype(np.float64), (TIME // period).astype(np.float64))
        found.append(alarm("shares", data, alpha=alpha) - after)
    return np.array(found)


def five_points() -> Table:
    table = Table(
        "Live errors",
        "Share",
        "Fixed test, 80 %",
        "Fixed test, 90 %",
        "Median delay",
        "Nine in ten by",
        "Ratio to 80 %",
        "Ratio to 90 %",
        "Ratio to 80 % at 3 %",
        "Required",
        "Holds",
    )
    for rate in (0.05, 0.1, 0.2):
        for share in (0.1, 0.5):
            sizes = [
                fixed_size(rate, rate + 0.05, share=share, alpha=alpha, power=power)
                for alpha, power in ((ALPHA, 0.8), (ALPHA, 0.9), (ALPHA * WEIGHTS["error_rate"], 0.8))
            ]
            found = delays(rate, rate + 0.05, share=share, alpha=ALPHA * WEIGHTS["error_rate"])
            middle = float(np.median(found))
            ratios = [middle / size for size in sizes]
            table.add(
                f"{rate:.0%}",
                f"{share:.0%}",
                *(round(size) for size in sizes[:2]),
                round(middle),
                _patients(float(np.quantile(found, 0.9, method="higher"))),
                *(f"{ratio:.2f}" for ratio in ratios),
                "≤ 2",
                max(ratios) <= 2,
            )
    return table


def _patients(number: float) -> str:
    return f"{number:.0f}" if number < math.inf else f"> {PATIENTS:,}"


def effects() -> Table:
    table = Table("Live errors 10 %; the canary's", "Share 5 %", "Share 10 %", "Share 50 %")
    alpha, shares = ALPHA * WEIGHTS["error_rate"], (0.05, 0.1, 0.5)
    for worse in (0.12, 0.15, 0.2, 0.3, 0.6, 1.0):
        middles = [float(np.median(delays(0.1, worse, share=share, alpha=alpha))) for share in shares]
        table.add(f"{worse:.0%}", *map(_patients, middles))
    middles = [float(np.median(delays(0.1, 0.15, share=share, alpha=alpha, after=5000))) for share in shares]
    table.add("15%, after 5,000 patients without a difference", *map(_patients, middles))
    middles = [float(np.median(delays(0.1, 0.15, share=share, alpha=alpha, period=499))) for share in shares]
    table.add("15%, compared within periods of 499 patients, of whom 19 are lost", *map(_patients, middles))
    return table


def divisions() -> Table:
    table = Table(
        "Part of the budget", "Share 10 %: median delay", "Ratio to 80 %", "Share 50 %", "Ratio to 80 %"
    )
    for part in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0):
        cells: list[object] = []
        for share in (0.1, 0.5):
            size = fixed_size(0.1, 0.15, share=share, alpha=ALPHA, power=0.8)
            middle = float(np.median(delays(0.1, 0.15, share=share, alpha=ALPHA * part)))
            cells += [round(middle), f"{middle / size:.2f}"]
        table.add(part, *cells)
    return table


def other_streams() -> Table:
    table = Table("Stream, at a tenth of the budget", "Share 10 %: median delay", "Share 50 %: median delay")
    for name, stream, change in (
        ("refusals, 8 % against 3 %", "refusals", 0.05),
        ("late answers, 10 % against 5 %", "latency", 0.05),
        ("disagreement, 15 % against an allowed 10 %", "agreement", 0.05),
        ("calibration: log-odds doubled", "calibration", 2.0),
        ("calibration: log-odds raised by 1", "calibration", 1.0),
    ):
        table.add(name, *(_patients(_delay(stream, change, share=share)) for share in (0.1, 0.5)))
    return table


def _delay(stream: str, change: float, *, share: float) -> float:
    found = []
    for run in range(RUNS):
        random = np.random.default_rng([83, run, int(100 * share)])
        canary, dealt = random.random(PATIENTS) < share, random.random(PATIENTS)
        if stream == "calibration":
            log_odds = random.normal(-1, 1.5, PATIENTS)
            changed = 2 * log_odds if change == 2.0 else log_odds + 1
            said = expit(np.where(canary, changed, log_odds))
            values, kind = (said - (dealt < expit(log_odds))) ** 2, "means"
        elif stream == "agreement":
            values, kind = (dealt < BOUND + change).astype(np.float64), "bound"
        else:
            rate = 0.03 if stream == "refusals" else 0.05
            values, kind = (dealt < rate + change * canary).astype(np.float64), "shares"
        found.append(alarm(kind, (canary, values, np.full(PATIENTS, share)), alpha=0.1 * ALPHA))  # type: ignore[arg-type]
    return float(np.median(found))


def turner(rate: float, worse: float, *, share: float, alpha: float) -> float:
    """Median delay of the test of Turner, Ly & Grünwald with learned rates, in the same blocks."""
    random = np.random.default_rng([84, int(1000 * rate), int(100 * share)])
    log_e, end = np.zeros(RUNS), np.full(RUNS, math.inf)
    seen = np.full((2, RUNS), 0.36)  # patients so far, with their prior Beta(0.18, 0.18)
    yes = np.full((2, RUNS), 0.18)
    for block in range(PATIENTS // SHARES_BLOCK):
        ours = random.binomial(SHARES_BLOCK, share, RUNS)
        sizes = np.array([SHARES_BLOCK - ours, ours])
        events = random.binomial(sizes, np.array([[rate], [worse]]))
        learned = yes / seen
        learned[1] = np.maximum(learned[1], learned[0])  # one-sided: no bet on a better canary
        null = (sizes * learned).sum(0) / SHARES_BLOCK
        log_e += (events * np.log(learned / null)).sum(0)
        log_e += ((sizes - events) * np.log((1 - learned) / (1 - null))).sum(0)
        seen, yes = seen + sizes, yes + events
        end = np.where((log_e >= math.log(1 / alpha)) & (end == math.inf), (block + 1) * SHARES_BLOCK, end)
    return float(np.median(end))


def tests_compared() -> Table:
    table = Table("Live errors", "Share", "Median delay", "Turner, Ly & Grünwald, rates learned")
    alpha = ALPHA * WEIGHTS["error_rate"]
    for rate in (0.05, 0.1, 0.2):
        for share in (0.1, 0.5):
            ours = float(np.median(delays(rate, rate + 0.05, share=share, alpha=alpha)))
            theirs = turner(rate, rate + 0.05, share=share, alpha=alpha)
            table.add(f"{rate:.0%}", f"{share:.0%}", _patients(ours), _patients(theirs))
    return table


def main() -> None:
    """Run, print and write the tables."""
    tables = (
        false_rollbacks,
        wrong_ways,
        five_points,
        effects,
        divisions,
        budgets,
        other_streams,
        tests_compared,
    )
    write_page("canary", __doc__, *(make() for make in tables))


if __name__ == "__main__":
    main()
