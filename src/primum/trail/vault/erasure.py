"""Erasure: destroy the key of a patient, and what is left can be read by nobody.

The trail is told before the key goes and again when every trace is wiped, so that a crash between is seen.
What a crash left is finished by the next erasure or by :func:`finish_erasures`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from primum.trail.entry import Entry, Value
from primum.trail.vault.payloads import Vault
from primum.trail.vault.tables import PAYLOADS, SIGNALS


@dataclass(frozen=True)
class Erased:
    """What :func:`forget` did.

    Attributes
    ----------
    patients : int
        Whose key was destroyed, those of an interrupted erasure among them.
    payloads : int
        That were deleted, every version.
    resumed : int
        Of these patients, those whose key an interrupted erasure had destroyed.
    unknown : tuple of int
        Places, from 0, of the identifiers that have no key.
    """

    patients: int
    payloads: int
    resumed: int
    unknown: tuple[int, ...]


def forget(
    vault: Vault,
    identifiers: Sequence[str],
    *,
    by: str,
    basis: str | None = None,
    requested: str | None = None,
    numbers: bool = False,
) -> Erased:
    """Erase patients: destroy their keys, delete what they left, wipe the traces.

    Parameters
    ----------
    vault : Vault
    identifiers : sequence of str
        As they were given to :meth:`KeyStore.patient`.
    by : str
        Who erases, for the trail.
    basis, requested : str or None
        Why and when it was asked for, in a word each, for the trail.
    numbers : bool
        `identifiers` are the numbers that the trail calls them: after a backup was restored, erasures are
        carried out again without knowing whose they were.

    Raises
    ------
    InputError
        One is no identifier; nothing was erased.
    MachineError
        The traces cannot be wiped yet; the keys are gone, and repeating finishes the rest.
    """
    find = vault.keys.by_number if numbers else vault.keys.find
    found = [find(one) for one in identifiers]
    said: dict[str, Value] = {}
    said |= {"basis": basis} if basis else {}
    said |= {"requested": requested} if requested else {}
    destroyed = 0
    # Once each, however often they are listed.
    for one in {one.patient: one for one in found if one}.values():
        details = {**said, "phase": "asked", "epoch": one.epoch}
        details["payloads"] = len(vault.listed(one.patient))
        vault.recorder.append(Entry("erasure", by, patient=one.patient, details=details))
        destroyed += vault.keys.destroy(one.patient)
    patients, payloads = finish_erasures(vault, by=by)
    unknown = tuple(place for place, one in enumerate(found) if one is None)
    return Erased(patients, payloads, max(0, patients - destroyed), unknown)


def finish_erasures(vault: Vault, *, by: str) -> tuple[int, int]:
    """Do what is left of every erasure whose key is gone; return how many patients and payloads that were."""
    left = vault.keys.unfinished()
    if not left:
        return 0, 0
    gone = {patient: vault.erase(patient) for patient, _ in left}
    vault.keys.wipe()
    vault.database.wipe(PAYLOADS, SIGNALS, rebuild=False)
    for patient, epoch in left:
        details: dict[str, Value] = {"phase": "done", "epoch": epoch, "payloads": gone[patient]}
        vault.recorder.append(Entry("erasure", by, patient=patient, details=details))
        vault.keys.finish(patient)
    return len(left), sum(gone.values())
