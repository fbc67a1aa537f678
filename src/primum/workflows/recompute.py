"""``primum report recompute``: the findings again, from what was kept of each patient, without the model."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primum.errors import InputError
from primum.evidence.canonical import plain
from primum.evidence.claims import findings_of
from primum.evidence.documents import read_audit
from primum.evidence.finding import Finding
from primum.report.language import NOTHING
from primum.workflows.confidential import CONFIDENTIAL, read_measurements

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Difference:
    """Where ``findings.json`` and the recomputation disagree.

    Attributes
    ----------
    test : str
    key : str
        Path inside the finding, e.g. ``estimates[0].value``.
    kept, recomputed : str
        Both values, as JSON; a dash where there is none, dots for more than one.
    """

    test: str
    key: str
    kept: str
    recomputed: str


def recompute(directory: Path) -> tuple[int, tuple[Difference, ...]]:
    """Judge the kept numbers again and compare every finding, to 1e-9 of its size or absolutely.

    Returns
    -------
    tuple of int and tuple of Difference
        How many findings were compared, and the first difference of each that is not equal.

    Raises
    ------
    MachineError
        The confidential scores are not there.
    InputError
        A file cannot be read, or holds what no audit writes.
    """
    audit, _ = read_audit(directory)
    measurements = read_measurements(directory / CONFIDENTIAL)
    try:
        again = findings_of(measurements)
    except (ArithmeticError, LookupError, ValueError) as error:
        raise InputError(
            "{folder} holds numbers that no audit writes: take it from where the audit was written.",
            folder=CONFIDENTIAL,
        ) from error
    kept, found = _by_test(audit.findings), _by_test(again)
    differences = (
        next(_differences(one[0], kept.get(one), found.get(one), ""), None) for one in {**kept, **found}
    )
    return len(again), tuple(one for one in differences if one is not None)


def _by_test(findings: tuple[Finding, ...]) -> dict[tuple[str, int], Any]:
    """Give each finding in JSON values, by its test and how often that came before."""
    seen = Counter[str]()
    named: dict[tuple[str, int], Any] = {}
    for finding in findings:
        named[finding.test, seen[finding.test]] = plain(finding)
        seen[finding.test] += 1
    return named


def _differences(test: str, kept: Any, found: Any, key: str) -> Iterator[Difference]:
    if isinstance(kept, Mapping) and isinstance(found, Mapping) and kept.keys() == found.keys():
        for name in kept:
            yield from _differences(test, kept[name], found[name], f"{key}.{name}".lstrip("."))
    elif isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        for place, pair in enumerate(zip(kept, found, strict=True)):
            yield from _differences(test, *pair, f"{key}[{place}]")
    elif not _equal(kept, found):
        yield Difference(test, key, _written(kept), _written(found))


def _equal(kept: Any, found: Any) -> bool:
    if type(kept) in (int, float) and type(found) in (int, float):
        return math.isclose(kept, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(kept) is type(found) and kept == found


def _written(value: Any) -> str:
    return NOTHING if value is None else "…" if isinstance(value, dict | list) else json.dumps(value)
