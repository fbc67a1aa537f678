"""A file of patients, one id a line."""

import re
from pathlib import Path

import numpy as np

from primum.errors import RecordsError
from primum.records.fhir import subject_id_of
from primum.records.ragged import IntArray

_WHOLE = re.compile(r"-?\d{1,18}")
_MOST_BYTES = 1 << 28


def read_patients(path: Path) -> IntArray:
    """Read the subject ids of a text file, each once, in rising order.

    A whole number is itself, any other text the number that cases and FHIR records give it. Empty lines are
    no patients.

    Raises
    ------
    RecordsError
        There is no such file, it is no text, or it names nobody.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise RecordsError(
            "{file} is no text that can be read: give a file with the id of one patient a line.",
            file=str(path),
        ) from error
    named = [line.strip() for line in lines if line.strip()]
    if not named:
        raise RecordsError("{file} names nobody: write the id of one patient a line.", file=str(path))
    return np.unique([int(one) if _WHOLE.fullmatch(one) else subject_id_of(one) for one in named])
