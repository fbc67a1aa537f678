"""Who the patients of cases are: sex, age, site, device, skin type, classes, how many cases."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.errors import RecordsError
from primum.records.attributes import UNKNOWN, PatientTable, small_cells, subgroups
from primum.records.cases import ATTRIBUTES, Cases
from primum.records.families import BoolArray
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

# Groups that fewer patients than this have are not named.
FEWEST_NAMED = 5
# A class is rare that at most so many other training patients have, as codes of a history are.
RARE = 5
_TEXTS = tuple(name for name in ATTRIBUTES if name not in ("age", "date"))
TEXT_GROUPS = ("device", "skin_type", "ethnicity")


@dataclass(frozen=True, eq=False)
class CaseTable:
    """One row a patient, by rising subject id.

    Attributes
    ----------
    patients : PatientTable
        As of histories: `events` is the number of cases, `families` is empty, age that at the last case.
        :func:`primum.records.attributes.strata` makes strata of it.
    groups : mapping of str to str, shape (n,)
        Of :data:`TEXT_GROUPS`, those that are known; "?" where a patient's is not.
    classes : tuple of str
    holds : bool, shape (n, classes)
        Who has a case of each class.
    position : int64, shape (cases,)
        Row of the patient of each case, in reading order.
    """

    patients: PatientTable
    groups: Mapping[str, NDArray[np.str_]]
    classes: tuple[str, ...]
    holds: BoolArray
    position: IntArray

    def __len__(self) -> int:
        return len(self.patients)


def describe_cases(shards: Iterable[Cases], *, classes: tuple[str, ...]) -> CaseTable:
    """Describe the patients of all shards; inputs are not kept, and a patient may be in several shards.

    Of a text that differs between a patient's cases the first known one counts; such a sex is unknown.

    Raises
    ------
    RecordsError
        There are no cases.
    """
    seen = [(one.subject_ids, one.labels, _texts(one), _numbers(one)) for one in shards]
    if not seen or not sum(len(one[0]) for one in seen):
        raise RecordsError("There is no patient to describe: the records are empty.")
    subjects, labels = (np.concatenate([one[part] for one in seen]) for part in (0, 1))
    names = [name for name in _TEXTS if any(name in one[2] for one in seen)]
    texts = {
        name: np.concatenate([one[2].get(name, np.full(len(one[0]), UNKNOWN)) for one in seen])
        for name in names
    }
    age, day = (np.concatenate([one[3][part] for one in seen]) for part in (0, 1))
    ids, position = np.unique(subjects, return_inverse=True)
    known = dict.fromkeys(_TEXTS, np.full(len(ids), UNKNOWN))
    known |= {name: _first(values, position, len(ids)) for name, values in texts.items()}
    both = np.zeros(len(ids), np.bool_)
    if "sex" in texts:
        differs = (texts["sex"] != UNKNOWN) & (texts["sex"] != known["sex"][position])
        both[position[differs]] = True
    first, last = -_greatest(-day, position, len(ids)), _greatest(day, position, len(ids))
    holds = np.zeros((len(ids), len(classes)), np.bool_)
    holds[position, labels] = True
    table = PatientTable(
        ids,
        np.where(both, UNKNOWN, known["sex"]),
        _greatest(age, position, len(ids)),
        known["site"],
        np.bincount(position).astype(np.int64),
        last - first,
        first,
        last,
        {},
    )
    groups = {name: known[name] for name in TEXT_GROUPS if (known[name] != UNKNOWN).any()}
    return CaseTable(table, groups, classes, holds, position)


def case_subgroups(table: CaseTable, is_member: BoolArray) -> dict[str, BoolArray]:
    """Name the subgroups of at least five patients: who may be more exposed than the average patient.

    Parameters
    ----------
    table : CaseTable
        Members and held-out patients together.
    is_member : bool, shape (n,)

    Returns
    -------
    dict of str to bool, shape (n,)
        ``sex=F``, ``age=60-79``, ``oldest``, ``site=A``, ``device=B``, ``skin_type=V``, ``ethnicity=C``,
        ``class=D``, and ``rare``: has a class that at most five *other* members have; ``small-cell``: see
        :func:`primum.records.attributes.small_cells`. What is unknown is no group.
    """
    others = table.holds[is_member].sum(axis=0) - (table.holds & is_member[:, None])
    rare = (table.holds & (others <= RARE)).any(axis=1)
    described = (table.patients.sex != UNKNOWN) | ~np.isnan(table.patients.age)
    described |= table.patients.site != UNKNOWN
    alone = small_cells(table.patients, is_member) & described
    groups = subgroups(table.patients, rare=rare, small_cell=alone)
    for name, values in table.groups.items():
        groups |= {f"{name}={value}": values == value for value in np.unique(values) if value != UNKNOWN}
    groups |= {f"class={name}": table.holds[:, column] for column, name in enumerate(table.classes)}
    return {str(name): group for name, group in groups.items() if group.sum() >= FEWEST_NAMED}


def _texts(cases: Cases) -> dict[str, NDArray[np.str_]]:
    """Text attributes of each case, "?" where not known."""
    found = {name: np.asarray(cases.attributes[name], np.str_) for name in _TEXTS if name in cases.attributes}
    return {name: np.where(values == "", UNKNOWN, values) for name, values in found.items()}


def _numbers(cases: Cases) -> tuple[FloatArray, FloatArray]:
    """Age and day of each case, NaN where not known."""
    age = np.asarray(cases.attributes.get("age", np.full(len(cases), np.nan)), np.float64)
    return age, days_of(cases.attributes.get("date"), len(cases))


def days_of(dates: NDArray[Any] | None, count: int) -> FloatArray:
    """Return days since 1970-01-01, NaN where there is no date, shape (count,)."""
    if dates is None:
        return np.full(count, np.nan)
    days = dates.astype("datetime64[D]")
    return np.where(np.isnat(days), np.nan, days.astype(np.int64))


def _first(values: NDArray[np.str_], position: IntArray, count: int) -> NDArray[np.str_]:
    """First known value of each patient."""
    rows = np.flatnonzero(values != UNKNOWN)[::-1]
    found = np.full(count, UNKNOWN, np.result_type(values.dtype, "<U1"))
    found[position[rows]] = values[rows]
    return found


def _greatest(values: FloatArray, position: IntArray, count: int) -> FloatArray:
    """Greatest known value of each patient, NaN without any."""
    found = np.full(count, np.nan)
    np.fmax.at(found, position, values)
    return found
