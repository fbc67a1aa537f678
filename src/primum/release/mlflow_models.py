"""Models from an MLflow registry, and to one. What comes in is registered like any other.

MLflow is an extra, ``primum[mlflow]``; its telemetry is switched off before it is loaded. Passwords and
tokens are MLflow's matter: its environment variables hold them.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primum.errors import InputError, MachineError, clean_text
from primum.release.acts import require_intact
from primum.release.intake import register
from primum.release.registry import Registry
from primum.release.standing import card_of
from primum.trail.entry import Entry

# What MLflow writes beside a model, and no door reads.
_OWN: Final = frozenset(
    {
        "MLmodel",
        "conda.yaml",
        "python_env.yaml",
        "requirements.txt",
        "registered_model_meta",
        "input_example.json",
        "serving_input_example.json",
    }
)
_FOLDER: Final = "model"


def import_model(
    registry: Registry,
    address: str,
    name: str,
    version: str,
    *,
    card_file: Path,
    by: str | None = None,
    key: Ed25519PrivateKey | None = None,
) -> str:
    """Register one version of a model of an MLflow registry.

    Parameters
    ----------
    registry : Registry
    address : str
        Tracking address of MLflow: ``sqlite:///…`` or ``https://…``.
    name, version : str
        In MLflow.
    card_file, by, key
        As of :func:`primum.release.intake.register`.

    Returns
    -------
    str
        Digest of the model.

    Raises
    ------
    InputError
        MLflow is not installed, has no such version, or it is none in safetensors or ONNX.
    MachineError
        MLflow cannot be reached.
    """
    with tempfile.TemporaryDirectory(prefix="primum-mlflow-") as private, _speaking(address) as client:
        client.get_model_version(name, version)
        source = client.get_model_version_download_uri(name, version)
        download: Any = import_module("mlflow.artifacts").download_artifacts
        whole = Path(download(artifact_uri=source, dst_path=private, tracking_uri=address))
        model = Path(private) / "only"
        _take(whole, model)
        return register(registry, model, card_file, by=by, key=key)


def _take(whole: Path, model: Path) -> None:
    """Copy the one folder that holds weights or a graph, without what MLflow adds."""
    folders = {one.parent for pattern in ("model.onnx", "*.safetensors") for one in whole.rglob(pattern)}
    if len(folders) != 1:
        raise InputError(
            "This version holds {count} folders with model.onnx or .safetensors, and one is wanted: log the "
            "model in one of these forms. A pickle is not taken.",
            count=len(folders),
        )
    folder = folders.pop()
    shutil.copytree(folder, model, symlinks=True, ignore=lambda place, names: _OWN & set(names))


def export_model(registry: Registry, digest: str, address: str, *, name: str | None = None, by: str) -> str:
    """Write a registered model to an MLflow registry, with its card and findings; the trail hears first.

    Parameters
    ----------
    registry : Registry
    digest : str
    address : str
    name : str or None
        In MLflow; None: that of the card.
    by : str

    Returns
    -------
    str
        The version that MLflow gave it. Its tags say the digests and the state at this moment.

    Raises
    ------
    InputError
        The bytes are no longer those that were registered, or MLflow refuses.
    MachineError
        MLflow cannot be reached.
    """
    require_intact(registry, digest)
    model = registry.standing.model(digest)
    card = card_of(model, registry.shelf)
    tags = {
        "primum.digest": digest,
        "primum.card": model.card,
        "primum.state": model.state,
        "primum.policy": registry.standing.policy,
        "primum.findings": ",".join(one.digest for one in model.findings),
    }
    called = name or card.name
    with tempfile.TemporaryDirectory(prefix="primum-mlflow-") as private, _speaking(address) as client:
        folder = Path(private) / _FOLDER
        shutil.copytree(registry.artefact(digest), folder)
        beside = Path(private) / "evidence"
        beside.mkdir()
        for one in (model.card, *(ref.digest for ref in model.findings)):
            (beside / one).write_bytes(registry.shelf.get(one))
        registry.note(
            Entry("export", by, model=digest, details={"format": "mlflow", "records": 1, "digest": digest})
        )
        return _written(client, called, Path(private), tags)


def _written(client: Any, called: str, folder: Path, tags: dict[str, str]) -> str:
    experiment = client.get_experiment_by_name("primum")
    number = client.create_experiment("primum") if experiment is None else experiment.experiment_id
    run = client.create_run(number, tags=tags)
    client.log_artifacts(run.info.run_id, str(folder))
    client.set_terminated(run.info.run_id)
    if not client.search_registered_models(filter_string=f"name = '{called}'"):
        client.create_registered_model(called)
    source = f"{run.info.artifact_uri}/{_FOLDER}"
    return str(client.create_model_version(called, source, run_id=run.info.run_id, tags=tags).version)


@contextmanager
def _speaking(address: str) -> Iterator[Any]:
    """Open a client; what MLflow refuses becomes a sentence."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        refusals: Any = import_module("mlflow.exceptions").MlflowException
        client: Any = import_module("mlflow.tracking").MlflowClient
    except ImportError as error:
        raise InputError("An MLflow registry needs MLflow: install primum[mlflow].") from error
    place = urlsplit(address)
    here = place.hostname in ("localhost", "127.0.0.1", "::1")
    if place.scheme not in ("sqlite", "https") and not (place.scheme == "http" and here):
        raise InputError(
            "{address} is no address of an MLflow registry: give sqlite:///file or https://host (http only "
            "on this machine).",
            address=clean_text(f"{place.scheme}://{place.hostname}")[:80],
        )
    try:
        yield client(tracking_uri=address, registry_uri=address)
    except refusals as error:
        raise InputError(
            "MLflow refuses ({reason}): look at the name, the version and the address.",
            reason=clean_text(getattr(error, "error_code", ""))[:80],
        ) from error
    except OSError as error:
        raise MachineError(
            "MLflow cannot be reached or read ({reason}): repeat the command.",
            reason=clean_text(error.strerror or type(error).__name__)[:80],
        ) from error
