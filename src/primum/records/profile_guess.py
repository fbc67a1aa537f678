"""A token profile for models that declare none, guessed from the names of their tokens."""

import math
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from primum.records.families import BIRTH_CODE, DEMOGRAPHIC_PREFIXES
from primum.records.profile import TokenProfile
from primum.records.tokenizer import Tokenizer
from primum.records.vocabulary import Vocabulary
from primum.records.vocabulary_forms import read_vocabulary

PROFILE = "token_profile.json"

# Names of special tokens, the surest first; those in lower case count only in brackets: [CLS], <s>.
_ROLES = {
    "begin": ("BEGIN", "BOS", "s", "START", "TIMELINE//START", "TIMELINE_START", "startoftext", "cls"),
    "end": ("END", "EOS", "/s", "TIMELINE//END", "TIMELINE_END", "endoftext"),
    "unknown": ("UNKNOWN", "UNK", "OOV"),
    "pad": ("PAD", "PADDING"),
}
# Marks without a rule in a profile: where a visit begins, what a mask hides.
_MARKS = ("mask", "sep", "reg", "vs", "ve", "visit_start", "visit_end")
_BRACKETS = re.compile(r"\[(.+)\]|<\|?(.+?)\|?>")
_AGE = re.compile(r"\W*age[\W_]+(\d{1,3})(?:\s?[-_,]\s?(\d{1,3}))?(?:\+|\s*y(?:ears)?)?\W*", re.IGNORECASE)
_DAYS = {"m": 1 / 1440, "min": 1 / 1440, "h": 1 / 24, "d": 1.0, "w": 7.0, "mt": 30.4375, "y": 365.25}
_AMOUNT = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(min|mt|m|h|d|w|y)?")
_SPAN = r"(?:\d{1,6}(?:min|mt|m|h|d|w|y))*\d{1,6}(?:\.\d{1,6})?(?:min|mt|m|h|d|w|y)?"
# Longer texts are codes, not rules, and would be slow to search.
_LONGEST = 200
_GAP = re.compile(
    rf"\[?(?:(gap|delta|interval)[\W_]+)?([=>≥]*)({_SPAN})(?:-({_SPAN}))?(\+?)\]?", re.IGNORECASE
)
_DELTA = re.compile(r"TIMELINE//DELTA//(\w+)//value_\[(.+),(.+)\)")
_CALENDAR = re.compile(r"\[?([DWM])_?(\d{1,4})\]?")
_VALUE = re.compile(r"\W*(?:q|quantile|decile|bin)[\W_]?(\d{1,3})\W*", re.IGNORECASE)
_JOINED_VALUE = re.compile(r"q\d{1,3}//.+|.+//q\d{1,3}|.+//value_\[.+\)|.+ \|\| .+", re.IGNORECASE)
_SEXES = (("M", "F"), ("MALE", "FEMALE"), ("[MALE]", "[FEMALE]"), ("8507", "8532"))


class _Band(NamedTuple):
    """A token that stands for low <= x < high; `slack` is what may lie between high and the next band."""

    low: float
    high: float | None
    slack: float
    token: str


def _spelled(kind: str, names: Iterable[str], alone: Iterable[str]) -> tuple[str, ...]:
    """Return how records and vocabularies begin the codes of one system; that of MEDS first."""
    return (
        *(f"{kind}//{name}//" for name in names),
        *(f"{name}{end}" for name in alone for end in ("//", "/")),
    )


_DEMOGRAPHIC = tuple(
    (*(f"{one}//" for one in names), *(f"{one}/" for one in (*names, names[0].title())))
    for names in (("GENDER", "SEX"), ("RACE",), ("ETHNICITY",), ("SITE",))
)
_SYSTEMS = (
    _spelled("DIAGNOSIS", ("ICD9CM", "ICD//9", "ICD9"), ("ICD9CM", "ICD//9", "ICD9")),
    _spelled("DIAGNOSIS", ("ICD10CM", "ICD//10", "ICD10", "CIM10"), ("ICD10CM", "ICD//10", "ICD10", "CIM10")),
    _spelled("PROCEDURE", ("ICD9PROC", "ICD//9", "ICD9CM", "ICD9"), ("ICD9PROC", "ICD9Proc")),
    _spelled("PROCEDURE", ("ICD10PCS", "ICD//10", "ICD10"), ("ICD10PCS",)),
    _spelled("PROCEDURE", ("CPT4",), ("CPT4", "CPT")),
    _spelled("PROCEDURE", ("HCPCS",), ("HCPCS",)),
    _spelled("PROCEDURE", ("CCAM",), ("CCAM",)),
    _spelled("LAB", ("LOINC",), ("LOINC",)),
    _spelled("MEDICATION", ("ATC",), ("ATC",)),
    _spelled("MEDICATION", ("RXNORM", "RxNorm"), ("RxNorm", "RXNORM")),
    _spelled("CONDITION", ("SNOMED",), ("SNOMED", "SNOMEDCT")),
    *_DEMOGRAPHIC,
)


def guess_profile(vocabulary: Vocabulary) -> tuple[TokenProfile, tuple[str, ...]]:
    """Guess the token profile of a model from its vocabulary, and say what was guessed.

    Special tokens, bands of age and of time, value tokens, and how codes begin are recognised in the forms
    of ETHOS (Renc et al., npj Digital Medicine 2024), CEHR-GPT (Pang et al., 2024), EHRMamba (Fallahpour et
    al., ML4H 2024), MEDS "everything is code" models and Context Clues (Wornow et al., ICLR 2025). What the
    names do not say is left out: above all the edges of value bins, which no vocabulary holds.

    Returns
    -------
    profile : TokenProfile
        Every token of it is in the vocabulary.
    guessed : tuple of str
        Lines ``key = tokens``, in no language; the key ``?`` holds tokens that were seen for what they are,
        but for which a profile has no rule or the names no edges, and ``value_edges = ?`` says that numbers
        will not be shown to the model. Empty when nothing was recognised.

    Examples
    --------
    >>> profile, guessed = guess_profile(Vocabulary(("[PAD]", "[CLS]", "AGE_0-65", "AGE_65+", "DX")))
    >>> profile.begin, profile.age_edges_years, profile.gap_tokens
    ('[CLS]', (0.0, 65.0), ())
    >>> guessed
    ('begin = [CLS]', 'pad = [PAD]', 'age_tokens = AGE_0-65 … AGE_65+ (2)')
    """
    tokens = tuple(token for token in vocabulary.tokens if len(token) <= _LONGEST)
    roles = {role: _first(tokens, names) for role, names in _ROLES.items()}
    ages, stray_ages = _in_order(_age_bands(tokens))
    # Of several ways to tell time, the one with most tokens; the others are left out.
    families = [
        _in_order(bands) for bands in (_interval_bands(tokens), _delta_bands(tokens), _calendar(tokens))
    ]
    gaps = max((kept for kept, _ in families), key=len)
    values = _value_tokens(tokens)
    prefixes, said, static = _code_prefixes(vocabulary)
    profile = TokenProfile(
        begin=roles["begin"],
        end=roles["end"],
        unknown=roles["unknown"],
        pad=roles["pad"],
        static_prefixes=(*DEMOGRAPHIC_PREFIXES, *static),
        ignored_codes=() if BIRTH_CODE in vocabulary.id_of else (BIRTH_CODE,),
        code_prefixes=prefixes,
        age_tokens=tuple(band.token for band in ages),
        age_edges_years=tuple(band.low for band in ages),
        gap_tokens=tuple(band.token for band in gaps),
        gap_edges_days=tuple(band.low for band in gaps),
        value_tokens=values,
    )
    bands = [band for kept, stray in families for band in (*kept, *stray)] + stray_ages
    used = {*profile.gap_tokens, *profile.age_tokens}
    unused = [token for token in tokens if _bracketed(token) in _MARKS or _JOINED_VALUE.fullmatch(token)]
    unused += [band.token for band in bands if band.token not in used]
    return profile, _said(profile, said, unused)


def _said(profile: TokenProfile, codes: tuple[str, ...], unused: list[str]) -> tuple[str, ...]:
    """Put a profile into lines; `codes` says how codes begin, `unused` are tokens without a rule."""
    named = {role: getattr(profile, role) for role in _ROLES}
    several = {
        "age_tokens": profile.age_tokens,
        "gap_tokens": profile.gap_tokens,
        "value_tokens": profile.value_tokens,
        "value_edges": ("?",) if profile.value_tokens else (),
        "code_prefixes": (", ".join(codes),) if codes else (),
        "?": tuple(dict.fromkeys(unused)),
    }
    lines = {key: _shortened(tokens) for key, tokens in several.items() if tokens}
    return tuple(f"{key} = {value}" for key, value in {**named, **lines}.items() if value is not None)


def _shortened(found: tuple[str, ...]) -> str:
    return f"{found[0]} … {found[-1]} ({len(found)})" if len(found) > 1 else found[0]


def _bracketed(token: str) -> str | None:
    """Return what stands between the brackets of a token, in lower case; None without brackets."""
    match = _BRACKETS.fullmatch(token)
    return (match[1] or match[2]).lower() if match else None


def _first(tokens: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    """Return the token of the first name that one has."""
    called: dict[str, str] = {}
    for token in tokens:
        inside = _bracketed(token)
        called.setdefault(token.upper() if inside is None else inside, token)
    for name in names:
        for spelling in (name.lower(), name):
            if spelling in called:
                return called[spelling]
    return None


def _age_bands(tokens: tuple[str, ...]) -> list[_Band]:
    matches = [match for match in map(_AGE.fullmatch, tokens) if match]
    return [
        _Band(float(match[1]), None if match[2] is None else float(match[2]), 1.0, match[0])
        for match in matches
    ]


def _interval_bands(tokens: tuple[str, ...]) -> list[_Band]:
    """Read ``15m-45m``, ``=6mt``, ``GAP//7+``; without a name before it, a number needs unit and range."""
    bands, ranges = [], 0
    for match in filter(None, map(_GAP.fullmatch, tokens)):
        named, sign, low, high, plus = match.groups()
        begins, _ = _days(low, named=bool(named))
        ends, unit = (None, 0.0) if high is None else _days(high, named=bool(named))
        if math.isnan(begins) or (ends is not None and math.isnan(ends)):
            continue
        if named or high or sign or plus:
            ranges += bool(named or high)
            bands.append(_Band(begins, ends, unit, match[0]))
    return bands if ranges > 1 else []


def _days(span: str, *, named: bool) -> tuple[float, float]:
    """Return the days of ``1h15m`` and of its last unit; NaN where a unit is missing."""
    total = unit = 0.0
    for number, name in _AMOUNT.findall(span.lower()):
        unit = _DAYS[name] if name else 1.0 if named else math.nan
        total += float(number) * unit
    return total, unit


def _delta_bands(tokens: tuple[str, ...]) -> list[_Band]:
    """Read ``TIMELINE//DELTA//years//value_[0.1,0.5)``."""
    bands = []
    for match in filter(None, map(_DELTA.fullmatch, tokens)):
        try:
            low, high = float(match[2]), float(match[3])
        except ValueError:
            continue
        unit = _DAYS.get("mt" if match[1] == "months" else match[1][0], math.nan)
        if not math.isnan(low + unit):
            ends = high * unit if math.isfinite(high) else None
            bands.append(_Band(max(low, 0.0) * unit, ends, 0.0, match[0]))
    return bands


def _calendar(tokens: tuple[str, ...]) -> list[_Band]:
    """Read D1, D2 …, or W0 to W3 and M1, M2 …, then LT: the time tokens of CEHR-BERT (Pang et al., 2021).

    A letter and a number alone name many things: W0 to W3 and M1, or D1 to D28, all have to be there.
    """
    found = {(match[1], int(match[2])): match[0] for match in map(_CALENDAR.fullmatch, tokens) if match}
    if found.keys() >= {("D", number) for number in range(1, 29)}:
        edges = {key: float(key[1]) for key in found if key[0] == "D"}
        longest = max(edges.values()) + 1
    elif found.keys() >= {("M", 1), *(("W", number) for number in range(4))}:
        # Weeks end at 28 days, where month 0 begins; a year of 12 months begins its last at day 360.
        edges = {
            (letter, number): 7.0 * number if letter == "W" else max(30.0 * number, 28.0)
            for letter, number in found
            if (letter == "W" and number < 4) or (letter == "M" and number <= 12)
        }
        longest = 365.0 if ("M", 12) in found else 360.0
    else:
        return []
    bands = [_Band(edge, None, 0.0, found[key]) for key, edge in edges.items()]
    return bands + [_Band(longest, None, 0.0, token) for token in tokens if token.strip("[]") == "LT"]


def _in_order(bands: list[_Band]) -> tuple[list[_Band], list[_Band]]:
    """Sort bands; all are put aside (the second list) when they overlap or leave a hole."""
    ordered = sorted(bands)
    for band, after in pairwise(ordered):
        hole = 0.0 if band.high is None else after.low - band.high
        if band.low >= after.low or not -1e-6 * after.low <= hole <= band.slack + 1e-6 * after.low:
            return [], ordered
    return ordered, []


def _value_tokens(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Return Q1, Q2 … in order; nothing when there are fewer than three, or one is missing or twice."""
    found = [(int(match[1]), match[0]) for match in map(_VALUE.fullmatch, tokens) if match]
    numbers = sorted(number for number, _ in found)
    whole = len(found) > 2 and numbers[0] < 2 and numbers == list(range(numbers[0], numbers[0] + len(found)))
    return tuple(token for _, token in sorted(found)) if whole else ()


def _code_prefixes(vocabulary: Vocabulary) -> tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]:
    """Map every way to begin the codes of a system to the one that most tokens use.

    Returns
    -------
    prefixes, said, static
        What a profile needs; the beginnings chosen with their number of tokens; those of who a person is.
    """
    every = sorted((start for system in _SYSTEMS for start in system), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, every)))
    counts = Counter(match[0] for match in map(pattern.match, vocabulary.tokens) if match)
    prefixes: dict[str, str] = {}
    said: list[str] = []
    static: list[str] = []
    for system in _SYSTEMS:
        chosen = max(system, key=lambda start: counts[start])
        if counts[chosen]:
            # What the vocabulary itself uses stays, even where a shorter beginning would be replaced.
            prefixes |= {start: start if counts[start] else chosen for start in system}
            said.append(f"{chosen} ({counts[chosen]})")
            if system in _DEMOGRAPHIC and not chosen.startswith(DEMOGRAPHIC_PREFIXES):
                static.append(chosen)
    if not any(counts[start] for start in _DEMOGRAPHIC[0]):
        for male, female in _SEXES:
            if male in vocabulary.id_of and female in vocabulary.id_of:
                sexes = {"MALE": male, "FEMALE": female, "M": male, "F": female}
                prefixes |= {f"GENDER//{sex}": token for sex, token in sexes.items()}
                said.append(f"{male}/{female}")
                break
    return prefixes, tuple(said), tuple(static)


def read_tokenizer(folder: Path) -> tuple[Tokenizer, Path, tuple[str, ...]]:
    """Read vocabulary and token profile, or guess the profile; also which file was the vocabulary.

    Raises
    ------
    VocabularyError
        There is no vocabulary, or one of the two does not hold what it must.
    """
    vocabulary, source = read_vocabulary(folder)
    if (folder / PROFILE).is_file():
        return Tokenizer(vocabulary, TokenProfile.read(folder / PROFILE)), source, ()
    profile, guessed = guess_profile(vocabulary)
    return Tokenizer(vocabulary, profile), source, guessed
