"""``primum release seal | certify | convert``: test sets, and what is measured on them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer
from rich.console import Console

from primum.cli import options, release_options
from primum.report.language import Language, message, preferred_language

if TYPE_CHECKING:
    from collections.abc import Callable

    from primum.evidence.audit import Audit
    from primum.workflows.certify import Certified

_HERE = Path("registry")
TestSet = Annotated[Path, typer.Argument()]
Out = Annotated[Path, typer.Option("--out", help=message("New or empty folder for the findings."))]


def add_running(app: typer.Typer) -> None:
    """Add the verbs that read data or run a model."""
    app.command(
        "seal",
        help=message(
            "Vouch for a test set, with your key: every file by its digest.\n\n"
            'Example: primum release seal test-set/ --name "chest 2026" --key sam.pem'
        ),
    )(seal)
    app.command(
        "certify",
        help=message(
            "Run a registered model on a sealed test set; the use is counted.\n\n"
            "Example: primum release certify model/ test-set/ --out certificate/ --sign-key auditor.pem"
        ),
    )(certify)
    app.command(
        "convert",
        help=message(
            "Show that an ONNX file answers as the audited weights do, on 1,000 cases or more.\n\n"
            "Exit status: 0 findings may pass, 3 they may not, 2 unusable input, 4 the machine.\n\n"
            "Example: primum release convert weights/ model/ --cases cases/ --out conversion/ --sign-key "
            "auditor.pem"
        ),
    )(convert)
    app.command(
        "import-mlflow",
        help=message(
            "Register a version of a model of an MLflow registry: safetensors or ONNX.\n\n"
            "Example: primum release import-mlflow chest 3 --from https://mlflow.example --card card.toml"
        ),
    )(import_mlflow)
    app.command(
        "export-mlflow",
        help=message(
            "Write a registered model, its card and findings to an MLflow registry.\n\n"
            "Example: primum release export-mlflow chest:2 --into https://mlflow.example"
        ),
    )(export_mlflow)


def seal(
    test_set: TestSet,
    name: Annotated[str, typer.Option("--name", help=message("What people call it."))],
    key: release_options.PersonKey,
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    lang: options.Lang = None,
) -> int:
    """Seal a test set."""
    from primum.evidence.signature import read_private_key
    from primum.release.test_sets import seal as vouch

    signing = read_private_key(key)
    with release_options.opened(registry, trail) as one:
        made = vouch(one, test_set, name=name, key=signing)
    language = Language(lang or preferred_language())
    print(language.text("Sealed: {count} files, {digest}", count=len(made.files), digest=made.digest))
    return 0


def certify(
    model: Annotated[str, typer.Argument()],
    test_set: TestSet,
    out: Out,
    sign_key: options.SignKey = None,
    positive: options.Positive = None,
    threshold: options.Threshold = None,
    factory: options.Factory = None,
    purpose: Annotated[
        str, typer.Option("--purpose", help=message("A short word for the trail."))
    ] = "certification",
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    by: release_options.By = None,
    lang: options.Lang = None,
) -> int:
    """Run a model on a certified test set."""
    from primum.cli.progress import Stages
    from primum.workflows.certify import write_certificate
    from primum.workflows.command import written_command
    from primum.workflows.outputs import refuse_full

    language, signing = Language(lang or preferred_language()), release_options.private_key(sign_key)
    refuse_full(out)
    command = written_command(click.get_current_context().obj or [])
    run = _certifier(model, test_set, factory=factory, positive=positive, threshold=threshold)
    stages = Stages(language)
    with release_options.opened(registry, trail) as one:
        made = run(one, by=release_options.account(by), purpose=purpose, command=command, progress=stages)
    stages.close()
    write_certificate(out, made.audit, language=language, sign_key=signing)
    _show(made.audit, out, language)
    print(language.text("The test set has now served {count} times.", count=made.uses))
    return 0


def _certifier(
    model: str, test_set: Path, *, factory: str | None, positive: str | None, threshold: float | None
) -> "Callable[..., Certified]":
    """Open the model, and say how it is run on a test set of its kind."""
    from functools import partial

    from primum.errors import InputError
    from primum.records.case_folder import is_cases

    if is_cases(test_set):
        from primum.models.classifier_doors import open_classifier
        from primum.workflows.certify import certify as run

        opened = open_classifier(model, factory=factory)
        return partial(run, model=opened, test_set=test_set, positive=positive, threshold=threshold)
    for option, given in (("--factory", factory), ("--positive", positive), ("--threshold", threshold)):
        if given is not None:
            raise InputError(
                "{option} is for classifiers, and this is a model of records: leave it out.", option=option
            )
    from primum.models.doors import open_model
    from primum.workflows.certify_records import certify_records

    return partial(certify_records, model=open_model(model), test_set=test_set)


def convert(
    twin: Annotated[Path, typer.Argument()],
    model: Annotated[str, typer.Argument()],
    cases: Annotated[Path, typer.Option("--cases", help=message("Cases to ask both about; 1,000 or more."))],
    out: Out,
    factory: options.Factory = None,
    sign_key: options.SignKey = None,
    lang: options.Lang = None,
) -> int:
    """Compare a model with its twin."""
    from primum.cli.progress import Stages
    from primum.models.classifier_doors import open_classifier
    from primum.records.case_folder import open_cases
    from primum.workflows.certify import write_certificate
    from primum.workflows.command import written_command
    from primum.workflows.conversion import compare_twins
    from primum.workflows.outputs import refuse_full

    language, signing = Language(lang or preferred_language()), release_options.private_key(sign_key)
    refuse_full(out)
    stages = Stages(language)
    audit = compare_twins(
        open_classifier(twin, factory=factory),
        open_classifier(model),
        open_cases(cases),
        command=written_command(click.get_current_context().obj or []),
        progress=stages,
    )
    stages.close()
    write_certificate(out, audit, language=language, sign_key=signing)
    _show(audit, out, language)
    alike = audit.findings[0].verdict == "none_found"
    sentence = message("Findings do not pass from one to the other.")
    if alike:
        sentence = message("The two answer alike: findings of the first pass to the second.")
    print(language.text(sentence))
    return 0 if alike else 3


def import_mlflow(
    name: Annotated[str, typer.Argument()],
    version: Annotated[str, typer.Argument()],
    address: Annotated[str, typer.Option("--from", help=message("Tracking address of MLflow."))],
    card: Annotated[Path, typer.Option("--card", help=message("Release card, TOML or JSON."))],
    key: release_options.OptionalKey = None,
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    by: release_options.By = None,
    lang: options.Lang = None,
) -> int:
    """Register a model that MLflow keeps."""
    from primum.release.mlflow_models import import_model

    with release_options.opened(registry, trail) as one:
        signing = release_options.private_key(key)
        digest = import_model(one, address, name, version, card_file=card, by=by, key=signing)
    print(Language(lang or preferred_language()).text("Registered: {digest}", digest=digest))
    return 0


def export_mlflow(
    registered: release_options.Registered,
    address: Annotated[str, typer.Option("--into", help=message("Tracking address of MLflow."))],
    name: Annotated[
        str | None, typer.Option("--name", help=message("Its name in MLflow; that of the card by default."))
    ] = None,
    registry: release_options.RegistryFolder = _HERE,
    trail: release_options.TrailAddress = None,
    by: release_options.By = None,
    lang: options.Lang = None,
) -> int:
    """Write a model to MLflow."""
    from primum.release.mlflow_models import export_model

    with release_options.opened(registry, trail) as one:
        model = one.find(registered)
        version = export_model(one, model.digest, address, name=name, by=release_options.account(by))
    language = Language(lang or preferred_language())
    print(language.text("Exported: version {version} in MLflow.", version=version))
    return 0


def _show(audit: "Audit", out: Path, language: Language) -> None:
    from primum.cli.release_shown import table_of
    from primum.report.certificate import lines_of

    rows = [(one.name, one.value, one.interval, one.patients) for one in lines_of(audit, language=language)]
    headings = (message("Measure"), message("Value"), message("95% interval"), message("Patients"))
    Console(highlight=False).print(table_of(headings, rows, language))
    print(language.text("Report: {path}", path=str(out / "report.html")))
