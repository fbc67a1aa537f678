import re
from pathlib import Path
from string import Formatter

import pytest
from tests.report.messages import french, spoken

import primum
from primum.errors import InputError, clean_text
from primum.report.language import Code, Language, preferred_language
from primum.report.literature import CITATIONS

FRENCH, ENGLISH = Language("fr"), Language("en")


def test_every_sentence_is_translated() -> None:
    said, known = spoken(), french()
    missing = [f"{place}: {sentence}" for sentence, place in said.items() if sentence not in known]
    unfinished = [sentence for sentence, (translated, fuzzy) in known.items() if fuzzy or not translated]
    obsolete = [sentence for sentence in known if sentence not in said]
    assert not missing, "not in the French catalogue:\n" + "\n".join(missing)
    assert not unfinished, "empty or fuzzy in the French catalogue:\n" + "\n".join(unfinished)
    assert not obsolete, "no longer said, take out of the French catalogue:\n" + "\n".join(obsolete)


def test_translations_keep_their_fields() -> None:
    def fields(sentence: str) -> set[tuple[str | None, str | None]]:
        return {(name, spec) for _, name, spec, _ in Formatter().parse(sentence) if name is not None}

    wrong = [sentence for sentence, (said, _) in french().items() if fields(sentence) != fields(said)]
    assert wrong == []


def test_no_banned_word_is_in_any_sentence() -> None:
    banned = re.compile(r"anonym|\bsafe\b|complian|conforme|\bsûre?s?\b", re.IGNORECASE)
    both = [text for english, (said, _) in french().items() for text in (english, said)]
    assert [text for text in both if banned.search(text)] == []


@pytest.mark.parametrize(
    ("value", "digits", "english", "said"),
    [
        (0.8712, 2, "0.87", "0,87"),
        (-0.5, 2, "\u22120.50", "\u22120,50"),
        (0.9984, 2, "0.998", "0,998"),
        (1.0, 2, "1.00", "1,00"),
        (0.0, 2, "0.00", "0,00"),
        (95.7, 0, "96", "96"),
        (float("nan"), 2, "–", "–"),
        (None, 2, "–", "–"),
    ],
)
def test_numbers(value: float | None, digits: int, english: str, said: str) -> None:
    assert (ENGLISH.number(value, digits), FRENCH.number(value, digits)) == (english, said)


def test_percent_interval_date() -> None:
    assert (ENGLISH.percent(0.713), FRENCH.percent(0.713)) == ("71%", "71\u202f%")
    assert (ENGLISH.percent(0.9996, 1), ENGLISH.percent(1.0, 1)) == ("99.96%", "100.0%")
    assert (ENGLISH.interval(0.8, 0.9), FRENCH.interval(0.8, 0.9)) == ("0.80 to 0.90", "0,80 à 0,90")
    nan = float("nan")
    assert FRENCH.interval(nan, 0.004, digits=1, percent=True) == "au plus 0,4\u202f%"
    assert (ENGLISH.interval(3.1, nan), ENGLISH.interval(nan, nan)) == ("at least 3.10", "–")
    assert FRENCH.date("2026-11-22T01:00:00+00:00") == "22 novembre 2026"
    assert ENGLISH.date("soon\x1b") == "soon"


def test_fields_are_localised_and_cleaned() -> None:
    assert ENGLISH.text("{share:.1%} of {n}", share=0.125, n=12000) == "12.5% of 12,000"
    assert FRENCH.text("{share:.1%} : {n}", share=0.125, n=12000) == "12,5\u202f%\u00a0: 12\u202f000"
    assert ENGLISH.text("{a} {b:.2f} {c:.1%} {d}", a="\x1b[31m\u202e", b=None, c="x") == "[31m – x –"
    assert FRENCH.text("Leak") == "Fuite"
    assert FRENCH.text("") == ""


def test_errors_speak_french() -> None:
    error = InputError("{file} is not valid JSON: write the audit again.", file="a\u202eb")
    assert FRENCH.error(error) == "ab n’est pas du JSON valide\u00a0: refaites l’audit."


def test_clean_text_drops_what_hides() -> None:
    wicked = "".join(map(chr, [0, 7, 27, 127, 155, 0x200B, 0x200F, 0x202E, 0x2066, 0xFEFF, 0xD800, 0xE0041]))
    assert clean_text(f"a{wicked}b\r\n\u2028c é\u202f%") == "ab c é\u202f%"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LC_ALL": "fr_FR.UTF-8", "LANG": "en_GB"}, "fr"),
        ({"LC_ALL": "C", "LANG": "fr_FR"}, "en"),
        ({"LC_ALL": "", "LANG": "fr_CA"}, "fr"),
        ({}, "en"),
    ],
)
def test_preferred_language(
    variables: dict[str, str], expected: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert preferred_language() == expected


def test_every_literature_key_has_a_citation() -> None:
    source = Path(primum.__file__).parent
    text = "".join(path.read_text(encoding="utf-8") for path in source.rglob("*.py"))
    keys = set(re.findall(r'"([a-z]+(?:19|20)\d\d)"', text))
    assert len(keys) > 10
    assert keys - CITATIONS.keys() == set()
