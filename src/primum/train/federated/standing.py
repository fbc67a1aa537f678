"""Where a training between hospitals stands, as a coordinator keeps it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from primum.fit.protocol import Keep
from primum.train.federated.sites import Arrays
from primum.train.federated.suspicion import History, as_json, from_json

_PARTS = ("weights", "total", "optimiser")
_BY_ROUND = ("agreement", "pull")


@dataclass(frozen=True, eq=False)
class Standing:
    """Where a training between hospitals stands; what a coordinator that is started again needs.

    Attributes
    ----------
    number : int
        Rounds that are over.
    weights, total : mapping of str to array
        After them; and the sum over the rounds that are averaged.
    history : mapping
        What speaks against sites.
    sizes : mapping of str to int
        Records of each site, as it first said.
    optimiser : mapping of str to array
        Of the coordinator's Adam.
    agreement : mapping of str to tuple of float
        Cosine of each of a site's updates with the step that was taken, round by round; NaN: it sent none.
    strength : float
        Deviation of the noise that sites add to the mean gradient, as they said in round 0; 0: none.
    pull : mapping of str to tuple of float
        What each of a site's updates, as it was weighted, moved along the step that was taken, round by
        round: they add up to the square of the step. Empty where updates are not averaged, or noise is added.
    """

    number: int
    weights: Arrays
    total: Arrays = field(default_factory=dict)
    history: History = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    optimiser: Arrays = field(default_factory=dict)
    agreement: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    strength: float = 0.0
    pull: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def noted(
    known: Mapping[str, tuple[float, ...]], sites: Sequence[str], values: NDArray[np.float64], number: int
) -> dict[str, tuple[float, ...]]:
    """Add a round to what is noted of each site.

    Parameters
    ----------
    known : mapping of str to tuple of float
        By site, one number a round.
    sites : sequence of str
        Who answered.
    values : array of float, shape (sites,)
    number : int
        Of the round, from 1; NaN for who sent nothing in it.
    """
    found, silent = dict(zip(sites, values, strict=True)), (float("nan"),)
    return {
        site: (*known.get(site, silent * (number - 1)), float(found.get(site, silent[0])))
        for site in {**known, **found}
    }


def put(keep: Keep | None, standing: Standing) -> None:
    """Keep all of it as arrays, in one piece: a coordinator that dies loses the round under way."""
    if keep is None:
        return
    said = {"history": as_json(standing.history), "sizes": dict(standing.sizes)}
    by_round = {name: dict(getattr(standing, name)) for name in _BY_ROUND}
    told = json.dumps({**said, **by_round, "strength": standing.strength})
    arrays = {"number": np.array(standing.number), "told": np.frombuffer(told.encode(), np.uint8)}
    for name in _PARTS:
        arrays |= {f"{name}/{key}": value for key, value in getattr(standing, name).items()}
    keep.put("standing", arrays)


def resumed(keep: Keep | None, start: Standing) -> Standing:
    """Return where a training stood when its coordinator died, or where it starts."""
    held = keep.get("standing") if keep is not None else None
    if held is None:
        return start
    told = json.loads(held["told"].tobytes())
    parts = {
        name: {key[len(name) + 1 :]: value for key, value in held.items() if key.startswith(f"{name}/")}
        for name in _PARTS
    }
    agreement, pull = ({site: tuple(each) for site, each in told[name].items()} for name in _BY_ROUND)
    return Standing(
        int(held["number"]),
        history=from_json(told["history"]),
        sizes=told["sizes"],
        agreement=agreement,
        strength=told["strength"],
        pull=pull,
        **parts,
    )
