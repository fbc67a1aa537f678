"""Which model answers a patient: one small file says what is served, and a keyed hash who is of the canary.

A patient is of the canary when the hash of their random number, a number between 0 and 1 that nobody can
foretell without the key, lies below the share. So the same patient always meets the same model, those who met
the canary still do when the share is raised, and who they are depends on nothing that is known of them. The
canary's digest is hashed too: another canary gets other patients.

The file is replaced as a whole, and looked at before every answer: what is written holds for the next request
and after a restart. A file that is missing or cannot be read serves nobody.
"""

import hmac
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from primum.errors import InputError, clean_text
from primum.evidence.canonical import canonical_bytes
from primum.evidence.documents import Misfit, decode, load_object
from primum.release.outcomes import Arm
from primum.release.shelf import write_durably

SCHEMA: Final = "1.0"
FEWEST_KEY_BYTES: Final = 32
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
# A file that was younger than this when it was read may have been replaced within one tick of its clock.
_SETTLED_NS: Final = 1_000_000_000


@dataclass(frozen=True)
class Serving:
    """What is served.

    Attributes
    ----------
    schema : str
    live : str or None
        Digest of the model that answers; None: nothing is served.
    canary : str or None
        Digest of the model that answers a share of the patients instead.
    share : float
        Of the patients that are the canary's, between 0 and 1; 0 without a canary.
    shadow : str or None
        Digest of the model that is asked beside and whose answers nobody sees.
    rolled_back : str or None
        Digest of the last model that was rolled back: it is no canary and not live.

    Raises
    ------
    InputError
        The fields contradict each other; names one.
    """

    schema: str = SCHEMA
    live: str | None = None
    canary: str | None = None
    share: float = 0.0
    shadow: str | None = None
    rolled_back: str | None = None

    def __post_init__(self) -> None:
        digests = {
            name: digest is None or bool(_DIGEST.fullmatch(digest))
            for name, digest in (
                ("live", self.live),
                ("canary", self.canary),
                ("shadow", self.shadow),
                ("rolled_back", self.rolled_back),
            )
        }
        for name, right in {
            "schema": self.schema == SCHEMA,
            **digests,
            "share": 0 <= self.share <= 1 and (self.canary is not None or self.share == 0),
            "canary ": self.canary is None or (self.live is not None and self.canary != self.live),
            "rolled_back ": self.rolled_back is None or self.rolled_back not in (self.live, self.canary),
        }.items():
            if not right:
                raise InputError(
                    "What is served contradicts itself ({key}): a canary needs another live model, a share "
                    "between 0 and 1 needs a canary, and a model that was rolled back does not answer.",
                    key=name.strip(),
                )

    def without_canary(self) -> "Serving":
        """Roll back: all patients are the live model's. Without a canary nothing changes."""
        if self.canary is None:
            return self
        return replace(self, canary=None, share=0.0, rolled_back=self.canary)

    def write(self, path: Path) -> None:
        """Replace `path` as a whole, durably: whoever reads it sees the old content or the new.

        Raises
        ------
        MachineError
            The file cannot be written; the old content is still there.
        """
        write_durably(path, canonical_bytes(self))

    @classmethod
    def read(cls, path: Path) -> "Serving":
        """Read what is served.

        Raises
        ------
        InputError
            The file is missing, is not such a document, or contradicts itself; names it.
        """
        try:
            served: Serving = decode(cls, load_object(path))
        except Misfit as error:
            raise InputError(
                "{file}: {key} is missing, unknown or of the wrong type: write what is served again.",
                file=clean_text(path),
                key=clean_text(error),
            ) from error
        return served


class ServingFile:
    """What is served now: read again when the file was replaced, which one look at its name tells.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[tuple[int, int, int, int], Serving] | None = None

    def now(self) -> Serving:
        """Return what is served at this moment.

        Raises
        ------
        InputError
            As :meth:`Serving.read`.
        """
        try:
            seen = os.stat(self._path)
        except OSError:
            return Serving.read(self._path)
        mark = (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino, seen.st_size)
        if self._known is not None and self._known[0] == mark:
            return self._known[1]
        served = Serving.read(self._path)
        # The mark is older than the content: a replacement between the two is read at the next request.
        settled = time.time_ns() - max(seen.st_mtime_ns, seen.st_ctime_ns) > _SETTLED_NS
        self._known = (mark, served) if settled else None
        return served


def place(patient: bytes, *, canary: str, key: bytes) -> float:
    """Return where a patient lies between 0 and 1; those below the share are the canary's.

    Parameters
    ----------
    patient : bytes
        The patient's random number.
    canary : str
        Digest of the canary.
    key : bytes
        The routing key, at least 32 bytes.

    Raises
    ------
    InputError
        The key is too short.

    Examples
    --------
    >>> round(place(b"a patient", canary="22" * 32, key=b"k" * 32), 3)
    0.505
    """
    if len(key) < FEWEST_KEY_BYTES:
        raise InputError("The routing key has fewer than {bytes} bytes: make one.", bytes=FEWEST_KEY_BYTES)
    hashed = hmac.digest(key, b"primum canary\0" + canary.encode() + b"\0" + patient, "sha256")
    # 53 bits: every such number is a double, and none of them is 1.
    return float((int.from_bytes(hashed[:8], "big") >> 11) / 2**53)


def route(serving: Serving, patient: bytes, *, key: bytes) -> Arm:
    """Say which model answers a patient.

    Parameters
    ----------
    serving : Serving
    patient, key : bytes
        As :func:`place`.

    Returns
    -------
    {"live", "canary"}

    Raises
    ------
    InputError
        Nothing is served, or the key is too short.
    """
    if serving.live is None:
        raise InputError("No model is live: release one before patients are served.")
    if serving.canary is None:
        return "live"
    return "canary" if place(patient, canary=serving.canary, key=key) < serving.share else "live"
