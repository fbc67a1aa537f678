"""The torch door: weights as safetensors, and a factory of the module that the command line names."""

import importlib
import inspect
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_safetensors

from primum.errors import InputError, ModelError
from primum.evidence.identity import file_digest
from primum.models.checked_predictor import (
    CheckedPredictor,
    at_once,
    class_names,
    in_batches,
    output_of,
    refused_input,
    stored_batches,
)
from primum.models.classifier_card import CARD, Card, InputCard, parse_card
from primum.models.classifier_files import read_files, ref_of
from primum.models.opened import OpenedClassifier
from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

WEIGHTS = "model.safetensors"
_FEW, _NUMBERS_AT_ONCE = 64, 1 << 16


def open_torch(path: Path, *, factory: str) -> OpenedClassifier:
    """Open the weights in a folder, in the module that ``module:name`` makes.

    The factory is called without arguments; its source file is part of the model's digest.

    Raises
    ------
    InputError
        A factory that cannot be imported, or makes no module.
    ModelError
        Weights that are broken or do not fit the module, a card that cannot be used.
    """
    files = read_files(path, WEIGHTS, optional=(CARD,))
    module, source = _made(factory)
    card = parse_card(files.get(CARD, b""))
    try:
        weights = load_safetensors(files[WEIGHTS])
    except Exception as error:  # safetensors raises its own kind, and others for damaged headers
        raise ModelError(
            "{path}/{file} is truncated or not a safetensors file: copy it again from its source.",
            path=str(path),
            file=WEIGHTS,
        ) from error
    _fill(module, weights, factory)
    predictor = TorchClassifier(module, class_names(card), card)
    parameters = sum(one.numel() for one in module.parameters())
    ref = ref_of(path, files, {f"factory {factory}": file_digest(source)} if source else {})
    return OpenedClassifier(ref, predictor, parameters)


class TorchClassifier(CheckedPredictor):
    """A torch module as a classifier whose gradient may be seen.

    It embeds where the module has a linear layer, and has a gradient where it takes numbers with a point. A
    module with ``encode_tiles`` and ``decide_bag`` is given the tiles of a bag a few at a time.

    Parameters
    ----------
    module : torch.nn.Module
        From a batch, shape (n, ...), to one row each; put into eval mode.
    classes : tuple of str
    card : Card
        `output` must be said. Its own classes are not looked at.
    """

    def __init__(self, module: torch.nn.Module, classes: tuple[str, ...], card: Card) -> None:
        self.module = module.eval()
        self.card = card
        linear = [name for name, part in module.named_modules() if isinstance(part, torch.nn.Linear)]
        self._last = linear[-1] if linear else None
        super().__init__(
            classes,
            output_of(card),
            partial(in_batches, self._forward, card.input, as_stored=True),
            vectors=partial(in_batches, self._hidden, card.input, as_stored=True) if linear else None,
        )
        if np.dtype(card.input.dtype or "float32").kind == "f" and card.input.kind != "sequence":
            self.loss_and_gradient = self._loss_and_gradient

    def between(self, stored: NDArray[Any]) -> "TorchClassifier":
        """Return the same classifier, to be asked about numbers between those that `stored` can hold.

        Parameters
        ----------
        stored : array, shape (n, ...)
            Cases as they are. What a card leaves to their type (images of 8 bits are parts of 255) is then
            said, so that fractions which are asked about mean the same.
        """
        plain = InputCard(dtype="float64", scale=self.card.input.scale)
        scale = float(plain.prepared(np.ones_like(stored[:1])).flat[0])
        return TorchClassifier(
            self.module, self.classes, replace(self.card, input=replace(self.card.input, scale=scale))
        )

    def _forward(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Prepare a batch as it is stored, and run the module over it."""
        encode, decide = (getattr(self.module, name, None) for name in ("encode_tiles", "decide_bag"))
        with torch.inference_mode():
            if encode is None or decide is None or batch.ndim < 3 or not batch.shape[1]:
                whole: NDArray[Any] = self.module(self._prepared(batch)).numpy()
                return whole
            step = max(1, at_once(batch.shape[2:]) // len(batch))
            parts = (self._prepared(batch[:, at : at + step]) for at in range(0, batch.shape[1], step))
            # A copy: what is returned may be a view of all that its layers computed.
            tiles = [encode(one.flatten(0, 1)).reshape(*one.shape[:2], -1).clone() for one in parts]
            result: NDArray[Any] = decide(torch.cat(tiles, 1)).numpy()
        return result

    def _prepared(self, batch: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(self.card.input.prepared(batch))

    def _hidden(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return what goes into the last linear layer."""
        seen: list[torch.Tensor] = []
        layer = self.module.get_submodule(self._last or "")
        handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            self._forward(batch)
        finally:
            handle.remove()
        if len(seen) != 1 or seen[0].ndim != 2 or len(seen[0]) != len(batch):
            raise ModelError(
                "The last linear layer {layer} of the model is not given one vector a case: audit it without "
                "the tests that need embeddings, or end the model with a linear layer over whole cases.",
                layer=str(self._last),
            )
        return seen[0].numpy()

    def _loss_and_gradient(self, cases: Cases, labels: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the cross-entropy and its gradient; see :class:`primum.models.predictors.Differentiable`."""
        inputs, taken = cases.inputs, self.card.input
        if isinstance(inputs, tuple):
            if len({one.shape for one in inputs}) > 1:
                raise ModelError("Gradients are for cases of one shape: give those of one shape at a time.")
            inputs = np.stack(inputs)
        losses, gradients = [np.empty(0)], [np.empty((0, *inputs.shape[1:]))]
        # More at once leave the processor's cache: a fifth slower on images of 28 x 28.
        most = max(_FEW, _NUMBERS_AT_ONCE // max(1, inputs[0].size)) if len(inputs) else _FEW
        for batch in stored_batches(inputs, most=most) if len(inputs) else ():
            taken.require(batch.shape[1:], batch.dtype)
            wanted = torch.from_numpy(labels[sum(map(len, losses)) :][: len(batch)].astype(np.int64))
            try:
                given = torch.from_numpy(taken.prepared(batch)).requires_grad_()
                loss = self._cross_entropy(self.module(given), wanted)
                (gradient,) = torch.autograd.grad(loss.sum(), given)
            except (RuntimeError, IndexError, TypeError, ValueError) as error:
                raise refused_input(inputs) from error
            losses.append(loss.detach().numpy())
            gradients.append(taken.pulled_back(gradient.numpy(), batch))
        answer = np.concatenate(losses), np.concatenate(gradients)
        if not all(np.isfinite(part).all() for part in answer):
            raise ModelError(
                "The loss of the model or its gradient is NaN or infinite: correct the model, or fill what "
                "is missing in the inputs."
            )
        return answer

    def _cross_entropy(self, rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row in float64."""
        rows = rows.double().reshape(len(labels), -1)
        probabilities = self._output == "probabilities"
        if rows.shape[1] == 1:
            first = 1 - rows if probabilities else torch.zeros_like(rows)
            rows = torch.cat([first, rows], 1)
        logs = rows.clamp_min(torch.finfo(rows.dtype).tiny).log() if probabilities else rows.log_softmax(1)
        return -logs.gather(1, labels[:, None])[:, 0]


def _made(factory: str) -> tuple[torch.nn.Module, Path | None]:
    """Import a factory and call it; return its module, and the file that it stands in."""
    module_name, _, name = factory.partition(":")
    try:
        made = getattr(importlib.import_module(module_name), name)
        module = made()
    except Exception as error:  # the factory is the user's: whatever it raises is theirs to mend
        raise InputError(
            "The factory {place} cannot be imported: give module:name of a function without arguments that "
            "makes the torch module.",
            place=factory,
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise InputError("The factory {place} returns no torch module.", place=factory)
    try:
        source = inspect.getsourcefile(inspect.unwrap(made))
    except TypeError:
        source = None
    return module, Path(source) if source and Path(source).is_file() else None


def _fill(module: torch.nn.Module, weights: dict[str, torch.Tensor], factory: str) -> None:
    """Load weights that must be those of the module, every one and no other."""
    wanted = module.state_dict()
    wrong = sorted(
        name
        for name in wanted.keys() | weights.keys()
        if name not in wanted or name not in weights or wanted[name].shape != weights[name].shape
    )
    if wrong:
        raise ModelError(
            "{count} weights are missing, unknown or of another shape in the module that {place} makes, "
            "{first} for one: give the factory and the weights that belong together.",
            count=len(wrong),
            place=factory,
            first=wrong[0][:100],
        )
    module.load_state_dict(weights, strict=True)
