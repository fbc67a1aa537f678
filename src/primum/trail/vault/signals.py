"""Signals: the few numbers of an outcome that watching needs, kept for a time of their own.

P-values of guards, sizes of prediction sets, quantised features of low risk, latencies. Those about a patient
are encrypted under their key; the others are kept as they are.
"""

import json
import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidTag
from sqlalchemy import delete, func, insert, select

from primum.errors import InputError
from primum.evidence.canonical import canonical_bytes
from primum.trail.entry import Entry
from primum.trail.vault.keys import PatientKeys
from primum.trail.vault.payloads import Vault
from primum.trail.vault.tables import SIGNALS

LARGEST = 4096
_BATCH = 1000


@dataclass(frozen=True)
class Signal:
    """One row of signals that was read.

    Attributes
    ----------
    signal : str
        Random, 32 hexadecimal digits; the trail names it.
    patient : str or None
        The patient's number in the trail, where it is personal.
    expires : datetime
    values : mapping of str to int, float, bool or str
    """

    signal: str
    patient: str | None
    expires: datetime
    values: Mapping[str, int | float | bool | str]


def put_signals(
    vault: Vault,
    values: Mapping[str, int | float | bool | str],
    *,
    expires: datetime,
    patient: PatientKeys | None = None,
) -> str:
    """Keep signals until a date; encrypted under the patient's key when it is given.

    Parameters
    ----------
    vault : Vault
    values : mapping of str to int, float, bool or str
        At most 4,096 bytes as JSON.
    expires : datetime
        With a time zone. From then on ``primum vault purge`` deletes them.
    patient : PatientKeys or None

    Returns
    -------
    str
        Random, 32 hexadecimal digits.

    Raises
    ------
    InputError
        They are too many, or the patient was forgotten meanwhile.
    """
    content, signal = canonical_bytes(dict(values)), secrets.token_hex(16)
    if len(content) > LARGEST or any(
        isinstance(one, float) and not math.isfinite(one) for one in values.values()
    ):
        raise InputError("Signals are finite numbers and short words, at most 4096 bytes: keep fewer.")
    seconds = int(expires.timestamp())
    box = content if patient is None else patient.seal(content, "signal", signal, seconds)
    number = patient.patient if patient else None
    with vault.database.writing(alone=False) as connection:
        if patient is not None:
            vault.claim(connection, patient.patient)
        row = {"signal": signal, "patient": number, "expires": seconds, "content": box}
        connection.execute(insert(SIGNALS), row)
    return signal


def read_signals(vault: Vault) -> Iterator[Signal]:
    """Read all signals, the oldest to expire first; those of forgotten patients are gone.

    Raises
    ------
    InputError
        A row is not what was put there.
    """
    after: tuple[int, str] = (-(2**62), "")
    while True:
        place = SIGNALS.c.expires, SIGNALS.c.signal
        asked = select(SIGNALS).where(
            (place[0] > after[0]) | ((place[0] == after[0]) & (place[1] > after[1]))
        )
        with vault.database.reading() as connection:
            rows = list(connection.execute(asked.order_by(*place).limit(_BATCH)))
        for row in rows:
            patient = vault.keys.by_number(row.patient) if row.patient else None
            if row.patient and patient is None:
                continue
            try:
                content = (
                    patient.unseal(row.content, "signal", row.signal, row.expires) if patient else row.content
                )
            except InvalidTag as error:
                raise InputError(
                    "The signals {signal} in {place} are not what was put there: give the vault back from "
                    "its copy.",
                    signal=row.signal,
                    place=vault.database.place,
                ) from error
            expires = datetime.fromtimestamp(row.expires, UTC)
            yield Signal(row.signal, row.patient, expires, json.loads(content))
        if len(rows) < _BATCH:
            return
        after = rows[-1].expires, rows[-1].signal


def purge_signals(vault: Vault, before: datetime, *, by: str) -> int:
    """Delete the signals that expired before a date, write it down, and return how many there were."""
    seconds, gone = int(before.timestamp()), 0
    old = select(SIGNALS.c.signal).where(SIGNALS.c.expires < seconds).limit(_BATCH)
    while True:
        with vault.database.writing(alone=False) as connection:
            deleted = connection.execute(delete(SIGNALS).where(SIGNALS.c.signal.in_(old))).rowcount
        gone += deleted
        if not deleted:
            break
    vault.database.wipe(SIGNALS, rebuild=False)
    date = before.astimezone(UTC).isoformat(timespec="seconds")
    vault.recorder.append(Entry("signals.purge", by, details={"before": date, "records": gone}))
    return gone


def count_signals(vault: Vault, *, now: datetime) -> tuple[int, int]:
    """Count the signals, and those among them whose date is past."""
    late = select(func.count()).select_from(SIGNALS).where(SIGNALS.c.expires < int(now.timestamp()))
    with vault.database.reading() as connection:
        everyone = connection.execute(select(func.count()).select_from(SIGNALS)).scalar_one()
        return int(everyone), int(connection.execute(late).scalar_one())
