"""From what was typed after ``primum train private`` to the settings of the trainer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from primum.errors import InputError
from primum.train.private import PrivateSettings
from primum.train.private_linear import LinearSettings

# What did well on validation patients (docs/studies/private_networks.md), and the most that a step draws.
_USUAL: Mapping[str, tuple[Mapping[str, Any], int, int]] = {
    "cases": ({"steps": 150, "learning_rate": 3e-3, "averaging": 0.9}, 512, 4),
    "records": ({"steps": 60, "learning_rate": 1e-2}, 300, 3),
}
# What the linear layer over fixed features, trained on everybody at every step, knows of.
_LINEAR = {"steps", "clip", "learning_rate"}


@dataclass(frozen=True)
class PrivateOptions:
    """What was typed; what was not is left to the records.

    Attributes
    ----------
    epsilon : float or None
    delta : float
    seed : int or None
    linear : bool
        Whether only a layer over fixed features is trained.
    said : mapping
    """

    epsilon: float | None
    delta: float
    seed: int | None
    linear: bool
    said: Mapping[str, Any]

    def settled(self, *, kind: str, patients: int) -> PrivateSettings | LinearSettings:
        """Return the settings for so many patients; at most a quarter, of records a third, make a step."""
        if self.linear:
            return LinearSettings(self.epsilon, self.delta, seed=self.seed, **self.said)
        usual, most, share = _USUAL["records" if kind == "records" else "cases"]
        drawn = {"expected_batch": max(1, min(most, patients // share))}
        return PrivateSettings(self.epsilon, self.delta, seed=self.seed, **{**usual, **drawn, **self.said})


def private_options(
    network: str | None, *, epsilon: float | None, delta: float, seed: int | None, given: Mapping[str, Any]
) -> PrivateOptions:
    """Check what was typed before anything is read.

    Raises
    ------
    InputError
        Neither epsilon nor noise, or both; an option that the network has no use for.
    """
    said = {name: value for name, value in given.items() if value is not None}
    if (epsilon is None) == ("noise_multiplier" not in said):
        raise InputError("Private training needs an epsilon or a noise multiplier: give one of the two.")
    for name in ("clip", "noise_multiplier"):
        if name in said and not said[name] > 0:
            raise InputError("{option} must be above zero.", option="--" + name.replace("_", "-"))
    linear = network == "scattering"
    if linear and (unused := sorted(said.keys() - _LINEAR)):
        option = "--batch" if unused[0] == "expected_batch" else "--" + unused[0].replace("_", "-")
        raise InputError("{option} is not for the network scattering: leave it out.", option=option)
    return PrivateOptions(epsilon, delta, seed, linear, said)
