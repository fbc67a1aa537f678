"""What can go wrong, and the exit status that says so.

::

    PrimumError                 one sentence, a template and its parameters, so that it can be said in French
    ├── InputError         2    what the user gave cannot be used
    │   ├── RecordsError   2    patient records: names the file, the row, the column
    │   ├── VocabularyError 2   the model's tokens and the records do not meet
    │   └── ModelError     2    a model folder, its weights, or what it answers
    ├── MachineError       4    disk, memory, server: not the user's input
    └── Interrupted      130    Ctrl-C, when there is something to go on with
"""

import re
import unicodedata


def clean_text(value: object) -> str:
    r"""Drop what can change how text is shown: control, format, bidirectional and unassigned characters.

    Examples
    --------
    >>> clean_text("site\x1b[31m\u202eB\nC")
    'site[31mB C'
    """
    spaced = re.sub(r"[\t\n\r\f\v\u2028\u2029]+", " ", str(value))
    return "".join(letter for letter in spaced if not unicodedata.category(letter).startswith("C"))


class PrimumError(Exception):
    """An error that a person can act on.

    Parameters
    ----------
    template : str
        An English sentence with ``{name}`` fields; it is also the key of its translation.
    **parameters : str or int or float
        The fields. Never a patient identifier or a value from a record: errors reach logs.

    Examples
    --------
    >>> str(InputError("{file} is empty: give a folder with patients in it.", file="train"))
    'train is empty: give a folder with patients in it.'
    """

    exit_status = 70

    def __init__(self, template: str, **parameters: str | int | float) -> None:
        self.template = template
        self.parameters = parameters
        super().__init__(template.format(**parameters))


class InputError(PrimumError):
    """What the user gave cannot be used; nothing was written."""

    exit_status = 2


class RecordsError(InputError):
    """Patient records that break their format; names the file, the row and the column."""


class VocabularyError(InputError):
    """The model's tokens and the records do not meet."""


class ModelError(InputError):
    """A model folder that cannot be opened, or a model that answers nonsense."""


class MachineError(PrimumError):
    """Disk, memory or server: the input is not at fault."""

    exit_status = 4


class Interrupted(PrimumError):
    """Stopped by Ctrl-C; says what was kept."""

    exit_status = 130
