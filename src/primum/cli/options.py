"""The options of the verbs, each said once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from primum.report.language import message

Lang = Annotated[
    Literal["fr", "en"] | None,
    typer.Option("--lang", help=message("Language of what you read; yours by default.")),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, help=message("Same seed, machine and versions: same findings."))
]
ModelPlace = Annotated[str, typer.Argument()]
RecordsFolder = Annotated[
    Path | None,
    typer.Option(
        "--records", help=message("MEDS, OMOP or FHIR folder, or cases; the train split are the members.")
    ),
]
HeldOut = Annotated[
    Path | None,
    typer.Option("--held-out", help=message("Folder of patients who did not train the model.")),
]
References = Annotated[
    list[str] | None,
    typer.Option(
        "--reference", help=message("Model of the same vocabulary that saw none of them; repeatable.")
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", help=message("File of the token that the model server asks for.")),
]
Recipe = Annotated[
    str | None,
    typer.Option("--recipe", help=message("module:name of a training recipe, to train references from.")),
]
RecipeCount = Annotated[
    int | None,
    typer.Option(
        "--references",
        min=1,
        help=message("How many references, or shadows of a classifier, the recipe trains: 1, or 32."),
    ),
]
Factory = Annotated[
    str | None,
    typer.Option(
        "--factory", help=message("module:name of what makes the torch module whose weights are given.")
    ),
]
MembershipDesign = Annotated[
    Literal["observed", "randomised"],
    typer.Option(
        "--membership", help=message("randomised only if chance alone decided who trained the model.")
    ),
]
DropOverlap = Annotated[
    bool,
    typer.Option("--drop-overlap", help=message("Leave patients of both sides out of the held-out side.")),
]
Only = Annotated[
    str | None, typer.Option("--only", help=message("Test names or their beginnings, separated by commas."))
]
Sampled = Annotated[
    int,
    typer.Option(
        "--sampled",
        min=40,
        help=message("Patients for the tests that generate or sweep; the others ask everyone."),
    ),
]
Positive = Annotated[
    str | None,
    typer.Option(
        "--positive",
        help=message(
            "Class of a classifier that equity is about; the second of two, of more each in turn, by default."
        ),
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help=message("Probability, between 0 and 1, from which that class is called; else the likeliest is."),
    ),
]
Families = Annotated[
    Path | None,
    typer.Option(
        "--families", help=message("TOML file of sensitive families of codes, added to the built-in.")
    ),
]
Workers = Annotated[
    int,
    typer.Option("--workers", min=1, help=message("Processes that share the work; 1 works in this one.")),
]
BackendName = Annotated[
    Literal["loky", "ray", "dask"],
    typer.Option("--backend", help=message("What starts them: loky, ray or dask.")),
]
ShowRecords = Annotated[
    bool,
    typer.Option(
        "--show-records", help=message("Write codes of extractable passages into the confidential folder.")
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help=message("New or empty folder; ./primum-<date>-<model> by default.")),
]
SignKey = Annotated[
    Path | None,
    typer.Option("--sign-key", help=message("Ed25519 private key, PEM: signs the findings and the report.")),
]
PublicKey = Annotated[
    Path | None,
    typer.Option("--public-key", help=message("Ed25519 public key, PEM, of whoever signed.")),
]
ShowIds = Annotated[
    bool, typer.Option("--show-ids", help=message("Name the patient in error messages about records."))
]
LogJson = Annotated[
    bool, typer.Option("--log-json", help=message("One JSON object a line on stderr, for machines."))
]
AsJson = Annotated[bool, typer.Option("--json", help=message("Print the findings as JSON on stdout."))]

ARGUMENTS = {
    "model": message(
        "Folder of a model of records (config.json, model.safetensors, vocab.json, token_profile.json), of a "
        "classifier (model.onnx, model.skops, model.safetensors, predictions.csv), or the https:// address "
        "of a model server."
    ),
    "kind": message("What to demonstrate."),
    "directory": message("Folder that an audit wrote."),
    "records": message("MEDS, OMOP or FHIR folder, or cases; train trains, tuning says when to stop."),
    "name": message("Name of the model in MLflow."),
    "version": message("Its version in MLflow."),
    "artefact": message("Folder of a model in safetensors or ONNX, or an .onnx file."),
    "registered": message("Beginning of a model's digest, six digits or more, or name:version of its card."),
    "of_model": message("One model, by its digest or name:version; all of them by default."),
    "first": message("A registered model, by its digest or name:version."),
    "second": message("The model that it is compared with."),
    "policy_file": message("The new policy, release.toml."),
    "test_set": message("Folder of the test set."),
    "twin": message("Folder of the model that was audited."),
    "trail": message("SQLite file, or postgresql://user@host/database (password in PGPASSFILE)."),
    "export": message("File that primum trail export wrote."),
    "updates": message("Captured updates, one safetensors file each."),
}
HELP_OPTION = message("Show this message and exit.")
