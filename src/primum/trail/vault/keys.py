"""The key store: one key a patient, found by who they are, gone when they are forgotten."""

import secrets
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, Row, and_, delete, func, insert, or_, select

from primum.errors import InputError
from primum.trail.vault.database import VERSION, Database
from primum.trail.vault.epochs import CURRENT, Epoch, begin_epoch, live_epochs, no_master, open_epoch
from primum.trail.vault.masters import MasterKey
from primum.trail.vault.sealing import derived, keyed_digest, new_key, padded, seal, unseal
from primum.trail.vault.tables import EPOCHS, ERASURES, KEY_STORE, KEY_TABLES, PATIENTS

_LONGEST = 256


@dataclass(frozen=True)
class PatientKeys:
    """What can be done with the key of one patient.

    Attributes
    ----------
    patient : str
        Random, 32 hexadecimal digits: what the trail calls them. Only the key store tells whose it is.
    epoch : int
        Under which their key was wrapped when it was read.
    """

    patient: str
    epoch: int
    _key: bytes = field(repr=False)

    def commitment(self, data: bytes, purpose: str) -> str:
        """Commit to data without showing it: HMAC-SHA256 under this patient's key, 64 hexadecimal digits.

        With the key, equal data can be recognised; once it is destroyed, not even a guess can be tried.
        """
        return keyed_digest(derived(self._key, f"commitment {purpose}"), data)

    def seal(self, content: bytes, *place: str | int) -> bytes:
        """Encrypt what only this patient's key opens, and only at this place."""
        return seal(derived(self._key, "payload"), content, *place, self.patient)

    def unseal(self, box: bytes, *place: str | int) -> bytes:
        """Decrypt it.

        Raises
        ------
        cryptography.exceptions.InvalidTag
            It is altered, another patient's, or was put at another place.
        """
        return unseal(derived(self._key, "payload"), box, *place, self.patient)


class KeyStore:
    """The keys of all patients, in a database apart from what they encrypt.

    Any number of processes may have it open. Keys in memory are those of the epochs that were needed.

    Parameters
    ----------
    url : str
        See :class:`primum.trail.vault.database.Database`.
    *masters : MasterKey
        That of the current epoch; while it is being changed, the old one too.

    Raises
    ------
    InputError
        There is no key store, or none of the master keys is one of its.
    """

    def __init__(self, url: str, *masters: MasterKey) -> None:
        self.database = Database(url)
        self.masters = masters
        self.store = ""
        self._opened: dict[str, tuple[Epoch, MasterKey]] = {}
        with self.database.opening():
            self._read()

    @classmethod
    def create(cls, url: str, master: MasterKey) -> Self:
        """Make a key store under a master key, and open it.

        Raises
        ------
        InputError
            There is one already.
        """
        database, store = Database(url), secrets.token_hex(16)
        database.create_file()
        with database.opening(), database.writing() as connection:
            # Not asked before: two may be making it at once.
            database.create(KEY_TABLES, connection)
            if connection.execute(select(func.count()).select_from(KEY_STORE)).scalar_one():
                raise InputError(
                    "There is a key store at {place} already: give another place.", place=database.place
                )
            connection.execute(insert(KEY_STORE), {"store": store, "version": VERSION})
            begin_epoch(connection, store, 1, master)
        database.close()
        return cls(url, master)

    def patient(self, identifier: str) -> PatientKeys:
        """Give the key of a patient, and make it if there is none.

        Parameters
        ----------
        identifier : str
            As the hospital writes it; spaces at its ends do not count.

        Raises
        ------
        InputError
            It is no identifier, or a master key is wanting.
        """
        identifier = checked(identifier)
        if found := self.find(identifier):
            return found
        with self.database.writing() as connection:
            epochs = live_epochs(connection)
            # Looked up again, now that nobody else can be making it.
            if row := self._row(connection, epochs, identifier):
                return self._keys(row, epochs)
            epoch, key = self.epoch(epochs[0]), new_key()
            patient = secrets.token_hex(16)
            row_of = {
                "patient": patient,
                "epoch": epoch.number,
                "lookup": epoch.lookup_of(identifier),
                "wrapped": epoch.wrap(key, patient),
                "identity": seal(derived(key, "identity"), padded(identifier), "identity", patient),
            }
            connection.execute(insert(PATIENTS), row_of)
        return PatientKeys(patient, epoch.number, key)

    def find(self, identifier: str) -> PatientKeys | None:
        """Give the key of a patient; None when there is none."""
        identifier = checked(identifier)
        with self.database.reading() as connection:
            epochs = live_epochs(connection)
            row = self._row(connection, epochs, identifier)
        return self._keys(row, epochs) if row else None

    def by_number(self, patient: str) -> PatientKeys | None:
        """Give the key of the patient whom the trail calls so; None when it is destroyed or never was."""
        with self.database.reading() as connection:
            epochs = live_epochs(connection)
            row = connection.execute(select(PATIENTS).where(PATIENTS.c.patient == patient)).one_or_none()
        return self._keys(row, epochs) if row else None

    def destroy(self, patient: str) -> bool:
        """Delete a patient's key and note that their erasure is to be finished; say whether there was one."""
        with self.database.writing() as connection:
            epoch = connection.execute(
                select(PATIENTS.c.epoch).where(PATIENTS.c.patient == patient)
            ).scalar_one_or_none()
            if epoch is None:
                return False
            connection.execute(insert(ERASURES), {"patient": patient, "epoch": epoch})
            connection.execute(delete(PATIENTS).where(PATIENTS.c.patient == patient))
        return True

    def unfinished(self) -> list[tuple[str, int]]:
        """Give the patients whose key is gone and whose erasure is to be finished, and its epoch."""
        with self.database.reading() as connection:
            return [(row.patient, row.epoch) for row in connection.execute(select(ERASURES))]

    def finish(self, patient: str) -> None:
        """Note that the erasure of a patient is finished."""
        with self.database.writing() as connection:
            connection.execute(delete(ERASURES).where(ERASURES.c.patient == patient))

    def counts(self) -> tuple[int, dict[int, str], dict[int, int]]:
        """Give the current epoch, the phase of each epoch, and how many keys each wraps."""
        with self.database.reading() as connection:
            phases = {row.epoch: row.phase for row in connection.execute(select(EPOCHS))}
            asked = select(PATIENTS.c.epoch, func.count()).group_by(PATIENTS.c.epoch)
            keys = {number: int(count) for number, count in connection.execute(asked)}
        return next(number for number, phase in phases.items() if phase == CURRENT), phases, keys

    def in_device(self) -> bool:
        """Say whether the master key of the current epoch is in a device, of which nobody has a copy."""
        with self.database.reading() as connection:
            return bool(live_epochs(connection)[0].source == "command")

    def wipe(self) -> None:
        """Leave no trace of deleted keys in the files."""
        self.database.wipe(PATIENTS, EPOCHS, rebuild=True)

    def epoch(self, row: Row[Any]) -> Epoch:
        """Open the epoch of a row.

        Raises
        ------
        InputError
            Its master key was not given.
        """
        opened = self._open(row)
        if opened is None:
            raise no_master(self.database.place, row.phase, row.epoch)
        return opened[0]

    def close(self) -> None:
        """Let go of every connection."""
        self.database.close()

    def learn(self, master: MasterKey) -> None:
        """Take one more master key into use."""
        self.masters = (*self.masters, master)

    def altered(self) -> InputError:
        """Say that a row of the key store is not what was written."""
        return InputError(
            "A key in {place} was altered: give the key store back from its copy.", place=self.database.place
        )

    def _read(self) -> None:
        if not self.database.has(KEY_STORE):
            raise InputError(
                "There is no key store at {place}: make one with primum vault create.",
                place=self.database.place,
            )
        with self.database.reading() as connection:
            row = connection.execute(select(KEY_STORE)).one()
            epochs = live_epochs(connection)
        self.store = row.store
        if row.version != VERSION:
            raise InputError(
                "The key store at {place} was written by another version of Primum: use that one.",
                place=self.database.place,
            )
        if not any(self._open(one) for one in epochs):
            raise no_master(self.database.place, CURRENT, epochs[0].epoch)

    def _open(self, row: Row[Any]) -> tuple[Epoch, MasterKey] | None:
        if row.checked not in self._opened and (opened := open_epoch(row, self.store, self.masters)):
            self._opened[row.checked] = opened
        return self._opened.get(row.checked)

    def _row(self, connection: Connection, epochs: list[Row[Any]], identifier: str) -> Row[Any] | None:
        opened = [found[0] for one in epochs if (found := self._open(one))]
        wanted = [
            and_(PATIENTS.c.epoch == one.number, PATIENTS.c.lookup == one.lookup_of(identifier))
            for one in opened
        ]
        row = connection.execute(select(PATIENTS).where(or_(*wanted))).one_or_none() if wanted else None
        if row is None and len(opened) < len(epochs):
            # They may be under the epoch that could not be opened: neither absent nor to be made.
            for one in epochs:
                self.epoch(one)
        return row

    def _keys(self, row: Row[Any], epochs: list[Row[Any]]) -> PatientKeys:
        epoch = self.epoch(next(one for one in epochs if one.epoch == row.epoch))
        try:
            return PatientKeys(row.patient, row.epoch, epoch.unwrap(row.wrapped, row.patient))
        except InvalidTag as error:
            raise self.altered() from error


def checked(identifier: str) -> str:
    r"""Give an identifier in the one form in which it is looked up.

    Raises
    ------
    InputError
        It is empty, too long or holds characters that cannot be seen; the sentence does not say it.

    Examples
    --------
    >>> checked(" 185057800608436\n")
    '185057800608436'
    """
    same = unicodedata.normalize("NFC", identifier.strip())
    if not 0 < len(same) <= _LONGEST or any(unicodedata.category(one).startswith("C") for one in same):
        raise InputError(
            "A patient identifier is a line of 1 to 256 visible characters: one that was given is not."
        )
    return same
