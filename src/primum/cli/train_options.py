"""The options of ``primum train``, each said once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from primum.report.language import message

Records = Annotated[Path, typer.Argument()]
Out = Annotated[Path, typer.Option("--out", help=message("New or empty folder for the model."))]
Network = Annotated[
    str | None,
    typer.Option(
        "--network",
        help=message("What kind: llama or gpt2 of health records; image, vision_transformer, … of cases."),
    ),
]
Width = Annotated[int | None, typer.Option("--width", min=4, help=message("Of the widest layer."))]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help=message("Passes over the patients."))]
Batch = Annotated[
    int | None, typer.Option("--batch", min=1, help=message("Cases, windows or patients a step."))
]
Rate = Annotated[float | None, typer.Option("--learning-rate", help=message("Of the optimiser."))]
Patience = Annotated[
    int,
    typer.Option(
        "--patience",
        min=0,
        help=message("Passes without a better loss on validation patients before it stops; 0 never stops."),
    ),
]
Tokens = Annotated[
    Path | None,
    typer.Option(
        "--tokens",
        help=message("Folder of vocab.json and token_profile.json not made of these patients."),
    ),
]
KeepDuplicates = Annotated[
    bool, typer.Option("--keep-duplicates", help=message("Train on repeated patients too."))
]
Shards = Annotated[
    int,
    typer.Option("--shards", min=1, max=100, help=message("Models on parts of the patients.")),
]
Slices = Annotated[int, typer.Option("--slices", min=1, max=100, help=message("Stages of each model."))]
Epsilon = Annotated[
    float | None, typer.Option("--epsilon", help=message("What each patient is promised; less is more."))
]
Delta = Annotated[float, typer.Option("--delta", help=message("Probability that the promise fails."))]
Noise = Annotated[
    float | None,
    typer.Option("--noise-multiplier", help=message("Noise over clip, instead of an epsilon.")),
]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help=message("Noisy steps."))]
Clip = Annotated[float | None, typer.Option("--clip", help=message("Largest gradient norm of one patient."))]
Averaging = Annotated[
    float | None, typer.Option("--averaging", help=message("Weight of older steps in averaged weights."))
]
Copies = Annotated[
    int | None, typer.Option("--copies", min=0, max=64, help=message("Altered copies of each image."))
]
RepeatableSeed = Annotated[
    int | None,
    typer.Option(
        "--repeatable-seed",
        min=0,
        help=message("Seed of the noise, for tests: whoever knows it can take the noise off again."),
    ),
]
AttackMethod = Annotated[
    Literal["pgd", "trades", "patch"],
    typer.Option("--method", help=message("What images are changed by.")),
]
Budget = Annotated[
    float, typer.Option("--budget", help=message("Largest change of a pixel, of 255 grey levels."))
]
AttackSteps = Annotated[
    int, typer.Option("--attack-steps", min=1, help=message("Steps of the attack on each image."))
]
Weight = Annotated[
    float | None,
    typer.Option("--weight", help=message("What changed images count for: of trades 6, of patch .5.")),
]
Patch = Annotated[int, typer.Option("--patch", min=1, help=message("Side of the patch, in pixels."))]
OlderModel = Annotated[Path, typer.Argument()]
Patients = Annotated[
    Path, typer.Option("--patients", help=message("Text file, the id of one patient a line."))
]
Prove = Annotated[
    bool,
    typer.Option("--prove", help=message("Train once more from nothing and compare every weight.")),
]
TrainedOn = Annotated[Path, typer.Option("--records", help=message("The records that trained the model."))]
