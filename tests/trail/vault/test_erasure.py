"""Erasure: searched for in every file, attacked with older copies, killed at every step, raced against."""

import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import create_engine, insert, select, text
from tests.trail.vault.support import Place, child, close, ended, fresh

from primum.errors import InputError, MachineError
from primum.trail.entry import Entry
from primum.trail.heads import public_hex
from primum.trail.log import Trail
from primum.trail.store import Store
from primum.trail.vault import database
from primum.trail.vault.epochs import Epoch
from primum.trail.vault.erasure import finish_erasures, forget
from primum.trail.vault.keys import KeyStore
from primum.trail.vault.masters import HeldKey
from primum.trail.vault.payloads import Vault
from primum.trail.vault.rotation import rotate
from primum.trail.vault.sealing import derived, keyed_digest, unseal
from primum.trail.vault.signals import purge_signals, put_signals, read_signals
from primum.trail.vault.tables import EPOCHS, KEY_STORE, PATIENTS, PAYLOADS, SIGNALS
from primum.trail.verification import verify

SIGNER = Ed25519PrivateKey.generate()
PERSON, OTHER = "185057800608436", "290017500100172"
PLAIN = b"Carcinome du sein gauche, T2 N1 M0. " * 40
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def filled(place: Place, master: HeldKey) -> Vault:
    vault = place.create(master)
    for person, content in ((PERSON, PLAIN), (OTHER, b"Rien. " * 200)):
        keys = vault.keys.patient(person)
        stored = vault.put(keys, "record", content)
        vault.put(keys, "record", content + b"v2", corrects=stored.payload)
        put_signals(vault, {"p_value": 0.03, "seen": "T2"}, expires=LATER, patient=keys)
    put_signals(vault, {"latency_us": 900}, expires=LATER)
    return vault


def row_of(vault: Vault, person: str) -> Any:
    keys = vault.keys.find(person)
    assert keys is not None
    with vault.keys.database.reading() as connection:
        return connection.execute(select(PATIENTS).where(PATIENTS.c.patient == keys.patient)).one()


def boxes(vault: Vault, patient: str) -> list[bytes]:
    with vault.database.reading() as connection:
        payloads = connection.execute(select(PAYLOADS.c.box).where(PAYLOADS.c.patient == patient)).scalars()
        signals = connection.execute(select(SIGNALS.c.content).where(SIGNALS.c.patient == patient)).scalars()
        return [*payloads, *signals]


def settled(place: Place, *, sampled: bool = False) -> None:
    """Let PostgreSQL write its pages, and sample its tables, as it does by itself now and then."""
    if place.data is not None:
        engine = create_engine(place.keys, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            if sampled:
                connection.execute(text("ANALYZE"))
            connection.execute(text("CHECKPOINT"))
        engine.dispose()


def test_no_file_holds_the_text_the_key_or_the_person(place: Place) -> None:
    vault = filled(place, fresh())
    keys, row = vault.keys.find(PERSON), row_of(vault, PERSON)
    assert keys is not None
    wrapped = [row.wrapped[12:], row.identity[12:], row.lookup.encode()]
    left = [box[12:44] for box in boxes(vault, keys.patient)]
    never = [PLAIN[:36], b"T2 N1", keys._key, keys._key.hex().encode(), PERSON.encode(), b"p_value"]
    settled(place, sampled=True)
    for one in (*wrapped, *left):
        assert place.holding(one)
    assert place.holding(*never) == []
    assert forget(vault, [f" {PERSON}\n"], by="dpo").payloads == 2
    settled(place)
    assert place.holding(*never, *wrapped) == []
    if place.data is None:
        assert {Path(name).suffix for name in place.files()} >= {".db", ".db-wal"}
        assert place.holding(*left) == []
    assert vault.keys.find(PERSON) is None
    assert [len(boxes(vault, keys.patient)), len(list(read_signals(vault)))] == [0, 2]
    # Others are as they were, and what the trail knows is a number that nobody can give a name to.
    other = vault.keys.find(OTHER)
    assert other is not None
    assert [one.content[:5] for one in vault.export(other, by="x", purpose="x")] == [b"Rien."] * 2
    written = place.trail.path.read_text(encoding="utf-8")
    assert PERSON not in written
    phases = [(one[2], one[3]["phase"], one[3]["payloads"]) for one in place.trail.entries("erasure")]
    assert phases == [(keys.patient, "asked", 2), (keys.patient, "done", 2)]
    # Who comes back is somebody new.
    assert vault.keys.patient(PERSON).patient != keys.patient
    close(vault)


def opened_by(secrets: list[bytes], old: Place) -> list[bytes]:
    """What an attacker gets out of an older copy with keys, every box tried where it belongs."""
    engine = create_engine(old.keys)
    payload_engine = create_engine(f"sqlite:///{old.payloads}")
    with engine.connect() as connection, payload_engine.connect() as second:
        epochs = list(connection.execute(select(EPOCHS)))
        patients = list(connection.execute(select(PATIENTS)))
        payloads = list(second.execute(select(PAYLOADS)))
        store = connection.execute(text("SELECT store FROM vault_key_store")).scalar_one()
    engine.dispose()
    payload_engine.dispose()
    masters = [derived(one, "master") for one in secrets] + secrets
    kept = [*secrets, *_opening(masters, [(one.wrapped, ("master",)) for one in epochs])]
    lookups = _opening(kept, [(one.lookup, ("lookup", store, one.epoch)) for one in epochs])
    places = [(one.wrapped, ("patient key", store, one.patient, one.epoch)) for one in patients]
    kept += _opening(kept, places)
    found = _opening(
        [derived(one, "payload") for one in kept],
        [(one.box, ("payload", one.payload, one.version, one.kind, one.patient)) for one in payloads],
    )
    found += _opening(
        [derived(one, "identity") for one in kept],
        [(one.identity, ("identity", one.patient)) for one in patients],
    )
    digests = {one.lookup for one in patients}
    for key in (*kept, *lookups, *secrets):
        found += [who.encode() for who in (PERSON, OTHER) if keyed_digest(key, who.encode()) in digests]
    return found


def _opening(keys: list[bytes], sealed: Sequence[tuple[bytes, tuple[str | int, ...]]]) -> list[bytes]:
    found = []
    for key in keys:
        for box, where in sealed:
            try:
                found.append(unseal(key, box, *where))
            except InvalidTag:
                continue
    return found


@pytest.mark.parametrize("order", ["forgotten, then turned", "turned, then copied by nobody, then forgotten"])
def test_an_older_copy_and_the_new_master_key_open_nothing(sqlite_place: Place, order: str) -> None:
    place, old, new = sqlite_place, fresh(), fresh()
    vault = filled(place, old)
    keys = vault.keys.find(PERSON)
    other = vault.keys.find(OTHER)
    assert keys is not None
    assert other is not None
    folder = place.folder / "copy"
    folder.mkdir()
    for path in place.folder.glob("*.db*"):
        shutil.copy(path, folder)
    copy = replace(
        place, keys=f"sqlite:///{folder / 'keys.db'}", payloads=str(folder / "payloads.db"), folder=folder
    )
    if order.startswith("turned"):
        rotate(vault.keys, new, recorder=place.trail, by="it")
        forget(vault, [PERSON], by="dpo")
    else:
        forget(vault, [PERSON], by="dpo")
        rotate(vault.keys, new, recorder=place.trail, by="it")
    with pytest.raises(InputError, match="not the master key"):
        copy.open(new)
    # What the new master key and the stores of today give: the key of the epoch and its lookup key.

    with vault.keys.database.reading() as connection:
        today = vault.keys.epoch(connection.execute(select(EPOCHS)).one())
    assert isinstance(today, Epoch)
    assert today.number == 2
    known = [new.key, today.key, today.lookup]
    assert opened_by(known, copy) == []
    # The attack is a real one: with the old master key it opens all, forgotten or not …
    assert {PLAIN, PERSON.encode(), OTHER.encode()} <= set(opened_by([old.key], copy))
    # … and who was not forgotten is open to who holds their key, which is as it should be.
    found = opened_by([*known, other._key], copy)
    assert b"Rien. " * 200 in found
    assert PLAIN not in found
    assert PERSON.encode() not in b"".join(found)
    close(vault)


def test_killed_at_every_step_it_is_finished_on_restart(place: Place) -> None:
    master = fresh()
    # Open all the time, as a gateway is; only who erases is killed, and opens it anew.
    vault = place.create(master)
    for step in count(1):
        keys, other = vault.keys.patient(PERSON), vault.keys.patient(OTHER)
        vault.put(keys, "record", PLAIN)
        stored = vault.put(other, "record", b"other")

        def forgotten() -> None:
            again = place.open(master)
            forget(again, [PERSON], by="dpo")

        whole = ended(child(forgotten, kill_at=step, trail=place.trail))
        still = vault.keys.find(PERSON)
        if still is not None:
            assert still.patient == keys.patient
            assert [one.content for one in vault.export(still, by="x", purpose="x")] == [PLAIN]
        asked = [one[3]["phase"] for one in place.trail.entries("erasure") if one[2] == keys.patient]
        # Never destroyed before the trail has it.
        assert still is not None or asked[0] == "asked"
        forget(vault, [PERSON], by="dpo")
        assert vault.keys.find(PERSON) is None
        assert vault.keys.unfinished() == []
        assert vault.listed(keys.patient) == []
        said = [one[3]["phase"] for one in place.trail.entries("erasure") if one[2] == keys.patient]
        assert (said[0], said[-1]) == ("asked", "done")
        assert vault.get(stored.payload, by="x", purpose="x").content == b"other"
        if whole:
            break
    close(vault)
    assert step > 15


def test_a_put_that_comes_too_late_brings_nothing_back(place: Place) -> None:
    master = fresh()
    vault = place.create(master)
    keys = vault.keys.patient(PERSON)
    vault.put(keys, "image", b"first")
    # Between the key and the payloads: what comes is deleted with the rest.
    vault.keys.destroy(keys.patient)
    late = vault.put(keys, "image", PLAIN)
    with pytest.raises(InputError, match="forgotten"):
        vault.get(late.payload, by="x", purpose="x")
    assert list(read_signals(vault)) == []
    assert finish_erasures(vault, by="dpo") == (1, 2)
    for call in (
        lambda: vault.put(keys, "image", PLAIN),
        lambda: put_signals(vault, {"a": 1}, expires=LATER, patient=keys),
    ):
        with pytest.raises(InputError, match="forgotten"):
            call()
    assert (vault.count(), vault.keys.find(PERSON), vault.listed(keys.patient)) == (0, None, [])
    close(vault)


def test_an_erasure_waits_for_the_put_that_was_first(place: Place) -> None:
    vault = place.create(fresh())
    patient = vault.keys.patient(PERSON)
    vault.put(patient, "record", PLAIN)
    gone: list[int] = []
    erasing = threading.Thread(target=lambda: gone.append(vault.erase(patient.patient)))
    with vault.database.writing(alone=False) as connection:
        vault.claim(connection, patient.patient)
        erasing.start()
        erasing.join(0.3)
        assert erasing.is_alive()
        row = {"payload": "0" * 32, "version": 1, "patient": patient.patient, "kind": "record", "box": b"x"}
        connection.execute(insert(PAYLOADS), row)
    erasing.join(20)
    assert (gone, vault.count()) == ([2], 0)
    close(vault)


def test_puts_and_erasures_at_once_leave_nothing_and_lose_nothing(place: Place) -> None:
    master, people = fresh(), [f"P{one}" for one in range(6)]
    vault = place.create(master)
    numbers = {one: vault.keys.patient(one) for one in people}
    close(vault)

    def putting() -> None:
        mine, left = place.open(master), dict(numbers)
        until = time.monotonic() + 20
        while len(left) > 1 and time.monotonic() < until:
            for person, keys in list(left.items()):
                try:
                    mine.put(keys, "record", PLAIN)
                except InputError:
                    del left[person]
        assert list(left) == people[:1]

    pids = [child(putting) for _ in range(2)]
    vault = place.open(master)
    for person in people[1:]:
        forget(vault, [person], by="dpo")
    assert all(ended(pid) for pid in pids)
    assert [one for one in people if vault.keys.find(one)] == people[:1]
    assert [one for one in people if vault.listed(numbers[one].patient)] == people[:1]
    assert len(vault.listed(numbers[people[0]].patient)) == vault.count() > 0
    close(vault)


def test_a_reader_who_stays_is_named_and_the_erasure_waits(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_PATIENCE", 1)
    vault = filled(place, fresh())
    wrapped = row_of(vault, PERSON).wrapped[12:]
    slow = place.open(*vault.keys.masters)
    with slow.keys.database.reading() as connection:
        # Another table: what holds the erasure up is the state that is seen, not a lock on the keys.
        assert len(list(connection.execute(select(KEY_STORE)))) == 1
        with pytest.raises(MachineError, match=r"reading|refused"):
            forget(vault, [PERSON], by="dpo")
    assert vault.keys.find(PERSON) is None
    assert len(vault.keys.unfinished()) == 1
    assert finish_erasures(vault, by="dpo")[0] == 1
    settled(place)
    assert place.holding(wrapped) == []
    close(slow)
    close(vault)


def test_the_trail_itself_verifies_after_an_erasure(place: Place) -> None:
    url = str(place.folder / "trail.sqlite") if place.data is None else place.keys
    Trail.create(url, key=SIGNER)
    with Trail(url, key=SIGNER) as trail:
        keys = KeyStore.create(place.keys, fresh())
        vault = Vault.create(place.payloads, keys, trail)
        patient = keys.patient(PERSON)
        stored = vault.put(patient, "record", PLAIN)
        said = {"input": patient.commitment(PLAIN, "input"), "payload": stored.payload, "purpose": "care"}
        trail.append(Entry("prediction.intent", "gateway", patient=patient.patient, details=said))
        vault.get(stored.payload, by="dr", purpose="care")
        purge_signals(vault, datetime(2020, 1, 1, tzinfo=UTC), by="cron")
        assert forget(vault, [PERSON], by="dpo").patients == 1
        rotate(keys, fresh(), recorder=trail, by="it")
        close(vault)
    store = Store(url)
    seen = verify(store, key=public_hex(SIGNER), deep=True)
    assert (seen.problems, seen.size, seen.covered) == ([], 8, 8)
    store.close()
    if place.data is None:
        content = b"".join(path.read_bytes() for path in place.folder.glob("trail.sqlite*"))
        assert PERSON.encode() not in content
        assert patient.patient.encode() in content


def test_after_a_restored_backup_the_numbers_of_the_trail_erase_again(sqlite_place: Place) -> None:
    place, master = sqlite_place, fresh()
    vault = filled(place, master)
    close(vault)
    kept = place.files()
    vault = place.open(master)
    forget(vault, [PERSON], by="dpo")
    close(vault)
    for name, content in kept.items():
        Path(name).write_bytes(content)
    vault = place.open(master)
    assert vault.keys.find(PERSON) is not None
    numbers = [str(one[2]) for one in place.trail.entries("erasure") if one[3]["phase"] == "done"]
    erased = forget(vault, [*numbers, "0" * 32], by="dpo", numbers=True)
    assert (erased.patients, erased.unknown) == (1, (1,))
    assert [vault.keys.find(one) is None for one in (PERSON, OTHER)] == [True, False]
    close(vault)


def test_of_a_list_the_unknown_are_told_by_place_and_nothing_is_begun_for_nonsense(place: Place) -> None:
    vault = filled(place, fresh())
    with pytest.raises(InputError, match="visible"):
        forget(vault, [PERSON, "a\x00b"], by="dpo")
    assert vault.keys.find(PERSON) is not None
    erased = forget(
        vault, ["nobody", PERSON, OTHER, PERSON], by="dpo", basis="art.17", requested="2026-11-23"
    )
    assert (erased.patients, erased.payloads, erased.resumed, erased.unknown) == (2, 4, 0, (0,))
    assert place.trail.entries("erasure")[0][3]["basis"] == "art.17"
    close(vault)
