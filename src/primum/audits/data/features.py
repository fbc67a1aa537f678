"""Fixed numbers of each case, made without any model: what a small classifier of our own can learn from."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.records.case_features import coarse
from primum.records.cases import Inputs
from primum.records.histories import FloatArray

COMPONENTS = 64
_GRID, _PARTS, _LETTERS, _WORD, _MOST_TILES, _AT_ONCE = 14, 32, 4, 4, 64, 1 << 20
_CODES = np.full(256, -1, np.int64)
_CODES[[*b"ACGT", *b"acgt"]] = [0, 1, 2, 3] * 2


def features_of(inputs: Inputs) -> FloatArray:
    """Describe each case by one row of numbers, float64, shape (n, d), finite; how large differs by column.

    Images: every channel on a grid of 14 x 14 or its own, whichever is coarser. Volumes and bags: mean,
    deviation and greatest value over slices or tiles, likewise. Signals: mean and deviation of each lead in
    32 parts. Rows: the columns and what is missing. Sequences: how often each word of four letters occurs.
    """
    return np.concatenate([_of_block(block) for block in blocks_of(inputs)])


def principal(features: FloatArray, *, components: int = COMPONENTS) -> FloatArray:
    """Bring columns to one scale and keep the directions in which cases differ most, each of variance 1."""
    spread = features.std(axis=0)
    if not (spread > 1e-12).any():
        return np.zeros((len(features), 1))
    scaled = (features - features.mean(axis=0))[:, spread > 1e-12] / spread[spread > 1e-12]
    values, vectors = np.linalg.eigh(scaled.T @ scaled / max(1, len(scaled)))
    kept = np.flatnonzero(values > 1e-9 * values.max(initial=1e-300))[::-1][:components]
    return np.asarray(scaled @ vectors[:, kept] / np.sqrt(values[kept]))


def blocks_of(inputs: Inputs) -> Iterator[NDArray[Any]]:
    """Yield the inputs in order, as arrays of about a million numbers; one case each where shapes differ."""
    if isinstance(inputs, tuple):
        yield from (one[None] for one in inputs)
    elif len(inputs):
        step = max(1, _AT_ONCE // max(1, inputs[0].size))
        yield from (inputs[at : at + step] for at in range(0, len(inputs), step))


def _of_block(block: NDArray[Any]) -> FloatArray:
    if block.dtype == np.uint8 and block.ndim == 2:
        return np.stack([_words(letters) for letters in block])
    if block.ndim == 5 and block.shape[1] > _MOST_TILES:
        block = block[:, np.linspace(0, block.shape[1] - 1, _MOST_TILES).astype(np.int64)]
    numbers = np.nan_to_num(block.astype(np.float64), posinf=0.0, neginf=0.0)
    if block.ndim == 2:
        return np.hstack([numbers, np.isnan(block.astype(np.float64))])
    if block.ndim == 3:
        parts = coarse(numbers, rows=block.shape[1], columns=min(_PARTS, block.shape[2]))
        squares = coarse(numbers**2, rows=block.shape[1], columns=min(_PARTS, block.shape[2]))
        deviation = np.sqrt(np.maximum(squares - parts**2, 0))
        return np.hstack([one.reshape(len(block), -1) for one in (parts, deviation)])
    if block.ndim == 4:
        return _grid(numbers)
    pictures = numbers.reshape(len(block), -1, *block.shape[3:])
    whole = pictures.mean(axis=1), pictures.std(axis=1), pictures.max(axis=1)
    return _grid(np.stack(whole, axis=1))


def _grid(pictures: FloatArray) -> FloatArray:
    """Average pictures, shape (n, channels, height, width), over a grid."""
    count, channels, height, width = pictures.shape
    flat = pictures.reshape(count * channels, height, width)
    return coarse(flat, rows=min(_GRID, height), columns=min(_GRID, width)).reshape(count, -1)


def _words(letters: NDArray[Any]) -> FloatArray:
    codes = _CODES[letters]
    words = np.zeros(max(0, len(codes) - _WORD + 1), np.int64)
    usable = np.ones(len(words), np.bool_)
    for at in range(_WORD):
        part = codes[at : at + len(words)]
        words, usable = _LETTERS * words + part, usable & (part >= 0)
    counts = np.bincount(words[usable], minlength=_LETTERS**_WORD).astype(np.float64)
    return np.append(counts / max(1, usable.sum()), np.log1p(len(letters)))
