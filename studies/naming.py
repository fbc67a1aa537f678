"""Naming patients: nobody when nobody is remembered, and those who are when some are.

Llamas of 67,424 parameters (32 hidden units, 2 layers; 3 epochs on 1,000 patients), and
sixteen references, trained as `--recipe --references 16` trains them, on random halves of 2,000 tuning
patients. First table: five models, each with these references (17 models), each asked about forty disjoint
draws of 150 patients a side, none of whom trained any model; nobody is ever drawn twice. Second table: twenty
models that also learned five patients from 16 copies each, with as many optimiser steps as without; asked
about these five among 995 who trained nothing, beside 1,000 held-out patients. Only those five can be named
rightly. The claim is judged alone, so that no other claim shares the error budget.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from primum.evidence.contrast import Frame
from primum.evidence.naming import FALSE_DISCOVERY_RATE, named_claim, named_table, naming_of
from primum.evidence.verdicts import judge
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.causal import CausalModel
from primum.models.protocols import Scorer
from primum.records.histories import FloatArray, InMemory
from primum.records.tokens import TokenBatch, join_tokens
from primum.workflows.references import reference_losses, train_references
from studies.tables import Table, write_page
from studies.world import in_parallel, people, tokenizer

MODELS, DRAWS, SIDE = 5, 40, 150
PLANTED_MODELS, CANDIDATES, HELD_OUT = 20, 1000, 1000
PLANTED, COPIES, EPOCHS, TRAINED_ON, TUNING = 5, 16, 3, 1000, 2000
RECIPE = SmallCausalRecipe(LoopSettings(epochs=EPOCHS, learning_rate=3e-3), width=32, layers=2)
STEPS = EPOCHS * -(-TRAINED_ON // RECIPE.loop.batch)
FRAME = Frame("study", "study", "scores", "randomised", 0)


@dataclass(frozen=True)
class Seen:
    """What is counted of one audit: people named, wrongly named, in each band, Simes' p, the nulls."""

    named: int
    wrong: int
    high: int
    raised: int
    p_value: float
    scale: float
    trusted: bool


def reference_weights(count: int) -> list[dict[str, FloatArray]]:
    """Train the references once, on patients of their own."""
    tuning = InMemory((people(TUNING, seed=[100]),))
    models = train_references(RECIPE, tokenizer(), tuning, count=count, seed=1000)
    return [{name: value.numpy() for name, value in _module(model).state_dict().items()} for model in models]


def references() -> list[Scorer]:
    """Build the references from what is kept of them."""
    (kept,) = in_parallel(reference_weights, [16])
    models = [RECIPE.build(len(tokenizer().vocabulary.tokens), seed=0) for _ in kept]
    for model, weights in zip(models, kept, strict=True):
        model.module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return list(models)


def _module(model: Scorer) -> torch.nn.Module:
    assert isinstance(model, CausalModel)
    return model.module


def scored(model: Scorer, known: Sequence[Scorer], tokens: TokenBatch) -> FloatArray:
    """Score patients under the audited model, in the first column, and under the references."""
    return reference_losses(tokens, references=[model, *known])


def nobody(number: int) -> FloatArray:
    """Train one model, score every draw; shape (draws, patients, 17)."""
    known = references()
    model = RECIPE.fit(tokenizer().encode(people(TRAINED_ON, seed=[101, number])), seed=number)
    draws = [tokenizer().encode(people(2 * SIDE, seed=[102, number, draw])) for draw in range(DRAWS)]
    return np.stack([scored(model, known, tokens) for tokens in draws])


def planted(number: int) -> FloatArray:
    """Plant five patients in one model, score its audit; shape (patients, 17)."""
    tokens = tokenizer().encode(people(CANDIDATES + HELD_OUT, seed=[103, number]))
    five = tokens.select(np.arange(PLANTED))
    copies = [replace(five, subject_ids=five.subject_ids + (copy << 56)) for copy in range(COPIES)]
    others = tokenizer().encode(people(TRAINED_ON, seed=[104, number]))
    model = RECIPE.fit(join_tokens([others, *copies]), max_steps=STEPS, seed=500 + number)
    return scored(model, references(), tokens)


def audited(scores: FloatArray, *, members: int, planted: int) -> Seen:
    """Judge the claim alone; the first `planted` members trained the model, nobody else did."""
    found = naming_of(scores[:, 0], scores[:, 1:], np.arange(len(scores)) < members)
    (finding,) = judge([named_claim(found, FRAME)])
    table = named_table(found, named=finding.harmful)
    return Seen(
        int(table["named"].sum()),
        int(table["named"][planted:].sum()),
        int((table["band"] == "high").sum()),
        int((table["band"] == "raised").sum()),
        float(finding.p_value or 0),
        found.scale,
        found.trusted,
    )


def null_table(sets: Sequence[Sequence[Seen]]) -> Table:
    """Count audits that name somebody who trained nothing."""
    table = Table(
        "Model",
        "Audits",
        "Naming nobody",
        "Required",
        "Nulls not trusted",
        "Scale, median",
        "High",
        "Raised",
        "Holds",
    )
    audits = [seen for seen_of_set in sets for seen in seen_of_set]
    least = round(0.9 * len(audits))
    for name, runs in (*((str(place), runs) for place, runs in enumerate(sets)), ("all", audits)):
        silent = sum(not run.named for run in runs)
        last = name == "all"
        table.add(
            name,
            len(runs),
            silent,
            f"≥ {least}" if last else "",
            sum(not run.trusted for run in runs),
            float(np.median([run.scale for run in runs])),
            f"{sum(run.high for run in runs) / (len(runs) * SIDE):.2%}",
            f"{sum(run.raised for run in runs) / (len(runs) * SIDE):.2%}",
            silent >= least if last else "",
        )
    return table


def planted_table(runs: Sequence[Seen]) -> Table:
    """Count the planted who are named, and the false among the named."""
    right = [run.named - run.wrong for run in runs]
    false = [run.wrong / max(1, run.named) for run in runs]
    rate, share = float(np.mean(false)), sum(right) / (PLANTED * len(runs))
    most = FALSE_DISCOVERY_RATE + 3 * float(np.std(false)) / len(runs) ** 0.5
    table = Table("What", "Value", "Required", "Holds")
    table.add("models", len(runs), "", "")
    table.add("planted patients named", f"{sum(right)} of {PLANTED * len(runs)}", "≥ 80 %", share >= 0.8)
    table.add("by model", " ".join(map(str, right)), "", "")
    table.add("others named", sum(run.wrong for run in runs), "", "")
    table.add("realised false-discovery rate", rate, f"≤ .05 + 3 standard errors = {most:.3f}", rate <= most)
    table.add("audits whose nulls were not trusted", sum(not run.trusted for run in runs), "", "")
    table.add(
        "Simes' p, median and largest",
        f"{np.median([r.p_value for r in runs]):.1e}, {max(r.p_value for r in runs):.1e}",
        "",
        "",
    )
    table.add("scale of the nulls, median", float(np.median([run.scale for run in runs])), "", "")
    return table


def main() -> None:
    """Run, print and write the tables."""
    references()
    runs = [
        audited(scores, members=CANDIDATES, planted=PLANTED)
        for scores in in_parallel(planted, list(range(PLANTED_MODELS)))
    ]
    sets = [
        [audited(draw, members=SIDE, planted=0) for draw in draws]
        for draws in in_parallel(nobody, list(range(MODELS)))
    ]
    write_page("naming", __doc__, null_table(sets), planted_table(runs))


if __name__ == "__main__":
    # By its own name, so that what is kept of a run serves the next one however it is started.
    importlib.import_module("studies.naming").main()
