"""More of the reconstruction study: changes of weights after local steps, tokens, who was there, how many."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from primum.audits.updates.analytic import row_inputs
from primum.audits.updates.iterative import Search, search_inputs
from primum.audits.updates.matching import Gallery, match_batch
from primum.audits.updates.membership import gradient_scores, guess_shares, loss_scores
from primum.audits.updates.tokens import histories_in, tokens_in
from primum.evidence.ranking import auc
from primum.evidence.reconstruction import reconstructed_share, share_correlation
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.fit.updates import Update
from studies import observed_updates as made
from studies.observed_updates import Defence
from studies.world import people, tokenizer

LAYER = "model.layers.0.mlp.gate_proj"
RATE, CONTEXT = 0.1, 32
Counts = tuple[int, int]


def said(counts: Counts) -> str:
    """Say a share with its interval."""
    if not counts[1]:
        return "not tried"
    share, digits = reconstructed_share(*counts), 0 if counts[1] < 1000 else 1
    limits = f"{share.low:.{digits}%} to {share.high:.{digits}%}"
    return f"{share.value:.{digits}%} ({counts[0]} of {counts[1]}; {limits})"


def after_steps(cases: int, steps: int, batch: int, trials: int) -> tuple[Counts, Counts, Counts]:
    """LeNet-sigmoid gone back through the steps, taken for one gradient, and the perceptron by arithmetic."""
    subjects, counts = made.images(), np.zeros(3, int)
    search = Search(steps=200, restarts=1, total_variation=0.0, optimiser="lbfgs")
    for trial in range(trials):
        chosen = np.random.default_rng([trial, cases]).choice(len(subjects.labels), cases, replace=False)
        labels = subjects.labels[chosen].numpy()
        module = made.lenet(trial)
        update = made.after_steps(module, subjects, chosen, steps=steps, batch=batch, rate=RATE)
        single = replace(update, kind="gradient", sent=update.gradient(), local_steps=1, batch=cases)
        for place, one in enumerate((update, single)):
            drawn, _ = search_inputs(module, one, shape=(1, 28, 28), labels=labels, search=search, seed=trial)
            counts[place] += match_batch(subjects.gallery, drawn, chosen).reconstructed.sum()
        update = made.after_steps(
            made.perceptron(trial), subjects, chosen, steps=steps, batch=batch, rate=RATE
        )
        rows = row_inputs(*made.layer_gradients(update.gradient(), "1"))
        counts[2] += match_batch(subjects.gallery, rows, chosen).reconstructed.sum()
    first, second, third = map(int, counts)
    return (first, trials * cases), (second, trials * cases), (third, trials * cases)


def token_batch(count: int) -> torch.Tensor:
    """First tokens of histories of synthetic patients, shape (count, 32)."""
    held = tokenizer().encode(people(count * 2, seed=[8, 1]))
    long = [np.asarray(held.token_ids[start : start + CONTEXT]) for start, size in
            zip(held.offsets[:-1], held.lengths, strict=True) if size >= CONTEXT]  # fmt: skip
    return torch.from_numpy(np.stack(long[:count]).astype(np.int64))


def history_update(module: nn.Module, ids: torch.Tensor, defence: Defence, *, seed: int) -> Update:
    """One step over histories, each a patient's."""
    weights, each = dict(module.named_parameters()), list[dict[str, torch.Tensor]]()
    for row in ids:
        logits = module(input_ids=row[None]).logits[0, :-1]
        loss = nn.functional.cross_entropy(logits, row[1:])
        each.append(dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True)))
    stacked = {name: torch.stack([one[name] for one in each]) for name in weights}
    sent = made.sent_of(stacked, defence, torch.Generator().manual_seed(seed))
    before = {name: value.detach().numpy() for name, value in weights.items()}
    held = {name: value.numpy() for name, value in sent.items()}
    return Update("site", 0, "gradient", len(ids), 1, len(ids), 1.0, before, held)


def tokens_told(
    batch: int, defence: Defence, trials: int, width: int = 128
) -> tuple[float, float, Counts, Counts]:
    """Recall and precision of tokens; whole histories in order; patients by their tokens in a gallery."""
    ids = token_batch(1000)
    size = len(tokenizer().vocabulary)
    bags = np.zeros((len(ids), size), np.float32)
    np.put_along_axis(bags, ids[:, :-1].numpy(), 1, 1)
    gallery = Gallery.of(bags, np.arange(len(ids)))
    model = SmallCausalRecipe(LoopSettings(epochs=1), width=width, layers=2, context=CONTEXT).build(
        size, seed=0
    )
    module, rng = model.module.eval(), np.random.default_rng(batch)
    right, told, there, whole, named = 0, 0, 0, 0, 0
    for trial in range(trials):
        chosen = rng.choice(len(ids), batch, replace=False)
        update = history_update(module, ids[chosen], defence, seed=trial)
        deviation = defence.noise * (defence.clip or 1) / batch
        tokens = tokens_in(update.sent["model.embed_tokens.weight"], deviation=deviation)
        truth = np.unique(ids[chosen, :-1])
        right, told, there = (
            right + len(np.intersect1d(tokens, truth)),
            told + len(tokens),
            there + len(truth),
        )
        found = (
            histories_in(module, update, layer=LAYER, tokens=tokens, longest=CONTEXT - 1)
            if len(tokens)
            else []
        )
        known = {tuple(one.tolist()) for one in found}
        whole += sum(tuple(row) in known for row in ids[chosen, :-1].tolist())
        drawn = np.zeros((max(len(found), 1), size), np.float32)
        for row, one in enumerate(found or [tokens]):
            drawn[row, one] = 1
        named += int(match_batch(gallery, drawn, chosen).reconstructed.sum())
    cases = trials * batch
    return right / there, right / max(told, 1), (whole, cases), (named, cases)


def present(batch: int, defence: Defence, trials: int) -> tuple[float, float, float, float, float, float]:
    """AUC of cosine and of loss, with their intervals: members of batches against 100 others each."""
    module, subjects = made.perceptron(0), made.images()
    scores: list[list[list[float]]] = [[[], []], [[], []]]
    for trial in range(trials):
        rows = np.random.default_rng([trial, 3]).choice(len(subjects.labels), batch + 100, replace=False)
        update = replace(
            made.observed(module, subjects, rows[:batch], defence, seed=trial), learning_rate=0.1
        )
        for score, held in zip((gradient_scores, loss_scores), scores, strict=True):
            found = score(module, update, subjects.inputs[rows], subjects.labels[rows])
            # Ranks within one update: others of the same round are what a listener compares with.
            found = found.argsort().argsort() / len(found)
            held[0] += found[:batch].tolist()
            held[1] += found[batch:].tolist()
    first, second = (auc(members, others) for members, others in scores)
    return first.value, first.low, first.high, second.value, second.low, second.high


def women_counted(batch: int, defence: Defence, shadows: int, asked: int) -> tuple[float, float, float]:
    """Correlation of guessed and true shares of women in batches of Adult, whose columns leave sex out."""
    (subjects, women), module = made.rows(), made.table_network(0)
    rng, half = np.random.default_rng(batch), len(made.rows()[1]) // 2
    updates, shares = list[made.Floats](), list[float]()
    for number in range(shadows + asked):
        side = np.arange(half) + (half if number >= shadows else 0)
        odds = np.where(women[side] == 1, (share := rng.random()), 1 - share)
        chosen = rng.choice(side, batch, replace=False, p=odds / odds.sum())
        update = made.observed(module, subjects, chosen, defence, seed=number)
        updates.append(np.concatenate([one.ravel() for one in update.sent.values()]))
        shares.append(float(women[chosen].mean()))
    rows, truth = np.stack(updates).astype(np.float64), np.array(shares)
    found = share_correlation(guess_shares(rows[:shadows], truth[:shadows], rows[shadows:]), truth[shadows:])
    return found.value, found.low, found.high
