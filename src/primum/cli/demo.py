"""``primum demo``."""

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from primum.cli import options
from primum.cli.progress import Stages
from primum.report.language import Language, message, preferred_language

HELP = message(
    "Train a leaky and a protected model on patients who do not exist, and audit both.\n\n"
    "Example: primum demo --lang fr"
)


def demo_command(
    kind: Annotated[Literal["ehr"], typer.Argument()] = "ehr",
    out: Annotated[Path, typer.Option("--out", help=message("New or empty folder."))] = Path("primum-demo"),
    lang: options.Lang = None,
    seed: options.Seed = 0,
    size: Annotated[
        Literal["full", "small"],
        typer.Option("--size", help=message("small takes seconds and shows less.")),
    ] = "full",
) -> int:
    """Make the demonstration and print it."""
    from primum.cli.demo_outcome import show_outcome
    from primum.workflows.demo import SMALL, DemoSettings, run_demo
    from primum.workflows.outputs import refuse_full, whole_folder

    language = Language(lang or preferred_language())
    refuse_full(out)
    stages = Stages(language)
    started = time.perf_counter()
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
