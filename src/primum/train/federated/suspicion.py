"""Which sites send what honest ones do not, and why: evidence that adds up over rounds. Free of torch.

Honest sites differ, and keep differing: one with only ill patients pulls away from the others in every
round. So a site is not compared with a null of equal sites, and rounds are not taken as independent. Each
round ranks every site by how far its most striking feature lies from the other sites', in robust deviations
of that round. An honest site's ranks are those of an urn (Pólya): each rank drawn is put back with one more
of its kind, so that **who stood out before may do so again, innocently**; and once, in a round that nobody
knows, it may begin anew. A malicious site begins, in a round that nobody knows, to draw from another urn.
The e-value is the ratio of how likely both make what was seen: while a site is honest and its urn is right,
it ever reaches sites / alpha with chance alpha / sites at most (Ville), so that alpha bounds the chance of
accusing anybody.

The urn of honest sites was filled with honest runs, on other partitions than those that judged it:
``docs/studies/malicious_sites.md`` measures false accusations, and what remains unseen. It is an
assumption: with cases of another kind, or more local training than there, see the ranks of a run that is
trusted before anybody is accused.

References
----------
Ramdas, Grünwald, Vovk & Shafer, Game-theoretic statistics and safe anytime-valid inference, Statistical
Science 2023. Minka, Estimating a Dirichlet distribution, 2000 (the urn). Features: Blanchard et al., NeurIPS
2017; Fung, Yoon & Beschastnikh, The limitations of federated learning in Sybil settings, RAID 2020.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from primum.records.ragged import IntArray

Floats = NDArray[np.float64]
Reason = Literal["norm", "direction", "collusion", "recall"]
REASONS: tuple[Reason, ...] = get_args(Reason)
# Robust deviations from which a site has rank 1, 2, 3, 4.
LEVELS = (2.5, 4.0, 6.0, 8.0)
# Least deviation that is taken as one, by reason: sites more alike than this are alike. Of logarithms of
# lengths, of Fisher's z of cosines (twice), and of recalls.
_LEAST = (0.25, 0.25, 0.25, 0.05)
# Outside of the span pairs of honest sites lie closer together: more is counted as the same rank.
_SHARPER = 1.6
# How much of each rank the urns hold at first. Honest: fitted to 600 sites that differ as much as any in the
# study (alpha .3), with more of every rank above 0; no site of 3,000 came to rank 4, and the urn lets one in
# 1,300. Malicious: fitted to no attack.
_HONEST = np.array([0.75, 0.065, 0.015, 0.004, 0.0002])
_MALICIOUS = np.array([0.1, 0.1, 0.15, 0.15, 0.5])
# Steps of a linear layer over features in a round without noise, and how long each is, of several: so trained
# the honest sites that filled the urn, and so those that judged it.
STEPS_APART, RATE_OF_SEVERAL = 5, 80.0
# Fewer sites cannot say who stands out; on fewer rounds of standing out nobody is accused.
FEWEST_SITES, FEWEST_ROUNDS = 5, 3
_ALMOST_ONE, _TINY = 1 - 1e-6, 1e-300


@dataclass(frozen=True)
class Record:
    """What one site was seen to do.

    Attributes
    ----------
    rounds, levels : tuple of int
        In which rounds it was seen, and its rank in each: 0 like the others, up to 4 far from them.
    reasons : tuple of {"norm", "direction", "collusion", "recall"}
        Its most striking feature in each.
    e_value : float
        The largest so far.
    """

    rounds: tuple[int, ...] = ()
    levels: tuple[int, ...] = ()
    reasons: tuple[Reason, ...] = ()
    e_value: float = 1.0


@dataclass(frozen=True)
class Suspicion:
    """How much speaks against a site.

    Attributes
    ----------
    site : str
    e_value : float
        1 says nothing, more is worse: an honest site ever reaches x with chance 1 / x at most.
    reason : {"norm", "direction", "collusion", "recall"} or None
        What stood out most: longer than others' updates, turned away from the median of the others, turned
        towards another site's, or making recall worse. None: it never stood out.
    first_round : int or None
        The first in which it stood out for this reason.
    """

    site: str
    e_value: float
    reason: Reason | None
    first_round: int | None


History = Mapping[str, Record]


def deviations(updates: Floats, recalls: Floats | None = None, span: Floats | None = None) -> Floats:
    """How far each site lies from the others, in robust deviations of this round; above zero is suspect.

    Parameters
    ----------
    updates : float array, shape (sites, d)
        Five or more, finite.
    recalls : float array, shape (sites, classes), or None
        Change of each class's recall, on cases that the coordinator holds, when this update alone is added.
    span : float array, shape (k, d), or None
        Directions in which honest sites differ because their classes do: gradients of each class's loss, on
        cases that the coordinator holds. Sites that go together elsewhere stand out.

    Returns
    -------
    float array, shape (sites, 3 or 4)
        Longer than others; turned from the median of the others; seen from there, turned towards one other
        outside of the span; worse recall, averaged over classes.
    """
    centres = _medians_of_others(updates)
    apart = updates - centres
    if span is not None:
        _, strengths, directions = np.linalg.svd(span, full_matrices=False)
        basis = directions[strengths > 1e-9 * strengths.max()]
        apart -= apart @ basis.T @ basis
    pairs = _units(apart) @ _units(apart).T
    np.fill_diagonal(pairs, -1)
    lengths = np.maximum(np.linalg.norm(updates, axis=1), _TINY)
    features = [
        np.log(lengths),
        -_fisher((_units(updates) * _units(centres)).sum(1)),
        _fisher(pairs.max(1)) * (1.0 if span is None else _SHARPER),
    ]
    if recalls is not None:
        features.append(-recalls.mean(1))
    return np.stack([_from_others(one, least) for one, least in zip(features, _LEAST, strict=False)], 1)


def _units(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY))


def _fisher(cosines: Floats) -> Floats:
    return np.asarray(np.arctanh(np.clip(cosines, -_ALMOST_ONE, _ALMOST_ONE)))


def _medians_of_others(updates: Floats) -> Floats:
    """For each row the median of all other rows, shape (sites, d)."""
    others = len(updates) - 1
    ascending = np.sort(updates, axis=0)
    # The row that is left out moves the middle up by one place where it lies below or at it.
    middle = [
        np.where(updates <= ascending[place], ascending[place + 1], ascending[place])
        for place in ((others - 1) // 2, others // 2)
    ]
    return np.asarray((middle[0] + middle[1]) / 2)


def _from_others(values: Floats, least: float) -> Floats:
    """Distance from the median of all others over their median absolute deviation, shape (sites,)."""
    middle = _medians_of_others(values[:, None])
    apart = np.abs(values - middle)[~np.eye(len(values), dtype=bool)].reshape(len(values), -1)
    return np.asarray((values - middle[:, 0]) / np.maximum(1.4826 * np.median(apart, axis=1), least))


def observe(
    history: History,
    updates: Mapping[str, Floats],
    *,
    number: int,
    recalls: Mapping[str, Floats] | None = None,
    span: Floats | None = None,
) -> History:
    """Add a round to what is known of sites; those that sent nothing keep what they have.

    Parameters
    ----------
    history : mapping of str to Record
        Of sites; empty before the first round. A round that it holds already is not counted twice.
    updates : mapping of str to float array, shape (d,)
        What each site sent, finite: see :func:`primum.train.federated.aggregation.usable_rows`.
    number : int
        Of the round.
    recalls : mapping of str to float array, shape (classes,), or None
        Change of each class's recall, on cases that the coordinator holds, when this update alone is added.
    span : float array, shape (k, d), or None
        See `deviations`.

    Returns
    -------
    mapping of str to Record
        A new one. Of fewer than five sites nobody can say who stands out: the same as before.
    """
    sites = [site for site in updates if number not in history.get(site, Record()).rounds]
    if len(updates) < FEWEST_SITES:
        return history
    far = deviations(
        np.stack(list(updates.values())),
        np.stack([recalls[site] for site in updates]) if recalls else None,
        span,
    )
    seen = dict(history)
    for site, row in zip(updates, far, strict=True):
        if site in sites:
            level, reason = int(np.digitize(row.max(), LEVELS)), REASONS[int(row.argmax())]
            seen[site] = _added(history.get(site, Record()), number, level, reason)
    return seen


def _added(record: Record, number: int, level: int, reason: Reason) -> Record:
    levels = (*record.levels, level)
    enough = np.count_nonzero(levels) >= FEWEST_ROUNDS
    value = max(record.e_value, e_value(np.array(levels))) if enough else record.e_value
    return Record((*record.rounds, number), levels, (*record.reasons, reason), value)


def e_value(levels: IntArray) -> float:
    """How much likelier a malicious site makes its ranks, shape (rounds,), than an honest one.

    Both begin anew in round t with chance 1 / (t (t + 1)), or not yet: the honest site from an urn like its
    first, the malicious one from the other. 1: equally likely.
    """
    seen = np.cumsum(np.eye(len(_HONEST))[levels], axis=0)
    before = np.vstack([np.zeros(len(_HONEST)), seen[:-1]])
    rounds = np.arange(1, len(levels) + 1)
    changed = _log_chance(before, _HONEST) - np.log(rounds * (rounds + 1))
    never = _log_chance(seen[-1:], _HONEST) - np.log(len(levels) + 1)
    malicious, honest = (
        logsumexp(np.append(changed + _log_chance(seen[-1] - before, urn), never))
        for urn in (_MALICIOUS, _HONEST)
    )
    return float(np.exp(malicious - honest))


def _log_chance(counts: Floats, urn: Floats) -> Floats:
    """Logarithm of the chance that an urn gives ranks in one order with these counts, shape (n, ranks)."""
    each = (gammaln(urn + counts) - gammaln(urn)).sum(-1)
    return np.asarray(each + gammaln(urn.sum()) - gammaln(urn.sum() + counts.sum(-1)))


def suspicions(history: History) -> list[Suspicion]:
    """Every site that was seen, the most suspect first."""
    found = []
    for site, record in history.items():
        weight = {
            reason: sum(
                level for level, one in zip(record.levels, record.reasons, strict=True) if one == reason
            )
            for reason in REASONS
        }
        reason = max(REASONS, key=weight.__getitem__)
        stood_out = [
            number
            for number, level, one in zip(record.rounds, record.levels, record.reasons, strict=True)
            if level and one == reason
        ]
        found.append(
            Suspicion(site, record.e_value, reason if stood_out else None, min(stood_out, default=None))
        )
    return sorted(found, key=lambda one: -one.e_value)


def accused(history: History, *, alpha: float = 0.05) -> list[Suspicion]:
    """Return sites with an e-value of sites / alpha or more: `alpha` bounds the chance that any is honest.

    The bound holds as far as the urn of honest sites does, at every round, however often it is asked.
    """
    return [one for one in suspicions(history) if one.e_value >= len(history) / alpha]


def as_json(history: History) -> dict[str, dict[str, Any]]:
    """Return what JSON can hold, for a coordinator that may be started again."""
    return {site: asdict(record) for site, record in history.items()}


def ranks(history: History) -> dict[str, dict[str, Any]]:
    """Return what JSON can hold of what was seen, without e-values: they hold for some trainings alone."""
    return {
        site: {name: value for name, value in one.items() if name != "e_value"}
        for site, one in as_json(history).items()
    }


def from_json(held: Mapping[str, Mapping[str, Any]]) -> History:
    """Take back what `as_json` gave."""
    return {
        site: Record(tuple(one["rounds"]), tuple(one["levels"]), tuple(one["reasons"]), one["e_value"])
        for site, one in held.items()
    }
