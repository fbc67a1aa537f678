"""Power: planted memorisation of known strength, and what the audit says of it (acceptance 3).

A Llama of 128 hidden units and 4 layers is trained for a known number of epochs and audited against
patients who trained nothing. Medians with their ranges. Canaries are planted among 1,000 patients; 378 and
630 steps are those of 6 and 10 epochs without them. With 378 steps each record is seen about 2.4 times, and
four copies do not yet reach .95.
"""

import importlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from primum.audits.privacy.membership import membership_scores
from primum.evidence.ranking import auc
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.records.synthetic import synthetic_cohort
from primum.train.private import PrivateSettings
from primum.train.private_records import fit_private
from studies.tables import Table, write_page
from studies.world import (
    SETTINGS,
    Pair,
    audited,
    finding,
    in_parallel,
    people,
    shared_reference,
    target,
    tokenizer,
)

Figures = dict[str, float]
Job = tuple[str, int]
WEAK_MODELS, WEAK_DRAWS, SIDE = 20, 3, 300
CANARY_PAIRS = 50


def known_strength(patients: int, epochs: int, seed: int) -> Figures:
    """Audit all who trained a model against 1,000 who did not."""
    members = people(patients, seed=[30, patients, epochs, seed])
    known = shared_reference(1000, seed=seed % 2, epochs=min(epochs, 10))
    pair = Pair(target(members, epochs=epochs, seed=seed), known)
    audit = audited(pair, members, people(1000, seed=[31, patients, epochs, seed]), seed=seed)
    names = ("loss", "min_k", "min_k_pp", "ratio")
    return {
        **{name: finding(audit, f"membership.{name}.auc").estimates[0].value for name in names},
        "tpr": finding(audit, "membership.combined.tpr").estimates[0].value,
        "harmful": float(audit.exit_status == 1),
    }


def weak(seed: int, *, reference_epochs: int = 3) -> Figures:
    """Train once on 1,000 patients for three epochs; audit three disjoint draws of 300 a side."""
    members = people(1000, seed=[32, seed])
    known = shared_reference(1000, seed=seed % 2, epochs=reference_epochs)
    pair = Pair(target(members, epochs=3, seed=seed), known)
    order = np.random.default_rng(seed).permutation(1000)
    harmful, areas = 0, []
    for draw in range(WEAK_DRAWS):
        chosen = members.select(order[draw * SIDE : (draw + 1) * SIDE])
        audit = audited(pair, chosen, people(SIDE, seed=[33, seed, draw]), seed=draw)
        primary = finding(audit, "membership.combined.auc")
        harmful += primary.harmful
        areas.append(primary.estimates[0].value)
    return {"harmful": float(harmful), "auc": float(np.median(areas))}


def canaries(seed: int, *, epochs: int = 6) -> Figures:
    """Plant 50 canaries a number of copies among 1,000 patients; as many optimiser steps as without."""
    wanted = replace(SETTINGS, sizes={"train": 1000, "held_out": 1}, canary_pairs=CANARY_PAIRS)
    cohort = synthetic_cohort(wanted, seed=1000 + seed)
    steps = epochs * -(-1000 // 16)
    model = target(cohort.splits["train"], epochs=epochs, seed=seed, max_steps=steps)
    reference = shared_reference(1000, seed=seed % 2, epochs=epochs)
    plan = cohort.canaries
    assert plan is not None
    row = {int(subject): place for place, subject in enumerate(plan.subject_ids)}
    scored: dict[int, float] = {}
    for split in ("train", "held_out"):
        tokens = tokenizer().encode(cohort.splits[split])
        canary = np.flatnonzero(np.isin(tokens.subject_ids, plan.subject_ids))
        tokens = tokens.select(canary)
        ratios = membership_scores(model, tokens, references=[reference])["ratio"]
        scored |= {
            int(subject): float(value) for subject, value in zip(tokens.subject_ids, ratios, strict=True)
        }
    figures: Figures = {}
    for copies in np.unique(plan.copies):
        groups: dict[bool, dict[int, float]] = {True: {}, False: {}}
        for subject, value in scored.items():
            place = row[subject]
            if plan.copies[place] == copies:
                groups[bool(plan.planted[place])].setdefault(int(plan.canary[place]), value)
        figures[f"d={copies}"] = auc(list(groups[True].values()), list(groups[False].values())).value
    return figures


def protected(seed: int) -> Figures:
    """Train with patient-level DP (epsilon 8, 300 patients, 40 steps) and audit against 1,000 others."""
    members = people(300, seed=[34, seed])
    tokens = tokenizer().encode(members)
    model = SmallCausalRecipe(LoopSettings(epochs=1)).build(tokens.vocabulary_size, seed=seed)
    ledger = fit_private(model, tokens, settings=PrivateSettings(epsilon=8.0, steps=40, seed=seed))
    pair = Pair(model, shared_reference(1000, seed=seed % 2, epochs=10))
    audit = audited(pair, members, people(1000, seed=[35, seed]), seed=seed)
    return {
        "auc": finding(audit, "membership.combined.auc").estimates[0].value,
        "harmful": float(audit.exit_status == 1),
        "epsilon": ledger.epsilon,
        "held_out_loss": float(audit.context["held_out_loss"] or 0),
        "unigram_loss": float(audit.context["unigram_loss"] or 0),
    }


def one(job: Job) -> Figures:
    """Run one job."""
    kind, seed = job
    if kind == "strong":
        return known_strength(300, 20, seed)
    if kind == "moderate":
        return known_strength(1000, 6, seed)
    if kind == "overtrained":
        return weak(seed, reference_epochs=10)
    return {"weak": weak, "canaries": canaries, "protected": protected}[kind](seed)


def canaries_trained_longer(seed: int) -> Figures:
    """Plant as before, in a model of as many steps as ten epochs without canaries take."""
    return canaries(seed, epochs=10)


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Run, print and write the tables."""
    counts = {"strong": 3, "moderate": 3, "canaries": 3, "protected": 5, "weak": WEAK_MODELS}
    counts |= {"overtrained": 6}
    jobs = [(kind, seed) for kind, count in counts.items() for seed in range(count)]
    results = dict(zip(jobs, in_parallel(one, jobs), strict=True))
    longer = in_parallel(canaries_trained_longer, list(range(counts["canaries"])))

    def column(kind: str, name: str) -> list[float]:
        return [results[kind, seed][name] for seed in range(counts[kind])]

    table = Table("Memorisation", "What", "Median (range)", "Required", "Holds")
    strong, strong_tpr = column("strong", "ratio"), column("strong", "tpr")
    table.add(
        "300 patients, 20 epochs", "AUC, calibrated", spread(strong), "≥ .95", bool(np.median(strong) >= 0.95)
    )
    table.add("", "TPR at 1 % FPR", spread(strong_tpr), "≥ .5", bool(np.median(strong_tpr) >= 0.5))
    gain = [a - b for a, b in zip(column("moderate", "ratio"), column("moderate", "loss"), strict=True)]
    for name in ("loss", "min_k", "min_k_pp", "ratio"):
        table.add("1,000 patients, 6 epochs", f"AUC, {name}", spread(column("moderate", name)), "", "")
    table.add("", "calibrated minus plain loss", spread(gain), "≥ .05", bool(np.median(gain) >= 0.05))
    found = int(sum(column("weak", "harmful")))
    total = WEAK_MODELS * WEAK_DRAWS
    table.add("1,000 patients, 3 epochs", "AUC, calibrated", spread(column("weak", "auc")), "", "")
    table.add("", "harmful after Holm, 300 a side", f"{found} of {total}", "≥ 54 of 60", found >= 54)
    seen = f"{int(sum(column('overtrained', 'harmful')))} of {counts['overtrained'] * WEAK_DRAWS}"
    long = "the same, its reference of 10 epochs"
    table.add(long, "AUC, calibrated", spread(column("overtrained", "auc")), "reported", "")
    table.add("", "harmful after Holm, 300 a side", seen, "reported", "")
    for copies in (1, 2, 4, 8, 16):
        required = "≥ .95" if copies >= 4 else "reported"
        for steps, figures in ((378, [results["canaries", s] for s in range(3)]), (630, longer)):
            values = [figure[f"d={copies}"] for figure in figures]
            holds = bool(np.median(values) >= 0.95) if copies >= 4 else ""
            what = f"AUC, {copies} copies, {steps} steps"
            table.add("canaries, 50 pairs", what, spread(values), required, holds)
    clean = counts["protected"] - int(sum(column("protected", "harmful")))
    table.add("protected, 300 patients", "AUC, calibrated", spread(column("protected", "auc")), "", "")
    table.add("", "audits without harm", f"{clean} of 5", "≥ 4 of 5", clean >= 4)
    for name in ("epsilon", "held_out_loss", "unigram_loss"):
        table.add("", name, spread(column("protected", name)), "", "")
    write_page("power", __doc__, table)


if __name__ == "__main__":
    # By its own name, so that what is kept of a run serves the next one however it is started.
    importlib.import_module("studies.power").main()
