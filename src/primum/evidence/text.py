"""The cleaning of text that came as data, before a person reads it."""

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
