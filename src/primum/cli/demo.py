"""``primum demo``."""

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from primum.cli import options
from primum.cli.progress import Stages
from primum.errors import InputError
from primum.report.language import Language, message, preferred_language

HELP = message(
    "Train a leaky and a protected model on patients who do not exist, and audit both: ehr is a model of "
    "health records, images a classifier of chest-like images, table one of emergency admissions.\n\n"
    "Example: primum demo images --lang fr"
)


def demo_command(
    kind: Annotated[Literal["ehr", "images", "table"], typer.Argument()] = "ehr",
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help=message("With images: real ones instead, as one .npz file in the form of MedMNIST."),
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help=message("New or empty folder."))] = Path("primum-demo"),
    lang: options.Lang = None,
    seed: options.Seed = 0,
    size: Annotated[
        Literal["full", "small"],
        typer.Option("--size", help=message("small takes seconds and shows less.")),
    ] = "full",
) -> int:
    """Make the demonstration and print it."""
    from primum.workflows.outputs import refuse_full, whole_folder

    language = Language(lang or preferred_language())
    if file is not None and kind != "images":
        raise InputError("--file is for primum demo images: leave it out.")
    refuse_full(out)
    stages = Stages(language)
    started = time.perf_counter()
    if kind == "ehr":
        from primum.cli.demo_outcome import show_outcome
        from primum.workflows.demo import SMALL, DemoSettings, run_demo

        with whole_folder(out) as folder:
            outcome = run_demo(
                folder,
                settings=SMALL if size == "small" else DemoSettings(),
                language=language,
                seed=seed,
                shown_as=out,
                progress=stages,
            )
            stages.close()
        show_outcome(outcome, out, language, seconds=time.perf_counter() - started)
        return 0
    from primum.cli.demo_outcome import show_case_outcome
    from primum.workflows import demo_cases

    with whole_folder(out) as folder:
        found = demo_cases.run_case_demo(
            kind,
            folder,
            settings=(demo_cases.SMALL if size == "small" else demo_cases.FULL)[kind],
            language=language,
            seed=seed,
            shown_as=out,
            progress=stages,
            file=file,
        )
        stages.close()
    show_case_outcome(found, out, language, seconds=time.perf_counter() - started)
    return 0
