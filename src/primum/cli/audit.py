"""``primum audit``."""

import json as json_text
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
from rich.console import Console

from primum.cli import options
from primum.cli.progress import Stages
from primum.report.language import Language, message, preferred_language

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from primum.workflows.plan import AuditResult

HELP = message(
    "Test what a model remembers of the patients who trained it.\n\n"
    "Exit status: 0 nothing found, 1 harm found, 2 unusable input, 3 it could not be told, 4 the machine.\n\n"
    "Example: primum audit model/ --records meds/ --reference other-model/ --out report/"
)


def audit_command(
    model: options.ModelPlace,
    records: options.RecordsFolder,
    held_out: options.HeldOut = None,
    reference: options.References = None,
    token_file: options.TokenFile = None,
    recipe: options.Recipe = None,
    references: options.RecipeCount = 1,
    membership: options.MembershipDesign = "observed",
    drop_overlap: options.DropOverlap = False,
    only: options.Only = None,
    sampled: options.Sampled = 500,
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
    from primum.fit.protocol import load_recipe
    from primum.models.doors import open_model
    from primum.records.opened import open_records
    from primum.report.signature import read_private_key
    from primum.workflows.audit import run_audit
    from primum.workflows.command import audit_plan, written_command
    from primum.workflows.outputs import refuse_full
    from primum.workflows.workers import workers as start

    language = Language(lang or preferred_language())
    with start(workers, backend=backend) as apply:
        opened = open_model(model, token_file=token_file)
        target = out or Path(f"primum-{datetime.now(UTC):%Y%m%d}-{opened.ref.digest[:8]}")
        refuse_full(target)
        key = read_private_key(sign_key) if sign_key else None
        plan = audit_plan(
            opened,
            records=open_records(records, show_ids=show_ids),
            held_out=open_records(held_out, show_ids=show_ids) if held_out else None,
            references=[
                open_model(one, token_file=_token_for(one, model, token_file)) for one in reference or ()
            ],
            recipe=load_recipe(recipe) if recipe else None,
            recipe_count=references,
            only=tuple(only.split(",")) if only else (),
            membership=membership,
            drop_overlap=drop_overlap,
            seed=seed,
            sampled=sampled,
            families=families,
            show_records=show_records,
            command=written_command(click.get_current_context().obj),
        )
        stages = Stages(language, as_json=log_json)
        result = run_audit(plan, progress=stages, apply=apply)
        stages.close()
    return _hand_over(result, target, sign_key=key, language=language, as_json=json)


def _token_for(place: str, model: str, token_file: Path | None) -> Path | None:
    """Give the token to the server of the model only."""
    return token_file if urlsplit(place)[:2] == urlsplit(model)[:2] else None


def _hand_over(
    result: "AuditResult",
    target: Path,
    *,
    sign_key: "Ed25519PrivateKey | None",
    language: Language,
    as_json: bool,
) -> int:
    from primum.evidence.canonical import plain
    from primum.report.show import summary_table
    from primum.workflows.outputs import whole_folder, write_result

    with whole_folder(target) as folder:
        write_result(folder, result, language=language, sign_key=sign_key)
    if as_json:
        # Escaped, so that no name in it can play tricks on a terminal.
        text = json_text.dumps(plain(result.audit), sort_keys=True).replace("\x7f", "\\u007f")
        sys.stdout.write(text + "\n")
    else:
        console = Console(highlight=False)
        console.print(summary_table(result.audit, language, width=console.width))
        print(language.text("Report: {path}", path=str(target / "report.html")))
    return result.audit.exit_status
