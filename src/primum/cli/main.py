"""The command ``primum``: every way it can end has its exit status."""

import errno
import os
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from primum.cli.log import write_line
from primum.errors import MachineError, PrimumError, clean_text
from primum.report.language import Language, preferred_language

_BUG = 70
_PACKAGE = Path(__file__).parents[1]
_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run with `arguments` and return the exit status; an error has become a sentence on stderr."""
    language = _language(arguments)
    status, sentence = _performed(arguments, language)
    if "--log-json" in arguments:
        write_line("error" if sentence else "info", "end", status=status, message=sentence)
    elif sentence:
        print(clean_text(sentence), file=sys.stderr)
    return status


def _performed(arguments: list[str], language: Language) -> tuple[int, str | None]:
    """Return the exit status, and the sentence that says why when the command did not end well."""
    try:
        # Here and not above: Ctrl-C is heard while it loads.
        from primum.cli.verbs import perform

        status = perform(arguments, language)
        if status == _INTERRUPTED:  # typer makes this of Ctrl-C, and says nothing
            raise KeyboardInterrupt
        return status, None
    except KeyboardInterrupt:
        return _INTERRUPTED, language.text("Interrupted: nothing was written.")
    except PrimumError as error:
        return error.exit_status, language.error(error)
    except (MemoryError, OSError) as error:
        machine = _refusal(error)
        return machine.exit_status, language.error(machine)
    except Exception as error:
        return _BUG, _bug(error, language)


def _refusal(error: MemoryError | OSError) -> MachineError:
    """Say what refused; a disk full here is that of temporary files, because kept files name their place."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(
            "The disk is full: nothing was written; free some space, or set TMPDIR to a roomier folder for "
            "temporary files than {folder}.",
            folder=tempfile.gettempdir(),
        )
    return MachineError(
        "The machine refused ({reason}): nothing was written.",
        reason=getattr(error, "strerror", None) or type(error).__name__,
    )


def _language(arguments: list[str]) -> Language:
    """Speak the language of ``--lang`` before the options are parsed, for help and for errors in them too."""
    asked = [after for option, after in pairwise(arguments) if option == "--lang"]
    return Language("fr" if asked == ["fr"] else "en" if asked == ["en"] else preferred_language())


def _bug(error: Exception, language: Language) -> str:
    """Say where, never what: the text of an unforeseen error may hold patient data."""
    if os.environ.get("PRIMUM_TRACEBACK"):
        raise error
    place, trace = "", error.__traceback__
    while trace:
        code = trace.tb_frame.f_code
        if Path(code.co_filename).is_relative_to(_PACKAGE):
            place = f"{Path(code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return language.text(
        "This is a bug in Primum ({kind} at {place}): please report it; PRIMUM_TRACEBACK=1 shows more, "
        "which may include patient data.",
        kind=type(error).__name__,
        place=place,
    )
