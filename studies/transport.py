"""Distances: each code embedded once, against a loop that embeds every token of every sample (acceptance 6).

The published code runs a sentence model over the names of all tokens of each sample, then solves one
transport problem a sample. The loop here does the same work in the same order, with embedders small enough
for this machine: sums of random vectors of hashed character trigrams, and a Transformer of two layers and
width 64 over characters, weights at random. The published sentence model has 110 million parameters, so that
its loop is slower still. Both sides use one assignment solver and one thread; embedding each code of the
vocabulary once is in the time.
"""

import time
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from primum.audits.privacy.transport import (
    PADDED_COST,
    Trajectories,
    code_distances,
    trajectories,
    transport_distances,
)
from primum.records.histories import FloatArray
from studies.tables import Table, write_page
from studies.world import people, tokenizer

PATIENTS, SAMPLES, EVENTS = 500, 8, 20
WIDTH, LONGEST = 64, 40
Embedder = Callable[[Sequence[str]], FloatArray]


def trigrams() -> Embedder:
    """Embed a name as the sum of random vectors of its hashed trigrams."""
    table = np.random.default_rng(0).standard_normal((4096, WIDTH))

    def embed(names: Sequence[str]) -> FloatArray:
        grams = [[f" {name} "[place : place + 3] for place in range(len(name))] for name in names]
        return np.stack([table[[zlib.crc32(one.encode()) % 4096 for one in row]].sum(0) for row in grams])

    return embed


def transformer() -> Embedder:
    """Embed a name as the mean of the last states of a Transformer over its characters."""
    torch.manual_seed(0)
    characters = torch.nn.Embedding(128, WIDTH).double()
    layer = torch.nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).double().eval()

    def embed(names: Sequence[str]) -> FloatArray:
        ids = torch.tensor([[ord(one) % 128 for one in name[:LONGEST].ljust(LONGEST)] for name in names])
        with torch.inference_mode():
            states: FloatArray = encoder(characters(ids)).mean(1).numpy()
        return states

    return embed


def sample_by_sample(
    truth: Trajectories, samples: list[Trajectories], names: Sequence[str], embed: Embedder
) -> FloatArray:
    """Return mean distances as published: embed the names of each sample, compare, pad, solve."""
    distances = np.zeros((len(samples), len(truth)))
    for row in range(len(truth)):
        true = embed([names[code] for code in truth.codes_of(row)])
        for number, sample in enumerate(samples):
            guess = embed([names[code] for code in sample.codes_of(row)])
            size = max(len(true), len(guess))
            lengths = np.outer(np.linalg.norm(true, axis=1), np.linalg.norm(guess, axis=1))
            apart = np.abs(truth.times_of(row)[:, None] - sample.times_of(row)) + 1
            cost = np.full((size, size), PADDED_COST)
            cost[: len(true), : len(guess)] = (1 - true @ guess.T / lengths) * apart
            distances[number, row] = cost[linear_sum_assignment(cost)].mean()
    mean: FloatArray = distances.mean(axis=0)
    return mean


def each_code_once(
    truth: Trajectories, samples: list[Trajectories], names: Sequence[str], embed: Embedder
) -> FloatArray:
    """Return mean distances as Primum computes them."""
    vectors = embed(names)
    table = code_distances(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    mean: FloatArray = np.mean([transport_distances(truth, one, table) for one in samples], axis=0)
    return mean


def continuations(seed: int) -> Trajectories:
    """Draw fresh patients with at least five events and read their first twenty."""
    tokens = tokenizer().encode(people(2 * PATIENTS, seed=[61, seed]))
    read = trajectories(tokens, tokenizer(), most=EVENTS)
    enough = np.flatnonzero(np.diff(read.offsets) >= 5)[:PATIENTS]
    return trajectories(tokens.select(enough), tokenizer(), most=EVENTS)


def main() -> None:
    """Time both, print and write the table."""
    torch.set_num_threads(1)
    names = tokenizer().vocabulary.tokens
    truth, *samples = (continuations(seed) for seed in range(SAMPLES + 1))
    table = Table(
        "Embedder",
        "Patients × samples",
        "Each code once, s",
        "Every sample, s",
        "Ratio",
        "Largest difference",
    )
    for name, embed in (("hashed trigrams", trigrams()), ("Transformer, 2 layers", transformer())):
        seconds, distances = [], []
        for measure in (each_code_once, sample_by_sample):
            started = time.perf_counter()
            distances.append(measure(truth, samples, names, embed))
            seconds.append(time.perf_counter() - started)
        largest = float(np.abs(distances[0] - distances[1]).max())
        ratio = f"{seconds[1] / seconds[0]:.0f} ×"
        table.add(name, f"{PATIENTS} × {SAMPLES}", *seconds, ratio, f"{largest:.1e}")
    write_page("transport", __doc__, table)


if __name__ == "__main__":
    main()
