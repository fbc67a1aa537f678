"""Which door a model comes through; loads torch only once the folder calls for it."""

from pathlib import Path

from primum.errors import InputError, ModelError
from primum.models.opened import OpenedModel

_PICKLES = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}


def open_model(place: Path | str, *, token_file: Path | None = None) -> OpenedModel:
    """Open the model in a folder, or that a server offers.

    Parameters
    ----------
    place : path, or address that begins with https:// (http:// on this machine)
    token_file : path or None
        Holds the token that the server asks for.

    Raises
    ------
    InputError
        An address or a token that cannot be used.
    ModelError
        No such folder, a pickle, a missing or broken file; a server that answers nonsense.
    VocabularyError
        A vocabulary or token profile that does not fit the model.
    MachineError
        A server that does not answer.
    """
    if str(place).startswith(("https://", "http://")):
        from primum.models.wire import open_server

        return open_server(str(place), token_file=token_file)
    if token_file is not None:
        raise InputError("--token-file is for a model server: {path} is a folder.", path=str(place))
    path = Path(place)
    if path.is_file() and path.suffix in _PICKLES:
        raise _pickle(path.name)
    if not path.is_dir():
        raise ModelError(
            "{path} is not a model folder: give a folder of a model (config.json, model.safetensors), one of "
            "recorded answers (scores.parquet, say), or the address of a server (https://…).",
            path=str(path),
        )
    from primum.models.recorded import is_recorded, open_recorded

    if is_recorded(path):
        return open_recorded(path)
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
