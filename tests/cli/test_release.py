"""``primum release`` as it is typed: every verb, both languages, and what is refused in one sentence."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.release.world import Ward, clean, finding, key_of, policy_text

from primum.cli.main import run
from primum.evidence.canonical import canonical_bytes
from primum.release.registry import Registry
from primum.trail.log import Trail
from primum.trail.retention import HIPAA, SIX_YEARS, expire

Says = Callable[..., tuple[int, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys, a policy, a trail, a registry, and a model with its audit."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PRIMUM_REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setenv("PRIMUM_TRAIL", str(tmp_path / "trail.db"))
    for name in ("ada", "ben", "cleo", "otto", "sam", "stranger", "house"):
        key = key_of(name)
        (tmp_path / f"{name}.pem").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.pub").write_bytes(public)
    (tmp_path / "release.toml").write_bytes(policy_text())
    Trail.create(str(tmp_path / "trail.db"), key=key_of("trail"))
    ward = Ward(tmp_path)
    for version in ("1", "2"):
        model = ward.model(f"model-{version}")
        ward.card(f"card-{version}", version=version)
        ward.audit(
            f"audit-{version}",
            model,
            [*clean(), finding("equity.more", "descriptive", low=0.1 * int(version))],
        )
    return tmp_path


@pytest.fixture
def says(place: Path, capsys: pytest.CaptureFixture[str]) -> Says:
    """Type a command of the release; what it said, on one line."""

    def typed(*arguments: str, lang: str = "en") -> tuple[int, str]:
        told = [one.replace("@", f"{place}/") for one in arguments]
        status = run(["release", *told, "--lang", lang])
        said = capsys.readouterr()
        return status, re.sub(r"\s+", " ", said.out + said.err).strip()

    return typed


def released(says: Says, version: str, *states: str) -> None:
    assert says("register", f"@model-{version}", "--card", f"@card-{version}.json")[0] == 0
    assert says("findings", f"@audit-{version}", "--public-key", "@house.pub", "--by", "otto")[0] == 0
    assert says("decide", f"chest:{version}")[0] == 0
    for who in ("ada", "ben"):
        assert says("approve", f"chest:{version}", "--key", f"@{who}.pem", "--comment", "read it")[0] == 0
    for state in states:
        share = ("--share", "0.25") if state == "canary" else ()
        assert says("advance", f"chest:{version}", "--to", state, *share, "--key", "@otto.pem")[0] == 0


def test_from_init_to_rollback(says: Says, place: Path) -> None:
    assert says("init", "--policy", "@release.toml")[0] == 0
    released(says, "1", "approved", "shadow", "live")
    released(says, "2", "approved", "shadow", "canary")
    registry = Registry(place / "registry")
    first, second = registry.find("chest:1"), registry.find("chest:2")
    status, said = says("status")
    assert status == 0
    assert f"Live: chest:1 ({first.digest[:12]})" in said
    assert f"Canary: chest:2 ({second.digest[:12]}), 25.0% of the patients" in said
    status, said = says("status", lang="fr")
    assert status == 0
    status, said = says("status", "chest:2")
    assert "membership.combined.auc passes" in said
    assert "ada clinician" in said
    assert "read it" in said
    status, said = says("roll-back", "chest:2", "--reason", "error_rate", "--by", "ward7")
    assert (status, said) == (0, f"Model {second.digest[:12]} is now: rolled back.")
    assert registry.serving().canary is None
    status, said = says("history", "chest:2")
    assert "approved by ada, clinician" in said
    assert "put to the canary: now canary, 25.0% of the patients" in said
    assert "rolled back: now rolled back (error_rate)" in said
    status, said = says("diff", "chest:1", "chest:2")
    assert "card version 1 2" in said
    assert "file model.onnx" in said
    assert "finding equity.more" in said
    assert says("diff", "chest:1", "chest:1") == (0, "Nothing differs.")
    assert says("advance", "chest:2", "--to", "candidate", "--key", "@otto.pem", "--reason", "mended")[0] == 0
    assert registry.find("chest:2").state == "candidate"
    status, said = says("check")
    assert (status, said) == (0, f"Registry, files and trail agree: {len(registry.history())} events.")
    with (registry.artefact(first.digest) / "model.onnx").open("ab") as stream:
        stream.write(b"!")
    status, said = says("check")
    assert status == 1
    assert "model.onnx of the registered model" in said


def test_events_that_are_past_their_time_are_not_missing(says: Says, place: Path) -> None:
    """Six years later the trail keeps hashes only; one that is not the record's is still noticed."""
    says("init", "--policy", "@release.toml")
    released(says, "1")
    trail = str(place / "trail.db")
    with Trail(trail, key=key_of("trail")) as opened:
        opened.sign_head()
        later = datetime.now(UTC) + timedelta(days=SIX_YEARS + 1)
        count = expire(opened.store, HIPAA, by="primum", at=later)
    status, said = says("check")
    events = len(Registry(place / "registry").history())
    assert count == events
    assert (status, f"{events} events are past their time in the trail" in said) == (0, True)
    file = place / "registry" / "history" / "00000002.json"
    document = json.loads(file.read_bytes())
    document["position"]["leaf"] = "0" * 64
    file.write_bytes(canonical_bytes(document))
    status, said = says("check")
    assert (status, "The trail has no record of event 2 of the registry" in said) == (1, True)


def test_who_signs_is_said_and_who_may_not_is_told(says: Says, place: Path) -> None:
    says("init", "--policy", "@release.toml")
    released(says, "1")
    for verb in ("approve", "reject", "revoke"):
        assert says(verb, "chest:1", "--key", "@stranger.pem")[0] == 2
    assert "does not approve" in says("approve", "chest:1", "--key", "@otto.pem")[1]
    assert says("reject", "chest:1", "--key", "@cleo.pem", "--comment", "no children in it")[0] == 0
    status, said = says("revoke", "chest:1", "--key", "@ada.pem")
    assert (status, said.startswith("Signed as ada, clinician")) == (0, True)
    status, said = says("advance", "chest:1", "--to", "approved", "--key", "@otto.pem")
    assert status == 2
    assert "too few approvals" in said
    said = says("status", "chest:1")[1]
    assert "revoked" in said
    assert "rejects no children in it" in said
    assert "key is not of one" in says("advance", "chest:1", "--to", "retired", "--key", "@ada.pem")[1]


def test_a_policy_is_adopted_by_two(says: Says, place: Path) -> None:
    says("init", "--policy", "@release.toml")
    (place / "new.toml").write_bytes(policy_text("# stricter\n").replace(b"above = 0.8", b"above = 0.99"))
    assert "other signatures are needed" in says("adopt", "@new.toml", "--key", "@ada.pem")[1]
    assert "is in force" in says("adopt", "@new.toml", "--key", "@ben.pem", "--comment", "stricter")[1]
    assert says("register", "@model-1", "--card", "@card-1.json")[0] == 0
    assert says("findings", "@audit-1", "--public-key", "@house.pub")[0] == 0
    status, said = says("decide", "chest:1")
    assert status == 1
    assert "performance.auc fails the interval reaches beyond the threshold" in said


def test_a_test_set_is_sealed_and_its_uses_warn(says: Says, place: Path) -> None:
    text = policy_text("[test_sets]\nmost_uses = 1\n")
    (place / "release.toml").write_bytes(text)
    says("init", "--policy", "@release.toml")
    (place / "test-set").mkdir()
    (place / "test-set" / "cases.csv").write_text("x")
    status, said = says("seal", "@test-set", "--name", "[bold]ours", "--key", "@sam.pem")
    assert status == 0
    assert said.startswith("Sealed: 1 files,")
    from primum.release.test_sets import open_sealed, use

    with Trail(str(place / "trail.db")) as trail:
        registry = Registry(place / "registry", trail)
        sealed = open_sealed(registry, place / "test-set")
        for _ in range(2):
            use(registry, sealed, model="00" * 32, purpose="certification", by="house")
    said = says("status")[1]
    assert "has served 2 times, more than the 1 of the policy" in said
    assert "[bold]ours" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("status",), "is no registry"),
        (("init", "--policy", "@gone.toml"), "cannot be read"),
        (("init", "--policy", "@ada.pem"), "is not TOML"),
        (("approve", "chest:1", "--key", "@ada.pem"), "is no registry"),
        (("approve", "chest:1", "--key", "@ada.pub"), "is no Ed25519 private key"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(says: Says, arguments: tuple[str, ...], said: str) -> None:
    status, told = says(*arguments)
    assert status == 2
    assert said in told


def test_without_a_trail_nothing_is_changed(says: Says, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRIMUM_TRAIL")
    status, said = says("init", "--policy", "@release.toml")
    assert status == 2
    assert "give --trail" in said
    assert not (place / "registry").exists()


def test_a_crash_is_mended_by_status(says: Says, place: Path) -> None:
    says("init", "--policy", "@release.toml")
    (place / "registry" / "serving.json").write_text("{}")
    assert says("status")[0] == 2
    assert says("status", "--repair")[0] == 0
