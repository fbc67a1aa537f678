"""Which door a model comes through; loads torch only once the folder calls for it."""

from pathlib import Path

from primum.errors import ModelError
from primum.models.opened import OpenedModel

_PICKLES = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}


def open_model(path: Path) -> OpenedModel:
    """Open the model at `path`.

    Raises
    ------
    ModelError
        No such folder, a pickle, a missing or broken file.
    VocabularyError
        A vocabulary or token profile that does not fit the model.
    """
    if path.is_file() and path.suffix in _PICKLES:
        raise _pickle(path.name)
    if not path.is_dir():
        raise ModelError("{path} is not a model folder: give a folder with config.json.", path=str(path))
    if not (path / "config.json").is_file():
        raise ModelError(
            "{path} holds no config.json: give a Hugging Face model folder (config.json, model.safetensors, "
            "vocab.json, token_profile.json).",
            path=str(path),
        )
    if not any(path.glob("*.safetensors")):
        pickles = sorted(file.name for file in path.iterdir() if file.suffix in _PICKLES)
        if pickles:
            raise _pickle(pickles[0])
        raise ModelError("{path} holds no weights: add model.safetensors.", path=str(path))
    from primum.models.hf_folder import open_folder

    return open_folder(path)


def _pickle(name: str) -> ModelError:
    return ModelError(
        "{file} is a pickle, which can run any program when opened: save the weights as safetensors instead.",
        file=name,
    )
