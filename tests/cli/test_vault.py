"""``primum vault`` as it is typed: nothing personal on the command line, on the screen or in an error."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from primum.cli.main import run
from primum.trail.log import Trail
from primum.trail.store import Store
from primum.trail.vault.keys import KeyStore
from primum.trail.vault.masters import read_master
from primum.trail.verification import verify

PERSON, OTHER = "185057800608436", "290017500100172"
SCAN = b"\x00scan\xff" * 1000


class Hospital:
    """A folder with a key, a trail, a key store and a vault, and the command."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        for name in ("master.key", "new.key"):
            (folder / name).write_bytes(os.urandom(32))
            (folder / name).chmod(0o600)
        (folder / "scan.dcm").write_bytes(SCAN)
        self.keys, self.vault, self.trail = (
            str(folder / name) for name in ("keys.db", "vault.db", "trail.db")
        )
        Trail.create(self.trail, key=Ed25519PrivateKey.generate())
        assert self("create", trail=False)[0] == 0

    def __call__(
        self, verb: str, *more: str, trail: bool = True, key: str = "master.key", lang: str = "en"
    ) -> tuple[int, str]:
        words = [
            "vault",
            verb,
            "--keys",
            self.keys,
            "--master-key",
            f"file:{self.folder / key}",
            "--lang",
            lang,
        ]
        words += [] if verb in ("rotate", "number") else ["--vault", self.vault]
        words += ["--trail", self.trail] if trail else []
        status = run([*words, *more])
        said = self.capsys.readouterr()
        for one in (PERSON, OTHER, "T2 N1"):
            assert one not in said.out + said.err
        assert "Traceback" not in said.err
        return status, (said.out + said.err).strip()

    def listed(self, *people: str) -> str:
        path = self.folder / "patients.txt"
        path.write_text("\n".join(people) + "\n", encoding="utf-8")
        return str(path)

    def put(self, person: str, *more: str) -> str:
        scan = str(self.folder / "scan.dcm")
        given = ("--patient-file", self.listed(person), "--kind", "image", "--content", scan)
        status, said = self("put", *given, *more, trail=False)
        assert status == 0, said
        return said.split("payload ")[1][:32]

    def records(self) -> list[Any]:
        store = Store(self.trail)
        seen = verify(store, deep=True)
        assert seen.problems == []
        with store.reading() as connection:
            rows = connection.execute(text('SELECT kind, "by" FROM trail_record ORDER BY position')).all()
        store.close()
        return [tuple(row) for row in rows[1:]]


@pytest.fixture
def hospital(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Hospital:
    monkeypatch.setenv("LOGNAME", "dpo")
    return Hospital(tmp_path, capsys)


def test_from_a_scan_to_its_erasure(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    payload, out = hospital.put(PERSON), hospital.folder / "out.dcm"
    hospital.put(OTHER)
    assert hospital.put(PERSON, "--corrects", payload) == payload
    read = ("--purpose", "care", "--out", str(out))
    assert hospital("get", "--payload", payload, *read) == (0, f"Decrypted: 1, into {out}.")
    assert (out.read_bytes(), out.stat().st_mode & 0o777) == (SCAN, 0o600)
    assert hospital("get", "--payload", payload, *read)[0] == 2
    everything = ("--purpose", "art.15", "--out", str(hospital.folder / "all"), "--by", "dr.who")
    assert hospital("get", "--patient-file", hospital.listed(PERSON), *everything)[0] == 0
    names = sorted(path.name for path in (hospital.folder / "all").iterdir())
    assert names == [f"{payload}-{version}.image" for version in (1, 2)]
    stdin = io.TextIOWrapper(io.BytesIO(f"\ufeff{PERSON}\r\n".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    status, said = hospital("forget", "--patient-file", "-", "--basis", "art.17")
    assert status == 0
    assert "patients 1, payloads 2" in said
    assert "holds from when every copy of the old key is destroyed" in said
    assert hospital("get", "--payload", payload, "--purpose", "care", "--out", str(out) + "2")[0] == 2
    said = hospital("status", trail=False)[1]
    assert said.splitlines() == [
        "Epoch 1, patients 1",
        "Payloads, every version: 1",
        "Signals: 0, past their date: 0",
    ]
    assert hospital.records() == [
        ("access", "dpo"), ("key.use", "dr.who"), ("access", "dr.who"), ("erasure", "dpo"), ("erasure", "dpo")
    ]  # fmt: skip
    assert "signals: 0" in hospital("purge", "--before", "2026-01-01")[1]
    assert hospital("purge", "--before", "2999-01-01")[0] == 2


def test_all_that_the_trail_holds_about_a_patient(hospital: Hospital) -> None:
    stored = hospital.put(PERSON)
    who = "--patient-file", hospital.listed(PERSON)
    reading = "--payload", stored, "--purpose", "care", "--out", str(hospital.folder / "read")
    assert hospital("get", *reading)[0] == 0
    status, number = hospital("number", *who, "--purpose", "art.15")
    assert status == 0 and len(number) == 32
    assert run(["trail", "show", hospital.trail, "--patient", number]) == 0
    shown = hospital.capsys.readouterr().out
    assert "purpose=care" in shown and "purpose=art.15 subject=number" in shown and "3 records." in shown
    hospital.listed(OTHER)
    assert hospital("number", *who, "--purpose", "art.15")[0] == 2


def test_a_list_is_erased_and_the_unknown_are_counted(hospital: Hospital) -> None:
    hospital.put(PERSON)
    hospital.put(OTHER)
    listed = hospital.listed("nobody", PERSON, "", OTHER)
    assert hospital("forget", "--patient-file", listed)[0] == 2
    status, said = hospital("forget", "--patient-file", listed, "--all-listed")
    assert status == 2
    assert "patients 2, payloads 2" in said
    assert "1 of 3, counted among those listed: 1." in said
    assert hospital("get", "--patient-file", hospital.listed(PERSON), "--purpose", "x", "--out", "x")[0] == 2


def test_an_erasure_that_was_interrupted_ends_when_it_is_repeated(hospital: Hospital) -> None:
    hospital.put(PERSON)
    keys = KeyStore(hospital.keys, read_master(f"file:{hospital.folder / 'master.key'}"))
    patient = keys.find(PERSON)
    assert patient is not None
    keys.destroy(patient.patient)
    keys.close()
    assert "Erasures without an end: 1" in hospital("status", trail=False)[1]
    status, said = hospital("forget", "--patient-file", hospital.listed(PERSON))
    assert (status, "ended now: 1." in said) == (0, True)
    assert hospital("forget", "--patient-file", hospital.listed(PERSON))[0] == 2


def test_the_key_turns_once_and_says_what_to_destroy(hospital: Hospital) -> None:
    hospital.put(PERSON)
    new = ("--new-master-key", f"file:{hospital.folder / 'new.key'}")
    status, said = hospital("rotate", *new)
    assert status == 0
    assert "old master key is needed until" in said
    assert "Epoch 2: keys wrapped anew 1." in said
    assert "from when every copy of the old key is destroyed" in said
    assert "already: nothing changed" in hospital("rotate", *new)[1]
    assert (
        hospital("rotate", "--new-master-key", f"file:{hospital.folder / 'new.key'}", key="new.key")[0] == 2
    )
    status, said = hospital("status", trail=False)
    assert (status, "not the master key" in said) == (2, True)
    assert hospital("status", trail=False, key="new.key")[0] == 0
    assert [kind for kind, _ in hospital.records()] == ["key.rotation"] * 2


def test_a_device_says_that_it_has_to_destroy_its_key(hospital: Hospital) -> None:
    (hospital.folder / "held").write_bytes(os.urandom(32))
    hook = Path(__file__).parents[2] / "examples" / "vault_hook.py"
    given = f"command:{sys.executable} {hook} {hospital.folder} held"
    assert "Let the device destroy the old" in hospital("rotate", "--new-master-key", given)[1]
    hospital.listed(PERSON)
    words = ["--keys", hospital.keys, "--vault", hospital.vault, "--master-key", given, "--lang", "en"]
    patient = ["--patient-file", str(hospital.folder / "patients.txt")]
    scan = ["--kind", "image", "--content", str(hospital.folder / "scan.dcm")]
    assert run(["vault", "put", *words, *patient, *scan]) == 0
    assert run(["vault", "forget", *words, *patient, "--trail", hospital.trail]) == 0
    assert "when the device has destroyed the old key" in hospital.capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [b"", b"\n \n", b"\xff\xfe", b"a\x00b T2 N1\n", ("x" * 300).encode(), f"{PERSON}\n{OTHER}".encode()],
)
def test_a_patient_file_that_is_none(hospital: Hospital, content: bytes) -> None:
    path = hospital.folder / "patients.txt"
    path.write_bytes(content)
    before = hospital.records()
    status, said = hospital("forget", "--patient-file", str(path))
    assert (status, "patients.txt" in said, "x" * 20 in said) == (2, True, False)
    assert hospital.records() == before


def test_what_is_not_there(hospital: Hospital) -> None:
    none = str(hospital.folder / "none")
    person = hospital.listed(PERSON)
    get = ("--purpose", "care", "--out", none)
    for verb, *more in (
        ("forget", "--patient-file", none),
        ("forget", "--patient-file", person),
        ("get", *get),
        ("get", *get, "--payload", "0" * 32, "--patient-file", person),
        ("get", *get, "--payload", "0" * 32),
        ("get", *get, "--patient-file", person),
    ):
        assert hospital(verb, *more)[0] == 2, more
    scan = ("--patient-file", person, "--kind", "image", "--content")
    assert hospital("put", *scan, none, trail=False)[0] == 2
    assert hospital("get", "--payload", hospital.put(PERSON), "--purpose", "a b", "--out", none)[0] == 2
    assert not Path(none).exists()


def test_no_identifier_is_in_any_file_beside_the_list(hospital: Hospital) -> None:
    hospital.put(PERSON)
    Path(hospital.listed("x")).unlink()
    written = [path.read_bytes() for path in hospital.folder.iterdir() if path.is_file()]
    assert len(written) > 5
    assert not any(PERSON.encode() in one or SCAN[:50] in one for one in written if one != SCAN)


def test_the_help_loads_nothing_heavy() -> None:
    program = (
        "import sys, primum.cli.report; before = set(sys.modules); import primum.cli.vault; "
        "sys.exit(bool({'sqlalchemy', 'cryptography', 'primum.trail'} & (set(sys.modules) - before)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_french_is_spoken(hospital: Hospital) -> None:
    assert hospital("status", trail=False, lang="fr")[0] == 0
