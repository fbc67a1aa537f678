"""What EHR models see: token ids with, for each, what kind of token it is and which event it came from."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from primum.records.histories import Histories, TimeArray
from primum.records.ragged import IntArray, offsets_of, take_runs


class Kind(IntEnum):
    """What a token stands for; only CLINICAL tokens are scored."""

    CLINICAL = 0
    VALUE = 1
    GAP = 2
    STATIC = 3
    SPECIAL = 4


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Token sequences of `n` patients, flat, patient after patient.

    Attributes
    ----------
    subject_ids : int64, shape (n,)
    offsets : int64, shape (n + 1,)
    token_ids : int64, shape (tokens,)
    kinds : uint8, shape (tokens,)
        Values of :class:`Kind`.
    event_index : int64, shape (tokens,)
        Position of the event within the patient's history; -1 for tokens that come from none.
    vocabulary_size : int
        Every token id lies below it.
    """

    subject_ids: IntArray
    offsets: IntArray
    token_ids: IntArray
    kinds: NDArray[np.uint8]
    event_index: IntArray
    vocabulary_size: int

    def __len__(self) -> int:
        return len(self.subject_ids)

    @property
    def lengths(self) -> IntArray:
        """Tokens of each patient, shape (n,)."""
        return np.diff(self.offsets)

    def tokens_of(self, index: int) -> IntArray:
        """Token ids of patient number `index`."""
        return self.token_ids[self.offsets[index] : self.offsets[index + 1]]

    def kinds_of(self, index: int) -> NDArray[np.uint8]:
        """Kinds of the tokens of patient number `index`."""
        return self.kinds[self.offsets[index] : self.offsets[index + 1]]

    def select(self, keep: IntArray) -> "TokenBatch":
        """Take the patients at positions `keep`, in that order (positions may repeat)."""
        offsets, rows = take_runs(self.offsets, keep)
        return TokenBatch(
            self.subject_ids[keep],
            offsets,
            self.token_ids[rows],
            self.kinds[rows],
            self.event_index[rows],
            self.vocabulary_size,
        )


def event_times(tokens: TokenBatch, histories: Histories) -> TimeArray:
    """When the event of each token was, shape (tokens,); NaT for those of none and those without time."""
    rows = np.repeat(histories.offsets[:-1], tokens.lengths) + tokens.event_index
    times = np.full(len(rows), np.datetime64("NaT"), "datetime64[us]")
    told = tokens.event_index >= 0
    times[told] = histories.times[rows[told]]
    return times


def join_tokens(parts: list[TokenBatch]) -> TokenBatch:
    """Join batches of one vocabulary, in order; an empty list gives a batch of no patient."""
    lengths = np.concatenate([np.empty(0, np.int64), *[part.lengths for part in parts]])
    return TokenBatch(
        np.concatenate([np.empty(0, np.int64), *[part.subject_ids for part in parts]]),
        offsets_of(lengths),
        np.concatenate([np.empty(0, np.int64), *[part.token_ids for part in parts]]),
        np.concatenate([np.empty(0, np.uint8), *[part.kinds for part in parts]]),
        np.concatenate([np.empty(0, np.int64), *[part.event_index for part in parts]]),
        max((part.vocabulary_size for part in parts), default=0),
    )
