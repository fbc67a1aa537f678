"""``primum audit``."""

import json as json_text
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from primum.cli import options
from primum.cli.asked import Asked, Prepared, prepare
from primum.cli.progress import Stages
from primum.report.language import Language, message, preferred_language

if TYPE_CHECKING:
    from primum.evidence.audit import Audit
    from primum.workflows.workers import Map

HELP = message(
    "Test what a model remembers of the patients who trained it.\n\n"
    "Exit status: 0 nothing found, 1 harm found, 2 unusable input, 3 it could not be told, 4 the machine.\n\n"
    "Example: primum audit model/ --records meds/ --reference other-model/ --out report/"
)


def audit_command(
    model: options.ModelPlace,
    records: options.RecordsFolder = None,
    held_out: options.HeldOut = None,
    reference: options.References = None,
    token_file: options.TokenFile = None,
    factory: options.Factory = None,
    recipe: options.Recipe = None,
    references: options.RecipeCount = None,
    membership: options.MembershipDesign = "observed",
    drop_overlap: options.DropOverlap = False,
    only: options.Only = None,
    sampled: options.Sampled = 500,
    positive: options.Positive = None,
    threshold: options.Threshold = None,
    families: options.Families = None,
    workers: options.Workers = 1,
    backend: options.BackendName = "loky",
    out: options.Out = None,
    sign_key: options.SignKey = None,
    lang: options.Lang = None,
    seed: options.Seed = 0,
    show_ids: options.ShowIds = False,
    show_records: options.ShowRecords = False,
    json: options.AsJson = False,
    log_json: options.LogJson = False,
) -> int:
    """Turn what was typed into a plan, and carry it out."""
    from primum.workflows.command import written_command
    from primum.workflows.workers import workers as start

    language = Language(lang or preferred_language())
    with start(workers, backend=backend) as apply:
        prepared = prepare(
            Asked(
                model=model,
                records=records,
                held_out=held_out,
                reference=tuple(reference or ()),
                token_file=token_file,
                factory=factory,
                recipe=recipe,
                references=references,
                membership=membership,
                drop_overlap=drop_overlap,
                only=tuple(only.split(",")) if only else (),
                sampled=sampled,
                positive=positive,
                threshold=threshold,
                families=families,
                seed=seed,
                show_ids=show_ids,
                show_records=show_records,
                command=written_command(click.get_current_context().obj),
            )
        )
        places, stages = _places(out, prepared.digest[:8]), Stages(language, as_json=log_json)
        audit = _carry_out(prepared, places, stages, recipe, apply, sign_key, language)
    return _shown(audit, places[0], language=language, as_json=json)


def _places(out: Path | None, short: str) -> tuple[Path, Path]:
    """Say where the report goes, which must be free, and until then what is finished of it."""
    from primum.workflows.kept_folder import unfinished_beside
    from primum.workflows.outputs import refuse_full

    target = out or Path(f"primum-{datetime.now(UTC):%Y%m%d}-{short}")
    refuse_full(target)
    # Without a date: the same command finds it on another day.
    return target, unfinished_beside(out or Path(f"primum-{short}"))


def _carry_out(
    prepared: Prepared,
    places: tuple[Path, Path],
    stages: Stages,
    recipe: str | None,
    apply: "Map",
    key: Path | None,
    language: Language,
) -> "Audit":
    from primum.evidence.signature import read_private_key
    from primum.workflows.kept_folder import keeping, key_of
    from primum.workflows.outputs import whole_folder, write_result

    sign_key = read_private_key(key) if key else None
    target, unfinished = places
    with keeping(unfinished, key=key_of(prepared.plan, recipe=recipe)) as kept:
        result = prepared.run(prepared.plan, progress=stages, apply=apply, kept=kept)
        stages.close()
        with whole_folder(target) as folder:
            write_result(folder, result, language=language, sign_key=sign_key)
    return result.audit


def _shown(audit: "Audit", target: Path, *, language: Language, as_json: bool) -> int:
    from primum.evidence.canonical import plain
    from primum.report.show import summary_table

    if as_json:
        # Escaped, so that no name in it can play tricks on a terminal.
        text = json_text.dumps(plain(audit), sort_keys=True).replace("\x7f", "\\u007f")
        sys.stdout.write(text + "\n")
    else:
        console = Console(highlight=False)
        console.print(summary_table(audit, language, width=console.width))
        print(language.text("Report: {path}", path=str(target / "report.html")))
    return audit.exit_status
