"""Which door a classifier comes through; loads torch, ONNX Runtime or skops only once it is called for."""

from collections.abc import Callable
from pathlib import Path

from primum.errors import InputError, ModelError
from primum.models.classifier_card import CARD
from primum.models.classifier_files import PICKLES, pickle_refused
from primum.models.opened import OpenedClassifier

_ONNX, _SKOPS, _TORCH, _SCORES = "model.onnx", "model.skops", "model.safetensors", "score_matrix.npz"
_PREDICTIONS = ("predictions.csv", "predictions.parquet")
# Beside weights, any of these says that the model is of histories.
_OF_HISTORIES = ("config.json", "vocab.json", "token_profile.json", "tokenizer.json")
_ADDRESSES = ("https://", "http://")


def is_classifier(place: Path | str, *, token_file: Path | None = None) -> bool:
    """Tell whether a place is that of a classifier; a server is asked, a folder only listed.

    A folder with ``config.json`` or a vocabulary is a model of histories, unless a ``classifier.toml`` says
    otherwise.

    Raises
    ------
    InputError, ModelError, MachineError
        The server cannot be asked.
    """
    if str(place).startswith(_ADDRESSES):
        from primum.models.wire_predictor import offers_predictions

        return offers_predictions(str(place), token_file=token_file)
    path = Path(place)
    if any((path / name).is_file() for name in (CARD, _ONNX, _SKOPS, *_PREDICTIONS, _SCORES)):
        return True
    return (path / _TORCH).is_file() and not any((path / name).is_file() for name in _OF_HISTORIES)


def holds_scores_only(place: Path | str) -> bool:
    """Tell whether a folder holds scores of many models (``score_matrix.npz``) and no model to ask."""
    path = Path(place)
    others = (CARD, _ONNX, _SKOPS, _TORCH, *_PREDICTIONS)
    return (path / _SCORES).is_file() and not any((path / name).exists() for name in others)


def open_classifier(
    place: Path | str, *, factory: str | None = None, token_file: Path | None = None
) -> OpenedClassifier:
    """Open the classifier in a folder, or that a server offers.

    Parameters
    ----------
    place : path, or address that begins with https:// (http:// on this machine)
    factory : str or None
        ``module:name`` of a function without arguments that makes the torch module; from the command line
        alone, for it runs.
    token_file : path or None
        Holds the token that the server asks for.

    Raises
    ------
    InputError
        An address, token or factory that cannot be used, or a library that is not installed.
    ModelError
        No such folder, a pickle, a missing or broken file; a server that answers nonsense.
    MachineError
        A server that does not answer.
    """
    remote = str(place).startswith(_ADDRESSES)
    if token_file is not None and not remote:
        raise InputError("--token-file is for a model server: {path} is a folder.", path=str(place))
    found = [] if remote else _found(Path(place))
    if factory is not None and found != [_TORCH]:
        raise InputError("--factory is for a folder with model.safetensors: {path} is none.", path=str(place))
    if remote:
        from primum.models.wire_predictor import open_predictor

        return open_predictor(str(place), token_file=token_file)
    if found == [_TORCH]:
        if factory is None:
            raise InputError(
                "{path} holds the weights of a torch module: say with --factory module:name what makes the "
                "module.",
                path=str(place),
            )
        from primum.models.torch_door import open_torch

        return open_torch(Path(place), factory=factory)
    return _door(found[0])(Path(place))


def _door(name: str) -> Callable[[Path], OpenedClassifier]:
    if name == _ONNX:
        from primum.models.onnx_door import open_onnx

        return open_onnx
    if name == _SKOPS:
        from primum.models.sklearn_door import open_sklearn

        return open_sklearn
    from primum.models.recorded_predictions import open_predictions

    return open_predictions


def _found(path: Path) -> list[str]:
    """Name the one model that a folder holds."""
    if path.is_file() and path.suffix in PICKLES:
        raise pickle_refused(path.name)
    if not path.is_dir():
        raise ModelError(
            "{path} is not the folder of a classifier: give a folder with model.onnx, model.safetensors, "
            "model.skops or predictions.csv, or the address of a server (https://…).",
            path=str(path),
        )
    found = [name for name in (_ONNX, _TORCH, _SKOPS) if (path / name).exists()]
    if any((path / name).exists() for name in _PREDICTIONS):
        found.append("predictions")
    if len(found) > 1:
        raise ModelError(
            "{path} holds two models, {first} and {second}: keep one.",
            path=str(path),
            first=found[0],
            second=found[1],
        )
    if found:
        return found
    if (path / _SCORES).exists():
        raise ModelError(
            "{path} holds scores of many models and no predictions: add predictions.csv for the tests that "
            "need them.",
            path=str(path),
        )
    pickles = sorted(file.name for file in path.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise pickle_refused(pickles[0])
    raise ModelError(
        "{path} holds no classifier: add model.onnx, model.safetensors, model.skops or predictions.csv.",
        path=str(path),
    )
