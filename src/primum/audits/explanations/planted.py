"""A model of which it is known what it looks at, on the same cases: do explainers name it?

References
----------
Arias-Duart et al., Focus! Rating XAI methods and finding biases, 2022; Yang & Kim, Benchmarking attribution
methods with relative feature importance, 2019 (planted ground truth).
"""

from collections.abc import Sequence

import numpy as np

from primum.evidence.ranking import auc
from primum.fit.explainers import Kind, Parts
from primum.models.predictors import Predictor
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

PLANTED = 3


def planted_parts(count: int, *, seed: int) -> IntArray:
    """Choose which parts the model looks at: three, or one where there are fewer than six."""
    chosen = np.random.default_rng(seed).permutation(count)[: PLANTED if count >= 2 * PLANTED else 1]
    return np.sort(chosen)


def planted_classifier(parts: Sequence[Parts], looked_at: IntArray, *, kind: Kind) -> Predictor:
    """Make a classifier whose log-odds are a sum over some parts, and nothing else.

    Each part speaks by its mean difference from the background, in standard deviations over the cases, the
    second of three against the class. Pictures and signals pass a convolution, so that Grad-CAM has something
    to look at.

    Parameters
    ----------
    parts : sequence of Parts
        Of cases of one shape that hold numbers.
    looked_at : int64
    kind : {"image", "volume", "signal", "table"}
    """
    import torch

    from primum.models.classifier_card import Card, InputCard
    from primum.models.torch_door import TorchClassifier

    first = parts[0]
    away = np.stack([one.totals(one.values.astype(np.float64) - one.without) for one in parts])
    scale = away.std(axis=0)[looked_at]
    signs = np.resize([1.0, -1.0, 1.0], len(looked_at))
    of_part = np.zeros(first.count)
    of_part[looked_at] = np.divide(signs, scale, out=np.zeros_like(signs), where=scale > 0)
    weights = torch.from_numpy(of_part[first.place].astype(np.float32))
    background = torch.from_numpy(first.without.astype(np.float32))

    class Planted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = {"signal": torch.nn.Conv1d, "image": torch.nn.Conv2d, "volume": torch.nn.Conv3d}
            self.picture: torch.nn.Module = torch.nn.Identity()
            if kind in layers:
                channels = len(first.values)
                self.picture = layers[kind](channels, channels, 1, groups=channels, bias=False)
                torch.nn.init.ones_(self.picture.weight)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen: torch.Tensor = self.picture((inputs - background) * weights)
            return seen.flatten(1).sum(1, keepdim=True)

    return TorchClassifier(
        Planted(), ("without", "with"), Card((), "logits", InputCard(scale=1.0, dtype="float32"))
    )


def found(totals: FloatArray, looked_at: IntArray) -> float:
    """How well an attribution ranks the parts looked at above the others, by size: 1 is right, .5 chance."""
    size = np.abs(totals)
    true = np.isin(np.arange(len(totals)), looked_at)
    return auc(size[true], size[~true]).value
