"""Patients drawn from a population, a block at a time: people, then visits, then what each visit writes."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from primum.errors import InputError
from primum.records.histories import FloatArray, Histories, concatenate
from primum.records.ragged import IntArray, offsets_of, take_runs
from primum.records.synthetic.catalogue import BIRTH, DEATH, DISCHARGES, GENDERS, SITE_CODES, SITES, VISITS
from primum.records.synthetic.population import (
    DIAGNOSIS_RANK,
    LAB_RANK,
    MEDICATION_RANK,
    Population,
    population,
)
from primum.records.synthetic.programmes import PROGRAMMES
from primum.records.synthetic.settings import ANYWHERE, Origin, SyntheticSettings

BoolArray = NDArray[np.bool_]

BLOCK = 5_000
_YEAR = 365.25
_INTERVALS = np.array([[28.0, 91.0, 182.0, 365.0], [14.0, 60.0, 120.0, 365.0]])
_INTERVAL_SHARE = np.array([[0.2, 0.4, 0.3, 0.1], [0.15, 0.35, 0.2, 0.3]])
_STAGES = np.array([len(p.stages) for p in PROGRAMMES])
_ACUTE = np.array([p.acute for p in PROGRAMMES])
_ADMITS = np.array([p.admits for p in PROGRAMMES])
_LETHAL = np.array([p.lethal for p in PROGRAMMES])
_ATTENTION = np.where(_ACUTE, 1.0, 0.6)
_OTHER_SITE = 0.08
_TAIL_MEAN, _TAIL_AGAIN = 2.5, 0.25


class _People(NamedTuple):
    """Patients of a block: arrays over patients, and over patients and programmes."""

    female: BoolArray
    age: FloatArray
    site: IntArray
    start: FloatArray
    has: BoolArray
    onset: FloatArray
    pace: FloatArray
    taste: FloatArray


class _Visits(NamedTuple):
    """Visits of a block, sorted by patient and day; `stay` is 0 for outpatients, else days in hospital."""

    patient: IntArray
    day: FloatArray
    stay: IntArray


class _Events(NamedTuple):
    """What visits write."""

    visit: IntArray
    code: IntArray
    shift: FloatArray


def synthetic_patients(
    count: int,
    *,
    settings: SyntheticSettings,
    seed: int | list[int],
    first_subject_id: int = 1,
    origin: Origin = ANYWHERE,
) -> Histories:
    """Draw patients, independent of each other given the population.

    Parameters
    ----------
    count : int
    settings : SyntheticSettings
        Its calendar, mean_visits and population_seed are used.
    seed : int or list of int
        Draws with different seeds are independent samples of the same population.
    first_subject_id : int
        Patients are numbered from here.
    origin : Origin
        One site only, or a later calendar.

    Returns
    -------
    Histories
        `count` patients; static events (sex, site) first, then birth, then visits.

    Raises
    ------
    InputError
        When `count` is below 1.
    """
    if count < 1:
        raise InputError("A synthetic draw needs at least one patient; {count} were asked for.", count=count)
    shared = population(settings.population_seed)
    sizes = [min(BLOCK, count - first) for first in range(0, count, BLOCK)]
    streams = np.random.SeedSequence(seed).spawn(len(sizes))
    blocks = [
        _block(shared, size, settings, origin, np.random.default_rng(stream))
        for size, stream in zip(sizes, streams, strict=True)
    ]
    whole = concatenate(blocks) if len(blocks) > 1 else blocks[0]
    return numbered(whole, first_subject_id)


def numbered(histories: Histories, first_subject_id: int) -> Histories:
    """Give the patients consecutive subject ids."""
    return replace(histories, subject_ids=np.arange(first_subject_id, first_subject_id + len(histories)))


def _block(
    shared: Population, count: int, settings: SyntheticSettings, origin: Origin, rng: np.random.Generator
) -> Histories:
    first_day = (np.datetime64(f"{settings.start_year}-01-01") - np.datetime64(0, "D")).astype(float)
    first_day += round(origin.years_later * _YEAR)
    people = _people(count, first_day, settings.years, origin, rng)
    people, visits = _visits(people, first_day + settings.years * _YEAR, settings.mean_visits, rng)
    programme_events, visits, dies = _programme_events(shared, people, visits, rng)
    parts = (programme_events, _tail_events(shared, visits, count, rng), _frame_events(shared, visits, rng))
    return _histories(shared, people, visits, _distinct(parts, len(shared.codes)), dies, rng)


def _people(count: int, first_day: float, years: int, origin: Origin, rng: np.random.Generator) -> _People:
    female = rng.random(count) < 0.54
    age = np.where(rng.random(count) < 0.28, rng.normal(31, 8, count), rng.normal(63, 15, count)).clip(18, 97)
    site = rng.integers(len(SITES), size=count)
    if origin.site:
        site[:] = SITES.index(origin.site)
    start = first_day + rng.uniform(0, 0.6 * years * _YEAR, count)
    names = [p.name for p in PROGRAMMES]
    has = np.zeros((count, len(PROGRAMMES)), bool)
    onset = start[:, None] + rng.uniform(-6, 2, has.shape) * _YEAR
    for column, programme in enumerate(PROGRAMMES):
        chance = programme.share * np.exp(-0.5 * ((age - programme.age) / programme.spread) ** 2)
        chance *= (
            np.where(female, 2 * programme.female, 2 - 2 * programme.female) if programme.female != 0.5 else 1
        )
        for name, factor in programme.after.items():
            chance *= np.where(has[:, names.index(name)], factor, 1.0)
        has[:, column] = rng.random(count) < chance.clip(0, 0.9)
        for name in programme.after:
            cause = names.index(name)
            later = has[:, cause] & ~_ACUTE[cause]
            onset[:, column] = np.where(
                later, np.maximum(onset[:, column], onset[:, cause]), onset[:, column]
            )
    onset[:, 0] = 0.0
    pace = np.array([p.pace for p in PROGRAMMES]) * rng.lognormal(0, 0.4, has.shape)
    return _People(female, age, site, start, has, onset, pace, rng.random(has.shape))


def _visits(
    people: _People, last_day: float, mean_visits: float, rng: np.random.Generator
) -> tuple[_People, _Visits]:
    """Plan visits at a personal rhythm, add one where something acute starts, and say when it started."""
    burden = (people.has & ~_ACUTE & (people.onset <= people.start[:, None])).sum(1)
    rate = (mean_visits - 1) * (0.9 + 0.15 * burden) * rng.gamma(5, 1 / 5, len(burden))
    planned = 1 + np.minimum(rng.poisson(rate), int(3 * mean_visits))
    patient = np.repeat(np.arange(len(planned)), planned)
    column = (rng.random((len(planned), 1)) > np.cumsum(_INTERVAL_SHARE, 1)[people.site]).sum(1).clip(0, 3)
    interval = _INTERVALS[people.site, column]
    gaps = interval[patient] * rng.lognormal(0, 0.15, len(patient))
    first = offsets_of(planned)[:-1]
    gaps[first] = 0
    elapsed = np.cumsum(gaps)
    day = people.start[patient] + elapsed - np.repeat(elapsed[first], planned)
    kept = day < last_day
    patient, day = patient[kept], day[kept]
    span = np.zeros(len(planned))
    np.maximum.at(span, patient, day - people.start[patient])
    sick, disease = np.nonzero(people.has & _ACUTE)
    onset = people.onset.copy()
    onset[sick, disease] = np.floor(people.start[sick] + span[sick] * rng.random(len(sick)))
    patient = np.concatenate([patient, sick])
    day = (
        np.floor(np.concatenate([day, onset[sick, disease]]))
        + rng.integers(8 * 60, 18 * 60, len(patient)) / 1440
    )
    stay = np.concatenate([np.zeros(kept.sum(), np.int64), _ADMITS[disease] * rng.integers(2, 15, len(sick))])
    order = np.lexsort((day, patient))
    return people._replace(onset=onset), _Visits(patient[order], day[order], stay[order])


def _programme_events(
    shared: Population, people: _People, visits: _Visits, rng: np.random.Generator
) -> tuple[_Events, _Visits, BoolArray]:
    """Let active programmes write; also admit patients, and say who dies after the last visit."""
    since = visits.day[:, None] - people.onset[visits.patient]
    reached = np.floor(since / people.pace[visits.patient])
    active = people.has[visits.patient] & (since >= 0) & ((reached < _STAGES) | ~_ACUTE)
    active &= rng.random(active.shape) < _ATTENTION
    visit, programme = np.nonzero(active)
    stage = np.minimum(reached[visit, programme].astype(np.int64), _STAGES[programme] - 1)
    severe = (stage == _STAGES[programme] - 1) & (_STAGES[programme] > 2)
    stay = visits.stay.copy()
    admitted = visit[severe & (rng.random(len(visit)) < 0.15) & (stay[visit] == 0)]
    stay[admitted] = rng.integers(1, 10, len(admitted))
    last = np.append(np.diff(visits.patient) > 0, True)
    fatal = last[visit] & (stage == _STAGES[programme] - 1) & (rng.random(len(visit)) < _LETHAL[programme])
    dies = np.zeros(len(people.age), bool)
    dies[visits.patient[visit[fatal]]] = True
    row = shared.first_row[programme] + stage
    pair, slot = np.nonzero(rng.random((len(row), shared.slot_count.shape[1])) < shared.slot_probability[row])
    visit, programme, row = visit[pair], programme[pair], row[pair]
    code = _chosen(shared, people, visits, visit=visit, programme=programme, row=row, slot=slot, rng=rng)
    keep = rng.random(len(code)) < shared.habit[people.site[visits.patient[visit]], code]
    events = _Events(visit[keep], code[keep], shared.slot_shift[row, slot][keep])
    return events, visits._replace(stay=stay), dies


def _chosen(
    shared: Population,
    people: _People,
    visits: _Visits,
    *,
    visit: IntArray,
    programme: IntArray,
    row: IntArray,
    slot: IntArray,
    rng: np.random.Generator,
) -> IntArray:
    """Choose among interchangeable codes: labs by site, drugs by patient, diagnoses by both."""
    patient = visits.patient[visit]
    site, count = people.site[patient], shared.slot_count[row, slot]
    rank = shared.rank[shared.slot_codes[row, slot, 0]]
    own = (people.taste[patient, programme] + 0.618 * slot) % 1.0
    fresh = rng.random(len(slot))
    personal = (rank == MEDICATION_RANK) | ((rank == DIAGNOSIS_RANK) & (rng.random(len(slot)) < 0.6))
    draw = np.where(personal, own, fresh)
    # Site A prefers the first code of a list of diagnoses, site B the last.
    draw = np.where(rank == DIAGNOSIS_RANK, np.where(site == 0, draw**2, 1 - draw**2), draw)
    lab = np.where(fresh < _OTHER_SITE, 1 - site, site)
    choice = np.minimum(np.where(rank == LAB_RANK, lab, (draw * count).astype(np.int64)), count - 1)
    code = shared.slot_codes[row, slot, choice]
    adopted = (visits.day[visit] - shared.adoption[code]) / _YEAR
    return np.where(rng.random(len(code)) < adopted, shared.successor[code], code)


def _tail_events(shared: Population, visits: _Visits, count: int, rng: np.random.Generator) -> _Events:
    """Give each patient a few diagnoses of the long tail, each at one visit at least and again at some."""
    owned = rng.poisson(_TAIL_MEAN, count)
    owner = np.repeat(np.arange(count), owned)
    code = rng.choice(shared.tail, len(owner), p=shared.tail_weight)
    offsets = offsets_of(np.bincount(visits.patient, minlength=count))
    first = offsets[owner] + (rng.random(len(owner)) * np.diff(offsets)[owner]).astype(np.int64)
    taken, rows = take_runs(offsets, owner)
    again = rng.random(len(rows)) < _TAIL_AGAIN
    visit = np.concatenate([first, rows[again]])
    codes = np.concatenate([code, np.repeat(code, np.diff(taken))[again]])
    return _Events(visit, codes, np.zeros(len(visit)))


def _frame_events(shared: Population, visits: _Visits, rng: np.random.Generator) -> _Events:
    """Mark each visit, and the discharge of each admission."""
    every = np.arange(len(visits.day))
    inside = np.flatnonzero(visits.stay)
    kind = np.where(visits.stay > 0, 1 + (rng.random(len(every)) < 0.3), 0)
    way = (rng.random(len(inside)) < 0.2).astype(np.int64)
    code = np.concatenate([_ids(shared, VISITS)[kind], _ids(shared, DISCHARGES)[way]])
    return _Events(np.concatenate([every, inside]), code, np.zeros(len(code)))


def _ids(shared: Population, codes: tuple[str, ...]) -> IntArray:
    return np.searchsorted(np.array(shared.codes), codes).astype(np.int64)


def _distinct(parts: tuple[_Events, ...], codes: int) -> _Events:
    """Join, and keep one of each code a visit, the most abnormal one."""
    visit, code, shift = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((-np.abs(shift), visit * codes + code))
    kept = order[np.append(True, np.diff((visit * codes + code)[order]) > 0)]
    return _Events(visit[kept], code[kept], shift[kept])


def _histories(
    shared: Population,
    people: _People,
    visits: _Visits,
    events: _Events,
    dies: BoolArray,
    rng: np.random.Generator,
) -> Histories:
    """Date and sort the events of each patient."""
    everyone, dead = np.arange(len(people.age)), np.flatnonzero(dies)
    owner = visits.patient[events.visit]
    late = np.where(shared.rank[events.code] >= DIAGNOSIS_RANK, visits.stay[events.visit], 0)
    day = visits.day[events.visit] + late
    end = np.zeros(len(everyone))
    np.maximum.at(end, owner, day)
    born = np.floor(people.start - people.age * _YEAR)
    gone = end[dead] + rng.uniform(0.1, 60, len(dead))
    nothing = np.full(len(everyone), np.nan)
    days = np.concatenate([nothing, nothing, born, day, gone])
    patient = np.concatenate([everyone, everyone, everyone, owner, dead])
    code = np.concatenate(
        [
            _ids(shared, GENDERS)[np.where(people.female, 0, 1)],
            _ids(shared, SITE_CODES)[people.site],
            np.repeat(_ids(shared, (BIRTH,)), len(everyone)),
            events.code,
            np.repeat(_ids(shared, (DEATH,)), len(dead)),
        ]
    )
    values = np.full(len(code), np.nan)
    values[3 * len(everyone) : len(code) - len(dead)] = _values(shared, owner, events, rng)
    # NaT is the smallest int64, so static events sort first.
    minutes = np.floor(np.nan_to_num(days) * 1440).astype("datetime64[m]").astype("datetime64[us]")
    minutes[np.isnan(days)] = np.datetime64("NaT")
    order = np.lexsort((rng.random(len(code)), shared.rank[code], minutes.astype(np.int64), patient))
    offsets = offsets_of(np.bincount(patient, minlength=len(everyone)))
    return Histories(everyone, offsets, shared.codes, code[order], minutes[order], values[order])


def _values(shared: Population, patient: IntArray, events: _Events, rng: np.random.Generator) -> FloatArray:
    """Draw lab results: log-normal, moved by the stage of disease and by what is usual for the patient."""
    lab = shared.lab[events.code]
    usual = rng.normal(0, 0.6, (int(patient.max(initial=0)) + 1, len(shared.median)))
    deviation = events.shift + usual[patient, lab] + rng.normal(0, 0.8, len(lab))
    values = shared.median[lab] * np.exp(shared.spread[lab] * deviation)
    return np.where(lab >= 0, np.round(values, 3), np.nan)
