"""What an update gives away by arithmetic alone: inputs of a linear layer, and labels.

References
----------
Phong et al., Privacy-preserving deep learning via additively homomorphic encryption, IEEE TIFS 2018.
Zhao, Mopuri & Bilen, iDLG: improved deep leakage from gradients, 2020.
Yin et al., See through gradients: image batch recovery via GradInversion, CVPR 2021 (counts of labels).
"""

import numpy as np
from numpy.typing import NDArray

from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

# A row whose bias moved this much less than the strongest has but rounding errors to divide.
_SMALLEST = 1e-7


def layer_input(
    weight: NDArray[np.floating], bias: NDArray[np.floating], *, deviation: float = 0.0
) -> NDArray[np.floating]:
    """Return the input of a linear layer that one case gave, from the gradients of all rows together.

    Each row of the gradient of the weights is the input times that row's gradient of the bias: exact for one
    case, and the least-squares answer under noise. No gradient can be scaled, or clipped, so that this fails.

    Parameters
    ----------
    weight, bias : float, shape (..., rows, features) and (..., rows)
        Gradients, of several updates at once along the leading axes.
    deviation : float
        Of known noise on each gradient of the bias: it lengthens them and would shrink every answer towards
        0, where some record may lie, so that its expected share is taken off.

    Returns
    -------
    float, shape (..., features)
        Of a batch, a mixture of its inputs. 0 where no row has a gradient.
    """
    length = (np.square(bias).sum(-1) - bias.shape[-1] * deviation**2)[..., None]
    mixed = (bias[..., None, :] @ weight)[..., 0, :]
    found: NDArray[np.floating] = np.divide(mixed, length, out=np.zeros_like(mixed), where=length != 0)
    return found


def row_inputs(weight: NDArray[np.floating], bias: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return what each row of a linear layer alone says of its inputs, and first what all say together.

    A row that only one case of a batch switched on (ReLU) holds that case exactly; others hold mixtures.

    Parameters
    ----------
    weight, bias : float, shape (rows, features) and (rows,)
        Gradients.

    Returns
    -------
    float, shape (1 + k, features)
        Without the rows that have no gradient.
    """
    moved = np.flatnonzero(np.abs(bias) > _SMALLEST * np.abs(bias).max(initial=0.0))
    return np.concatenate([layer_input(weight, bias)[None], weight[moved] / bias[moved, None]])


def single_label(last_bias: FloatArray) -> int:
    """Return the label of the one case of an update: the only class whose bias is pushed up.

    Parameters
    ----------
    last_bias : float64, shape (classes,)
        Gradient of the bias of the last layer under cross-entropy: probabilities, less 1 for the true class.
    """
    return int(np.argmin(last_bias))


def label_counts(last_bias: FloatArray, *, cases: int, probabilities: FloatArray) -> IntArray:
    """Count the labels of a batch.

    Parameters
    ----------
    last_bias : float64, shape (classes,)
        Gradient of the bias of the last layer, of the mean cross-entropy.
    cases : int
        In the batch.
    probabilities : float64, shape (classes,)
        What the model answers about cases like these, on average: exact counts for the batch's own answers.

    Returns
    -------
    int64, shape (classes,)
        At least 0, `cases` in all; parts of a case go to the classes with the largest.
    """
    share = np.maximum(probabilities - last_bias, 0)
    wanted = cases * share / max(float(share.sum()), 1e-12)
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    left = cases - int(counts.sum())
    counts[np.argsort(counts - wanted, kind="stable")[:left]] += 1
    return counts
