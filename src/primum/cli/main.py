"""The command ``primum``: every way it can end has its exit status."""

import os
import sys
from itertools import pairwise
from pathlib import Path

import click
import typer

from primum.cli.audit import audit_command
from primum.cli.demo import demo_command
from primum.cli.report import report_app
from primum.errors import MachineError, PrimumError
from primum.report.language import Language, clean_text, preferred_language

app = typer.Typer(
    name="primum",
    help="Primum tells what a clinical AI model remembers about its patients. Primum non nocere.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command("audit")(audit_command)
app.command("demo")(demo_command)
app.add_typer(report_app, name="report")

_BUG = 70
_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run with `arguments` and return the exit status; the only place that turns an error into a sentence."""
    language = _language(arguments)
    try:
        status = app(arguments, standalone_mode=False, obj=arguments)
        if status == _INTERRUPTED:  # typer makes this of Ctrl-C, and says nothing
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except click.UsageError as error:
        help_of = error.ctx.command_path if error.ctx else "primum"
        _say(
            language.text("{problem} Try: {command} --help", problem=error.format_message(), command=help_of)
        )
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        _say(language.text("Interrupted: nothing was written."))
        return _INTERRUPTED
    except PrimumError as error:
        _say(language.error(error))
        return error.exit_status
    except (MemoryError, OSError) as error:
        machine = MachineError(
            "The machine refused ({reason}): nothing was written.",
            reason=getattr(error, "strerror", None) or type(error).__name__,
        )
        _say(language.error(machine))
        return machine.exit_status
    except Exception as error:
        return _bug(error, language)


def _language(arguments: list[str]) -> Language:
    """Speak the language of ``--lang`` before the options are parsed, for errors in them too."""
    asked = [after for option, after in pairwise(arguments) if option == "--lang"]
    return Language("fr" if asked == ["fr"] else "en" if asked == ["en"] else preferred_language())


def _bug(error: Exception, language: Language) -> int:
    """Say where, never what: the text of an unforeseen error may hold patient data."""
    if os.environ.get("PRIMUM_TRACEBACK"):
        raise error
    place, trace = "", error.__traceback__
    while trace:
        code = trace.tb_frame.f_code
        if "primum" in code.co_filename:
            place = f"{Path(code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    _say(
        language.text(
            "This is a bug in Primum ({kind} at {place}): please report it; PRIMUM_TRACEBACK=1 shows more, "
            "which may include patient data.",
            kind=type(error).__name__,
            place=place,
        )
    )
    return _BUG


def _say(sentence: str) -> None:
    print(clean_text(sentence), file=sys.stderr)
