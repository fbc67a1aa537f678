"""Rotation: killed at every step it completes on restart, and nobody is ever without a key."""

import os
import random
import signal
import time
from itertools import count

import pytest
from sqlalchemy import create_engine, text
from tests.trail.vault.support import Place, child, close, ended, fresh

from primum.errors import InputError
from primum.trail.vault.erasure import forget
from primum.trail.vault.keys import KeyStore
from primum.trail.vault.masters import HeldKey
from primum.trail.vault.payloads import Stored, Vault
from primum.trail.vault.rotation import rotate

PEOPLE = [f"1850578006084{one:02}" for one in range(3)]


def filled(place: Place, master: HeldKey, people: list[str] = PEOPLE) -> dict[str, Stored]:
    vault = place.create(master)
    kept = {
        one: vault.put(vault.keys.patient(one), "record", f"of {number}".encode())
        for number, one in enumerate(people)
    }
    close(vault)
    return kept


def require_all(place: Place, kept: dict[str, Stored], *masters: HeldKey) -> None:
    """Everybody is found by who they are, and their payload opens."""
    vault = place.open(*masters)
    require_each(vault, kept)
    close(vault)


def require_each(vault: Vault, kept: dict[str, Stored]) -> None:
    for number, (person, stored) in enumerate(kept.items()):
        keys = vault.keys.find(person)
        assert keys is not None, number
        [payload] = vault.export(keys, by="test", purpose="test")
        assert (payload.stored, payload.content) == (stored, f"of {number}".encode())


def turned(place: Place, old: HeldKey, new: HeldKey) -> bool:
    keys = KeyStore(place.keys, old, new)
    rotated = rotate(keys, new, recorder=place.trail, by="test", batch=2)
    keys.close()
    return rotated.turned


def test_killed_at_every_step_it_completes_on_restart(place: Place) -> None:
    old = fresh()
    kept = filled(place, old)
    for step in count(1):
        new = fresh()
        whole = ended(
            child(lambda old=old, new=new: turned(place, old, new), kill_at=step, trail=place.trail)  # type: ignore[misc]
        )
        vault = place.open(old, new)
        require_each(vault, kept)
        rotate(vault.keys, new, recorder=place.trail, by="test", batch=2)
        close(vault)
        vault = place.open(new)
        require_each(vault, kept)
        assert vault.keys.counts()[1:] == ({step + 1: "current"}, {step + 1: len(PEOPLE)})
        close(vault)
        with pytest.raises(InputError, match="not the master key"):
            KeyStore(place.keys, old)
        done = {details["to_epoch"] for *_, details in place.trail.entries("key.rotation")}
        assert done == set(range(2, step + 2))
        if whole:
            break
        old = new
    assert step > 15
    phases = [details["phase"] for *_, details in place.trail.entries("key.rotation")]
    assert phases.count("done") >= step
    assert phases.count("started") >= step


def test_killed_at_any_time_it_completes_on_restart(sqlite_place: Place) -> None:
    place, old, draw = sqlite_place, fresh(), random.Random(11)
    kept = filled(place, old, [f"P{one}" for one in range(40)])
    cut = 0
    for _ in range(12):
        new = fresh()
        pid = child(lambda old=old, new=new: turned(place, old, new))  # type: ignore[misc]
        time.sleep(draw.uniform(0, 0.08))
        os.kill(pid, signal.SIGKILL)
        cut += not ended(pid)
        turned(place, old, new)
        require_all(place, kept, new)
        old = new
    assert cut > 0


def test_all_goes_on_while_the_key_turns(place: Place) -> None:
    """Others put, read, make and forget patients with both keys in hand; nobody is doubled or lost."""
    old, new = fresh(), fresh()
    kept = filled(place, old, [f"P{one}" for one in range(30)])

    def busy(number: int) -> None:
        mine, own = place.open(old, new), {}
        for turn in range(25):
            for person in (f"new-{number}-{turn}", f"shared-{turn}"):
                keys = mine.keys.patient(person)
                own[person] = mine.put(keys, "image", person.encode())
                found = mine.keys.find(person)
                assert found is not None
                assert found.patient == keys.patient
            assert mine.keys.find(f"P{turn}") is not None
        for person, stored in own.items():
            assert mine.get(stored.payload, by="x", purpose="x").content == person.encode()
        forget(mine, [f"new-{number}-{turn}" for turn in range(5)], by="dpo")

    # Opened with both, as docs/vault.md says: the new one is not yet anybody's.
    pids = [child(lambda one=one: busy(one)) for one in range(2)]  # type: ignore[misc]
    time.sleep(0.02)
    assert turned(place, old, new)
    assert all(ended(pid) for pid in pids)
    require_all(place, kept, new)
    vault = place.open(new)
    assert vault.keys.counts()[2] == {2: 30 + 2 * 20 + 25}
    for number in range(2):
        found = [vault.keys.find(f"new-{number}-{turn}") for turn in range(25)]
        assert [one is None for one in found] == [True] * 5 + [False] * 20
    shared = [vault.keys.find(f"shared-{turn}") for turn in range(25)]
    assert [len(vault.listed(one.patient)) for one in shared if one] == [2] * 25
    close(vault)


def test_half_way_the_old_key_is_asked_for_and_another_new_one_refused(place: Place) -> None:
    old, new = fresh(), fresh()
    kept = filled(place, old)
    step = next(one for one in count(3) if not _half_way(place, old, new, one) and _begun(place, new))
    assert step < 14
    vault = place.open(new)
    with pytest.raises(InputError, match="old one of epoch"):
        [vault.keys.patient(one) for one in (*kept, "somebody new")]
    before = vault.keys.counts()
    with pytest.raises(InputError, match="changed to another one"):
        rotate(vault.keys, fresh(), recorder=place.trail, by="test")
    with pytest.raises(InputError, match="old one of epoch"):
        rotate(vault.keys, new, recorder=place.trail, by="test")
    assert vault.keys.counts() == before
    close(vault)
    require_all(place, kept, old, new)
    turned(place, old, new)
    require_all(place, kept, new)


def _half_way(place: Place, old: HeldKey, new: HeldKey, step: int) -> bool:
    return ended(child(lambda: turned(place, old, new), kill_at=step, trail=place.trail))


def test_the_same_key_is_no_new_one_and_a_done_rotation_is_said_to_be(sqlite_place: Place) -> None:
    place, old, new = sqlite_place, fresh(), fresh()
    kept = filled(place, old)
    for same in (old, HeldKey("env", old.key)):
        with pytest.raises(InputError, match="is the one it has"):
            turned(place, old, same)
    assert turned(place, old, new)
    assert not turned(place, old, new)
    require_all(place, kept, new)
    lines = place.trail.entries("key.rotation")
    assert [one[3] for one in lines] == [
        {"from_epoch": 1, "to_epoch": 2, "keys": 3, "phase": phase} for phase in ("started", "done")
    ]


def test_who_slept_through_a_rotation_cannot_begin_the_next(place: Place) -> None:
    first, second, third = fresh(), fresh(), fresh()
    kept = filled(place, first)
    asleep = KeyStore(place.keys, first)
    assert turned(place, first, second)
    with pytest.raises(InputError, match="not the master key"):
        rotate(asleep, third, recorder=place.trail, by="test")
    asleep.close()
    require_all(place, kept, second)
    assert not _begun(place, third)


def test_nothing_of_the_old_epoch_stays_in_the_files(place: Place) -> None:
    old, new = fresh(), fresh()
    filled(place, old)
    keys = KeyStore(place.keys, old)
    with keys.database.reading() as connection:
        rows = connection.execute(text("SELECT wrapped, lookup FROM vault_patient")).all()
        epoch = connection.execute(text("SELECT wrapped, lookup FROM vault_epoch")).one()
    sought = [bytes(row.wrapped) for row in rows] + [row.lookup.encode() for row in rows]
    sought += [bytes(epoch.wrapped), bytes(epoch.lookup)]
    checkpoint(place)
    assert place.holding(*sought)
    turned(place, old, new)
    checkpoint(place)
    assert place.holding(*sought) == []
    keys.close()


def checkpoint(place: Place) -> None:
    if place.data is not None:
        engine = create_engine(place.keys, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("CHECKPOINT"))
        engine.dispose()


def _begun(place: Place, new: HeldKey) -> bool:
    try:
        KeyStore(place.keys, new).close()
    except InputError:
        return False
    return True
