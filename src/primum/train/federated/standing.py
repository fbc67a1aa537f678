"""Where a training between hospitals stands, as a coordinator keeps it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from primum.fit.protocol import Keep
from primum.train.federated.sites import Arrays
from primum.train.federated.suspicion import History, as_json, from_json

_PARTS = ("weights", "total", "optimiser")


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
    """

    number: int
    weights: Arrays
    total: Arrays = field(default_factory=dict)
    history: History = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    optimiser: Arrays = field(default_factory=dict)
    agreement: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def put(keep: Keep | None, standing: Standing) -> None:
    """Keep all of it as arrays, in one piece: a coordinator that dies loses the round under way."""
    if keep is None:
        return
    said = {"history": as_json(standing.history), "sizes": dict(standing.sizes)}
    told = json.dumps({**said, "agreement": dict(standing.agreement)})
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
    agreement = {site: tuple(each) for site, each in told["agreement"].items()}
    return Standing(
        int(held["number"]),
        history=from_json(told["history"]),
        sizes=told["sizes"],
        agreement=agreement,
        **parts,
    )
