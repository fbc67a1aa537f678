"""To an MLflow registry and back, with the real MLflow on a file of this machine."""

import pickle
from importlib import import_module
from pathlib import Path

import pytest
from tests.release.world import Ward, clean, key_of, policy_text

from primum.errors import InputError
from primum.release.intake import register, take_findings
from primum.release.mlflow_models import export_model, import_model

mlflow = import_module("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all: making it takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ward:
    monkeypatch.chdir(tmp_path)
    return Ward(tmp_path).begin(policy_text())


def test_out_and_in_again_it_is_the_same_model(ward: Ward, address: str) -> None:
    folder = ward.model("a", {"model.onnx": b"graph", "classifier.toml": b"x", "README.md": b"read me"})
    digest = register(ward.registry, folder, ward.card())
    take_findings(
        ward.registry, ward.audit("audit", folder, clean()), key_of("house").public_key(), by="otto"
    )
    assert export_model(ward.registry, digest, address, by="otto") == "1"
    assert export_model(ward.registry, digest, address, name="again", by="otto") == "1"
    last = ward.trail.entries[-1]
    assert (last.kind, last.model, last.details["format"]) == ("export", digest, "mlflow")
    client = mlflow.MlflowClient(tracking_uri=address, registry_uri=address)
    tags = client.get_model_version("chest", "1").tags
    assert (tags["primum.digest"], tags["primum.state"]) == (digest, "candidate")
    elsewhere = Ward(ward.root / "elsewhere")
    elsewhere.root.mkdir()
    elsewhere.begin(policy_text())
    assert import_model(elsewhere.registry, address, "chest", "1", card_file=elsewhere.card()) == digest
    (ward.registry.artefact(digest) / "model.onnx").write_bytes(b"other")
    with pytest.raises(InputError, match="was altered"):
        export_model(ward.registry, digest, address, by="otto")


def logged(ward: Ward, address: str, name: str, files: dict[str, bytes]) -> None:
    client = mlflow.MlflowClient(tracking_uri=address, registry_uri=address)
    run = client.create_run(client.create_experiment(name, artifact_location=f"{ward.root.as_uri()}/kept"))
    client.log_artifacts(run.info.run_id, str(ward.model("logged", files)), "model")
    client.create_registered_model(name)
    client.create_model_version(name, f"{run.info.artifact_uri}/model", run_id=run.info.run_id)


def test_what_mlflow_adds_is_left_out(ward: Ward, address: str) -> None:
    files = {
        "MLmodel": b"flavors: {}",
        "conda.yaml": b"x",
        "requirements.txt": b"onnx",
        "model.onnx": b"graph",
    }
    logged(ward, address, "theirs", files)
    digest = import_model(ward.registry, address, "theirs", "1", card_file=ward.card())
    assert sorted(ward.registry.standing.models[digest].files) == ["model.onnx"]


def test_pickles_of_mlflow_are_refused(ward: Ward, address: str) -> None:
    logged(ward, address, "pickled", {"MLmodel": b"flavors: {}", "model.pkl": pickle.dumps(1)})
    with pytest.raises(InputError, match="A pickle is not taken"):
        import_model(ward.registry, address, "pickled", "1", card_file=ward.card())
    with pytest.raises(InputError, match="MLflow refuses"):
        import_model(ward.registry, address, "theirs", "9", card_file=ward.card())
    with pytest.raises(InputError, match="no address of an MLflow registry"):
        import_model(ward.registry, "http://elsewhere", "theirs", "1", card_file=ward.card())
