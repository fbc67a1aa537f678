"""Who the patients are: sex, age, site, length, sensitive families, rare codes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from primum.errors import RecordsError
from primum.records.families import BIRTH_CODE, BoolArray, Families, families_of, is_demographic
from primum.records.histories import FloatArray, Histories, Records
from primum.records.ragged import IntArray

UNKNOWN = "?"
_AGE_BANDS = ((0, 18), (18, 40), (40, 60), (60, 80), (80, None))
_SEX = re.compile(r"(?:GENDER|SEX)/+(F|M)(?:EMALE|ALE)?", re.IGNORECASE)
_SITE = re.compile(r"SITE/+(.+)", re.IGNORECASE | re.DOTALL)
_DAYS_A_YEAR = 365.25
# De-identified records move the birth of people over 89 back by centuries (45 CFR 164.514(b)(2)(i)(C)).
_OLDEST, _OVER_89 = 120.0, 90.0


@dataclass(frozen=True, eq=False)
class PatientTable:
    """One row a patient, in the order of the histories described.

    Attributes
    ----------
    subject_ids : int64, shape (n,)
    sex : str, shape (n,)
        ``"F"``, ``"M"`` or ``"?"`` (not recorded, or recorded as both).
    age : float64, shape (n,)
        Years at the last event; NaN where birth or last event has no time.
    site : str, shape (n,)
        ``"?"`` where there is none.
    events : int64, shape (n,)
        Events that are not demographic.
    span_days, first_day, last_day : float64, shape (n,)
        Days between the first and the last timed event; days since 1970-01-01; NaN where no event has a time.
    families : mapping of str to bool, shape (n,)
        Whether the patient has a code of each sensitive family.
    """

    subject_ids: IntArray
    sex: NDArray[np.str_]
    age: FloatArray
    site: NDArray[np.str_]
    events: IntArray
    span_days: FloatArray
    first_day: FloatArray
    last_day: FloatArray
    families: Mapping[str, BoolArray]

    def __len__(self) -> int:
        return len(self.subject_ids)

    def family_labels(self) -> BoolArray:
        """Who has a code of each sensitive family, shape (n, families)."""
        return np.stack(list(self.families.values()), axis=1)

    def select(self, keep: IntArray) -> "PatientTable":
        """Take the patients at positions `keep`, in that order."""
        columns = {f.name: getattr(self, f.name)[keep] for f in fields(self) if f.name != "families"}
        return PatientTable(**columns, families={name: held[keep] for name, held in self.families.items()})


@dataclass(frozen=True)
class CodeCounts:
    """How many patients hold each code, out of `patients`."""

    counts: Mapping[str, int]
    patients: int


def describe(histories: Histories, families: Families | None = None) -> PatientTable:
    """Describe the patients of a shard, one row each; `families` are the sensitive ones."""
    count, codes = len(histories), histories.codes
    owner = owners(histories)
    days = histories.times.astype("datetime64[us]").astype(np.int64) / 86_400_000_000
    timed = ~np.isnat(histories.times)
    born = np.array([code == BIRTH_CODE for code in codes], np.bool_)[histories.code_ids] & timed
    demographic = np.array([is_demographic(code) for code in codes], np.bool_)[histories.code_ids]
    happened = timed & ~demographic
    first, last = _ends(owner[happened], days[happened], count)
    birth, _ = _ends(owner[born], days[born], count)
    age = (last - birth) / _DAYS_A_YEAR
    age = np.where(age > _OLDEST, _OVER_89, np.where(age < 0, np.nan, age))
    return PatientTable(
        histories.subject_ids,
        _sexes(histories, owner),
        age,
        _sites(histories, owner),
        np.bincount(owner[~demographic], minlength=count).astype(np.int64),
        last - first,
        first,
        last,
        {name: _holds(histories, owner, chosen) for name, chosen in families_of(codes, families).items()},
    )


def join_tables(tables: list[PatientTable]) -> PatientTable:
    """Join tables in order.

    Raises
    ------
    RecordsError
        When there is nothing to join.
    """
    if not tables:
        raise RecordsError("There is no patient to describe: the records are empty.")
    columns = {
        field.name: np.concatenate([getattr(table, field.name) for table in tables])
        for field in fields(PatientTable)
        if field.name != "families"
    }
    names = tables[0].families
    families = {name: np.concatenate([table.families[name] for table in tables]) for name in names}
    return PatientTable(**columns, families=families)


def subgroups(table: PatientTable, *, rare: BoolArray, small_cell: BoolArray) -> dict[str, BoolArray]:
    """Name the subgroups that hold anyone: who may be more exposed than the average patient.

    Parameters
    ----------
    table : PatientTable
        Members and held-out patients together, so that ``oldest`` is one threshold for both.
    rare : bool, shape (n,)
        See :func:`rare_holders`.
    small_cell : bool, shape (n,)
        See :func:`small_cells`.

    Returns
    -------
    dict of str to bool, shape (n,)
        ``sex=F``, ``age=60-79``, ``site=A``, ``family=hiv``, ``rare``, ``small-cell``, and ``oldest``:
        the oldest tenth of those whose age is known, ties included. Patients of unknown sex, age or site are
        in no such group.
    """
    groups = {f"sex={sex}": table.sex == sex for sex in ("F", "M")}
    for low, high in _AGE_BANDS:
        name = f"age={low}+" if high is None else f"age={low}-{high - 1}"
        groups[name] = (table.age >= low) & (table.age < (np.inf if high is None else high))
    groups |= {f"site={site}": table.site == site for site in np.unique(table.site) if site != UNKNOWN}
    groups |= {f"family={name}": held for name, held in table.families.items()}
    groups |= {"rare": rare, "small-cell": small_cell}
    known = np.sort(table.age[~np.isnan(table.age)])
    if len(known):
        groups["oldest"] = table.age >= known[-max(1, len(known) // 10)]
    return {str(name): group for name, group in groups.items() if group.any()}


def small_cells(table: PatientTable, is_member: BoolArray, *, at_most: int = 5) -> BoolArray:
    """Find who shares sex, decade of age and site with at most `at_most` *other* training patients.

    They are the few who are singled out by what anyone may know of them; unknown is a value like any other.
    As in :func:`rare_holders`, the rule is the same for those who trained the model and those who did not.

    Parameters
    ----------
    table : PatientTable
        `n` patients.
    is_member : bool, shape (n,)

    Returns
    -------
    bool, shape (n,)

    References
    ----------
    Sweeney, k-anonymity: a model for protecting privacy, Int. J. Uncertain. Fuzz. 10 (2002) 557.
    """
    sex, site = (np.unique(column, return_inverse=True)[1] for column in (table.sex, table.site))
    _, cell = np.unique(np.stack([sex, _decades(table), site]), axis=1, return_inverse=True)
    others = np.bincount(cell[is_member], minlength=len(table) + 1)[cell] - is_member
    alone: BoolArray = others <= at_most
    return alone


def _decades(table: PatientTable) -> IntArray:
    """Decade of age, -1 where it is unknown, shape (n,)."""
    return np.where(np.isnan(table.age), -1, np.nan_to_num(table.age) // 10).astype(np.int64)


def strata(table: PatientTable) -> IntArray:
    """Give each patient the number of a stratum, sex x age decade x length quintile, shape (n,).

    Quintiles of the number of events are those of the whole table; patients of unknown sex or age have strata
    of their own.
    """
    edges = np.quantile(table.events, [0.2, 0.4, 0.6, 0.8]) if len(table) else np.empty(0)
    quintile = np.searchsorted(edges, table.events, side="left")
    sex = np.searchsorted(["?", "F", "M"], table.sex)
    _, numbers = np.unique(np.stack([sex, _decades(table), quintile]), axis=1, return_inverse=True)
    return numbers.astype(np.int64)


def count_codes(records: Records) -> CodeCounts:
    """Count the patients who hold each code, a shard at a time."""
    counts: dict[str, int] = {}
    patients = 0
    for shard in records.shards():
        held = np.bincount(_pairs(shard)[1], minlength=len(shard.codes))
        for code, number in zip(shard.codes, held.tolist(), strict=True):
            if number:
                counts[code] = counts.get(code, 0) + number
        patients += len(shard)
    return CodeCounts(counts, patients)


def rare_holders(
    histories: Histories, counts: CodeCounts, *, own_counted: bool, at_most: int = 5
) -> BoolArray:
    """Find who holds a clinical code that at most `at_most` *other* counted patients hold, shape (n,).

    Leaving a patient's own record out makes the rule the same for those who were counted and those who were
    not: otherwise a code that nobody else holds would be rare for held-out patients and not for members.

    Parameters
    ----------
    histories : Histories
    counts : CodeCounts
        Of the training patients.
    own_counted : bool
        Whether these patients are among those counted.
    """
    others = np.array([counts.counts.get(code, 0) - own_counted for code in histories.codes], np.int64)
    clinical = np.array([not is_demographic(code) for code in histories.codes], np.bool_)
    return _holds(histories, owners(histories), clinical & (others <= at_most))


def owners(histories: Histories) -> IntArray:
    """Return the position of the patient of each event, shape (events,)."""
    return np.repeat(np.arange(len(histories)), np.diff(histories.offsets))


def _pairs(histories: Histories) -> tuple[IntArray, IntArray]:
    """Distinct (patient, code) pairs."""
    width = max(1, len(histories.codes))
    pairs = np.unique(owners(histories) * width + histories.code_ids)
    return pairs // width, pairs % width


def _holds(histories: Histories, owner: IntArray, chosen: BoolArray) -> BoolArray:
    return np.bincount(owner[chosen[histories.code_ids]], minlength=len(histories)) > 0


def _ends(owner: IntArray, days: FloatArray, count: int) -> tuple[FloatArray, FloatArray]:
    """First and last of the sorted days of each patient; NaN for those who have none."""
    if not len(days):
        return np.full(count, np.nan), np.full(count, np.nan)
    patients = np.arange(count)
    start, stop = np.searchsorted(owner, patients), np.searchsorted(owner, patients, side="right")
    found = stop > start
    first = np.where(found, days[np.minimum(start, len(days) - 1)], np.nan)
    return first, np.where(found, days[stop - 1], np.nan)


def _sexes(histories: Histories, owner: IntArray) -> NDArray[np.str_]:
    matched = [_SEX.fullmatch(code) for code in histories.codes]
    named = np.array([match[1].upper() if match else "" for match in matched], np.str_)
    female, male = (_holds(histories, owner, named == sex) for sex in ("F", "M"))
    return np.where(female & ~male, "F", np.where(male & ~female, "M", UNKNOWN))


def _sites(histories: Histories, owner: IntArray) -> NDArray[np.str_]:
    """Take the first site of each patient."""
    matched = [_SITE.fullmatch(code) for code in histories.codes]
    named = np.array([match[1] if match else "" for match in matched], np.object_)
    rows = np.flatnonzero((named != "")[histories.code_ids])[::-1]
    site = np.full(len(histories), UNKNOWN, np.object_)
    site[owner[rows]] = named[histories.code_ids[rows]]
    return site.astype(np.str_)
