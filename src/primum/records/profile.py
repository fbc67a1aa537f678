"""How histories become the tokens of one model: ``token_profile.json``, declared beside the weights."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from primum.errors import VocabularyError
from primum.records.attributes import owners
from primum.records.families import BIRTH_CODE, DEMOGRAPHIC_PREFIXES
from primum.records.histories import FloatArray, Records
from primum.records.vocabulary import Vocabulary, read_object

_AGE_EDGES = (0.0, 18.0, *(float(age) for age in range(30, 91, 10)))
_GAP_EDGES = (1.0, 2.0, 4.0, 8.0, 15.0, 31.0, 61.0, 121.0, 241.0, 481.0, 961.0)


def _bands(name: str, edges: tuple[float, ...]) -> tuple[str, ...]:
    """Name the band that begins at each edge."""
    return tuple(f"{name}//{edge:g}+" for edge in edges)


@dataclass(frozen=True)
class TokenProfile:
    """The rules of one model; every field is a key of ``token_profile.json``.

    A history becomes: begin; static codes; age; other codes without time; then, time by time, a gap token and
    the codes, each followed by a token of its number; end. Names are those of the vocabulary, except where a
    *MEDS code* is said. Of bands, token i stands for ``edges[i] <= x < edges[i + 1]``; what lies below the
    first edge has none.

    Attributes
    ----------
    begin, end, unknown, pad : str or None
        Special tokens. Codes that the vocabulary lacks become `unknown`, or are dropped when it is None.
    static_prefixes : tuple of str
        MEDS codes that say who a person is; without time they come first, with time they stay in place.
    ignored_codes : tuple of str
        MEDS codes that are never tokens. Birth is one by default: the age token carries it. Death is not.
    code_prefixes : mapping of str to str
        Prefix of a MEDS code to what replaces it in the vocabulary; the longest that fits.
    age_tokens, age_edges_years
        Bands of the age at the first event that has a time.
    gap_tokens, gap_edges_days
        Bands of the days between two consecutive distinct times.
    value_tokens : tuple of str
        One for each bin, the lowest first.
    value_edges : mapping of str to tuple of float
        MEDS code to the edges between its bins, at most one less than there are tokens.

    Raises
    ------
    VocabularyError
        Rules that contradict themselves, with the remedy.
    """

    begin: str | None = "BEGIN"
    end: str | None = "END"
    unknown: str | None = "UNKNOWN"
    pad: str | None = "PAD"
    static_prefixes: tuple[str, ...] = DEMOGRAPHIC_PREFIXES
    ignored_codes: tuple[str, ...] = (BIRTH_CODE,)
    code_prefixes: Mapping[str, str] = field(default_factory=dict)
    age_tokens: tuple[str, ...] = _bands("AGE", _AGE_EDGES)
    age_edges_years: tuple[float, ...] = _AGE_EDGES
    gap_tokens: tuple[str, ...] = _bands("GAP", _GAP_EDGES)
    gap_edges_days: tuple[float, ...] = _GAP_EDGES
    value_tokens: tuple[str, ...] = ()
    value_edges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tokens, edges in (
            ("age", self.age_tokens, self.age_edges_years),
            ("gap", self.gap_tokens, self.gap_edges_days),
        ):
            if len(tokens) != len(edges):
                raise VocabularyError(
                    "The token profile has {tokens} {name} tokens but {edges} edges: give each token the "
                    "edge it begins at.",
                    tokens=len(tokens),
                    name=name,
                    edges=len(edges),
                )
            _check_increasing(edges, name)
        for edges in self.value_edges.values():
            _check_increasing(edges, "value")
            if len(edges) >= len(self.value_tokens):
                raise VocabularyError(
                    "The token profile has {tokens} value tokens, too few for a code with {edges} edges: "
                    "give one token more than edges.",
                    tokens=len(self.value_tokens),
                    edges=len(edges),
                )

    def special_tokens(self) -> tuple[str, ...]:
        """Return every token that stands for no code, in the order of a learnt vocabulary."""
        named = [token for token in (self.pad, self.begin, self.end, self.unknown) if token is not None]
        return (*named, *self.age_tokens, *self.gap_tokens, *self.value_tokens)

    def rewritten(self, code: str) -> str:
        """Return the token of a MEDS code.

        Examples
        --------
        >>> TokenProfile(code_prefixes={"DIAGNOSIS//": "DX/"}).rewritten("DIAGNOSIS//ICD10//B20")
        'DX/ICD10//B20'
        """
        # Prefixes of one code contain each other, so that the greatest is the longest.
        found = max((prefix for prefix in self.code_prefixes if code.startswith(prefix)), default="")
        return self.code_prefixes[found] + code[len(found) :] if found else code

    def check(self, vocabulary: Vocabulary) -> None:
        """Refuse a vocabulary that lacks a token of these rules.

        Raises
        ------
        VocabularyError
            Names the first token that is missing.
        """
        missing = [token for token in self.special_tokens() if token not in vocabulary.id_of]
        if missing:
            raise VocabularyError(
                "The token profile uses {token}, which vocab.json lacks ({count} such): correct one of them.",
                token=missing[0],
                count=len(missing),
            )

    @classmethod
    def read(cls, path: Path) -> "TokenProfile":
        """Read ``token_profile.json``; a key that is left out has no tokens, except the ones named next.

        `static_prefixes` and `ignored_codes` keep their defaults: they say what codes mean, not what the
        model knows.

        Raises
        ------
        VocabularyError
            Not such a file, an unknown key, a value of the wrong kind, or rules that contradict themselves.
        """
        return cls.from_object(read_object(path), source=path.name)

    @classmethod
    def from_object(cls, content: Any, *, source: str) -> "TokenProfile":
        """Take the JSON of ``token_profile.json`` from elsewhere; `source` names it in errors."""
        if not isinstance(content, dict):
            raise VocabularyError("{file} is not a JSON object: write it as {{…}}.", file=source)
        known = {one.name for one in fields(cls)}
        for key in content:
            if key not in known:
                raise VocabularyError(
                    "{file} has an unknown key {key}: it knows {known}.",
                    file=source,
                    key=key,
                    known=", ".join(sorted(known)),
                )
        absent: dict[str, Any] = {"begin": None, "end": None, "unknown": None, "pad": None}
        absent |= {name: () for name in known if name.startswith(("age_", "gap_"))}
        return cls(**{**absent, **{key: _parsed(key, value, source) for key, value in content.items()}})

    def write(self, path: Path) -> None:
        """Write every key."""
        path.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _check_increasing(edges: tuple[float, ...], name: str) -> None:
    if any(not low < high for low, high in pairwise(edges)):
        raise VocabularyError(
            "The {name} edges of the token profile do not increase: sort them, each once.", name=name
        )


def _parsed(key: str, value: Any, file: str) -> Any:
    """Check the kind of one value of the file."""
    if key in {"begin", "end", "unknown", "pad"}:
        kind, fits, parsed = "a token or null", value is None or isinstance(value, str), value
    elif key == "code_prefixes":
        kind, fits = "an object of texts", isinstance(value, dict) and _all(value.values(), str)
        parsed = value
    elif key == "value_edges":
        fits = isinstance(value, dict) and all(
            isinstance(row, list) and _numbers(row) for row in value.values()
        )
        kind = "an object of lists of numbers"
        parsed = {code: tuple(map(float, row)) for code, row in value.items()} if fits else None
    elif "edges" in key:
        kind, fits = "a list of numbers", isinstance(value, list) and _numbers(value)
        parsed = tuple(map(float, value)) if fits else None
    else:
        kind, fits = "a list of texts", isinstance(value, list) and _all(value, str)
        parsed = tuple(value) if fits else None
    if not fits:
        raise VocabularyError("{file}: {key} is not {kind}: correct it.", file=file, key=key, kind=kind)
    return parsed


def _all(values: Any, kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)


def _numbers(values: list[Any]) -> bool:
    # Whole numbers of JSON have no bound, unlike floats; what is not a number is below nothing.
    return all(type(value) in (int, float) and abs(value) <= sys.float_info.max for value in values)


def learn_profile(
    records: Records,
    *,
    bins: int = 10,
    fewest_patients: int = 20,
    reservoir: int = 4096,
    declared: TokenProfile | None = None,
) -> TokenProfile:
    """Learn the edges of the value bins: quantiles of each code's numbers, on training patients only.

    At most `reservoir` numbers of a code are kept, a uniform sample that depends on nothing but the order of
    the records (bottom-k sampling: Cohen and Kaplan, PODC 2007). Codes with numbers from fewer than
    `fewest_patients` patients get no bins, so that edges do not give single patients away.

    Parameters
    ----------
    records : Records
        The patients who train the model, and no others.
    bins : int
        Value tokens Q1 to Qk, each about as frequent; equal edges are joined, so that a code may have fewer.
    declared : TokenProfile or None
        Everything else.
    """
    if bins < 2:
        raise VocabularyError("{bins} value bins carry nothing: ask for two or more.", bins=bins)
    samples, patients = _value_samples(records, reservoir)
    edges: dict[str, tuple[float, ...]] = {}
    for code in sorted(samples):
        if patients[code] >= fewest_patients:
            cuts = np.unique(np.quantile(samples[code], np.arange(1, bins) / bins, method="higher"))
            edges[code] = tuple(cuts[cuts > samples[code].min()].tolist())
    return replace(
        declared or TokenProfile(),
        value_tokens=tuple(f"Q{number + 1}" for number in range(bins)),
        value_edges={code: row for code, row in edges.items() if row},
    )


def _value_samples(records: Records, reservoir: int) -> tuple[dict[str, FloatArray], dict[str, int]]:
    """Numbers of each code, the `reservoir` with the lowest random priority, and who has one, by count."""
    samples: dict[str, FloatArray] = {}
    patients: dict[str, int] = {}
    rng = np.random.default_rng(0)
    for shard in records.shards():
        rows = np.flatnonzero(~np.isnan(shard.values))
        rows = rows[np.argsort(shard.code_ids[rows], kind="stable")]
        codes, starts = np.unique(shard.code_ids[rows], return_index=True)
        owner = owners(shard)
        for code, (start, stop) in zip(codes.tolist(), pairwise([*starts, len(rows)]), strict=True):
            name, part = shard.codes[code], rows[start:stop]
            new = np.stack([rng.random(len(part)), shard.values[part]])
            pool = np.concatenate([samples.get(name, new[:, :0]), new], axis=1)
            samples[name] = pool[:, np.argsort(pool[0], kind="stable")[:reservoir]]
            patients[name] = patients.get(name, 0) + len(np.unique(owner[part]))
    return {name: pool[1] for name, pool in samples.items()}, patients


def learn_vocabulary(records: Records, profile: TokenProfile) -> Vocabulary:
    """Return the vocabulary of the codes that occur.

    A rare code in it tells of who trained; :func:`vocabulary_of` a public list of codes does not.

    Parameters
    ----------
    records : Records
        The patients who train the model.
    profile : TokenProfile
    """
    codes: set[str] = set()
    for shard in records.shards():
        codes.update(shard.codes[code] for code in np.unique(shard.code_ids))
    return vocabulary_of(tuple(codes), profile)


def vocabulary_of(codes: tuple[str, ...], profile: TokenProfile) -> Vocabulary:
    """Return the special tokens of a profile, then the tokens of MEDS codes but the ignored, sorted."""
    special = profile.special_tokens()
    tokens = {profile.rewritten(code) for code in codes if code not in profile.ignored_codes}
    return Vocabulary((*dict.fromkeys(special), *sorted(tokens.difference(special))))
