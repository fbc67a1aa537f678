"""What comes in: models without pickles or links, cards, receipts, and findings that somebody vouches for."""

import gzip
import json
import pickle
import zipfile
from hashlib import sha256
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from tests.release.world import Ward, clean, finding, key_of, policy_text, public

from primum.errors import InputError, ModelError
from primum.evidence.audit import FINDINGS, REPORT
from primum.evidence.identity import manifest_digest
from primum.evidence.signature import SIGNATURE
from primum.release import acts
from primum.release.artefact import is_pickle
from primum.release.intake import register, take_findings


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path).begin(policy_text())


def test_a_model_is_named_as_an_audit_names_it(ward: Ward) -> None:
    files = {
        "model.safetensors": b"weights",
        "config.json": b"{}",
        "README.md": b"read me",
        "receipt.json": json.dumps(
            {"weights": sha256(b"weights").hexdigest(), "data": {"digest": "cc" * 32}}
        ).encode(),
    }
    digest = register(ward.registry, ward.model("a", files), ward.card(data=["dd" * 32], parent="ee" * 32))
    shaping = {name: sha256(files[name]).hexdigest() for name in ("config.json", "model.safetensors")}
    assert digest == manifest_digest(shaping)
    model = ward.registry.standing.models[digest]
    assert model.data == {"cc" * 32, "dd" * 32}
    kept = ward.registry.artefact(digest)
    assert {one.name: one.read_bytes() for one in kept.iterdir()} == files
    entry = ward.trail.entries[-1]
    assert (entry.kind, entry.by, entry.model) == ("release.registered", "mia", digest)
    assert entry.details["receipt"] == sha256(files["receipt.json"]).hexdigest()
    assert entry.details["parent"] == "ee" * 32
    assert entry.details["data"] == ("cc" * 32, "dd" * 32)


def test_one_onnx_file_is_a_model(ward: Ward) -> None:
    file = ward.root / "net.onnx"
    file.write_bytes(b"graph")
    digest = register(ward.registry, file, ward.card())
    assert digest == manifest_digest({"model.onnx": sha256(b"graph").hexdigest()})


def test_the_factory_of_a_torch_module_is_part_of_what_it_is(ward: Ward) -> None:
    folder = ward.model("a", {"model.safetensors": b"weights"})
    plain = register(ward.registry, folder, ward.card())
    made = register(ward.registry, folder, ward.card("two", factory="net:make", factory_digest="ab" * 32))
    weights = sha256(b"weights").hexdigest()
    assert made == manifest_digest({"factory net:make": "ab" * 32, "model.safetensors": weights})
    assert made != plain
    acts.require_intact(ward.registry, made)


class Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never be seen",)


def _pickles(folder: Path) -> dict[str, bytes]:
    joblib.dump({"a": np.zeros(3)}, folder / "j.joblib", compress=3)
    torch.save({"a": torch.zeros(2)}, folder / "t.pt")
    torch.save({"a": torch.zeros(2)}, folder / "old.pt", _use_new_zipfile_serialization=False)
    found = {"joblib": (folder / "j.joblib").read_bytes(), "torch": (folder / "t.pt").read_bytes()}
    found["torch_old"] = (folder / "old.pt").read_bytes()
    found |= {f"pickle{one}": pickle.dumps(Runs(), one) for one in range(6)}
    found["gzip"] = gzip.compress(pickle.dumps(Runs()))
    return found


@pytest.mark.parametrize("name", ["weights.json", "tokenizer.model", "extra", "model.safetensors"])
def test_pickles_are_refused_by_what_they_are(
    ward: Ward, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ward.root / "made"
    made.mkdir()
    for kind, content in _pickles(made).items():
        folder = ward.model(f"{kind}-{name}", {"model.onnx": b"graph", name: content})
        with pytest.raises(ModelError, match=r"is a pickle, a program or a packed file"):
            register(ward.registry, folder, ward.card())
    assert "never be seen" not in capsys.readouterr().out
    assert not ward.registry.standing.models
    assert not list((ward.root / "registry" / "artefacts").iterdir())


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".bin", ".joblib", ".py", ".npy"])
def test_pickles_and_programs_are_refused_by_name(ward: Ward, suffix: str) -> None:
    folder = ward.model("a", {"model.onnx": b"graph", f"extra{suffix}": b"harmless"})
    with pytest.raises(ModelError, match=f"extra{suffix}"):
        register(ward.registry, folder, ward.card())


@pytest.mark.parametrize(
    "text", [b"", b"N.", b"0.", b"I am a tokenizer.\nSee below.\n", b"[PAD]\n[UNK]\n", b'{"a": 1}']
)
def test_texts_are_no_pickles(text: bytes) -> None:
    assert not is_pickle(text)


def test_an_archive_named_onnx_is_refused(ward: Ward) -> None:
    file = ward.root / "model.onnx"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(1))
    with pytest.raises(ModelError, match="is a pickle"):
        register(ward.registry, file, ward.card())


def test_links_are_refused(ward: Ward) -> None:
    folder = ward.model("a")
    (folder / "more.json").symlink_to("/etc/hostname")
    with pytest.raises(ModelError, match=r"more.json is a link"):
        register(ward.registry, folder, ward.card())
    (ward.root / "link").symlink_to(ward.model("b"))
    with pytest.raises(ModelError, match="links are not followed"):
        register(ward.registry, ward.root / "link", ward.card())
    with pytest.raises(ModelError, match="is no model folder"):
        register(ward.registry, ward.root / "gone", ward.card())
    with pytest.raises(ModelError, match=r"neither model.onnx nor weights"):
        register(ward.registry, ward.model("c", {"config.json": b"{}"}), ward.card())


def test_a_receipt_of_other_weights_is_refused(ward: Ward) -> None:
    receipt = json.dumps({"weights": "00" * 32}).encode()
    with pytest.raises(InputError, match="receipt of other weights"):
        register(
            ward.registry, ward.model("a", {"model.safetensors": b"w", "receipt.json": receipt}), ward.card()
        )
    with pytest.raises(InputError, match="not in the model folder"):
        register(ward.registry, ward.model("b"), ward.card(receipt="gone.json"))


def test_a_model_that_is_there_gets_another_card(ward: Ward) -> None:
    folder = ward.model("a")
    digest = register(ward.registry, folder, ward.card())
    take_findings(
        ward.registry, ward.audit("audit", folder, clean()), key_of("house").public_key(), by="otto"
    )
    acts.decide(ward.registry, digest, by="otto")
    for who in ("ada", "ben"):
        acts.cast(ward.registry, digest, "approve", key=key_of(who))
    assert register(ward.registry, folder, ward.card("again", intended_use="Children too.")) == digest
    with pytest.raises(InputError, match="too few approvals"):
        acts.step(ward.registry, digest, "admit", key=key_of("otto"))


def taken(ward: Ward, folder: Path, signer: str | None = "house") -> None:
    key = None if signer is None else key_of(signer).public_key()
    take_findings(ward.registry, folder, key, by="otto")


def test_findings_come_in_signed_by_an_auditor_of_the_policy(ward: Ward) -> None:
    model = ward.model("a")
    register(ward.registry, model, ward.card())
    with pytest.raises(InputError, match="takes no unsigned findings"):
        taken(ward, ward.audit("unsigned", model, clean(), signer=None), None)
    with pytest.raises(InputError, match="takes no unsigned findings"):
        taken(ward, ward.audit("no-key", model, clean()), None)
    with pytest.raises(InputError, match=r"findings.sig"):
        taken(ward, ward.root / "unsigned")
    with pytest.raises(InputError, match="names no auditor"):
        taken(ward, ward.audit("stranger", model, clean(), signer="stranger"), "stranger")
    with pytest.raises(InputError, match="does not hold"):
        taken(ward, ward.root / "stranger")
    with pytest.raises(InputError, match="only declared"):
        taken(ward, ward.audit("declared", model, clean(), declared=True))
    taken(ward, good := ward.audit("good", model, clean()))
    assert ward.trail.entries[-1].details["key"] == public("house")
    with pytest.raises(InputError, match="in the registry already"):
        taken(ward, good)


@pytest.mark.parametrize("file", [FINDINGS, REPORT, SIGNATURE])
def test_altered_findings_are_refused(ward: Ward, file: str) -> None:
    model = ward.model("a")
    register(ward.registry, model, ward.card())
    folder = ward.audit("audit", model, clean())
    whole = (folder / file).read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        broken = bytearray(whole)
        broken[place] ^= 2
        (folder / file).write_bytes(broken)
        try:
            taken(ward, folder)
        except InputError:
            continue
        # Of a signature file, what says which file was altered is not part of what is signed.
        assert file == SIGNATURE
        kept = json.loads(broken)
        assert kept["signature"] == json.loads(whole)["signature"]
        break


def test_findings_of_other_files_or_another_model_are_refused(ward: Ward) -> None:
    folder = ward.model("a", {"model.onnx": b"graph", "classifier.toml": b"x"})
    register(ward.registry, folder, ward.card())
    (folder / "classifier.toml").write_bytes(b"y")
    with pytest.raises(InputError, match=r"other files than model .*classifier.toml differs"):
        taken(ward, ward.audit("changed", folder, clean()))
    (folder / "classifier.toml").unlink()
    with pytest.raises(InputError, match=r"other files than model .*classifier.toml"):
        taken(ward, ward.audit("part", folder, clean()))
    with pytest.raises(InputError, match=r"No model .* is registered"):
        taken(ward, ward.audit("unknown", ward.model("b"), [finding("performance.auc")]))
