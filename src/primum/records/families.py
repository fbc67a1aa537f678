"""What a code tells of a person: demographic or clinical, and which sensitive families it belongs to."""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from primum.errors import RecordsError

BIRTH_CODE = "MEDS_BIRTH"
DEMOGRAPHIC_PREFIXES = ("GENDER//", "SEX//", "SITE//", "RACE//", "ETHNICITY//")

BoolArray = NDArray[np.bool_]
Families = Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]]

_DEMOGRAPHIC = re.compile(r"(GENDER|SEX|SITE|RACE|ETHNICITY)/", re.IGNORECASE)
_SEPARATOR = re.compile(r"[/|:]+")
_ALIASES = {
    "ICD9": "ICD9CM",
    "ICD9CM": "ICD9CM",
    "ICD9PCS": "ICD9PROC",
    "ICD9PROC": "ICD9PROC",
    "ICD10": "ICD10",
    "ICD10CM": "ICD10",
    "ICD10GM": "ICD10",
    "ICD10PCS": "ICD10PCS",
    "ICD10PROC": "ICD10PCS",
    "CIM10": "ICD10",
    "CIM10FR": "ICD10",
    "CCAM": "CCAM",
    "ATC": "ATC",
    "SNOMED": "SNOMED",
    "SNOMEDCT": "SNOMED",
    "SCT": "SNOMED",
}
# A procedure of ICD-9-CM shares its digits with a diagnosis that has nothing to do with it.
_PROCEDURES = {"ICD9CM": "ICD9PROC", "ICD10": "ICD10PCS"}


def is_demographic(code: str) -> bool:
    """Tell whether `code` says who a person is rather than what happened to them.

    Examples
    --------
    >>> is_demographic("GENDER//F"), is_demographic("MEDS_BIRTH"), is_demographic("LAB//NA")
    (True, True, False)
    """
    return code == BIRTH_CODE or _DEMOGRAPHIC.match(code) is not None


def families_of(codes: tuple[str, ...], families: Families | None = None) -> dict[str, BoolArray]:
    """Tell which codes of a dictionary belong to each sensitive family.

    Parameters
    ----------
    codes : tuple of str
        MEDS codes that name their system, e.g. ``DIAGNOSIS//ICD9CM//042``, ``DIAGNOSIS//ICD//10//B20`` or
        ``ICD10CM/F10.2``. A code whose system is not known belongs to no family.
    families : Families or None
        What :func:`read_families` gives; None means every family of ``sensitive_families.toml``, which also
        holds the sources.

    Returns
    -------
    dict of str to bool, shape (codes,)

    Examples
    --------
    >>> found = families_of(("DIAGNOSIS//ICD10CM//B20", "PROCEDURE//ICD9CM//0421"))
    >>> found["hiv"].tolist()
    [True, False]
    """
    read = [_system_and_code(code) for code in codes]
    return {
        name: np.array([pair is not None and _matches(pair, systems) for pair in read], np.bool_)
        for name, systems in (built_in() if families is None else families).items()
    }


@cache
def built_in() -> Families:
    """Return the families of ``sensitive_families.toml``; a prefix is the range from itself to itself."""
    text = files("primum.records").joinpath("sensitive_families.toml").read_text(encoding="utf-8")
    return _parsed(tomllib.loads(text))


def read_families(path: Path) -> Families:
    """Add the families of a TOML file of the same form to the built-in ones; a name again replaces one.

    Raises
    ------
    RecordsError
        The file cannot be read, is not TOML, or is not of that form.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        for systems in content.values():
            for system, entries in systems.items():
                if system not in _ALIASES.values() or not all(isinstance(e, str) and e for e in entries):
                    raise ValueError(system)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise RecordsError(
            '{path} is not a file of code families: write [name], then {systems} = ["prefix", "from-to"].',
            path=str(path),
            systems=" | ".join(sorted(set(_ALIASES.values()))),
        ) from error
    return {**built_in(), **_parsed(content)}


def _parsed(content: Mapping[str, Mapping[str, list[str]]]) -> Families:
    return {
        family: {
            system: tuple((entry.partition("-")[0], entry.rpartition("-")[2]) for entry in entries)
            for system, entries in systems.items()
        }
        for family, systems in content.items()
    }


def _system_and_code(code: str) -> tuple[str, str] | None:
    parts = _SEPARATOR.split(code)
    names = [re.sub(r"[^A-Z0-9]", "", part.upper()) for part in parts]
    for place in range(len(parts) - 1):
        step = 2 if names[place] in {"ICD", "CIM"} else 1
        system = _ALIASES.get("".join(names[place : place + step]))
        if system and place + step < len(parts):
            if any(name.startswith("PROC") for name in names[:place]):
                system = _PROCEDURES.get(system, system)
            return system, names[place + step]
    return None


def _matches(pair: tuple[str, str], systems: Mapping[str, tuple[tuple[str, str], ...]]) -> bool:
    system, code = pair
    ranges = systems.get(system, ())
    if (
        system == "SNOMED"
    ):  # its digits carry no hierarchy: the beginning of a number is another concept, or none
        return (code, code) in ranges
    return any(low <= code[: len(low)] <= high for low, high in ranges)
