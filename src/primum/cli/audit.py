"""``primum audit``."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from primum.cli.progress import Stages
from primum.evidence.canonical import canonical_bytes
from primum.fit.protocol import load_recipe
from primum.models.doors import open_model
from primum.records.meds import MedsFolder
from primum.report.language import Language, preferred_language
from primum.report.show import summary_table
from primum.workflows.audit import AuditPlan, run_audit
from primum.workflows.command import audit_plan, written_command
from primum.workflows.outputs import refuse_full, whole_folder, write_result

Lang = Annotated[
    Literal["fr", "en"] | None, typer.Option("--lang", help="Language of the report; yours by default.")
]


def audit_command(
    model: Annotated[Path, typer.Argument(help="Model folder: config.json, safetensors, vocab.json.")],
    records: Annotated[Path, typer.Option("--records", help="MEDS folder; its train split are the members.")],
    held_out: Annotated[
        Path | None,
        typer.Option("--held-out", help="MEDS folder of patients who did not train the model."),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option("--reference", help="Model of the same vocabulary that saw none of them; repeatable."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="module:name of a training recipe, to train references from."),
    ] = None,
    references: Annotated[
        int, typer.Option("--references", min=1, help="How many references the recipe trains.")
    ] = 1,
    membership: Annotated[
        Literal["observed", "randomised"],
        typer.Option(help="randomised only if chance alone decided who trained the model."),
    ] = "observed",
    drop_overlap: Annotated[
        bool,
        typer.Option("--drop-overlap", help="Leave patients of both sides out of the held-out side."),
    ] = False,
    only: Annotated[
        str | None, typer.Option("--only", help="Test names or their beginnings, separated by commas.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="New or empty folder for the report.")] = None,
    lang: Lang = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    show_ids: Annotated[
        bool, typer.Option("--show-ids", help="Name the patient in error messages about records.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON on stdout.")] = False,
) -> int:
    """Test what MODEL remembers of the patients who trained it.

    Exit status: 0 nothing found, 1 harm found, 2 unusable input, 3 it could not be told, 4 the machine.

    Example: primum audit model/ --records meds/ --reference other-model/ --out report/
    """
    language = Language(lang or preferred_language())
    opened = open_model(model)
    target = out or Path(f"primum-{datetime.now(UTC):%Y%m%d}-{opened.ref.digest[:8]}")
    refuse_full(target)
    plan = audit_plan(
        opened,
        records=MedsFolder(records, show_ids=show_ids),
        held_out=MedsFolder(held_out, show_ids=show_ids) if held_out else None,
        references=[open_model(path) for path in reference or ()],
        recipe=load_recipe(recipe) if recipe else None,
        recipe_count=references,
        only=tuple(only.split(",")) if only else (),
        membership=membership,
        drop_overlap=drop_overlap,
        seed=seed,
        command=written_command(sys.argv[1:]),
    )
    return _carry_out(plan, target, language=language, as_json=json)


def _carry_out(plan: AuditPlan, target: Path, *, language: Language, as_json: bool) -> int:
    stages = Stages(language)
    result = run_audit(plan, progress=stages)
    stages.close()
    with whole_folder(target) as folder:
        write_result(folder, result, language=language)
    if as_json:
        sys.stdout.write(canonical_bytes(result.audit).decode() + "\n")
    else:
        Console(highlight=False).print(summary_table(result.audit, language))
        print(language.text("Report: {path}", path=str(target / "report.html")))
    return result.audit.exit_status
