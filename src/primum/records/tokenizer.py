"""Histories into the tokens of one model, and how much of the histories the model knows."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from primum.errors import VocabularyError
from primum.records.attributes import owners
from primum.records.families import BIRTH_CODE, BoolArray
from primum.records.histories import FloatArray, Histories, Records, TimeArray
from primum.records.profile import TokenProfile
from primum.records.ragged import IntArray, offsets_of
from primum.records.tokens import Kind, TokenBatch
from primum.records.vocabulary import Vocabulary

_MICROSECONDS_A_DAY = 86_400_000_000
_DAYS_A_YEAR = 365.25
_BEGIN, _STATIC, _AGE, _TIMELESS, _TIMED, _END = range(6)


@dataclass(frozen=True)
class Coverage:
    """How much of some patients' histories a model has tokens for.

    Attributes
    ----------
    events, known : int
        Events that are neither static nor ignored; those whose code is in the vocabulary.
    share : float
        ``known / events``; 1 is best, 0 when there is no event.
    patients : int
    missing_codes : tuple of (str, int)
        The five families of codes, the part before the first ``/``, that most unknown events belong to.
    """

    events: int
    known: int
    share: float
    patients: int
    missing_codes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class _Codes:
    """What the profile says of each code of a dictionary."""

    tokens: IntArray
    known: BoolArray
    static: BoolArray
    ignored: BoolArray


@dataclass(frozen=True)
class Tokenizer:
    """The vocabulary and the token profile of one model.

    Raises
    ------
    VocabularyError
        The vocabulary lacks a token of the profile.
    """

    vocabulary: Vocabulary
    profile: TokenProfile

    def __post_init__(self) -> None:
        self.profile.check(self.vocabulary)

    @cached_property
    def kinds(self) -> NDArray[np.uint8]:
        """Kind of each token of the vocabulary, shape (vocabulary,): what generated tokens are."""
        profile, kinds = self.profile, np.full(len(self.vocabulary), Kind.CLINICAL, np.uint8)
        static = [
            token
            for token in self.vocabulary.tokens
            if self.code_of(token).startswith(profile.static_prefixes)
        ]
        special = (profile.begin, profile.end, profile.unknown, profile.pad)
        for kind, named in (
            (Kind.STATIC, (*static, *profile.age_tokens)),
            (Kind.GAP, profile.gap_tokens),
            (Kind.VALUE, profile.value_tokens),
            (Kind.SPECIAL, tuple(token for token in special if token is not None)),
        ):
            kinds[self.vocabulary.encode(tuple(named))] = kind
        return kinds

    def code_of(self, token: str) -> str:
        """Return the MEDS code that a token of the vocabulary stands for: rewriting undone."""
        for prefix, rewritten in self.profile.code_prefixes.items():
            code = prefix + token[len(rewritten) :]
            if token.startswith(rewritten) and self.profile.rewritten(code) == token:
                return code
        return token

    def encode(self, histories: Histories) -> TokenBatch:
        """Return the tokens of each patient, as :class:`primum.records.profile.TokenProfile` describes.

        Codes that the vocabulary lacks become the unknown token, of kind SPECIAL and so never scored, and
        carry no value; without such a token they are dropped. Gaps are between the times that keep a token.
        """
        codes = self._codes(histories.codes)
        rows = np.flatnonzero((~codes.ignored & (codes.tokens >= 0))[histories.code_ids])
        code = histories.code_ids[rows]
        events = _Events(rows, owners(histories)[rows], histories.times[rows], histories.offsets)
        static, known = codes.static[code], codes.known[code]
        section = np.where(events.timed, _TIMED, np.where(static, _STATIC, _TIMELESS))
        kind = np.where(~known, Kind.SPECIAL, np.where(static, Kind.STATIC, Kind.CLINICAL))
        pieces = _Pieces()
        pieces.add(events.owner, section, rows * 3 + 1, codes.tokens[code], kind, events.index)
        valued, ids = self._values(histories, code, known, rows)
        place, index = rows[valued] * 3 + 2, events.index[valued]
        pieces.add(events.owner[valued], section[valued], place, ids, Kind.VALUE, index)
        gaps, ids = self._gaps(events)
        pieces.add(events.owner[gaps], _TIMED, rows[gaps] * 3, ids, Kind.GAP, -1)
        patients, ids = self._ages(histories, events)
        pieces.add(patients, _AGE, 0, ids, Kind.STATIC, -1)
        everyone = np.arange(len(histories))
        for name, end in ((self.profile.begin, _BEGIN), (self.profile.end, _END)):
            if name is not None:
                pieces.add(everyone, end, 0, self.vocabulary.id_of[name], Kind.SPECIAL, -1)
        return pieces.batch(histories.subject_ids, len(self.vocabulary))

    def coverage(self, records: Records) -> Coverage:
        """Count the events whose code the vocabulary knows, a shard at a time."""
        events = known = patients = 0
        missing: Counter[str] = Counter()
        for shard in records.shards():
            codes = self._codes(shard.codes)
            counts = np.bincount(shard.code_ids, minlength=len(shard.codes))
            counted = ~codes.static & ~codes.ignored
            events += int(counts[counted].sum())
            known += int(counts[counted & codes.known].sum())
            patients += len(shard)
            for place in np.flatnonzero(counted & ~codes.known & (counts > 0)):
                family, separator, _ = shard.codes[place].partition("/")
                missing[family if separator else "?"] += int(counts[place])
        return Coverage(
            events, known, known / events if events else 0.0, patients, tuple(missing.most_common(5))
        )

    def _codes(self, codes: tuple[str, ...]) -> _Codes:
        profile = self.profile
        found = self.vocabulary.encode(tuple(profile.rewritten(code) for code in codes))
        unknown = -1 if profile.unknown is None else self.vocabulary.id_of[profile.unknown]
        static = np.array([code.startswith(profile.static_prefixes) for code in codes], np.bool_)
        ignored = np.array([code in profile.ignored_codes for code in codes], np.bool_)
        return _Codes(np.where(found >= 0, found, unknown), found >= 0, static, ignored)

    def _values(
        self, histories: Histories, code: IntArray, known: BoolArray, rows: IntArray
    ) -> tuple[IntArray, IntArray]:
        """Places among `rows` that have a number and bins for it, with the value tokens."""
        edges = self.profile.value_edges
        binned = [place for place, name in enumerate(histories.codes) if name in edges]
        if not binned:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        # Absent edges are infinite, which no number reaches.
        table = np.full(
            (len(histories.codes), max(len(edges[histories.codes[place]]) for place in binned)), np.inf
        )
        for place in binned:
            table[place, : len(edges[histories.codes[place]])] = edges[histories.codes[place]]
        has_bins = np.isin(np.arange(len(histories.codes)), binned)
        chosen = np.flatnonzero(has_bins[code] & known & ~np.isnan(histories.values[rows]))
        values, bins = histories.values[rows[chosen]], np.zeros(len(chosen), np.int64)
        for column in table.T:
            bins += values >= column[code[chosen]]
        return chosen, self.vocabulary.encode(self.profile.value_tokens)[bins]

    def _gaps(self, events: "_Events") -> tuple[IntArray, IntArray]:
        """Events that begin a later time of the same patient, with the gap tokens before them."""
        same_patient = events.owner[1:] == events.owner[:-1]
        later = np.flatnonzero(same_patient & (events.times[1:] > events.times[:-1]))
        gap = (events.times[later + 1] - events.times[later]).astype(np.int64) / _MICROSECONDS_A_DAY
        band = _bands_of(gap, self.profile.gap_edges_days)
        ids = self.vocabulary.encode(self.profile.gap_tokens)
        return later[band >= 0] + 1, ids[band[band >= 0]]

    def _ages(self, histories: Histories, events: "_Events") -> tuple[IntArray, IntArray]:
        """Patients whose age at the first timed event is known, with their age tokens."""
        birth = np.array([code == BIRTH_CODE for code in histories.codes], np.bool_)[histories.code_ids]
        rows = np.flatnonzero(birth & ~np.isnat(histories.times))
        born, first_birth = np.unique(owners(histories)[rows], return_index=True)
        seen, first_event = np.unique(events.owner[events.timed], return_index=True)
        patients, left, right = np.intersect1d(born, seen, assume_unique=True, return_indices=True)
        since = events.times[events.timed][first_event[right]] - histories.times[rows[first_birth[left]]]
        band = _bands_of(
            since.astype(np.int64) / _MICROSECONDS_A_DAY / _DAYS_A_YEAR, self.profile.age_edges_years
        )
        ids = self.vocabulary.encode(self.profile.age_tokens)
        return patients[band >= 0], ids[band[band >= 0]]


@dataclass(frozen=True)
class _Events:
    """Events that become tokens: their rows in the shard, whose they are, and when."""

    rows: IntArray
    owner: IntArray
    times: TimeArray
    offsets: IntArray

    @cached_property
    def timed(self) -> BoolArray:
        """Whether each has a time."""
        return ~np.isnat(self.times)

    @cached_property
    def index(self) -> IntArray:
        """Position of each within its patient's history."""
        return self.rows - self.offsets[self.owner]


class _Pieces:
    """Tokens in any order, with the keys that put them in theirs."""

    def __init__(self) -> None:
        self._columns: list[list[IntArray]] = []

    def add(self, owner: IntArray, *columns: IntArray | int) -> None:
        """Add tokens: owner; then section, place in it, id, kind, event index, arrays or one for all."""
        self._columns.append([np.asarray(owner), *(np.broadcast_to(one, owner.shape) for one in columns)])

    def batch(self, subject_ids: IntArray, vocabulary_size: int) -> TokenBatch:
        """Sort by owner, section and place."""
        joined = [np.concatenate(parts) for parts in zip(*self._columns, strict=True)]
        owner, section, place, ids, kinds, index = joined
        order = np.lexsort((place, owner * (_END + 1) + section))
        return TokenBatch(
            subject_ids,
            offsets_of(np.bincount(owner, minlength=len(subject_ids))),
            ids[order].astype(np.int64),
            kinds[order].astype(np.uint8),
            index[order].astype(np.int64),
            vocabulary_size,
        )


def _bands_of(amounts: FloatArray, edges: tuple[float, ...]) -> IntArray:
    """Find the band each amount lies in; -1 below the first edge."""
    return np.searchsorted(np.array(edges, np.float64), amounts, side="right") - 1


def require_coverage(coverage: Coverage, *, at_least: float = 0.5) -> None:
    """Refuse a vocabulary that knows too little of the records: scores would be about the rest.

    Raises
    ------
    VocabularyError
        The share of events known is below `at_least`.
    """
    if coverage.share < at_least:
        families = ", ".join(family for family, _ in coverage.missing_codes)
        raise VocabularyError(
            "The vocabulary knows {share} % of the events, less than {needed} %: give the vocab.json that "
            "the model was trained with, or set code_prefixes in token_profile.json. Unknown kinds of codes: "
            "{families}.",
            share=round(100 * coverage.share, 1),
            needed=round(100 * at_least, 1),
            families=families or "-",
        )
