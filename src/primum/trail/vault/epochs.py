"""Epochs: one key wraps the keys of all patients, and is itself wrapped by the master key.

Each epoch also has a lookup key of its own. If one lookup key lived on, whoever holds an older copy and the
newest master key could still try out every NIR and learn who had been there, and which random number of the
trail was theirs. Both turn together, so that nothing of an older epoch can be had from a newer one.
"""

import hmac
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, insert, select

from primum.errors import InputError
from primum.trail.vault.masters import MasterKey
from primum.trail.vault.sealing import derived, keyed_digest, new_key, seal, unseal
from primum.trail.vault.tables import EPOCHS

CURRENT: Final = "current"
OLD: Final = "old"
RETIRED: Final = "retired"


@dataclass(frozen=True)
class Epoch:
    """The opened keys of one epoch.

    Attributes
    ----------
    store : str
        Random id of the key store.
    number : int
        From 1.
    key : bytes
        Wraps the keys of the patients.
    lookup : bytes
        Digests their identifiers.
    """

    store: str
    number: int
    key: bytes = field(repr=False)
    lookup: bytes = field(repr=False)

    def lookup_of(self, identifier: str) -> str:
        """Give the keyed digest by which a patient is found: without the key no identifier can be tried."""
        return keyed_digest(self.lookup, identifier.encode())

    def wrap(self, key: bytes, patient: str) -> bytes:
        """Encrypt the key of a patient."""
        return seal(self.key, key, "patient key", self.store, patient, self.number)

    def unwrap(self, wrapped: bytes, patient: str) -> bytes:
        """Decrypt the key of a patient.

        Raises
        ------
        cryptography.exceptions.InvalidTag
            It is altered, another patient's or of another epoch.
        """
        return unseal(self.key, wrapped, "patient key", self.store, patient, self.number)


def begin_epoch(connection: Connection, store: str, number: int, master: MasterKey) -> Epoch:
    """Draw the keys of an epoch, and keep them wrapped by the master key as the current ones."""
    epoch = Epoch(store, number, new_key(), new_key())
    row = {
        "epoch": number,
        "phase": CURRENT,
        "source": master.source,
        "name": master.name,
        "wrapped": master.wrap(epoch.key),
        "checked": _check_value(epoch.key, store, number),
        "lookup": seal(epoch.key, epoch.lookup, "lookup", store, number),
    }
    connection.execute(insert(EPOCHS), row)
    return epoch


def open_epoch(row: Row[Any], store: str, masters: tuple[MasterKey, ...]) -> tuple[Epoch, MasterKey] | None:
    """Open an epoch with the master key that fits; None when none does."""
    for master in masters:
        held = (row.source == "command") == (master.source == "command")
        if not held or master.name != row.name:
            continue
        key = master.unwrap(row.wrapped)
        if key is not None and hmac.compare_digest(_check_value(key, store, row.epoch), row.checked):
            return Epoch(store, row.epoch, key, unseal(key, row.lookup, "lookup", store, row.epoch)), master
    return None


def live_epochs(connection: Connection) -> list[Row[Any]]:
    """Give the rows of all epochs under which a patient's key may be, the newest first."""
    asked = select(EPOCHS).where(EPOCHS.c.phase != RETIRED).order_by(EPOCHS.c.epoch.desc())
    return list(connection.execute(asked))


def no_master(place: str, phase: Literal["current", "old"] | str, number: int) -> InputError:
    """Say which master key is wanting."""
    if phase == OLD:
        return InputError(
            "The master key of {place} is being changed: give the old one of epoch {epoch} too until "
            "primum vault rotate has ended.",
            place=place,
            epoch=number,
        )
    return InputError(
        "This is not the master key of {place}: give the one of epoch {epoch}. Nothing was written.",
        place=place,
        epoch=number,
    )


def _check_value(key: bytes, store: str, number: int) -> str:
    # A device may answer anything: what it unwrapped is only used when this agrees.
    return keyed_digest(derived(key, "check"), f"{store} {number}".encode())
