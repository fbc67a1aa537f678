"""Payloads: what is put comes back, what was altered does not, and every reading is written down first."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from tests.trail.vault.support import Place, child, close, ended, fresh

from primum.errors import InputError
from primum.trail.entry import Entry, Position
from primum.trail.vault.payloads import Vault
from primum.trail.vault.signals import count_signals, purge_signals, put_signals, read_signals

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def content(vault: Vault, payload: str, version: int | None = None) -> bytes:
    return vault.get(payload, by="test", purpose="test", version=version).content


def altered(place: Place, statement: str, **values: object) -> None:
    engine = create_engine(place.payloads if "://" in place.payloads else f"sqlite:///{place.payloads}")
    with engine.begin() as connection:
        connection.execute(text(statement), values)
    engine.dispose()


def test_versions_come_back_and_stay(place: Place) -> None:
    vault = place.create(fresh())
    keys = vault.keys.patient("P1")
    first = vault.put(keys, "explanation", b"one")
    second = vault.put(keys, "explanation", b"two", corrects=first.payload)
    assert (first.version, second.version, second.payload) == (1, 2, first.payload)
    assert [content(vault, first.payload, one) for one in (None, 1, 2)] == [b"two", b"one", b"two"]
    assert vault.listed(keys.patient) == [first, second]
    assert content(vault, vault.put(keys, "image", b"").payload) == b""
    other = vault.keys.patient("P2")
    for patient, kind, payload in ((other, "explanation", first.payload), (keys, "image", first.payload)):
        with pytest.raises(InputError, match="to correct"):
            vault.put(patient, kind, b"x", corrects=payload)
    for payload, version in (("0" * 32, None), (first.payload, 3)):
        with pytest.raises(InputError, match="no such payload"):
            content(vault, payload, version)
    close(vault)


def test_corrections_at_once_get_versions_of_their_own(place: Place) -> None:
    master = fresh()
    vault = place.create(master)
    first = vault.put(vault.keys.patient("P1"), "record", b"0")
    close(vault)

    def correcting() -> None:
        mine = place.open(master)
        for _ in range(5):
            mine.put(mine.keys.patient("P1"), "record", b"more", corrects=first.payload)

    assert all(ended(pid) for pid in [child(correcting) for _ in range(3)])
    vault = place.open(master)
    assert [one.version for one in vault.listed(vault.keys.patient("P1").patient)] == list(range(1, 17))
    close(vault)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_of_a_stored_payload_is_refused(sqlite_place: Place, data: st.DataObject) -> None:
    for path in sqlite_place.folder.glob("*.db*"):
        path.unlink()
    vault = sqlite_place.create(fresh())
    stored = vault.put(vault.keys.patient("P1"), "record", data.draw(st.binary(max_size=40)))
    engine = create_engine(f"sqlite:///{sqlite_place.payloads}")
    with engine.begin() as connection:
        box = bytearray(connection.execute(text("SELECT box FROM vault_payload")).scalar_one())
        bit = data.draw(st.integers(0, 8 * len(box) - 1))
        box[bit // 8] ^= 1 << bit % 8
        connection.execute(text("UPDATE vault_payload SET box = :box"), {"box": bytes(box)})
    engine.dispose()
    with pytest.raises(InputError, match="not what was put there"):
        content(vault, stored.payload)
    close(vault)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE vault_payload SET version = 7 WHERE payload = :one",
        "UPDATE vault_payload SET kind = 'image' WHERE payload = :one",
        "UPDATE vault_payload SET patient = (SELECT patient FROM vault_payload WHERE payload = :two) "
        "WHERE payload = :one",
        "UPDATE vault_payload SET box = (SELECT box FROM vault_payload WHERE payload = :two) "
        "WHERE payload = :one",
        "UPDATE vault_payload SET box = (SELECT box FROM vault_payload WHERE payload = :same) "
        "WHERE payload = :one",
    ],
)
def test_a_payload_moved_is_refused(place: Place, change: str) -> None:
    """To another version, kind, patient, or in the place of another's or of one's own other payload."""
    vault = place.create(fresh())
    mine, theirs = vault.keys.patient("P1"), vault.keys.patient("P2")
    named = {
        "one": vault.put(mine, "record", b"mine").payload,
        "two": vault.put(theirs, "record", b"theirs").payload,
        "same": vault.put(mine, "record", b"also mine").payload,
    }
    altered(place, change, **{name: value for name, value in named.items() if f":{name}" in change})
    with pytest.raises(InputError, match="not what was put there"):
        content(vault, named["one"])
    assert [content(vault, named[one]) for one in ("two", "same")] == [b"theirs", b"also mine"]
    close(vault)


def test_an_older_version_cannot_pass_for_the_newer(sqlite_place: Place) -> None:
    vault = sqlite_place.create(fresh())
    keys = vault.keys.patient("P1")
    payload = vault.put(keys, "record", b"wrong dose").payload
    vault.put(keys, "record", b"right dose", corrects=payload)
    older = "(SELECT box FROM vault_payload WHERE version = 1)"
    altered(sqlite_place, f"UPDATE vault_payload SET box = {older} WHERE version = 2")
    with pytest.raises(InputError, match="Version 2 of the payload"):
        content(vault, payload)
    close(vault)


def test_what_is_too_large_or_no_kind_is_refused(sqlite_place: Place) -> None:
    vault = sqlite_place.create(fresh())
    small = Vault(sqlite_place.payloads, vault.keys, sqlite_place.trail, largest=1 << 20)
    keys = vault.keys.patient("P1")
    assert content(small, small.put(keys, "image", bytes(1 << 20)).payload) == bytes(1 << 20)
    with pytest.raises(InputError, match="at most 1 MiB, this one 2"):
        small.put(keys, "image", bytes((1 << 20) + 1))
    for kind in ("", "Image", "a b", "é", "x" * 33, "<script>"):
        with pytest.raises(InputError, match="one word"):
            vault.put(keys, kind, b"x")
    close(small)
    close(vault)


def test_every_reading_is_written_down_before_anything_is_shown(sqlite_place: Place) -> None:
    vault = sqlite_place.create(fresh())
    keys = vault.keys.patient("P1")
    payload = vault.put(keys, "record", b"x").payload
    vault.get(payload, by="dr.house", purpose="care", on_behalf_of="ward-3")
    assert len(list(vault.export(keys, by="dpo", purpose="art.15"))) == 1
    assert sqlite_place.trail.entries() == [
        (
            "access",
            "dr.house",
            keys.patient,
            {"payload": payload, "version": 1, "purpose": "care", "records": 1},
        ),
        ("key.use", "dpo", keys.patient, {"purpose": "art.15", "epoch": 1}),
        ("access", "dpo", keys.patient, {"purpose": "art.15", "records": 1}),
    ]

    class Full:
        def append(self, entry: Entry) -> Position:
            raise OSError("no space left")

    refused = Vault(sqlite_place.payloads, vault.keys, Full())
    for call in (
        lambda: refused.get(payload, by="x", purpose="x"),
        lambda: refused.export(keys, by="x", purpose="x"),
    ):
        with pytest.raises(OSError, match="no space"):
            call()
    refused.close()
    close(vault)


def test_signals_come_back_in_order_and_go_on_their_day(place: Place) -> None:
    vault = place.create(fresh())
    keys = vault.keys.patient("P1")
    for day, patient in product(range(1, 6), (None, keys)):
        put_signals(vault, {"p_value": 0.5, "day": day}, expires=NOW + timedelta(days=day), patient=patient)
    read = list(read_signals(vault))
    assert [one.values["day"] for one in read] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert [sum(one.patient == who for one in read) for who in (None, keys.patient)] == [5, 5]
    assert count_signals(vault, now=NOW + timedelta(days=2, seconds=1)) == (10, 4)
    before = NOW + timedelta(days=2, seconds=1)
    assert purge_signals(vault, before, by="cron") == 4
    assert [one.values["day"] for one in read_signals(vault)] == [3, 3, 4, 4, 5, 5]
    said = {"before": "2026-11-25T08:00:01+00:00", "records": 4}
    assert place.trail.entries() == [("signals.purge", "cron", None, said)]
    altered(place, "UPDATE vault_signal SET expires = expires + 1 WHERE patient IS NOT NULL")
    with pytest.raises(InputError, match="not what was put there"):
        list(read_signals(vault))
    close(vault)


@pytest.mark.parametrize("values", [{"a": float("nan")}, {"a": "x" * 5000}])
def test_signals_that_are_none(sqlite_place: Place, values: dict[str, float | str]) -> None:
    vault = sqlite_place.create(fresh())
    with pytest.raises(InputError, match="finite"):
        put_signals(vault, values, expires=NOW)
    assert list(read_signals(vault)) == []
    close(vault)


def test_many_signals_are_read_page_by_page(sqlite_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("primum.trail.vault.signals._BATCH", 7)
    vault = sqlite_place.create(fresh())
    for one in range(30):
        put_signals(vault, {"n": one}, expires=NOW + timedelta(seconds=one // 10))
    assert sorted(int(one.values["n"]) for one in read_signals(vault)) == list(range(30))
    assert purge_signals(vault, NOW + timedelta(seconds=2), by="cron") == 20
    close(vault)
