"""The verbs and their help, in one language."""

import click
import typer

from primum.cli import (
    audit,
    demo,
    inspect_updates,
    options,
    release,
    report,
    trail,
    trail_witness,
    train,
    vault,
)
from primum.errors import InputError
from primum.report.language import Language, message

app = typer.Typer(
    name="primum",
    help=message("Primum tells what a clinical AI model remembers about its patients. Primum non nocere."),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)
app.command("audit", help=audit.HELP)(audit.audit_command)
app.command("demo", help=demo.HELP)(demo.demo_command)
app.command("inspect-updates", help=inspect_updates.HELP)(inspect_updates.inspect_updates_command)
app.add_typer(release.release_app, name="release")
app.add_typer(report.report_app, name="report")
trail.trail_app.command("witness", help=trail_witness.HELP)(trail_witness.witness_command)
app.add_typer(trail.trail_app, name="trail")
app.add_typer(train.train_app, name="train")
app.add_typer(vault.vault_app, name="vault")


def perform(arguments: list[str], language: Language) -> int:
    """Parse `arguments`, carry them out and return the exit status.

    Raises
    ------
    InputError
        The arguments cannot be parsed.
    KeyboardInterrupt
        The command was aborted.
    """
    command = typer.main.get_command(app)
    _say_help(command, language)
    try:
        status = command.main(arguments, "primum", standalone_mode=False, obj=arguments)
    except click.UsageError as error:
        raise InputError(
            "{problem} Try: {command} --help",
            problem=error.format_message(),
            command=error.ctx.command_path if error.ctx else "primum",
        ) from error
    except click.exceptions.Abort as error:
        raise KeyboardInterrupt from error
    return status if isinstance(status, int) else 0


def _say_help(command: click.Command, language: Language) -> None:
    """Say the help of a command and of all below it in the language; the frame around it is typer's."""
    command.help = language.text(command.help or "")
    if shown := command.get_help_option(click.Context(command)):
        shown.help = language.text(options.HELP_OPTION)
    for parameter in command.params:
        # click 8.5 drops the help that typer 0.20 gives an argument.
        said = (
            parameter.help if isinstance(parameter, click.Option) else options.ARGUMENTS[str(parameter.name)]
        )
        parameter.help = language.text(said or "")
    for verb in command.commands.values() if isinstance(command, click.Group) else ():
        _say_help(verb, language)
