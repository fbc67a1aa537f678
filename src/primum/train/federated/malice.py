"""What malicious sites do, for tests and studies: spoilt cases, and spoilt updates. Free of torch.

References
----------
Baruch, Baruch & Goldberg, A little is enough: circumventing defenses for distributed learning, NeurIPS 2019.
Gu, Dolan-Gavitt & Garg, BadNets: identifying vulnerabilities in the machine learning model supply chain, 2017
(the mark). Bagdasaryan et al., How to backdoor federated learning, AISTATS 2020 (scaling).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from primum.records.ragged import IntArray

Floats = NDArray[np.float64]
MARK = 3


def marked(images: NDArray[Any]) -> NDArray[Any]:
    """Copy images (..., height, width) with the brightest value among them in a corner of 3 x 3 pixels."""
    copies = images.copy()
    copies[..., -MARK:, -MARK:] = images.max()
    return copies


def flipped_labels(labels: IntArray, classes: int) -> IntArray:
    """Turn the order of classes round: of two, each becomes the other."""
    return classes - 1 - labels


def scaled(updates: Floats, factor: float) -> Floats:
    """Lengthen updates, shape (malicious, d); -1 flips their sign."""
    return updates * factor


def a_little_is_enough(honest: Floats, malicious: int) -> Floats:
    """Move the honest sites' mean, in every coordinate, down by as many deviations as hide among them.

    Parameters
    ----------
    honest : float array, shape (honest sites, d)
        Which the attackers are taken to know.
    malicious : int
        One or more, and fewer than half of all.

    Returns
    -------
    float array, shape (malicious, d)
        The same from each. So few attackers that they must win nearly half of the honest sites send the mean.
    """
    sites = len(honest) + malicious
    won = sites // 2 + 1 - malicious
    deviations = max(norm.ppf((len(honest) - won) / len(honest)), 0.0)
    mean = honest.mean(0)
    return np.tile(mean - deviations * honest.std(0), (malicious, 1))
