"""Turning the epoch: a new master key takes the place of the old one, while everything goes on.

1. A new epoch, under the new master key, becomes the current one: new patients come under it.
2. The keys of all others are wrapped anew, some at a time, each time all or nothing.
3. The old epoch is retired: its keys are blanked and their traces wiped.

Every step is one transaction or can be repeated, so that a rotation that was killed anywhere goes on when it
is asked for again with the same two master keys.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, delete, func, select, update

from primum.errors import InputError
from primum.trail.entry import Entry, Recorder, Value
from primum.trail.vault.epochs import OLD, RETIRED, Epoch, begin_epoch, live_epochs, open_epoch
from primum.trail.vault.keys import KeyStore
from primum.trail.vault.masters import MasterKey
from primum.trail.vault.sealing import derived, unpadded, unseal
from primum.trail.vault.tables import EPOCHS, PATIENTS


@dataclass(frozen=True)
class Rotated:
    """What :func:`rotate` did.

    Attributes
    ----------
    epoch : int
        The current one now.
    keys : int
        Of patients, that were wrapped anew in this run.
    turned : bool
        False when the new master key was that of the current epoch already, and nothing was left to do.
    """

    epoch: int
    keys: int
    turned: bool


def rotate(keys: KeyStore, new: MasterKey, *, recorder: Recorder, by: str, batch: int = 100) -> Rotated:
    """Put a new master key in the place of the old one, or go on where a killed rotation stopped.

    Parameters
    ----------
    keys : KeyStore
        Opened with the old master key.
    new : MasterKey
        Another one.
    recorder : Recorder
    by : str
        Who does it, for the trail.
    batch : int
        Keys a transaction; others wait for one.

    Raises
    ------
    InputError
        The new master key is the old one, or another rotation is under way, or the old one is wanting.
    """
    finished = _finish(keys, recorder, by)
    with keys.database.reading() as connection:
        current, *old = live_epochs(connection)
    fits = open_epoch(current, keys.store, (new,)) is not None
    if not old:
        # Without it once only: the same key may have been given as the old one too.
        places = [place for place, one in enumerate(keys.masters) if one is new]
        others = tuple(one for place, one in enumerate(keys.masters) if place not in places[-1:])
        if fits and (finished or open_epoch(current, keys.store, others) is None):
            return Rotated(current.epoch, 0, finished)
        if fits:
            raise InputError(
                "The new master key of {place} is the one it has: make another.", place=keys.database.place
            )
        _record(keys, recorder, by, current.epoch, "started")
        _turn(keys, current.epoch, new)
    elif not fits:
        raise InputError(
            "The master key of {place} is being changed to another one: give that one to end it.",
            place=keys.database.place,
        )
    keys.learn(new)
    count = _wrap_anew(keys, batch)
    _retire(keys)
    _finish(keys, recorder, by)
    return Rotated(keys.counts()[0], count, True)


def _turn(keys: KeyStore, number: int, new: MasterKey) -> None:
    with keys.database.writing() as connection:
        epochs = live_epochs(connection)
        if [one.epoch for one in epochs] != [number]:
            raise InputError(
                "The master key of {place} is being changed by another program: wait for it, or repeat.",
                place=keys.database.place,
            )
        # Who does not hold the old key could not wrap anything anew: that is found out before, not after.
        keys.epoch(epochs[0])
        connection.execute(update(EPOCHS).where(EPOCHS.c.epoch == number).values(phase=OLD))
        begin_epoch(connection, keys.store, number + 1, new)


def _wrap_anew(keys: KeyStore, batch: int) -> int:
    count = 0
    while True:
        with keys.database.writing() as connection:
            epochs = live_epochs(connection)
            if len(epochs) < 2:
                return count
            done = _batch(connection, keys, keys.epoch(epochs[1]), keys.epoch(epochs[0]), batch)
        count += done
        if not done:
            return count


def _batch(connection: Connection, keys: KeyStore, old: Epoch, new: Epoch, batch: int) -> int:
    rows = list(connection.execute(select(PATIENTS).where(PATIENTS.c.epoch == old.number).limit(batch)))
    for row in rows:
        try:
            key = old.unwrap(row.wrapped, row.patient)
            identity = unseal(derived(key, "identity"), row.identity, "identity", row.patient)
        except InvalidTag as error:
            raise keys.altered() from error
        values = {
            "epoch": new.number,
            "lookup": new.lookup_of(unpadded(identity)),
            "wrapped": new.wrap(key, row.patient),
        }
        connection.execute(update(PATIENTS).where(PATIENTS.c.patient == row.patient).values(values))
    return len(rows)


def _retire(keys: KeyStore) -> None:
    with keys.database.writing() as connection:
        for one in live_epochs(connection):
            left = select(func.count()).select_from(PATIENTS).where(PATIENTS.c.epoch == one.epoch)
            if one.phase == OLD and not connection.execute(left).scalar_one():
                blank = {"phase": RETIRED, "wrapped": b"", "lookup": b"", "checked": ""}
                connection.execute(update(EPOCHS).where(EPOCHS.c.epoch == one.epoch).values(blank))


def _finish(keys: KeyStore, recorder: Recorder, by: str) -> bool:
    with keys.database.reading() as connection:
        asked = select(EPOCHS.c.epoch).where(EPOCHS.c.phase == RETIRED)
        retired = list(connection.execute(asked).scalars())
    if retired:
        keys.wipe()
    for number in retired:
        _record(keys, recorder, by, number, "done")
        with keys.database.writing() as connection:
            connection.execute(delete(EPOCHS).where(EPOCHS.c.epoch == number))
    return bool(retired)


def _record(keys: KeyStore, recorder: Recorder, by: str, number: int, phase: str) -> None:
    with keys.database.reading() as connection:
        count = connection.execute(select(func.count()).select_from(PATIENTS)).scalar_one()
    details: dict[str, Value] = {
        "from_epoch": number,
        "to_epoch": number + 1,
        "keys": int(count),
        "phase": phase,
    }
    recorder.append(Entry("key.rotation", by, details=details))
