"""The null of T2 and T3: nobody trained the model, so members and held-out patients must look alike.

One frozen model of 176k parameters; disjoint fresh draws of 300 patients a side, of whom none trained it.
Beside the procedure as built stand the mistakes that could shift AUROC(members) - AUROC(held-out), since an
early trial had leaned to -.03; then the same few patients judged by one model after the other, as when a
split is kept and only the training repeated. Last, one model trained for twenty epochs on 700 patients, to
choose between the target's own score and its excess over a reference.
"""

import importlib

import numpy as np

from primum.audits.privacy.embedding import attribute, embeddings, linkage, probe
from primum.audits.privacy.sensitive import emissions, scrubbed
from primum.audits.privacy.subjects import BoolArray, Subjects
from primum.evidence.guesses import (
    auroc_difference,
    auroc_difference_p_value,
    auroc_of,
)
from primum.evidence.placements import FEWEST_OF_A_KIND
from primum.evidence.ranking import auc, auc_p_value
from primum.evidence.shares import (
    share_difference,
    share_p_value,
)
from primum.models.causal import CausalModel
from primum.records.attributes import describe, join_tables
from primum.records.excerpts import excerpts
from primum.records.families import families_of
from primum.records.histories import FloatArray, Histories
from primum.records.tokens import TokenBatch, join_tokens
from studies.false_alarms import shortened
from studies.tables import Table, write_page
from studies.world import in_parallel, people, reference, target, tokenizer

CHUNKS, DRAWS, SIDE = 2, 55, 300
LEAKY, EPOCHS = 700, 20
COHORTS, MODELS = 4, 10
# The 99.9 % point of a binomial with 110 runs at 5 %.
MOST = 14

Guessed = tuple[FloatArray, BoolArray]
Seen = dict[str, tuple[float, float]]


def families() -> dict[str, BoolArray]:
    """Tell which tokens belong to each sensitive family."""
    made = tokenizer()
    return families_of(tuple(map(made.code_of, made.vocabulary.tokens)))


def labels_of(histories: Histories) -> BoolArray:
    """Tell who has which family, shape (n, families)."""
    labels: BoolArray = np.stack(list(describe(histories).families.values()), axis=1)
    return labels


def pooled(guessed: Guessed) -> Guessed:
    """Take all categories as one, as if their scores could be compared."""
    scores, labels = guessed
    return scores.reshape(-1, 1), labels.reshape(-1, 1)


def last_tokens(tokens: TokenBatch, *, most: int) -> TokenBatch:
    """Keep the end of each history."""
    nothing, stop = np.zeros(len(tokens), np.int64), tokens.lengths
    return excerpts(tokens, np.arange(len(tokens)), header=nothing, start=stop - most, stop=stop)


def compared(members: Guessed, others: Guessed) -> tuple[float, float]:
    """Return the difference and its p-value."""
    return auroc_difference(*members, *others).value, auroc_difference_p_value(*members, *others)


def inferred(model: CausalModel, first: Histories, second: Histories) -> Seen:
    """Measure T2 as built, and with each mistake."""
    known, encode = families(), tokenizer().encode
    labels, other_labels = labels_of(first), labels_of(second)
    tokens, half = encode(first), shortened(first, keep=0.5)
    held = np.bincount(tokens.token_ids, minlength=tokens.vocabulary_size) > 0
    members = emissions(model, tokens, known), labels
    others = emissions(model, encode(second), known), other_labels
    truncated = emissions(model, encode(half), known)
    recent = emissions(model, last_tokens(tokens, most=20), known)
    theirs = {name: family & held for name, family in known.items()}
    lax = [emissions_lax(model, one, known, theirs) for one in (tokens, encode(second))]
    return {
        "sensitive.inferred": compared(members, others),
        "members truncated to half, held-out not": compared((truncated, labels), others),
        "the same, and members' labels from the half": compared((truncated, labels_of(half)), others),
        "members' last 20 tokens shown, held-out whole": compared((recent, labels), others),
        "only codes that members hold are scrubbed": compared((lax[0], labels), (lax[1], other_labels)),
        "AUROC pooled over categories": compared(pooled(members), pooled(others)),
    }


def emissions_lax(
    model: CausalModel, tokens: TokenBatch, known: dict[str, BoolArray], dropped: dict[str, BoolArray]
) -> FloatArray:
    """Score all families though only some of their codes were taken out of the prompt."""
    masses = model.log_masses(scrubbed(tokens, dropped), np.stack(list(known.values())))
    return np.log([np.maximum(np.exp(log_p).sum(axis=0), 1e-300) for log_p in masses])


def embedded(model: CausalModel, first: Histories, second: Histories, *, seed: int) -> Seen:
    """Measure T3."""
    tokens = join_tokens([tokenizer().encode(side) for side in (first, second)])
    is_member = np.arange(len(tokens)) < len(first)
    subjects = Subjects(
        rows=np.arange(len(tokens)),
        tokens=tokens,
        is_member=is_member,
        table=join_tables([describe(first), describe(second)]),
        tokenizer=tokenizer(),
        families=families(),
        holders=np.ones(tokens.vocabulary_size, np.int64),
        audited=len(tokens),
        context=model.context,
        seed=seed,
        times=np.full(len(tokens.token_ids), np.datetime64("NaT"), "datetime64[us]"),
    )
    told = probe(embeddings(model, tokens), is_member, seed=seed).scores["embedding.probe"]
    guesses = attribute(model, (), subjects).guesses["embedding.attribute"]
    linked = linkage(model, (), subjects).scores["embedding.linkage"]
    sides = [linked[side & np.isfinite(linked)] for side in (is_member, ~is_member)]
    own, other = ((guesses.scores[side], guesses.labels[side]) for side in (is_member, ~is_member))
    told_sides = [told[side & np.isfinite(told)] for side in (is_member, ~is_member)]
    return {
        "embedding.probe, AUC - .5": (auc(*told_sides).value - 0.5, auc_p_value(*told_sides)),
        "embedding.attribute": compared(own, other),
        "embedding.linkage": (share_difference(*sides).value, share_p_value(*sides, seed=seed)),
    }


def null(chunk: int) -> list[Seen]:
    """Train the one model and audit this chunk's draws."""
    model = target(people(1000, seed=[60]), epochs=6, seed=0, width=64, layers=2)
    seen = []
    for draw in range(DRAWS):
        first, second = (people(SIDE, seed=[61 + side, chunk, draw]) for side in (0, 1))
        t2 = inferred(model, first, second)
        seen.append(t2 | embedded(model, first, second, seed=draw))
    return seen


def reused(number: int) -> list[float]:
    """Judge the same few cohorts by one more model that knows none of them."""
    model = target(people(1000, seed=[60]), epochs=6, seed=number, max_steps=100, width=64, layers=2)
    encode, differences = tokenizer().encode, []
    for cohort in range(COHORTS):
        sides = [people(SIDE, seed=[61 + side, 99, cohort]) for side in (0, 1)]
        guessed = [(emissions(model, encode(side), families()), labels_of(side)) for side in sides]
        differences.append(compared(*guessed)[0])
    return differences


def leaky(seed: int) -> dict[str, tuple[float, float, float, float]]:
    """Compare scores of a model that remembers: mean AUROC on either side, difference, lower bound."""
    first, second = people(LEAKY, seed=[63, seed]), people(LEAKY, seed=[64, seed])
    model = target(first, epochs=EPOCHS, seed=seed, width=64, layers=2)
    other = reference(1000, seed=60 + seed, width=64, layers=2)
    labels, tokens = [labels_of(side) for side in (first, second)], map(tokenizer().encode, (first, second))
    own, theirs = zip(
        *[[emissions(one, side, families()) for one in (model, other)] for side in tokens], strict=True
    )
    found = {}
    for name, scores in (
        ("target's own", list(own)),
        ("target's minus reference's", [mine - its for mine, its in zip(own, theirs, strict=True)]),
    ):
        estimate = auroc_difference(scores[0], labels[0], scores[1], labels[1])
        told, guessed = (mean_auroc(score, label) for score, label in zip(scores, labels, strict=True))
        found[name] = (told, guessed, estimate.value, estimate.low)
    return found


def mean_auroc(scores: FloatArray, labels: BoolArray) -> float:
    """Mean over categories that enough patients have."""
    enough = np.flatnonzero(labels.sum(axis=0) >= FEWEST_OF_A_KIND)
    return float(np.mean([auroc_of(scores[:, column], labels[:, column]) for column in enough]))


def main() -> None:
    """Run, print and write the tables."""
    runs = [seen for chunk in in_parallel(null, list(range(CHUNKS))) for seen in chunk]
    figures = "Mean", "± standard error", "Deviation", "p < .05"
    table = Table("Test, as built", "Runs", *figures, "Allowed", "Holds")
    mistakes = Table("Mistake in sensitive.inferred", "Runs", *figures)
    for name in runs[0]:
        values, p_values = np.array([run[name] for run in runs]).T
        mean, deviation = float(values.mean()), float(values.std(ddof=1))
        error, alarms = deviation / len(values) ** 0.5, int((p_values < 0.05).sum())
        row = name, len(runs), mean, error, deviation, alarms
        if name.startswith(("sensitive", "embedding")):
            table.add(*row, MOST, abs(mean) < 3 * error and alarms <= MOST)
        else:
            mistakes.add(*row)
    same = Table("The same patients every time", "Models", "Mean", "± standard error over models")
    for cohort, found in enumerate(np.array(in_parallel(reused, list(range(MODELS)))).T):
        same.add(f"draw {cohort + 1}", MODELS, float(found.mean()), float(found.std(ddof=1)) / MODELS**0.5)
    scores = Table("Score", "AUROC, members", "AUROC, held-out", "Difference", "Lower end, 95 %")
    for compared_scores in in_parallel(leaky, [0]):
        for name, told in compared_scores.items():
            scores.add(name, *told)
    write_page("null_sensitive", __doc__, table, mistakes, same, scores)


if __name__ == "__main__":
    # By its own name, so that what is kept of a run serves the next one however it is started.
    importlib.import_module("studies.null_sensitive").main()
