"""A signed audit: every byte counts, and only the signer's key opens it."""

import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.cli.conftest import Place
from tests.report import samples

from primum.cli.main import run
from primum.evidence.signature import read_public_key, sign, signed_bytes
from primum.report.check import check
from primum.report.files import write_audit
from primum.report.language import Language

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_PEM, _PKCS8, _PLAIN = form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()


def public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(_PEM, form.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed")
    write_audit(folder, samples.audit(samples.overlap()), run=samples.RUN, language=Language("en"))
    sign(folder, KEY)
    (folder / "public.pem").write_bytes(public_pem(KEY))
    (folder / "other.pem").write_bytes(public_pem(Ed25519PrivateKey.generate()))
    return folder


@pytest.fixture
def signed(original: Path, tmp_path: Path) -> Path:
    for path in original.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def said(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    status = run(["report", "check", str(folder), "--lang", "en", *more])
    captured = capsys.readouterr()
    return status, (captured.out + captured.err).strip()


def with_key(folder: Path, capsys: pytest.CaptureFixture[str], key: str = "public.pem") -> tuple[int, str]:
    return said(folder, capsys, "--public-key", str(folder / key))


def test_what_was_signed_is_valid(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = "Valid: findings.json, report.html are what the holder of this key signed."
    assert with_key(signed, capsys) == (0, expected)


@pytest.mark.parametrize("name", ["findings.json", "report.html"])
def test_every_single_changed_byte_is_found(signed: Path, name: str) -> None:
    public = read_public_key(signed / "public.pem")
    path, rng = signed / name, np.random.default_rng(7)
    whole = path.read_bytes()
    places = range(len(whole)) if name == "findings.json" else rng.integers(0, len(whole), 300).tolist()
    for place in places:
        other = (whole[place] + int(rng.integers(1, 256))) % 256
        path.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
        found = check(signed, public)
        assert (found.status, found.files) == (1, (name,)), place
    for changed in (whole + b"\n", whole[:-1], b" " + whole, b""):
        path.write_bytes(changed)
        assert check(signed, public).files == (name,)
    path.write_bytes(whole)
    assert check(signed, public).status == 0


def test_both_files_altered_are_both_named(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("findings.json", "report.html"):
        with (signed / name).open("ab") as stream:
            stream.write(b" ")
    assert with_key(signed, capsys) == (1, "Altered since it was signed: findings.json, report.html.")


def test_digests_made_to_fit_do_not_help(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sign(signed, Ed25519PrivateKey.generate())
    assert with_key(signed, capsys) == (1, "Signed with another key than the one given: findings.sig.")
    document = json.loads((signed / "findings.sig").read_bytes())
    document["public_key"] = KEY.public_key().public_bytes_raw().hex()
    (signed / "findings.sig").write_text(json.dumps(document), encoding="utf-8")
    assert with_key(signed, capsys) == (1, "The signature itself was altered: findings.sig.")


def test_another_key_does_not_open_it(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert with_key(signed, capsys, "other.pem")[0] == 1


def test_unsigned_and_no_key(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(signed, capsys)[0] == 3
    (signed / "findings.sig").unlink()
    for status, sentence in (said(signed, capsys), with_key(signed, capsys)):
        assert (status, sentence[:22]) == (3, "There is no signature:")


@pytest.mark.parametrize("name", ["findings.json", "report.html"])
def test_a_file_that_is_gone_is_unreadable(
    signed: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (signed / name).unlink()
    status, sentence = with_key(signed, capsys)
    assert (status, name in sentence) == (2, True)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"schema":"1.0","signature":3}'])
def test_a_signature_that_is_none_is_unreadable(
    signed: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (signed / "findings.sig").write_bytes(content)
    assert with_key(signed, capsys)[0] == 2


def test_public_keys_that_are_none(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rsa_key = rsa.generate_private_key(65537, 1024)
    wrong = {
        "rsa.pem": rsa_key.public_key().public_bytes(_PEM, form.PublicFormat.SubjectPublicKeyInfo),
        "private.pem": KEY.private_bytes(_PEM, _PKCS8, _PLAIN),
        "empty.pem": b"",
    }
    for name, content in wrong.items():
        (signed / name).write_bytes(content)
    for name in (*wrong, "absent.pem", "."):
        status, sentence = with_key(signed, capsys, name)
        assert (status, "no Ed25519 public key" in sentence) == (2, True), name


def test_the_signed_bytes_are_those_of_the_page(signed: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    assert "`primum audit 1`" in page
    first, report, findings = signed_bytes(signed).split(b"\n", 2)
    assert first == b"primum audit 1"
    assert len(report) == 64
    assert findings == (signed / "findings.json").read_bytes()


def test_an_audit_signs_what_it_writes(
    pristine: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, pem = tmp_path / "key.pem", KEY.private_bytes(_PEM, _PKCS8, _PLAIN)
    key.write_bytes(pem)
    (tmp_path / "public.pem").write_bytes(public_pem(KEY))
    out = tmp_path / "out"
    status = pristine.audit("--out", str(out), "--sign-key", str(key), "--only", "membership")
    assert status in (0, 1, 3)
    printed = capsys.readouterr()
    assert said(out, capsys, "--public-key", str(tmp_path / "public.pem"))[0] == 0
    assert run(["report", "recompute", str(out)]) == 0
    signer = KEY.public_key().public_bytes_raw().hex()
    assert json.loads((out / "run.json").read_bytes())["signer"] == signer
    assert f"Signed with the key {signer}" in (out / "report.html").read_text(encoding="utf-8")
    secrets = (
        pem.split(b"\n")[1],
        KEY.private_bytes_raw(),
        KEY.private_bytes_raw().hex().encode(),
        b"key.pem",
    )
    written = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    for content in (*written, printed.out.encode(), printed.err.encode()):
        assert not any(secret in content for secret in secrets)


@pytest.mark.parametrize("kind", ["none", "encrypted", "rsa", "public", "absent"])
def test_a_key_that_cannot_sign_is_refused_before_any_work(
    pristine: Place, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {
        "none": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "encrypted": KEY.private_bytes(_PEM, _PKCS8, form.BestAvailableEncryption(b"word")),
        "rsa": rsa.generate_private_key(65537, 1024).private_bytes(_PEM, _PKCS8, _PLAIN),
        "public": public_pem(KEY),
    }
    key = tmp_path / "key.pem"
    if kind in contents:
        key.write_bytes(contents[kind])
    out = tmp_path / "out"
    assert pristine.audit("--out", str(out), "--sign-key", str(key)) == 2
    sentence = capsys.readouterr().err.strip()
    assert ("password" in sentence) == (kind == "encrypted")
    assert ("openssl genpkey" in sentence) == (kind != "encrypted")
    assert not out.exists()
