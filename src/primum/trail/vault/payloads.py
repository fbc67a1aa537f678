"""The vault: images, records and explanations, each encrypted under the key of whom it is about."""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, Row, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from primum.errors import InputError
from primum.trail.entry import Entry, Recorder, Value
from primum.trail.vault.database import VERSION, Database
from primum.trail.vault.keys import KeyStore, PatientKeys
from primum.trail.vault.tables import OWNERS, PAYLOAD_TABLES, PAYLOADS, SIGNALS, VAULT

LARGEST: Final = 256 << 20
_KIND: Final = re.compile(r"[a-z][a-z0-9_.]{0,31}")


@dataclass(frozen=True)
class Stored:
    """Where a payload is.

    Attributes
    ----------
    payload : str
        Random, 32 hexadecimal digits; the same for all versions.
    version : int
        From 1; a correction is the next one.
    kind : str
        ``image``, ``record``, ``explanation``, …
    """

    payload: str
    version: int
    kind: str


@dataclass(frozen=True)
class Payload:
    """A payload that was read.

    Attributes
    ----------
    stored : Stored
    content : bytes
    """

    stored: Stored
    content: bytes = field(repr=False)


class Vault:
    """The payloads, in a database apart from the keys; any number of processes may have it open.

    Parameters
    ----------
    url : str
        See :class:`primum.trail.vault.database.Database`.
    keys : KeyStore
    recorder : Recorder
        Where every access is written before anything is shown.
    largest : int
        Bytes that one payload may have.

    Raises
    ------
    InputError
        There is no vault, or it belongs to other keys.
    """

    def __init__(self, url: str, keys: KeyStore, recorder: Recorder, *, largest: int = LARGEST) -> None:
        self.database = Database(url)
        self.keys, self.recorder, self._largest = keys, recorder, largest
        with self.database.opening():
            self._read()

    @classmethod
    def create(cls, url: str, keys: KeyStore, recorder: Recorder) -> Self:
        """Make a vault for the keys of a store, and open it.

        Raises
        ------
        InputError
            There is one already, or the file is the key store's.
        """
        database = Database(url)
        if database.is_sqlite and Path(database.place).resolve() == Path(keys.database.place).resolve():
            raise InputError(
                "{place} is the key store: give the vault another file, which is backed up elsewhere.",
                place=database.place,
            )
        database.create_file()
        with database.opening(), database.writing() as connection:
            database.create(PAYLOAD_TABLES, connection)
            if connection.execute(select(func.count()).select_from(VAULT)).scalar_one():
                raise InputError(
                    "There is a vault at {place} already: give another place.", place=database.place
                )
            connection.execute(insert(VAULT), {"store": keys.store, "version": VERSION})
        database.close()
        return cls(url, keys, recorder)

    def put(self, patient: PatientKeys, kind: str, content: bytes, *, corrects: str | None = None) -> Stored:
        """Encrypt a payload and keep it.

        Parameters
        ----------
        patient : PatientKeys
            From :meth:`KeyStore.patient`.
        kind : str
            What it is, in small letters: image, record, explanation.
        content : bytes
        corrects : str or None
            The payload of which this is the next version; the versions before stay.

        Raises
        ------
        InputError
            It is too large, the patient was forgotten meanwhile, or there is nothing of theirs to correct.
        """
        if not _KIND.fullmatch(kind):
            raise InputError("The kind of a payload is one word in small letters, like image or record.")
        if len(content) > self._largest:
            raise InputError(
                "A payload has at most {largest} MiB, this one {size}: keep it in parts.",
                largest=self._largest >> 20,
                size=-(-len(content) >> 20),
            )
        with self.database.writing(alone=False) as connection:
            self.claim(connection, patient.patient)
            stored = self._place(connection, patient, kind, corrects)
            box = patient.seal(content, *_place_of(stored))
            row = {**vars(stored), "patient": patient.patient, "box": box}
            connection.execute(insert(PAYLOADS), row)
        return stored

    def get(
        self,
        payload: str,
        *,
        by: str,
        purpose: str,
        version: int | None = None,
        on_behalf_of: str | None = None,
    ) -> Payload:
        """Write down who reads a payload, then decrypt it; by default its last version.

        Raises
        ------
        InputError
            There is none, its patient was forgotten, or it is not what was put there.
        """
        with self.database.reading() as connection:
            asked = select(PAYLOADS).where(PAYLOADS.c.payload == payload)
            if version is not None:
                asked = asked.where(PAYLOADS.c.version == version)
            row = connection.execute(asked.order_by(PAYLOADS.c.version.desc()).limit(1)).one_or_none()
        patient = None if row is None else self.keys.by_number(row.patient)
        if row is None or patient is None:
            raise InputError(
                "There is no such payload in {place}, or its patient was forgotten.",
                place=self.database.place,
            )
        said = {"payload": row.payload, "version": row.version, "purpose": purpose, "records": 1}
        self.recorder.append(
            Entry("access", by, patient=row.patient, on_behalf_of=on_behalf_of, details=said)
        )
        return self._opened(row, patient)

    def listed(self, patient: str) -> list[Stored]:
        """Give the payloads of a patient, by the number that the trail calls them."""
        columns = (PAYLOADS.c.payload, PAYLOADS.c.version, PAYLOADS.c.kind)
        asked = select(*columns).where(PAYLOADS.c.patient == patient).order_by(*columns[:2])
        with self.database.reading() as connection:
            return [Stored(row.payload, row.version, row.kind) for row in connection.execute(asked)]

    def export(self, patient: PatientKeys, *, by: str, purpose: str) -> Iterator[Payload]:
        """Write down that the key of a patient is used for an export, then decrypt all that is theirs."""
        held = self.listed(patient.patient)
        used: dict[str, Value] = {"purpose": purpose, "epoch": patient.epoch}
        self.recorder.append(Entry("key.use", by, patient=patient.patient, details=used))
        seen: dict[str, Value] = {"purpose": purpose, "records": len(held)}
        self.recorder.append(Entry("access", by, patient=patient.patient, details=seen))
        return self._each(held, patient)

    def erase(self, patient: str) -> int:
        """Delete what a patient left, whose number takes nothing from now on; return how many payloads."""
        with self.database.writing(alone=False) as connection:
            self._lock(connection, patient)
            connection.execute(OWNERS.update().where(OWNERS.c.patient == patient).values(forgotten=True))
            gone = connection.execute(delete(PAYLOADS).where(PAYLOADS.c.patient == patient)).rowcount
            connection.execute(delete(SIGNALS).where(SIGNALS.c.patient == patient))
        return gone

    def count(self) -> int:
        """Count the payloads, every version."""
        with self.database.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(PAYLOADS)).scalar_one())

    def close(self) -> None:
        """Let go of every connection; the key store and the trail stay open."""
        self.database.close()

    def claim(self, connection: Connection, patient: str) -> None:
        """Be the only one to write for a patient until the transaction ends.

        Raises
        ------
        InputError
            The patient was forgotten.
        """
        if self._lock(connection, patient):
            raise InputError("The patient was forgotten meanwhile: nothing was kept.")

    def _read(self) -> None:
        if not self.database.has(VAULT):
            raise InputError(
                "There is no vault at {place}: make one with primum vault create.", place=self.database.place
            )
        with self.database.reading() as connection:
            row = connection.execute(select(VAULT)).one()
        if (row.store, row.version) != (self.keys.store, VERSION):
            raise InputError(
                "The vault at {place} does not belong to the key store at {keys}: give the two that were "
                "made together.",
                place=self.database.place,
                keys=self.keys.database.place,
            )

    def _lock(self, connection: Connection, patient: str) -> bool:
        """Be the only one to write for a patient until the end; say whether they are forgotten."""
        dialect = sqlite if self.database.is_sqlite else postgresql
        row = {"patient": patient, "forgotten": False}
        connection.execute(dialect.insert(OWNERS).values(row).on_conflict_do_nothing())
        asked = select(OWNERS.c.forgotten).where(OWNERS.c.patient == patient).with_for_update()
        return bool(connection.execute(asked).scalar_one())

    def _place(self, connection: Connection, patient: PatientKeys, kind: str, corrects: str | None) -> Stored:
        if corrects is None:
            return Stored(secrets.token_hex(16), 1, kind)
        asked = select(func.max(PAYLOADS.c.version)).where(
            PAYLOADS.c.payload == corrects,
            PAYLOADS.c.patient == patient.patient,
            PAYLOADS.c.kind == kind,
        )
        last = connection.execute(asked).scalar_one()
        if last is None:
            raise InputError(
                "There is no payload of this kind and patient in {place} to correct.",
                place=self.database.place,
            )
        return Stored(corrects, last + 1, kind)

    def _each(self, held: list[Stored], patient: PatientKeys) -> Iterator[Payload]:
        for one in held:
            asked = select(PAYLOADS).where(
                PAYLOADS.c.payload == one.payload, PAYLOADS.c.version == one.version
            )
            with self.database.reading() as connection:
                row = connection.execute(asked).one_or_none()
            if row is None:
                raise InputError(
                    "There is no such payload in {place}, or its patient was forgotten.",
                    place=self.database.place,
                )
            yield self._opened(row, patient)

    def _opened(self, row: Row[Any], patient: PatientKeys) -> Payload:
        stored = Stored(row.payload, row.version, row.kind)
        try:
            return Payload(stored, patient.unseal(row.box, *_place_of(stored)))
        except InvalidTag as error:
            raise InputError(
                "Version {version} of the payload {payload} in {place} is not what was put there: give the "
                "vault back from its copy.",
                version=row.version,
                payload=row.payload,
                place=self.database.place,
            ) from error


def _place_of(stored: Stored) -> tuple[str, str, int, str]:
    return ("payload", stored.payload, stored.version, stored.kind)
