"""Parts of histories as prompts: who a person is, some of what happened, and what came next.

An *event* here is one clinical token with the gap token that leads to it and the value token that follows it;
the *header* is what stands before the first event: the begin token, static facts and age.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from primum.records.ragged import IntArray, offsets_of
from primum.records.tokens import Kind, TokenBatch


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Where the events of each patient lie.

    Attributes
    ----------
    tokens : TokenBatch
        `n` patients.
    """

    tokens: TokenBatch

    @cached_property
    def owner(self) -> IntArray:
        """Whose each event is, shape (events,)."""
        return np.searchsorted(self.tokens.offsets, self._clinical, side="right") - 1

    @cached_property
    def place(self) -> IntArray:
        """Position of each event's clinical token within its patient's tokens, shape (events,)."""
        return self._clinical - self.tokens.offsets[self.owner]

    @cached_property
    def start(self) -> IntArray:
        """Where each event begins: its gap token where it has one, shape (events,)."""
        before = np.maximum(self._clinical - 1, 0)
        led = (self.tokens.kinds[before] == Kind.GAP) & (self.place > 0)
        return np.where(led, self.place - 1, self.place)

    @cached_property
    def stop(self) -> IntArray:
        """Where each event ends, its value token included, shape (events,)."""
        after = np.minimum(self._clinical + 1, len(self.tokens.kinds) - 1)
        inside = self.place + 1 < self.tokens.lengths[self.owner]
        valued = (self.tokens.kinds[after] == Kind.VALUE) & inside
        return np.where(valued, self.place + 2, self.place + 1)

    @cached_property
    def offsets(self) -> IntArray:
        """Events of patient ``i`` are ``offsets[i]:offsets[i + 1]``, shape (n + 1,)."""
        return offsets_of(np.bincount(self.owner, minlength=len(self.tokens)))

    @cached_property
    def counts(self) -> IntArray:
        """Events of each patient, shape (n,)."""
        return np.diff(self.offsets)

    @cached_property
    def header(self) -> IntArray:
        """Tokens of each patient before the first event, shape (n,); all of them where there is no event."""
        first = self.tokens.lengths.copy()
        present = self.counts > 0
        first[present] = self.start[self.offsets[:-1][present]]
        return first

    @cached_property
    def codes(self) -> IntArray:
        """Token of each event, shape (events,)."""
        return self.tokens.token_ids[self._clinical]

    @cached_property
    def _clinical(self) -> IntArray:
        return np.flatnonzero(self.tokens.kinds == Kind.CLINICAL)


def excerpts(
    tokens: TokenBatch, patients: IntArray, *, header: IntArray, start: IntArray, stop: IntArray
) -> TokenBatch:
    """Cut one excerpt a row: the first `header` tokens of a patient, then its tokens `start` to `stop`.

    Parameters
    ----------
    tokens : TokenBatch
    patients : int64, shape (rows,)
        Positions of patients; they may repeat.
    header, start, stop : int64, shape (rows,)
        In tokens within the patient; what lies before ``header`` is never cut out twice.

    Returns
    -------
    TokenBatch
        One sequence a row.
    """
    start = np.minimum(np.maximum(start, header), np.maximum(stop, header))
    stop = np.maximum(stop, start)
    lengths = header + stop - start
    offsets = offsets_of(lengths)
    row = np.repeat(np.arange(len(patients)), lengths)
    position = np.arange(offsets[-1]) - offsets[row]
    inside = np.where(position < header[row], position, position - header[row] + start[row])
    taken = tokens.offsets[patients][row] + inside
    return TokenBatch(
        tokens.subject_ids[patients],
        offsets,
        tokens.token_ids[taken],
        tokens.kinds[taken],
        tokens.event_index[taken],
        tokens.vocabulary_size,
    )


def without(tokens: TokenBatch, drop: NDArray[np.bool_]) -> TokenBatch:
    """Leave tokens out, shape (tokens,); a value goes with the event it belongs to."""
    values = tokens.kinds == Kind.VALUE
    gone = drop.copy()
    gone[1:] |= values[1:] & drop[:-1]
    whose = np.repeat(np.arange(len(tokens)), tokens.lengths)
    return TokenBatch(
        tokens.subject_ids,
        offsets_of(np.bincount(whose[~gone], minlength=len(tokens))),
        tokens.token_ids[~gone],
        tokens.kinds[~gone],
        tokens.event_index[~gone],
        tokens.vocabulary_size,
    )
