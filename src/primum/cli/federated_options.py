"""The options of every training between hospitals, each said once."""

from typing import Annotated, Literal

import typer

from primum.report.language import message

Rounds = Annotated[int, typer.Option("--rounds", min=1, help=message("Rounds of the training."))]
LocalEpochs = Annotated[
    int, typer.Option("--epochs", min=1, help=message("Passes of each site over its patients in a round."))
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
