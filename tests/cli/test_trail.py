"""``primum trail`` from end to end, as it is typed."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.trail.world import KEY, PATIENTS, entry

from primum.cli.main import run
from primum.trail.log import Trail
from primum.trail.store import Store


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "C")
    private = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(private)
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(public)
    assert run(["trail", "create", "t.db", "--key", "key.pem"]) == 0
    with Trail("t.db") as trail:
        for number in range(1, 19):
            trail.append(entry(number))
    return tmp_path


def test_from_making_to_checking(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trail", "head", "t.db", "--key", "key.pem", "--witness", "heads"]) == 0
    assert "Signed a head of 19 records." in capsys.readouterr().out
    command = ["trail", "verify", "t.db", "--public-key", "key.pub", "--witness", "heads"]
    assert run([*command, "--deep"]) == 0
    said = capsys.readouterr().out
    assert "Nothing was altered: 19 records, 2 signed heads, 1 of them witnessed." in said
    assert "1 predictions began and did not end, the first at record 18" in said
    assert "clock" in said and "key was read from" not in said
    assert run([*command, "--from-witness", "--lang", "fr"]) == 0
    assert "seules leurs empreintes ont été lues" in capsys.readouterr().out
    assert run(["trail", "status", "t.db"]) == 0
    assert "19 records, 19 of them under a signed head." in capsys.readouterr().out
    assert run(["trail", "show", "t.db", "--patient", PATIENTS[2]]) == 0
    assert capsys.readouterr().out.endswith("4 records.\n")
    assert run(["trail", "export", "t.db", "--by", "svc", "--out", "e.jsonl"]) == 0
    assert "12 records in e.jsonl." in capsys.readouterr().out
    assert run(["trail", "check-export", "e.jsonl", "--public-key", "key.pub"]) == 0
    assert "12 records, each proven to be among the 19" in capsys.readouterr().out
    assert run(["trail", "check-export", "e.jsonl"]) == 0
    assert "The key is the one in the file" in capsys.readouterr().out
    assert run(["trail", "export", "t.db", "--out", "e.jsonl"]) == 2
    assert "is there already" in capsys.readouterr().err
    for form in ("fhir", "atna"):
        assert run(["trail", "export", "t.db", "--format", form, "--out", form]) == 0
        # Each that looked or took something out is in the trail, and in the next export.
        assert len((place / form).read_bytes().splitlines()) == {"fhir": 21, "atna": 22}[form]
    assert run(["trail", "show", "t.db", "--kinds", "access,export", "--since", "2026-01-01"]) == 0
    shown = capsys.readouterr().out
    assert "access" in shown and "format=proofs" in shown and "format=atna" in shown
    assert run(["trail", "expire", "t.db", "--key", "key.pem"]) == 0
    assert "The bytes of 0 records are gone" in capsys.readouterr().out


def test_an_altered_record_is_named_and_ends_with_1(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store("t.db").engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER trail_record_fixed")
        connection.exec_driver_sql("UPDATE trail_record SET body = x'00' WHERE position = 7")
    assert run(["trail", "verify", "t.db"]) == 1
    said = capsys.readouterr().out
    assert "ALTERED, first at record 7 of 19" in said and "Record 7: its bytes" in said
    assert "The last 19 records: no signed head covers them" in said
    assert "the key was read from the trail itself" in said


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["verify", "none.db"], "There is no trail at this address"),
        (["verify", "no/folder/t.db"], "The folder of no/folder/t.db is not there"),
        (["verify", "mysql://x/y"], "SQLite file or in PostgreSQL"),
        (["create", "t.db", "--key", "key.pem"], "There is a trail at this address already"),
        (["verify", "t.db", "--witness", "none"], "none cannot be read"),
        (["verify", "t.db", "--witness", "http://hospital.example"], "no address of a witness"),
        (["verify", "t.db", "--public-key", "key.pem"], "no Ed25519 public key"),
        (["show", "t.db", "--since", "soon"], "soon is no date or time"),
        (["check-export", "key.pem"], "line 1: this is not what was signed"),
        (["expire", "t.db", "--key", "key.pem", "--policy", "key.pem"], "cannot be read as TOML"),
        (["export", "t.db", "--out", "x.jsonl"], "No head was signed yet"),
        (["send", "t.db", "--to", "udp://x"], "udp://x is no address of a syslog server"),
        (["send", "t.db", "--to", "syslog://[x"], "is no address of a syslog server"),
    ],
)
def test_bad_input_is_one_sentence(
    place: Path, capsys: pytest.CaptureFixture[str], command: list[str], said: str
) -> None:
    assert run(["trail", *command]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (place / "x.jsonl").exists() and not (place / "none.db").exists()
