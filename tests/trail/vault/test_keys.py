"""The key store: who is found, who is not, and that nobody can be guessed from what it holds."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from tests.trail.vault.support import Place, child, close, ended, fresh

from primum.errors import InputError, MachineError, PrimumError
from primum.trail.vault.keys import KeyStore, checked
from primum.trail.vault.rotation import rotate

PERSON = "185057800608436"


def test_a_patient_keeps_a_number_and_a_key(place: Place) -> None:
    master = fresh()
    keys = KeyStore.create(place.keys, master)
    one, two = keys.patient(PERSON), keys.patient("290017500100172")
    assert keys.patient(f"  {PERSON}\n") == one == keys.find(PERSON) == keys.by_number(one.patient)
    assert one.patient != two.patient
    assert keys.find("nobody") is None
    assert keys.by_number("0" * 32) is None
    keys.close()
    again = KeyStore(place.keys, master)
    assert again.find(PERSON) == one
    assert one._key.hex() not in repr(one)
    assert repr(one._key) not in repr(one)
    again.close()


def test_commitments_are_of_one_patient_one_purpose_and_these_data(place: Place) -> None:
    keys = KeyStore.create(place.keys, fresh())
    one, two = keys.patient(PERSON), keys.patient("other")
    said = one.commitment(b"data", "input")
    assert said == keys.patient(PERSON).commitment(b"data", "input")
    others = {
        one.commitment(b"data", "output"),
        one.commitment(b"dat", "input"),
        two.commitment(b"data", "input"),
    }
    assert len(others | {said, hashlib.sha256(b"data").hexdigest()}) == 5
    assert len(said) == 64
    keys.close()


def test_many_processes_make_one_key_for_one_patient(place: Place) -> None:
    master, people = fresh(), [f"P{one}" for one in range(12)]
    KeyStore.create(place.keys, master).close()

    def making() -> None:
        mine = KeyStore(place.keys, master)
        numbers = [mine.patient(one).patient for one in people]
        assert [one.patient for person in people if (one := mine.find(person))] == numbers

    assert all(ended(pid) for pid in [child(making) for _ in range(4)])
    keys = KeyStore(place.keys, master)
    assert keys.counts() == (1, {1: "current"}, {1: len(people)})
    keys.close()


def test_a_reader_sees_one_state_of_all_tables(place: Place) -> None:
    """Else a patient who is wrapped anew between two looks would be nowhere."""
    master, new = fresh(), fresh()
    vault = place.create(master)
    vault.keys.patient(PERSON)
    with vault.keys.database.reading() as connection:
        epochs = connection.execute(text("SELECT epoch, phase FROM vault_epoch")).all()
        other = KeyStore(place.keys, master)
        monkey = pytest.MonkeyPatch()
        # Traces cannot be wiped while somebody reads; what is looked at here comes before.
        monkey.setattr(other, "wipe", lambda: None)
        rotate(other, new, recorder=place.trail, by="test")
        monkey.undo()
        other.close()
        patients = connection.execute(text("SELECT epoch FROM vault_patient")).all()
        assert [tuple(one) for one in (*epochs, *patients)] == [(1, "current"), (1,)]
    close(vault)


def test_no_identifier_and_no_plain_digest_of_one_is_in_any_file(place: Place) -> None:
    keys = KeyStore.create(place.keys, fresh())
    keys.patient(PERSON)
    sought = [PERSON.encode(), PERSON.encode("utf-16-le"), PERSON.encode().hex().encode()]
    for name in ("md5", "sha1", "sha256", "sha512", "blake2b"):
        digest = hashlib.new(name, PERSON.encode())
        sought += [digest.digest(), digest.hexdigest().encode()]
    keys.close()
    assert place.holding(*sought) == []


def test_a_wrong_key_is_refused_before_anything_is_written(place: Place) -> None:
    master = fresh()
    close(place.create(master))
    before = place.files()
    for wrong in ((fresh(),), (fresh(), fresh()), ()):
        with pytest.raises(InputError, match=r"not the master key of .*Nothing was written"):
            KeyStore(place.keys, *wrong)
    if place.data is None:
        assert place.files() == before
    KeyStore(place.keys, fresh(), master).close()


def test_stores_that_are_not_there_or_there_already(place: Place, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no key store at"):
        KeyStore(place.keys, fresh())
    assert place.data is not None or place.files() == {}
    vault = place.create(fresh())
    with pytest.raises(InputError, match="already"):
        KeyStore.create(place.keys, fresh())
    with pytest.raises(InputError, match="already"):
        type(vault).create(place.payloads, vault.keys, place.trail)
    other = KeyStore.create(str(tmp_path / "other.db"), fresh())
    with pytest.raises(InputError, match="does not belong"):
        type(vault)(place.payloads, other, place.trail)
    with pytest.raises(InputError, match="is the key store"):
        type(vault).create(str(tmp_path / "." / "other.db"), other, place.trail)
    with pytest.raises(InputError, match="no vault at"):
        type(vault)(str(tmp_path / "none.db"), vault.keys, place.trail)
    other.close()
    close(vault)


@pytest.mark.parametrize(
    "url", ["mysql://user:secret@host/keys", "/nowhere/at/all/keys.db", "sqlite://", "https://a:secret@b"]
)
def test_addresses_that_cannot_be_used(url: str) -> None:
    with pytest.raises(InputError) as refused:
        KeyStore(url, fresh())
    assert "secret" not in str(refused.value)


def test_databases_that_refuse_are_named_without_their_password(tmp_path: Path) -> None:
    (tmp_path / "keys.db").write_bytes(b"no database" * 100)
    urls = [str(tmp_path / "keys.db"), f"postgresql://primum:secret@/keys?host={tmp_path}"]
    for url in urls:
        with pytest.raises(MachineError, match="refused") as refused:
            KeyStore(url, fresh())
        assert "secret" not in str(refused.value)


def test_files_are_for_their_owner_only(sqlite_place: Place) -> None:
    vault = sqlite_place.create(fresh())
    modes = {path.name: path.stat().st_mode & 0o777 for path in sqlite_place.folder.glob("*.db*")}
    assert {"keys.db", "keys.db-wal", "payloads.db"} <= modes.keys()
    assert set(modes.values()) == {0o600}
    close(vault)


@pytest.mark.parametrize("column", ["wrapped", "identity", "lookup"])
def test_a_key_moved_or_altered_does_not_open(sqlite_place: Place, column: str) -> None:
    keys = KeyStore.create(sqlite_place.keys, fresh())
    one, two = keys.patient("one"), keys.patient("two")
    engine = create_engine(sqlite_place.keys)
    with engine.begin() as connection:
        # Taken first: nobody may have the same lookup twice.
        sought = {"two": two.patient, "one": one.patient}
        other = connection.execute(text(f"SELECT {column} FROM vault_patient WHERE patient = :two"), sought)
        sought["taken"] = other.scalar_one()
        connection.execute(text("DELETE FROM vault_patient WHERE patient = :two"), sought)
        connection.execute(text(f"UPDATE vault_patient SET {column} = :taken WHERE patient = :one"), sought)
    engine.dispose()
    if column == "wrapped":
        with pytest.raises(InputError, match="was altered"):
            keys.find("one")
    elif column == "identity":
        with pytest.raises(InputError, match="was altered"):
            rotate(keys, fresh(), recorder=sqlite_place.trail, by="test")
    else:
        assert keys.find("one") is None
    keys.close()


@given(st.text(max_size=300))
def test_an_identifier_is_visible_text_or_refused_without_being_said(given_text: str) -> None:
    try:
        same = checked(given_text)
    except PrimumError as refused:
        assert len(given_text.strip()) < 12 or given_text.strip() not in str(refused)
    else:
        assert checked(same) == same
        assert checked(f"  {given_text}\n") == same
        assert 0 < len(same) <= 256
        same.encode()
