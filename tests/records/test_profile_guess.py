import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import tiny

from primum.records.histories import Histories, InMemory
from primum.records.profile import TokenProfile
from primum.records.profile_guess import guess_profile
from primum.records.tokenizer import Tokenizer
from primum.records.vocabulary import Vocabulary

ETHOS = (
    *("5m-15m", "15m-45m", "45m-1h15m", "1h15m-2h", "2h-3h", "3h-5h", "5h-8h", "8h-12h", "12h-18h"),
    *("18h-1d", "1d-2d", "2d-4d", "4d-7d", "7d-12d", "12d-20d", "20d-30d", "30d-2mt", "2mt-6mt", "=6mt"),
)
EHRMAMBA = (*(f"[W_{week}]" for week in range(4)), *(f"[M_{month}]" for month in range(13)), "[LT]")
# Codes that look like special tokens, ages, gaps or bins, and are none.
TRAPS = (
    *(
        "M1",
        "M2",
        "W0",
        "D1",
        "D0120",
        "LT",
        "Q1",
        "Q2",
        "Q4",
        "Q21.0",
        "M05",
        "AGE",
        "AGE_RELATED",
        "AGE//old",
    ),
    *("CLS", "S", "/S", "5-10", "10d", "1d-2d", "X5m-15m", "GAPS", "Q1//LAB", "M", "ICD", "LAB", "250-500"),
)


def guess(*tokens: str) -> TokenProfile:
    profile, _ = guess_profile(Vocabulary(tokens))
    profile.check(Vocabulary(tokens))
    return profile


def test_nothing_is_invented() -> None:
    profile, guessed = guess_profile(Vocabulary(TRAPS))
    assert profile == tiny.BARE
    assert guessed == ("? = Q1//LAB",)


@pytest.mark.parametrize(
    ("tokens", "roles"),
    [
        (("[CLS]", "[BOS]", "[EOS]", "[UNK]", "[SEP]", "[PAD]"), ("[BOS]", "[EOS]", "[UNK]", "[PAD]")),
        (("<s>", "</s>", "<pad>", "<unk>"), ("<s>", "</s>", "<unk>", "<pad>")),
        (("BEGIN", "END", "PAD", "UNKNOWN"), ("BEGIN", "END", "UNKNOWN", "PAD")),
        (("[START]", "[END]", "[OOV]", "[PAD]"), ("[START]", "[END]", "[OOV]", "[PAD]")),
        (("TIMELINE//START", "TIMELINE//END"), ("TIMELINE//START", "TIMELINE//END", None, None)),
        (("[PAD]", "[CLS]", "[VS]", "[VE]", "[SEP]"), ("[CLS]", None, None, "[PAD]")),
        (("<|startoftext|>", "<|endoftext|>"), ("<|startoftext|>", "<|endoftext|>", None, None)),
    ],
)
def test_special_tokens(tokens: tuple[str, ...], roles: tuple[str | None, ...]) -> None:
    profile = guess(*tokens)
    assert (profile.begin, profile.end, profile.unknown, profile.pad) == roles


@pytest.mark.parametrize(
    ("tokens", "edges"),
    [
        (("AGE//65+", "AGE//0+", "AGE//18+"), (0, 18, 65)),
        (("AGE_0-18", "AGE_18-65", "AGE_65+"), (0, 18, 65)),
        (("AGE//18-29", "AGE//30-39", "AGE//40-49"), (18, 30, 40)),
        (("age:46", "age:47"), (46, 47)),
        (("[AGE_20]", "[AGE_30]"), (20, 30)),
        (("AGE//[20,30)", "AGE//[30,40)"), (20, 30)),
        (("AGE_0-18", "AGE_30-65"), ()),  # a hole
        (("AGE_0-18", "AGE_10-65"), ()),  # an overlap
        (("AGE_20", "AGE//20"), ()),
        (("AGE//young", "AGE//old"), ()),
    ],
)
def test_ages(tokens: tuple[str, ...], edges: tuple[float, ...]) -> None:
    profile = guess(*tokens, "[PAD]")
    assert profile.age_edges_years == edges
    assert len(profile.age_tokens) == len(edges)


def test_the_times_of_ethos() -> None:
    profile = guess("Q1", *ETHOS[::-1])
    assert profile.gap_tokens == ETHOS
    hours = [one * 24 for one in profile.gap_edges_days]
    assert np.allclose(hours[:10], [1 / 12, 0.25, 0.75, 1.25, 2, 3, 5, 8, 12, 18])
    assert np.allclose(profile.gap_edges_days[10:], [1, 2, 4, 7, 12, 20, 30, 60.875, 182.625])


def test_the_times_of_ehrmamba() -> None:
    profile = guess(*EHRMAMBA)
    assert profile.gap_tokens == EHRMAMBA
    months = [28, *range(30, 361, 30)]
    assert profile.gap_edges_days == (0, 7, 14, 21, *months, 365)


def test_the_times_of_cehr_gpt() -> None:
    profile = guess(*(f"W{week}" for week in range(4)), *(f"M{month}" for month in range(1, 12)), "LT", "Q1")
    assert profile.gap_edges_days == (0, 7, 14, 21, *range(30, 331, 30), 360)
    days = guess(*(f"D{day}" for day in range(1, 1081)), "LT", "M1")
    assert days.gap_edges_days == tuple(range(1, 1082))
    assert days.gap_tokens[-2:] == ("D1080", "LT")


@pytest.mark.parametrize(
    ("tokens", "edges"),
    [
        (("GAP//1+", "GAP//7+", "GAP//0.5+"), (0.5, 1, 7)),
        (("GAP_1D", "GAP_30D"), (1, 30)),
        (("GAP//1-7", "GAP//7-30"), (1, 7)),
        (("12h-18h", "1d-2d"), ()),  # a hole
        (("1d-3d", "2d-4d"), ()),  # an overlap
        (("GAP//soon", "GAP//late"), ()),
        (
            ("TIMELINE//DELTA//months//value_[-inf,1)", "TIMELINE//DELTA//months//value_[1,inf)"),
            (0, 30.4375),
        ),
        (("TIMELINE//DELTA//years//value_[0,1)", "TIMELINE//DELTA//years//value_[2,3)"), ()),
    ],
)
def test_other_times(tokens: tuple[str, ...], edges: tuple[float, ...]) -> None:
    assert guess(*tokens, "[PAD]").gap_edges_days == edges


def test_of_two_ways_to_tell_time_one_is_left_out_and_said() -> None:
    profile, guessed = guess_profile(Vocabulary((*ETHOS, *EHRMAMBA[:6])))
    assert profile.gap_tokens == ETHOS
    assert guessed == ("gap_tokens = 5m-15m … =6mt (19)", "? = [W_0] … [M_1] (6)")


@pytest.mark.parametrize(
    ("tokens", "values"),
    [
        (("Q2", "Q1", "Q10", *(f"Q{n}" for n in range(3, 10))), tuple(f"Q{n}" for n in range(1, 11))),
        (("[Q_0]", "[Q_1]", "[Q_2]"), ("[Q_0]", "[Q_1]", "[Q_2]")),
        (("Q1", "Q2"), ()),
        (("Q1", "Q2", "Q4"), ()),
        (("Q2", "Q3", "Q4"), ()),
        (("Q1", "q1", "Q2", "Q3"), ()),
        (("Q1//LAB//1", "Q2//LAB//1", "Q3//LAB//1"), ()),
    ],
)
def test_value_bins(tokens: tuple[str, ...], values: tuple[str, ...]) -> None:
    profile, guessed = guess_profile(Vocabulary(tokens))
    assert profile.value_tokens == values
    assert profile.value_edges == {}
    assert ("value_edges = ?" in guessed) == bool(values)


def rewritten(profile: TokenProfile, *codes: str) -> list[str]:
    return [profile.rewritten(code) for code in codes]


def test_codes_begin_as_most_tokens_do() -> None:
    profile, guessed = guess_profile(
        Vocabulary(("ICD9CM/042", "ICD9CM/250", "ICD9//001", "LAB//LOINC//1", "Gender/F", "Gender/M"))
    )
    assert (
        rewritten(profile, "DIAGNOSIS//ICD//9//042", "DIAGNOSIS//ICD9CM//042", "ICD9CM//042")
        == ["ICD9CM/042"] * 3
    )
    assert rewritten(profile, "ICD9//001", "LOINC/1", "GENDER//F") == [
        "ICD9//001",
        "LAB//LOINC//1",
        "Gender/F",
    ]
    untouched = ["PROCEDURE//ICD//9//042", "DIAGNOSIS//ICD//10//B20", "ATC//A"]
    assert rewritten(profile, *untouched) == untouched
    assert guessed == ("code_prefixes = ICD9CM/ (2), LAB//LOINC// (1), Gender/ (2)",)
    assert "Gender/" in profile.static_prefixes


@pytest.mark.parametrize(("male", "female"), [("M", "F"), ("[MALE]", "[FEMALE]"), ("8507", "8532")])
def test_sexes_by_themselves(male: str, female: str) -> None:
    profile = guess(male, female, "DX")
    found = rewritten(profile, "GENDER//M", "GENDER//F", "GENDER//MALE", "GENDER//FEMALE")
    assert found == [male, female] * 2
    assert guess(male, "DX").code_prefixes == {}


def test_birth_is_a_token_only_where_the_model_has_one() -> None:
    assert guess("MEDS_BIRTH", "DX").ignored_codes == ()
    assert guess("DX").ignored_codes == ("MEDS_BIRTH",)


def test_our_own_vocabulary_is_guessed_back() -> None:
    records = InMemory((tiny.cohort(train=40)["train"],))
    declared = tiny.tokenizer_of(records)
    profile, _ = guess_profile(declared.vocabulary)
    for key in ("begin", "end", "unknown", "pad", "age_tokens", "age_edges_years"):
        assert getattr(profile, key) == getattr(declared.profile, key)
    assert (profile.gap_tokens, profile.gap_edges_days) == (
        declared.profile.gap_tokens,
        declared.profile.gap_edges_days,
    )
    assert profile.value_tokens == declared.profile.value_tokens
    guessed = Tokenizer(declared.vocabulary, profile)
    assert guessed.coverage(records).share == declared.coverage(records).share
    assert np.array_equal(guessed.kinds, declared.kinds)
    (shard,) = records.shards()
    without_values = declared.encode(shard).token_ids[~np.isin(declared.encode(shard).kinds, [1])]
    assert np.array_equal(guessed.encode(shard).token_ids, without_values)


def test_a_woman_in_the_words_of_ehrmamba() -> None:
    vocabulary = Vocabulary(("[PAD]", "[UNK]", "[CLS]", *EHRMAMBA, "AGE_60-70", "ICD10CM/I10", "F", "M"))
    profile, _ = guess_profile(vocabulary)
    times = ["NaT", "1950-01-01", "2015-02-01", "2015-03-12", "2015-03-13"]
    woman = Histories(
        np.array([1]),
        np.array([0, 5]),
        ("GENDER//F", "MEDS_BIRTH", "DIAGNOSIS//ICD//10//I10", "UNHEARD//OF"),
        np.array([0, 1, 2, 2, 3]),
        np.array(times, "datetime64[us]"),
        np.full(5, np.nan),
    )
    ids = Tokenizer(vocabulary, profile).encode(woman).token_ids
    assert " ".join(vocabulary.tokens[one] for one in ids) == (
        "[CLS] F AGE_60-70 ICD10CM/I10 [M_1] ICD10CM/I10 [W_0] [UNK]"
    )


SHORT = st.text("0123456789.-+=>≥_/[](), agegapqQdhmtwyMWDLT", min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(SHORT, st.text(max_size=6)), min_size=1, unique=True))
def test_any_vocabulary_gives_a_profile_that_fits_it(tokens: list[str]) -> None:
    try:
        vocabulary = Vocabulary(tuple(tokens))
    except ValueError:
        return
    profile, guessed = guess_profile(vocabulary)
    Tokenizer(vocabulary, profile)
    assert all(" = " in line for line in guessed)


def test_long_tokens_are_no_trap() -> None:
    hard = ("1" * 5000 + "!", "1m" * 5000 + "!", "a//value_[" * 5000, "AGE_" + "9" * 5000, "[" * 5000 + "W1")
    assert guess(*hard, *(one[:190] for one in hard)) == tiny.BARE
    assert guess_profile(Vocabulary(("Q1//" + "x" * 300,)))[1] == ()
