"""Whether what was drawn from an update is a patient: nearest in a gallery, and nearer than others are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from primum.errors import InputError
from primum.evidence.measured import BoolArray
from primum.records.ragged import IntArray

Floats = NDArray[np.float32]
_PAIRS, _BLOCK, _TIE = 2000, 4096, 1e-6


@dataclass(frozen=True, eq=False)
class Gallery:
    """Records among which the attacker looks, as directions from their mean.

    Likeness is 1 for the same record. Of rows it is the cosine, in standard deviations of the gallery from
    its mean. Of pictures it is the correlation of pixels: with the gallery's mean taken off, noise on black
    would be like the darkest of them, and noise on grey like many.

    Attributes
    ----------
    units : float32, shape (n, width)
        Of norm 1.
    mean, deviation : float32, shape (width,)
    pictures : bool
        Whether records have more than one axis.
    threshold : float
        99th percentile of the likeness of records of different patients.
    look_alikes : float
        Share of records that have another patient's record above the threshold: of these the threshold alone
        would say that anything near is the patient.
    """

    units: Floats
    mean: Floats
    deviation: Floats
    pictures: bool
    threshold: float
    look_alikes: float

    @classmethod
    def of(cls, records: NDArray[np.floating], patients: IntArray, *, seed: int = 0) -> "Gallery":
        """Make a gallery of records, shape (n, ...), each of one patient.

        The threshold is that of all pairs among 2,000 records drawn with `seed`.

        Raises
        ------
        InputError
            Fewer than two patients, or numbers that are not finite.
        """
        flat, pictures = _flat(records, pictures=records.ndim > 2), records.ndim > 2
        if len(np.unique(patients)) < 2 or not np.isfinite(flat).all():
            raise InputError(
                "A gallery needs finite records of two patients or more: give more cases, without missing "
                "numbers."
            )
        mean, deviation = flat.mean(0), flat.std(0)
        if pictures:
            mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
        shape = mean, deviation, pictures
        units = cls(flat[:0], *shape, 0.0, 0.0).directions(records)
        drawn = np.random.default_rng(seed).permutation(len(flat))[:_PAIRS]
        likeness = units[drawn] @ units[drawn].T
        others = patients[drawn, None] != patients[drawn]
        threshold = float(np.quantile(likeness[others], 0.99))
        nearest = np.concatenate([
            np.where(patients[part, None] == patients, -1, units[part] @ units.T).max(1)
            for part in np.array_split(np.arange(len(units)), -(-len(units) // _BLOCK))
        ])  # fmt: skip
        return cls(units, *shape, threshold, float((nearest >= threshold).mean()))

    def __len__(self) -> int:
        return len(self.units)

    def directions(self, records: NDArray[np.floating]) -> Floats:
        """Return records, shape (n, ...), as directions from the mean; 0 where a column never varies."""
        away = _flat(records, pictures=self.pictures) - self.mean
        away = np.divide(away, self.deviation, out=np.zeros_like(away), where=self.deviation > 1e-7)
        lengths = np.linalg.norm(away, axis=1, keepdims=True)
        units: Floats = away / np.maximum(lengths, np.float32(1e-12))
        return units


def _flat(records: NDArray[np.floating], *, pictures: bool) -> Floats:
    flat = np.asarray(records, np.float32).reshape(len(records), -1)
    return flat - flat.mean(1, keepdims=True) if pictures else flat


@dataclass(frozen=True, eq=False)
class Match:
    """What each true record's update gave away; all of shape (n,).

    Attributes
    ----------
    nearest : bool
        The gallery's nearest record to what was drawn is the true one, or equal to it.
    similar : bool
        It is nearer than 99 of 100 records of different patients are.
    """

    nearest: BoolArray
    similar: BoolArray

    @property
    def reconstructed(self) -> BoolArray:
        """Both: one alone would count look-alikes, or the least unlike of many."""
        return self.nearest & self.similar


def match_one_each(gallery: Gallery, drawn: NDArray[np.floating], truth: IntArray) -> Match:
    """Match updates of one case each.

    Parameters
    ----------
    gallery : Gallery
    drawn : float, shape (n, ...)
        What was drawn from each update.
    truth : int64, shape (n,)
        The place in the gallery of each update's case.
    """
    parts = np.array_split(np.arange(len(truth)), max(1, -(-len(truth) // _BLOCK)))
    best, own = np.empty(len(truth), np.float32), np.empty(len(truth), np.float32)
    for part in parts:
        units = gallery.directions(drawn[part])
        likeness = units @ gallery.units.T
        best[part], own[part] = likeness.max(1), likeness[np.arange(len(part)), truth[part]]
    return Match(own >= best - _TIE, best >= gallery.threshold)


def match_batch(gallery: Gallery, drawn: NDArray[np.floating], truth: IntArray) -> Match:
    """Match one update of several cases, of which the attacker names no more than there are.

    Parameters
    ----------
    gallery : Gallery
    drawn : float, shape (k, ...)
        Everything that was drawn from the update. Records of the gallery are named in the order of how near
        something drawn is to them, of all those that are nearest to something.
    truth : int64, shape (n,)
        The places in the gallery of the update's cases. Chance names each with probability n / len(gallery)
        at most, however much is drawn.

    Returns
    -------
    Match
        Of each true record: whether it was named, and above the threshold.
    """
    nearest, best = _named(gallery, drawn, at_most=len(truth))
    same = np.asarray(gallery.units[truth] @ gallery.units[nearest].T) >= 1 - _TIE
    near = same & (best >= gallery.threshold)
    return Match(np.asarray(same.any(1)), np.asarray(near.any(1)))


def named_by(gallery: Gallery, drawn: NDArray[np.floating], *, at_most: int) -> IntArray:
    """Return the places of records that are nearest to something drawn, and near enough; the nearest first.

    Parameters
    ----------
    gallery : Gallery
    drawn : float, shape (k, ...)
    at_most : int
        How many may be named.
    """
    nearest, best = _named(gallery, drawn, at_most=at_most)
    return nearest[best >= gallery.threshold]


def _named(gallery: Gallery, drawn: NDArray[np.floating], *, at_most: int) -> tuple[IntArray, Floats]:
    likeness = gallery.directions(drawn) @ gallery.units.T
    nearest, best = likeness.argmax(1), likeness.max(1)
    order = np.argsort(-best, kind="stable")
    _, first = np.unique(nearest[order], return_index=True)
    kept = order[np.sort(first)][:at_most]
    return nearest[kept], best[kept]
