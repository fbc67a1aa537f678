"""The options of the verbs, each said once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Lang = Annotated[
    Literal["fr", "en"] | None, typer.Option("--lang", help="Language of what you read; yours by default.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Same seed, machine and versions: same findings.")]
ModelFolder = Annotated[
    Path,
    typer.Argument(help="Model folder: config.json, model.safetensors, vocab.json, token_profile.json."),
]
RecordsFolder = Annotated[
    Path, typer.Option("--records", help="MEDS folder; the patients of its train split are the members.")
]
HeldOut = Annotated[
    Path | None,
    typer.Option("--held-out", help="MEDS folder of patients who did not train the model."),
]
References = Annotated[
    list[Path] | None,
    typer.Option("--reference", help="Model of the same vocabulary that saw none of them; repeatable."),
]
Recipe = Annotated[
    str | None,
    typer.Option("--recipe", help="module:name of a training recipe, to train references from."),
]
RecipeCount = Annotated[
    int, typer.Option("--references", min=1, help="How many references the recipe trains.")
]
MembershipDesign = Annotated[
    Literal["observed", "randomised"],
    typer.Option("--membership", help="randomised only if chance alone decided who trained the model."),
]
DropOverlap = Annotated[
    bool, typer.Option("--drop-overlap", help="Leave patients of both sides out of the held-out side.")
]
Only = Annotated[
    str | None, typer.Option("--only", help="Test names or their beginnings, separated by commas.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="New or empty folder; ./primum-<date>-<model> by default."),
]
ShowIds = Annotated[
    bool, typer.Option("--show-ids", help="Name the patient in error messages about records.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the findings as JSON on stdout.")]
