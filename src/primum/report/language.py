"""French and English: sentences, numbers, intervals and dates, and the cleaning of text that came as data.

The key of a translation is its English sentence. The French catalogue is the committed ``.po`` file, compiled
in memory: there is no second, binary copy that could disagree with it.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from io import BytesIO
from string import Formatter
from typing import Any, Literal

from babel.dates import format_date
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations

from primum.errors import PrimumError, clean_text

Code = Literal["fr", "en"]
NOTHING = "–"
_NARROW, _WIDE = "\u202f", "\u00a0"


def message(sentence: str) -> str:
    """Mark a sentence for translation where it is defined; :meth:`Language.text` says it later."""
    return sentence


def preferred_language() -> Code:
    """Read the language from ``LC_ALL``, else ``LANG``; English when it is not French."""
    chosen = os.environ.get("LC_ALL") or os.environ.get("LANG") or ""
    return "fr" if chosen.lower().startswith("fr") else "en"


@cache
def _french() -> Translations:
    source = files("primum.report").joinpath("locale/fr/LC_MESSAGES/primum.po").read_bytes()
    compiled = BytesIO()
    write_mo(compiled, read_po(BytesIO(source), locale="fr"))
    compiled.seek(0)
    return Translations(compiled)


def _french_spaces(sentence: str) -> str:
    sentence = re.sub(r" (?=[;!?%])", _NARROW, sentence)
    return re.sub(r" (?=[:»])|(?<=«) ", _WIDE, sentence)


class _Fields(Formatter):
    """Fill the fields of a sentence in one language; what is missing or not a number shows as a dash."""

    def __init__(self, *, french: bool) -> None:
        self.french = french

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return kwargs.get(str(key))

    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return NOTHING
        if isinstance(value, bool) or not isinstance(value, int | float):
            return clean_text(value)
        default = ("," if abs(value) >= 10_000 else "d") if isinstance(value, int) else ".4g"
        written = format(value, format_spec or default).replace("-", "\u2212")
        if not self.french:
            return written
        return written.replace(",", _NARROW).replace(".", ",").replace("%", _NARROW + "%")


@dataclass(frozen=True)
class Language:
    """How things are said in one language.

    Attributes
    ----------
    code : {"fr", "en"}
    """

    code: Code

    def text(self, template: str, /, **parameters: object) -> str:
        """Say an English template in this language, its fields cleaned and its numbers localised.

        Examples
        --------
        >>> Language("en").text("{share:.1%} of {n}", share=0.125, n=12000)
        '12.5% of 12,000'
        """
        french = self.code == "fr"
        if french and template:
            template = _french_spaces(_french().gettext(template))
        return _Fields(french=french).vformat(template, (), parameters)

    def error(self, error: PrimumError) -> str:
        """Say an error in this language."""
        return self.text(error.template, **error.parameters)

    def number(self, value: float | None, digits: int = 2) -> str:
        """Write a number; more digits are given where rounding would turn 0.998 into a flat 1.

        Examples
        --------
        >>> Language("fr").number(0.8712), Language("fr").number(0.9984), Language("en").number(1.0)
        ('0,87', '0,998', '1.00')
        """
        return _Fields(french=self.code == "fr").format_field(
            value, f".{_digits(value, digits, limits=(0, 1, 100))}f"
        )

    def percent(self, value: float | None, digits: int = 0) -> str:
        """Write a share, 0 to 1, as a percentage.

        Examples
        --------
        >>> Language("en").percent(0.713), Language("en").percent(0.0012)
        ('71%', '0.1%')
        """
        scaled = None if value is None else value * 100
        return _Fields(french=self.code == "fr").format_field(
            value, f".{_digits(scaled, digits, limits=(0, 100))}%"
        )

    def interval(
        self, low: float | None, high: float | None, *, digits: int = 2, percent: bool = False
    ) -> str:
        """Write an interval; a bound that does not exist leaves "at least" or "at most"."""
        write = self.percent if percent else self.number
        below, above = write(low, digits), write(high, digits)
        if NOTHING in (below, above):
            return NOTHING if below == above else self._bound(below, above)
        return self.text("{low} to {high}", low=below, high=above)

    def _bound(self, below: str, above: str) -> str:
        if above == NOTHING:
            return self.text("at least {bound}", bound=below)
        return self.text("at most {bound}", bound=above)

    def date(self, value: object) -> str:
        """Write a date given as ISO 8601; anything else is shown as it is."""
        try:
            day = date.fromisoformat(str(value)[:10])
        except ValueError:
            return clean_text(value)
        return str(format_date(day, format="long", locale=self.code))


def _digits(value: float | None, digits: int, *, limits: tuple[int, ...]) -> int:
    if value is None or not math.isfinite(value) or value in limits:
        return digits
    return next((more for more in range(digits, digits + 3) if round(value, more) not in limits), digits)
