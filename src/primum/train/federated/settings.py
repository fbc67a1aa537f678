"""How hospitals train together: what is agreed on before the first round."""

from dataclasses import dataclass
from typing import Literal

from primum.errors import InputError
from primum.train.federated.aggregation import Rule

Server = Literal["fedavg", "fedadam"]


@dataclass(frozen=True)
class FederatedSettings:
    """How hospitals train together.

    Attributes
    ----------
    rounds, epochs : int
        Rounds, and passes over each site's patients in one.
    learning_rate, proximal : float
        Of the sites; FedProx's mu, 0: FedAvg.
    server : {"fedavg", "fedadam"}
        What the coordinator does with what sites agree on: takes it, or steps towards it by Adam.
    server_rate : float
        Of Adam at the coordinator.
    rule : Rule
        How updates are put together.
    malicious : int
        How many sites the rule is to hold against.
    bound : float or None
        Largest norm of an update; longer ones are shortened.
    site_noise : float
        Deviation of the noise that the coordinator adds to the sum, over `bound`: each site is promised
        something then. 0: none.
    adapted : bool
        Steps are of a length that suits the noise, where sites say in round 0 that they add some.
    averaged : bool
        The result is the mean of the weights after the second half of the rounds.
    seed : int
        Of the order of patients.
    """

    rounds: int = 20
    epochs: int = 1
    learning_rate: float = 3e-3
    proximal: float = 0.0
    server: Server = "fedavg"
    server_rate: float = 0.01
    rule: Rule = "mean"
    malicious: int = 0
    bound: float | None = None
    site_noise: float = 0.0
    adapted: bool = False
    averaged: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.site_noise and (self.bound is None or self.rule != "mean"):
            raise InputError("Noise for each site needs --clip-updates and the rule mean: give both.")
