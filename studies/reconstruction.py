"""Cases reconstructed from what hospitals send: by network, batch and defence.

PneumoniaMNIST (28 × 28, 4,708 training images) and Adult (4,708 rows, none twice; a census, not patients):
networks at their first weights send the gradient of one step, or the change of their weights after a few. The
images name no patients: **the unit is the image** (or the row), and so is epsilon's.

*Reconstructed*: of all 4,708 records the nearest to what was drawn is the true one, **and** it is nearer than
99 of 100 pairs of different records are. Both are needed, see under the tables. For a batch the attacker
names no more records than there are cases, so that chance names a share of batch / 4,708 at most.
*Record*: the pixels or columns themselves. *Features*: what goes into the last linear layer, matched with
the features of all records.

*ε = 8*: a site of 314 records (a fifteenth) that goes over them ten times, Poisson sampling, each record's
gradient clipped to 1, delta 1e-5, PLD accountant, one record more or less; the noise over the clip is in the
table. It is the noise of one observed step; the promise is about all of them.

First weights are where a model knows least and gives most away; nothing here was tuned on defended updates.
Labels are read off the last bias (batch 1: iDLG) or counted from it. The image network has corners and a
maximum over places, LeNet-sigmoid is smooth and has none: what a search finds depends on that, so that no
single share is a property of federated learning.

References: Zhu et al., NeurIPS 2019; Zhao et al. 2020; Geiping et al., NeurIPS 2020; Petrov et al., NeurIPS
2024; Clopper & Pearson 1934.
"""

from collections.abc import Callable, Mapping
from math import log
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr
from torch import nn

from primum.audits.updates.analytic import label_counts, row_inputs, single_label
from primum.audits.updates.iterative import Search, search_inputs
from primum.audits.updates.matching import Gallery, match_batch, match_one_each
from primum.evidence.reconstruction import reconstructed_p_value, reconstructed_share
from primum.fit.updates import Update
from studies import observed_updates as made
from studies import other_updates as other
from studies.observed_updates import CLIP, DELTA, Defence, Floats, Subjects
from studies.tables import Table, write_page

kept: Callable[..., Any] = joblib.Memory("studies/cache", verbose=0).cache
BATCHES, CASES, DRAWS = (1, 2, 4, 8, 32), 240, 8
# By name: how the network is made, on what, its first layer where that is linear, and how many seeds.
NETWORKS: Mapping[str, tuple[Callable[[int], nn.Module], Callable[[], Subjects], str | None, int]] = {
    "perceptron": (made.perceptron, made.images, "1", 2),
    "LeNet-sigmoid": (made.lenet, made.images, None, 2),
    "image network": (made.image_network, made.images, None, 2),
    "linear on scattering": (made.scattering, made.images, None, 1),
    "table network": (made.table_network, lambda: made.rows()[0], "hidden.0", 2),
}
SEARCHED = {"LeNet-sigmoid": "lbfgs", "image network": "adam"}
# Updates without defence, clipped, and with noise, by batch.
TRIALS: Mapping[str, Mapping[int, tuple[int, int, int]]] = {
    "LeNet-sigmoid": {1: (60, 20, 10), 2: (6, 3, 3), 4: (4, 2, 2), 8: (2, 1, 1), 32: (1, 0, 0)},
    "image network": {1: (8, 4, 4), 2: (4, 2, 2), 4: (2, 1, 1), 8: (1, 1, 1), 32: (1, 0, 0)},
}
# Cases, local steps, batch, trials.
STEPS = ((1, 1, 1, 6), (1, 5, 1, 5), (2, 2, 1, 4), (2, 4, 1, 3), (4, 4, 1, 2), (4, 2, 2, 2))
Counts = tuple[int, int]


def galleries(name: str, seed: int) -> tuple[nn.Module, dict[str, tuple[str, Gallery]]]:
    """Make a network; for record and features, return the layer that tells them and who is looked among."""
    make, subjects, first, _ = NETWORKS[name]
    module, found = make(seed), {}
    last = made.last_layer(module)
    of_last = made.into(module, last, subjects().inputs)
    found["features"] = last, Gallery.of(of_last, np.arange(len(of_last)))
    if first:
        found["record"] = first, subjects().gallery
    return module, found


def by_arithmetic(name: str, cases: int) -> dict[tuple[int, str, str], Counts]:
    """Reconstructed and tried, by batch, defence and what was drawn."""
    counts: dict[tuple[int, str, str], Counts] = {}
    subjects, seeds = NETWORKS[name][1](), NETWORKS[name][3]
    for seed in range(seeds):
        module, layers = galleries(name, seed)
        rng = np.random.default_rng([seed, 7])
        for batch in BATCHES:
            for trial in range(max(cases // batch, 8) // seeds):
                chosen = rng.choice(len(subjects.labels), batch, replace=False)
                for defence in made.defences(batch):
                    update = made.observed(module, subjects, chosen, defence, seed=1000 * seed + trial)
                    for what, (layer, gallery) in layers.items():
                        drawn = made.stored(
                            module, row_inputs(*made.layer_gradients(update.sent, layer)), what
                        )
                        found = int(match_batch(gallery, drawn, chosen).reconstructed.sum())
                        before = counts.get((batch, defence.name, what), (0, 0))
                        counts[batch, defence.name, what] = before[0] + found, before[1] + batch
    return counts


def labels_of(update: Update, module: nn.Module) -> NDArray[np.int64]:
    """Read the labels off an update, in rising order."""
    pulls = np.asarray(update.sent[f"{made.last_layer(module)}.bias"], np.float64)
    if update.cases == 1:
        return np.array([single_label(pulls)])
    with torch.inference_mode():
        answers = torch.softmax(module(made.images("val").inputs), 1).mean(0).double().numpy()
    counts = label_counts(pulls, cases=update.cases, probabilities=answers)
    return np.repeat(np.arange(len(counts)), counts)


def by_search(name: str, batch: int, defence: Defence, trials: int) -> Counts:
    """Reconstructed and tried."""
    subjects, found = made.images(), 0
    search = Search(
        steps=200 if batch < 8 else 100, restarts=2 if batch == 1 and name == "image network" else 1,
        total_variation=0.01 if name == "image network" else 0.0,
        optimiser="lbfgs" if SEARCHED[name] == "lbfgs" else "adam",
    )  # fmt: skip
    for trial in range(trials):
        module = NETWORKS[name][0](trial)
        chosen = np.random.default_rng([trial, batch]).choice(len(subjects.labels), batch, replace=False)
        update = made.observed(module, subjects, chosen, defence, seed=trial)
        labels = labels_of(update, module)
        drawn, _ = search_inputs(module, update, shape=(1, 28, 28), labels=labels, search=search, seed=trial)
        found += int(match_batch(subjects.gallery, drawn, chosen).reconstructed.sum())
    return found, trials * batch


def wiener(drawn: Floats, strength: Floats, records: Floats) -> Floats:
    """Shrink what was drawn to how much the records vary in each direction, noise known."""
    mean = records.mean(0)
    centred = records - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(records))
    turned = (drawn - mean) @ vectors
    spread = np.maximum(values, 0)
    found: Floats = (turned * (spread / (spread + np.square(strength)))) @ vectors.T + mean
    return found


def one_each(name: str, what: str, defence: Defence, draws: int) -> dict[str, list[int]]:
    """Put every record alone in an update, `draws` noises each: tried, nearest, similar, both; by estimator.

    A row of the layer's gradient is the pull on its bias times the layer's input. The least-squares answer
    mixes the rows' independent noises into one of deviation |pulls|, so that one noise of an input's width is
    drawn in place of one for each row: the same law, exactly.
    """
    module, layers = galleries(name, 0)
    subjects, (layer, gallery) = NETWORKS[name][1](), layers[what]
    inputs, pulls, lengths = made.into(module, layer, subjects.inputs), [], []
    for rows in torch.split(torch.arange(len(subjects.labels)), 256):
        each = made.case_gradients(module, subjects.inputs[rows], subjects.labels[rows])
        lengths.append(made.lengths_of(each))
        bias = each.get(f"{layer}.bias")
        pulls.append(10 * each[f"{layer}.weight"][:, :, -1] if bias is None else bias)
    clipped = (torch.cat(pulls) * (CLIP / torch.cat(lengths).clamp(min=CLIP))[:, None]).numpy()
    strength = np.float32(defence.noise * CLIP)
    constant = strength * np.float32(10 if name == "linear on scattering" else 1)
    found: dict[str, list[int]] = {}
    for draw in range(draws):
        rng = np.random.default_rng([draw, 11])
        noisy = clipped + constant * rng.standard_normal(clipped.shape, np.float32)
        squares = np.square(noisy).sum(1, keepdims=True)
        own = (noisy * clipped).sum(1, keepdims=True) * inputs
        mixed = own + strength * np.sqrt(squares) * rng.standard_normal(inputs.shape, np.float32)
        tried = {
            "noise taken off": mixed / (squares - clipped.shape[1] * constant**2),
            "least squares": mixed / squares,
        }
        if name == "perceptron" and what == "record" and strength:
            tried["Wiener"] = wiener(tried["least squares"], strength / np.sqrt(squares), inputs)
        for estimator, one in tried.items():
            match = match_one_each(gallery, made.stored(module, one, what), np.arange(len(inputs)))
            seen = len(inputs), match.nearest.sum(), match.similar.sum(), match.reconstructed.sum()
            found[estimator] = [a + int(b) for a, b in zip(found.get(estimator, [0] * 4), seen, strict=True)]
    return found


def every_record_tried(trials: int) -> Counts:
    """Let a listener who has the record itself look whose gradient fits best (perceptron, batch 1, ε = 8)."""
    module, subjects = made.perceptron(0), made.images()
    flat = subjects.inputs.flatten(1)
    each = [
        made.case_gradients(module, subjects.inputs[rows], subjects.labels[rows])
        for rows in torch.split(torch.arange(len(flat)), 256)
    ]
    pulls = torch.cat([one["1.bias"] for one in each])
    lengths = torch.cat(
        [torch.stack([w.flatten(1).square().sum(1) for w in one.values()]).sum(0).sqrt() for one in each]
    )
    pulls, found = pulls * (CLIP / lengths.clamp(min=CLIP))[:, None], 0
    norms = pulls.square().sum(1) * (flat.square().sum(1) + 1)
    defence, random = made.defences(1)[2], np.random.default_rng(5)
    for trial, row in enumerate(random.choice(len(flat), trials)):
        noise = torch.Generator().manual_seed(trial)
        weight = pulls[row][:, None] * flat[row] + defence.noise * torch.randn(
            (len(pulls[0]), 784), generator=noise
        )
        bias = pulls[row] + defence.noise * torch.randn(len(pulls[0]), generator=noise)
        fits = (pulls * (flat @ weight.T + bias)).sum(1) - norms / 2
        found += int(fits.argmax() == row)
    return found, trials


def epsilon_of(noise: float) -> float:
    """Epsilon of one Gaussian release (Balle & Wang 2018), where grids of losses overflow."""

    def gap(epsilon: float) -> float:
        first = float(log_ndtr(0.5 / noise - epsilon * noise))
        second = epsilon + float(log_ndtr(-0.5 / noise - epsilon * noise))
        return first + float(np.log1p(-np.exp(min(second - first, -1e-12)))) - log(DELTA)

    return float(brentq(gap, 1e-3, 10 / noise**2 + 100))


def share_tables() -> tuple[Table, Table]:
    """Reconstructed by network, batch and defence: without noise, with noise."""
    heads = (
        "network",
        "drawn",
        "by",
        "batch",
        "no defence",
        "clipped",
        "ε = 8",
        "noise over clip",
        "chance, at most",
    )
    first, count = Table(*heads), len(made.images().labels)
    controls = Table("asked for", "seen", "holds")
    for name in NETWORKS:
        found = kept(by_arithmetic)(name, CASES)
        for what in sorted({key[2] for key in found}, reverse=True):
            for batch in BATCHES:
                row = [other.said(found[batch, one.name, what]) for one in made.defences(batch)]
                noise = f"{made.multiplier(batch):.2f}"
                first.add(name, what, "arithmetic", batch, *row, noise, f"{batch / count:.2%}")
            if name == "perceptron" and what == "record":
                control(controls, "perceptron, batch 1, record", found[1, "none", what])
        for batch, trials in TRIALS.get(name, {}).items():
            three = zip(made.defences(batch), trials, strict=True)
            searched = [kept(by_search)(name, batch, one, many) for one, many in three]
            noise = f"{made.multiplier(batch):.2f}"
            first.add(
                name, "record", "search", batch, *map(other.said, searched), noise, f"{batch / count:.2%}"
            )
            if name == "LeNet-sigmoid" and batch == 1:
                control(controls, "LeNet-sigmoid, batch 1, record", searched[0])
    return first, controls


def control(table: Table, name: str, counts: Counts) -> None:
    table.add(f"{name}: ≥ 95 %", other.said(counts), counts[0] >= 0.95 * counts[1])


def alone_table(controls: Table) -> tuple[Table, Table]:
    """Each record alone in an update: with the noise of ε = 8, and with a deviation of .01."""
    noisy = Table(
        "network", "drawn", "estimator", "updates", "nearest is the true one", "near enough",
        "both: reconstructed", "by chance", "at most, of updates", "at most, of distinct records",
    )  # fmt: skip
    little = Table(
        "network", "drawn", "estimator", "nearest is the true one", "reconstructed", "ε of one update"
    )
    eight, weak, gallery = made.defences(1)[2], Defence("σ = .01", CLIP, 0.01), len(made.images().labels)
    for name, (_, _, first, _) in NETWORKS.items():
        for what in ("record", "features")[0 if first else 1 :]:
            for estimator, counts in kept(one_each)(name, what, eight, DRAWS).items():
                tried, nearest, similar, both = counts
                high = reconstructed_share(both, tried).high
                distinct = reconstructed_share(min(both, tried // DRAWS), tried // DRAWS).high
                expected = similar / gallery
                row = name, what, estimator, tried, nearest, similar, both, f"{expected:.1f}"
                noisy.add(*row, f"{high:.4%}", f"{distinct:.3%}")
                asked = f"{name}, {what}, {estimator}, ε = 8: "
                if similar:
                    p_value = reconstructed_p_value(both, tried, chance=expected / tried)
                    seen = f"{both}, {expected:.1f} expected (p = {p_value:.2f})"
                    controls.add(f"{asked}no more than by chance", seen, p_value >= 0.05)
                else:
                    seen, holds = f"{both} in {tried}, ≤ {high:.4%}", tried >= 37_000 and high <= 1e-4
                    controls.add(f"{asked}none in ≥ 37,000, ≤ .01 % of updates", seen, holds)
            for estimator, (tried, nearest, _, both) in kept(one_each)(name, what, weak, 1).items():
                shares = other.said((nearest, tried)), other.said((both, tried))
                little.add(name, what, estimator, *shares, f"{epsilon_of(0.01):,.0f}")
    searched = other.said(kept(by_search)("LeNet-sigmoid", 1, weak, 10))
    little.add("LeNet-sigmoid", "record", "search", "", searched, f"{epsilon_of(0.01):,.0f}")
    return noisy, little


def other_tables() -> tuple[Table, ...]:
    """Local steps, tokens, membership and properties."""
    steps = Table(
        "cases", "local steps", "batch", "LeNet, gone back through", "LeNet, as one gradient", "perceptron"
    )
    for cases, many, batch, trials in STEPS:
        found = kept(other.after_steps)(cases, many, batch, trials)
        steps.add(cases, many, batch, *map(other.said, found))
    tokens = Table(
        "batch", "defence", "tokens found", "of those told", "in order, whole", "patient named of 1,000"
    )
    for batch, trials in ((1, 10), (2, 5), (4, 3), (8, 2), (32, 1)):
        for defence in made.defences(batch):
            recall, precision, *two = kept(other.tokens_told)(batch, defence, trials)
            tokens.add(batch, defence.name, f"{recall:.0%}", f"{precision:.0%}", *map(other.said, two))
    present = Table("what", "batch", "defence", "measure", "seen")
    for batch, trials in ((8, 25), (32, 10)):
        for defence in made.defences(batch):
            a, b, c, d, e, f = kept(other.present)(batch, defence, trials)
            present.add("membership, cosine", batch, defence.name, "AUC", f"{a:.2f} ({b:.2f} to {c:.2f})")
            present.add("membership, loss", batch, defence.name, "AUC", f"{d:.2f} ({e:.2f} to {f:.2f})")
    for batch in (32, 128):
        for defence in made.defences(batch):
            a, b, c = kept(other.women_counted)(batch, defence, 300, 100)
            present.add("share of women", batch, defence.name, "correlation", f"{a:.2f} ({b:.2f} to {c:.2f})")
    return steps, tokens, present


def main() -> None:
    """Write the page."""
    torch.set_num_threads(1)
    shares, controls = share_tables()
    noisy, little = alone_table(controls)
    others = other_tables()
    apart, ratio = made.as_trained()
    seen = f"{apart:.0e}; noise {ratio:.3f} of what is asked"
    controls.add("clipped sums and noise are those of primum.train, to 1e-6", seen, apart < 1e-6)
    found, tried = kept(every_record_tried)(1000)
    images = made.images()
    flat = Gallery.of(images.inputs.flatten(1).numpy(), np.arange(len(images.labels)))
    notes = NOTES.format(
        alike=f"{images.gallery.look_alikes:.0%}", flat=f"{flat.look_alikes:.0%}",
        threshold=f"{images.gallery.threshold:.2f}", chance=f"{1 / len(images.labels):.3%}",
        tried=other.said((found, tried)), expected=f"{tried / len(images.labels):.1f}",
        epsilon=f"{epsilon_of(0.01):,.0f}",
    )  # fmt: skip
    write_page("reconstruction", __doc__, controls, shares, noisy, little, *others, notes=notes)


NOTES = """Intervals are exact (Clopper-Pearson, 95 %) as if records were independent; those of one batch are
not quite. Bounds of updates count noises, bounds of distinct records count each record once: none in 4,708 is
no more than 3.69 / 4,708, however often noise is drawn.

**Why both conditions.** {alike} of the images have a look-alike above the threshold (a correlation of
{threshold}; measured as for rows, by cosines from the gallery's mean, {flat}), so that being near
something proves nothing; and something is always nearest: {chance} of the time the true one by chance.
Third table, *by chance*: what is expected where answers that are near enough name records at random. Where
features are few and alike, noise alone is often near enough, the two conditions are then met by chance,
and no count of zero can be asked for.

**What ε = 8 does not say.** None reconstructed is a fact about these attacks. The true record is the
nearest more often than chance has it (8.0 of 37,664) where *nearest is the true one* of the linear model's
features is counted. A listener who already holds a record asks an easier question, whose gradient fits
best: {tried} updates of one image gave the right one of 4,708,
where {expected} are expected by chance.

**σ = .01 proves nothing about ε.** Fourth table: noise of a hundredth of the clip stops the pixels of the
perceptron and of LeNet-sigmoid from being reconstructed by these estimators, though its ε is {epsilon} for
a single update. Those of the perceptron still name most people (*nearest is the true one*), show pixels to
whoever knows how images vary (Wiener), and give the features of the linear model away whole.

*Clipped* changes nothing for one case: a gradient's direction is kept. *As one gradient*: the change of
weights divided by rate and steps. Deltas are of plain gradient descent at a rate of .1 whose batches go
over the cases in order, which is known, as labels are. *Least squares* under noise shrinks every answer
towards 0; *noise taken off* does not.

Tokens: a Llama of two layers, width 128, the first 32 tokens of synthetic patients, all but the last to be
found; order is read from the span of a layer's gradient, which 128 places fill: from batch 8 on histories
are hidden, tokens are not. Patients are named by the set of their tokens (the whole batch's, where no
history was put in order). Under noise tokens count that stand out from it in 19 of 20 updates.

Membership: ranks within each update of its members and 100 others (perceptron). Shares of women: Adult,
sex is no column; 300 updates of the attacker's own people, 100 of others.
The noise hides records, not what many of them share: shares are read off batches of 128 with ε = 8 too.

All of this takes about fifteen CPU-minutes."""


if __name__ == "__main__":
    main()
