"""The words of the four families beyond privacy, and of what travels between hospitals, put together."""

from types import ModuleType
from typing import Any

from primum.report import data_words, equity_words, explanation_words, robustness_words, updates_words

_ALL: tuple[ModuleType, ...] = (
    robustness_words,
    data_words,
    equity_words,
    explanation_words,
    updates_words,
)


def _merged(name: str) -> dict[str, Any]:
    return {key: value for words in _ALL for key, value in getattr(words, name, {}).items()}


TESTS: dict[str, tuple[str, str]] = _merged("TESTS")
MEANS: dict[str, str] = _merged("MEANS")
ACCESS: dict[str, str] = _merged("ACCESS")
COSTS: dict[str, str] = _merged("COSTS")
SETTINGS: dict[str, str] = _merged("SETTINGS")
GAINS: dict[str, str] = _merged("GAINS")
ADVICE: dict[str, str] = _merged("ADVICE")
# Label, whether per cent, which way is worse, digits.
QUANTITIES: dict[str, tuple[str, bool, str, int]] = _merged("QUANTITIES")
REASONS: dict[str, str] = _merged("REASONS")
ATTACKERS: dict[str, str] = _merged("ATTACKERS")
METHODS: dict[str, str] = _merged("METHODS")
PLOTS: dict[str, tuple[str, str]] = _merged("PLOTS")
COLUMNS: dict[str, str] = _merged("COLUMNS")
LITERATURE: dict[str, str] = _merged("LITERATURE")
