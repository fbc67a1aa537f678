"""What other processes are given to do: a file of its own, which they import in no time."""

import os
import time

import numpy as np

from primum.errors import InputError


def halved(number: int) -> tuple[float, int]:
    """Answer after a while that is longer for the first, so that order must be kept on purpose."""
    if number == 0:
        np.linalg.eigvals(np.random.default_rng(0).random((150, 150)))
    return number / 2, os.getpid()


def slow(number: int) -> int:
    time.sleep(0.05)
    return number


_HELD: list[np.ndarray] = []


def growing(number: int) -> int:
    """Grow by a model's size, and stay so, after loky has looked how large the process is."""
    time.sleep(1.2)
    if not _HELD:
        _HELD.append(np.ones(45_000_000))
    return os.getpid()


def failing(number: int) -> int:
    raise InputError("Number {number} cannot be used.", number=number)
