import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primum.errors import VocabularyError
from primum.records.histories import Histories, InMemory
from primum.records.profile import TokenProfile, learn_profile, learn_vocabulary, vocabulary_of
from primum.records.vocabulary import Vocabulary

TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
AGAIN = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@AGAIN
@given(tokens=st.lists(TEXT, min_size=1, max_size=20, unique=True))
def test_a_vocabulary_is_read_back(tokens: list[str], tmp_path: Path) -> None:
    written = Vocabulary(tuple(tokens))
    written.write(tmp_path / "vocab.json")
    assert Vocabulary.read(tmp_path / "vocab.json") == written
    assert written.encode(tuple(reversed(tokens))).tolist() == list(range(len(tokens)))[::-1]


def test_ids_decide_the_order_not_the_file(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"b": 1, "a": 0}')
    assert Vocabulary.read(tmp_path / "vocab.json").tokens == ("a", "b")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"a": 0, "a": 1}', "vocab.json holds a key twice: keep one."),
        ('{"a": 0, "b": 0}', "gives one id to two tokens"),
        ('{"a": 0, "b": 2}', "has 2 tokens but its ids are not 0 to 1: number them without gaps."),
        ('{"a": -1, "b": 0}', "its ids are not 0 to 1"),
        ('{"a": 1.0}', "has an id that is not a whole number"),
        ('{"a": true}', "has an id that is not a whole number"),
        ('{"a": [0]}', "has an id that is not a whole number"),
        ("{}", "The vocabulary is empty"),
        ("[1]", "is not a JSON object"),
        ('{"a":', "vocab.json is not JSON"),
        ("[" * 100_000, "vocab.json is not JSON"),
    ],
)
def test_bad_vocabularies(content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(content)
    with pytest.raises(VocabularyError) as caught:
        Vocabulary.read(tmp_path / "vocab.json")
    assert sentence in str(caught.value)


def test_files_that_are_missing_binary_or_huge(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"absent\.json cannot be read"):
        Vocabulary.read(tmp_path / "absent.json")
    (tmp_path / "vocab.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(VocabularyError, match="is not JSON"):
        Vocabulary.read(tmp_path / "vocab.json")
    with (tmp_path / "vocab.json").open("wb") as stream:
        stream.truncate((1 << 26) + 1)
    with pytest.raises(VocabularyError, match="is larger than 64 MiB"):
        Vocabulary.read(tmp_path / "vocab.json")


def test_the_same_token_twice() -> None:
    with pytest.raises(VocabularyError, match="holds a token twice"):
        Vocabulary(("a", "a"))


increasing = st.lists(
    st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4, unique=True
).map(lambda edges: tuple(sorted(edges)))


@AGAIN
@given(edges=st.dictionaries(TEXT, increasing, max_size=3), code=TEXT, begin=st.none() | TEXT)
def test_a_profile_is_read_back(
    edges: dict[str, tuple[float, ...]], code: str, begin: str | None, tmp_path: Path
) -> None:
    tokens = tuple(f"Q{number}" for number in range(5))
    profile = TokenProfile(begin=begin, value_tokens=tokens, value_edges=edges, code_prefixes={code: "x"})
    profile.write(tmp_path / "token_profile.json")
    assert TokenProfile.read(tmp_path / "token_profile.json") == profile


def test_what_a_file_leaves_out_has_no_tokens(tmp_path: Path) -> None:
    (tmp_path / "token_profile.json").write_text("{}")
    profile = TokenProfile.read(tmp_path / "token_profile.json")
    assert profile.special_tokens() == ()
    assert profile.ignored_codes == ("MEDS_BIRTH",)
    assert "GENDER//" in profile.static_prefixes


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"bins": 3}, "token_profile.json has an unknown key bins: it knows age_edges_years, age_tokens"),
        ({"begin": 3}, "token_profile.json: begin is not a token or null"),
        ({"age_tokens": "x"}, "age_tokens is not a list of texts"),
        ({"gap_edges_days": [1, "2"]}, "gap_edges_days is not a list of numbers"),
        ({"gap_edges_days": [float("nan")]}, "gap_edges_days is not a list of numbers"),
        ({"value_edges": {"LAB": 3}}, "value_edges is not an object of lists of numbers"),
        ({"code_prefixes": {"a": 1}}, "code_prefixes is not an object of texts"),
        ({"age_tokens": ["x"]}, "has 1 age tokens but 0 edges: give each token the edge it begins at."),
        ({"gap_tokens": ["x", "y"], "gap_edges_days": [2, 1]}, "The gap edges of the token profile do not"),
        ({"value_tokens": ["x"] * 9, "value_edges": {"LAB": [1, 1]}}, "The value edges of the token profile"),
        ({"value_tokens": ["x"], "value_edges": {"LAB": [1]}}, "has 1 value tokens, too few for a code with"),
    ],
)
def test_bad_profiles(content: object, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "token_profile.json").write_text(json.dumps(content))
    with pytest.raises(VocabularyError) as caught:
        TokenProfile.read(tmp_path / "token_profile.json")
    assert sentence in str(caught.value)


def test_a_token_that_the_vocabulary_lacks() -> None:
    with pytest.raises(VocabularyError, match=r"uses PAD, which vocab.json lacks \(24 such\)"):
        TokenProfile().check(Vocabulary(("a",)))


def test_the_longest_prefix_is_rewritten() -> None:
    profile = TokenProfile(code_prefixes={"A//": "1/", "A//B//": "2/"})
    assert [profile.rewritten(code) for code in ("A//B//x", "A//x", "B//A//")] == ["2/x", "1/x", "B//A//"]


def lab(code: str, values: list[float], *, first: int = 0) -> Histories:
    """One number a patient."""
    count = len(values)
    return Histories(
        np.arange(count) + first,
        np.arange(count + 1),
        (code, "NEVER"),
        np.zeros(count, np.int64),
        np.full(count, np.datetime64("2020-01-01", "us")),
        np.array(values, np.float64),
    )


def test_learnt_bins_are_quantiles_whatever_the_shards() -> None:
    values = np.random.default_rng(3).permutation(1000).astype(float)
    whole = learn_profile(InMemory((lab("X", values.tolist()),)), bins=4)
    halves = InMemory((lab("X", values[:500].tolist()), lab("X", values[500:].tolist(), first=500)))
    assert whole.value_edges == learn_profile(halves, bins=4).value_edges == {"X": (250.0, 500.0, 750.0)}
    assert whole.value_tokens == ("Q1", "Q2", "Q3", "Q4")


def test_a_bounded_reservoir_is_a_fair_sample_of_all_shards() -> None:
    shards = InMemory(tuple(lab("X", np.arange(part, 10_000, 10.0).tolist()) for part in range(10)))
    edges = learn_profile(shards, bins=4, reservoir=400).value_edges["X"]
    # Standard error of a median of 400: 10,000 * .5 / 20 = 250; four of them.
    assert np.allclose(edges, [2500, 5000, 7500], atol=1000)
    assert edges == learn_profile(shards, bins=4, reservoir=400).value_edges["X"]
    assert edges != learn_profile(shards, bins=4).value_edges["X"]


def test_codes_of_few_patients_and_constants_get_no_bins() -> None:
    many = [1.0] * 10 + [2.0] * 15
    shards = (
        lab("FEW", many[:19]),
        lab("CONSTANT", [5.0] * 30),
        lab("TIES", many),
        lab("NONE", [np.nan] * 30),
    )
    profile = learn_profile(InMemory(shards))
    assert profile.value_edges == {"TIES": (2.0,)}
    kept = learn_profile(InMemory(shards), declared=replace(profile, begin=None))
    assert kept.begin is None
    with pytest.raises(VocabularyError, match="1 value bins carry nothing"):
        learn_profile(InMemory(shards), bins=1)


def test_a_learnt_vocabulary_holds_what_occurs_and_nothing_ignored() -> None:
    shards = InMemory((lab("X//1", [1.0]), lab("MEDS_BIRTH", [1.0])))
    profile = TokenProfile(code_prefixes={"X//": "y/"})
    learnt = learn_vocabulary(shards, profile)
    assert learnt.tokens == (*profile.special_tokens(), "y/1")
    assert vocabulary_of(("X//1", "MEDS_BIRTH", "PAD"), profile) == learnt
    profile.check(learnt)
