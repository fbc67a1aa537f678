"""The options of every training between hospitals, each said once."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from primum.errors import InputError
from primum.report.language import message

Rounds = Annotated[int, typer.Option("--rounds", min=1, help=message("Rounds of the training."))]
LocalEpochs = Annotated[
    int | None,
    typer.Option("--epochs", min=1, help=message("Passes of each site over its patients in a round.")),
]
Strategy = Annotated[
    Literal["fedavg", "fedprox", "fedadam"],
    typer.Option("--strategy", help=message("fedavg, fedprox (sites stay near) or fedadam.")),
]
Proximal = Annotated[
    float | None,
    typer.Option("--proximal", min=0.0, help=message("Pull of FedProx to the weights of the round.")),
]
Rule = Annotated[
    Literal["mean", "median", "trimmed_mean", "krum", "multi_krum", "bulyan"],
    typer.Option("--rule", help=message("How updates are put together.")),
]
Malicious = Annotated[
    int, typer.Option("--malicious", min=0, help=message("Sites that the rule is to hold against."))
]
Bound = Annotated[
    float | None,
    typer.Option("--clip-updates", help=message("Largest norm of an update; longer are shortened.")),
]
RoundSteps = Annotated[int | None, typer.Option("--steps", min=1, help=message("Noisy steps in a round."))]
SiteNoise = Annotated[
    float,
    typer.Option("--site-noise", min=0.0, help=message("Noise over that bound, which protects whole sites.")),
]
Secure = Annotated[
    bool,
    typer.Option("--secure", help=message("Sites mask what they send: the coordinator sees the sum alone.")),
]
Judge = Annotated[
    Path | None,
    typer.Option(
        "--judge", help=message("Cases of no site, of the coordinator: updates that spoil them stand out.")
    ),
]
LeastSites = Annotated[
    int | None,
    typer.Option("--least-sites", min=2, help=message("Fewest sites in a sum, whatever is claimed: 2.")),
]


def passes(said: int | None, network: str | None, *, private: bool = False) -> int:
    """Return passes of a site over its patients in a round: several of a linear layer without noise."""
    from primum.train.federated.suspicion import STEPS_APART

    return said or (STEPS_APART if network == "scattering" and not private else 1)


def settings_of(rate: float | None, strategy: str, proximal: float | None, **said: Any) -> Any:
    """Return the settings of what was typed, the usual ones where nothing was.

    Raises
    ------
    InputError
        No rate at all, or noise for each site without a bound.
    """
    from primum.train.federated.settings import FederatedSettings

    if rate is not None and not 0 < rate < float("inf"):
        raise InputError("The learning rate must be above zero, not {rate}.", rate=rate)
    return FederatedSettings(
        learning_rate=3e-3 if rate is None else rate,
        proximal=proximal if proximal is not None else (0.01 if strategy == "fedprox" else 0.0),
        server="fedadam" if strategy == "fedadam" else "fedavg",
        **said,
    )
