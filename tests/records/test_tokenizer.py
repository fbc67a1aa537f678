import os
from bisect import bisect_right
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primum.errors import VocabularyError
from primum.records.histories import Histories, InMemory
from primum.records.meds import MedsFolder
from primum.records.profile import TokenProfile, learn_profile, learn_vocabulary, vocabulary_of
from primum.records.tokenizer import Coverage, Tokenizer, require_coverage
from primum.records.tokens import Kind
from primum.records.vocabulary import Vocabulary

DAY = 86_400_000_000
Event = tuple[str, int | None, float | None]
CODES = ["MEDS_BIRTH", "MEDS_DEATH", "GENDER//F", "SITE//A", "SITE//NEW", "LAB//1", "LAB//2", "DX//1", "NEW"]
PROFILE = TokenProfile(
    code_prefixes={"DX//": "diagnosis/"},
    gap_tokens=("G1", "G7"),
    gap_edges_days=(1.0, 7.0),
    age_tokens=("YOUNG", "OLD"),
    age_edges_years=(0.5, 2.0),
    value_tokens=("Q1", "Q2", "Q3"),
    value_edges={"LAB//1": (0.0, 2.5), "DX//1": (1.0,), "NEW": (0.0,)},
)
VOCABULARY = vocabulary_of(tuple(code for code in CODES if "NEW" not in code), PROFILE)


def people(*histories: list[Event]) -> Histories:
    events = [event for history in histories for event in history]
    return Histories(
        np.arange(len(histories)) + 100,
        np.cumsum([0, *map(len, histories)]).astype(np.int64),
        tuple(CODES),
        np.array([CODES.index(code) for code, _, _ in events], np.int64),
        np.array([np.datetime64("NaT") if t is None else t for _, t, _ in events], "datetime64[us]"),
        np.array([np.nan if value is None else value for _, _, value in events], np.float64),
    )


def naive(history: list[Event], tokenizer: Tokenizer) -> list[tuple[str, Kind, int]]:
    """Tokenize one patient, an event at a time."""
    profile, known = tokenizer.profile, tokenizer.vocabulary.id_of
    static: list[tuple[str, Kind, int]] = []
    timeless: list[tuple[str, Kind, int]] = []
    timed: list[tuple[str, Kind, int]] = []
    births = [time for code, time, _ in history if code == "MEDS_BIRTH" and time is not None]
    first = last = None
    for index, (code, time, value) in enumerate(history):
        token = profile.rewritten(code)
        if code in profile.ignored_codes or (token not in known and profile.unknown is None):
            continue
        is_static = code.startswith(profile.static_prefixes)
        out = timed if time is not None else static if is_static else timeless
        if time is not None:
            band = -1 if last is None else bisect_right(profile.gap_edges_days, (time - last) / DAY) - 1
            if last is not None and time > last and band >= 0:
                out.append((profile.gap_tokens[band], Kind.GAP, -1))
            first, last = time if first is None else first, time
        if token not in known:
            out.append((str(profile.unknown), Kind.SPECIAL, index))
            continue
        out.append((token, Kind.STATIC if is_static else Kind.CLINICAL, index))
        if value is not None and code in profile.value_edges:
            out.append(
                (profile.value_tokens[bisect_right(profile.value_edges[code], value)], Kind.VALUE, index)
            )
    age: list[tuple[str, Kind, int]] = []
    if births and first is not None:
        band = bisect_right(profile.age_edges_years, (first - births[0]) / DAY / 365.25) - 1
        age = [(profile.age_tokens[band], Kind.STATIC, -1)] if band >= 0 else []
    begin = [(profile.begin, Kind.SPECIAL, -1)] if profile.begin is not None else []
    end = [(profile.end, Kind.SPECIAL, -1)] if profile.end is not None else []
    return [*begin, *static, *age, *timeless, *timed, *end]


def assert_equal_to_naive(histories: Histories, tokenizer: Tokenizer) -> None:
    batch = tokenizer.encode(histories)
    assert batch.vocabulary_size == len(tokenizer.vocabulary)
    assert batch.subject_ids.tolist() == histories.subject_ids.tolist()
    for row in range(len(histories)):
        line = histories.timeline(row)
        times = [
            None if np.isnat(t) else int(t.astype("datetime64[us]").astype(np.int64)) for t in line.times
        ]
        values = [None if np.isnan(value) else value for value in line.values]
        expected = naive(list(zip(line.codes, times, values, strict=True)), tokenizer)
        part = slice(batch.offsets[row], batch.offsets[row + 1])
        found = zip(batch.token_ids[part], batch.kinds[part], batch.event_index[part], strict=True)
        assert [
            (tokenizer.vocabulary.tokens[token], Kind(kind), index) for token, kind, index in found
        ] == expected


event = st.tuples(
    st.sampled_from(CODES),
    st.none() | st.sampled_from([0, 1, DAY // 2, DAY, 3 * DAY, 9 * DAY, 400 * DAY, 4000 * DAY]),
    st.none() | st.sampled_from([-1.0, 0.0, 1.0, 2.5, 9.0]),
)
history = st.lists(event, max_size=8).map(
    lambda events: sorted(events, key=lambda one: (one[1] is not None, one[1] or 0))
)
profiles = st.sampled_from(
    [
        PROFILE,
        replace(PROFILE, unknown=None),
        replace(PROFILE, begin=None, end=None, pad=None),
        replace(PROFILE, static_prefixes=(), ignored_codes=()),
        replace(PROFILE, age_tokens=(), age_edges_years=(), gap_tokens=(), gap_edges_days=()),
        replace(PROFILE, value_tokens=(), value_edges={}, unknown=None, begin=None, end=None),
    ]
)


@settings(max_examples=200, deadline=None)
@given(cohort=st.lists(history, max_size=4), profile=profiles)
def test_equal_to_a_loop_over_events(cohort: list[list[Event]], profile: TokenProfile) -> None:
    assert_equal_to_naive(people(*cohort), Tokenizer(VOCABULARY, profile))


def spelt(history: list[Event], profile: TokenProfile = PROFILE) -> list[str]:
    batch = Tokenizer(VOCABULARY, profile).encode(people(history))
    return [VOCABULARY.tokens[token] for token in batch.tokens_of(0)]


def test_one_patient_spelt_out() -> None:
    history: list[Event] = [
        ("DX//1", None, None),
        ("SITE//A", None, None),
        ("MEDS_BIRTH", 0, None),
        ("LAB//1", 800 * DAY, 2.5),
        ("NEW", 800 * DAY, 1.0),
        ("LAB//2", 800 * DAY + 1, 5.0),
        ("LAB//1", 802 * DAY, -3.0),
        ("MEDS_DEATH", 900 * DAY, None),
    ]
    assert spelt(history) == [
        "BEGIN", "SITE//A", "OLD", "diagnosis/1", "LAB//1", "Q3", "UNKNOWN", "LAB//2",
        "G1", "LAB//1", "Q1", "G7", "MEDS_DEATH", "END",
    ]  # fmt: skip


def test_empty_and_one_event_patients() -> None:
    assert spelt([]) == ["BEGIN", "END"]
    assert spelt([("LAB//2", None, None)]) == ["BEGIN", "LAB//2", "END"]
    assert spelt([("MEDS_BIRTH", 0, None)]) == ["BEGIN", "END"]
    assert len(Tokenizer(VOCABULARY, PROFILE).encode(people())) == 0
    bare = replace(PROFILE, begin=None, end=None)
    batch = Tokenizer(VOCABULARY, bare).encode(people([], [("LAB//2", None, None)], []))
    assert batch.lengths.tolist() == [0, 1, 0]


def test_only_known_clinical_codes_are_scored() -> None:
    batch = Tokenizer(VOCABULARY, PROFILE).encode(
        people([("GENDER//F", 5, None), ("NEW", 5, None), ("LAB//1", 9 * DAY, 1.0)])
    )
    clinical = batch.token_ids[batch.kinds == Kind.CLINICAL]
    assert [VOCABULARY.tokens[token] for token in clinical] == ["LAB//1"]


def test_a_vocabulary_without_the_tokens_of_the_profile() -> None:
    with pytest.raises(VocabularyError, match=r"uses PAD, which vocab\.json lacks"):
        Tokenizer(Vocabulary(("LAB//1",)), PROFILE)


def test_coverage_counts_events_and_names_families_only() -> None:
    shard = people(
        [("GENDER//F", None, None), ("MEDS_BIRTH", 0, None), ("LAB//1", 1, None), ("NEW", 2, None)],
        [("SITE//NEW", None, None), ("DX//1", 1, None), ("NEW", 3, None), ("NEW", 3, None)],
    )
    tokenizer = Tokenizer(VOCABULARY, PROFILE)
    assert tokenizer.coverage(InMemory((shard, shard))) == Coverage(10, 4, 0.4, 4, (("?", 6),))
    lost = Tokenizer(vocabulary_of(("NEW",), PROFILE), PROFILE).coverage(InMemory((shard,)))
    assert dict(lost.missing_codes) == {"LAB": 1, "DX": 1}
    assert tokenizer.coverage(InMemory(())).share == 0.0


def test_a_vocabulary_that_knows_too_little_is_refused() -> None:
    coverage = Coverage(1000, 499, 0.499, 9, (("LAB", 400), ("DX", 101)))
    with pytest.raises(VocabularyError) as caught:
        require_coverage(coverage)
    assert "knows 49.9 % of the events, less than 50.0 %: give the vocab.json" in str(caught.value)
    assert str(caught.value).endswith("Unknown kinds of codes: LAB, DX.")
    require_coverage(replace(coverage, share=0.5))
    require_coverage(coverage, at_least=0.4)


@pytest.mark.real_data
def test_real_people_equal_the_loop_and_training_is_covered() -> None:
    root = Path(os.environ.get("PRIMUM_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
    if not (root / "ehr-mimic3-demo-meds").is_dir():
        pytest.skip("the real data folder is not here")
    opened = MedsFolder(root / "ehr-mimic3-demo-meds")
    train = opened.split("train")
    profile = learn_profile(train)
    tokenizer = Tokenizer(learn_vocabulary(train, profile), profile)
    assert tokenizer.coverage(train).share == 1.0
    assert 0.8 < tokenizer.coverage(opened.split("held_out")).share < 0.95
    for shard in opened.split("held_out").shards():
        assert_equal_to_naive(shard, tokenizer)
