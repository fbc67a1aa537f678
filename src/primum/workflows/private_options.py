"""From what was typed after ``primum train private`` to the settings of the trainer."""

from collections.abc import Mapping
from typing import Any

from primum.errors import InputError
from primum.train.private import PrivateSettings
from primum.train.private_linear import LinearSettings

# What the linear layer over fixed features, trained on everybody at every step, knows of.
_LINEAR = {"steps", "clip", "learning_rate"}


def private_settings(
    network: str | None, *, epsilon: float | None, delta: float, seed: int | None, given: Mapping[str, Any]
) -> PrivateSettings | LinearSettings:
    """Return settings, what was not given left to the trainer.

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
    if network != "scattering":
        return PrivateSettings(epsilon, delta, seed=seed, **said)
    if unused := sorted(said.keys() - _LINEAR):
        option = "--batch" if unused[0] == "expected_batch" else "--" + unused[0].replace("_", "-")
        raise InputError("{option} is not for the network scattering: leave it out.", option=option)
    return LinearSettings(epsilon, delta, seed=seed, **said)
