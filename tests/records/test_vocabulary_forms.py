import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from primum.errors import VocabularyError
from primum.records.vocabulary import Vocabulary
from primum.records.vocabulary_forms import read_vocabulary, vocabulary_files

TOKENS = ("[PAD]", "[UNK]", "LAB//50912//mEq/L", 'say "x", twice', "DX//E11.9", "é")


def write(folder: Path, name: str, content: object) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder


def ids(tokens: tuple[str, ...] = TOKENS) -> dict[str, int]:
    return {token: index for index, token in enumerate(tokens)}


def lines(tokens: tuple[str, ...], *, end: str = "\n") -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator=end).writerows([token] for token in tokens)
    return stream.getvalue()


def codes(folder: Path, table: dict[str, Any], **how: Any) -> Path:
    pq.write_table(pa.table(table), folder / "codes.parquet", **how)
    return folder


def hf_ehr(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"timestamp": "2025-01-01", "metadata": {}, "tokens": list(entries)}


def entry(code: str, kind: str = "code", **tokenization: Any) -> dict[str, Any]:
    return {"code": code, "type": kind, "description": None, "tokenization": tokenization, "stats": []}


@pytest.mark.parametrize("name", ["vocab_t6.csv", "labels.csv"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_are_ids(tmp_path: Path, name: str, end: str, mark: str) -> None:
    vocabulary, file = read_vocabulary(write(tmp_path, name, mark + lines(TOKENS, end=end)))
    assert vocabulary.tokens == TOKENS
    assert file.name == name


def test_commas_need_no_quotes(tmp_path: Path) -> None:
    write(tmp_path, "labels.csv", "PAD\nDX, other\n")
    assert read_vocabulary(tmp_path)[0].tokens == ("PAD", "DX, other")


def test_vocab_json_is_read_as_ever(tmp_path: Path) -> None:
    write(tmp_path, "vocab.json", ids())
    assert read_vocabulary(tmp_path) == (Vocabulary(TOKENS), tmp_path / "vocab.json")


@pytest.mark.parametrize("model", [models.WordLevel, models.WordPiece])
def test_whole_words_of_the_tokenizers_library(tmp_path: Path, model: Any) -> None:
    tokenizer = Tokenizer(model(ids(), unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["[PAD]", "[EOS]"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary, _ = read_vocabulary(tmp_path)
    assert vocabulary.id_of == tokenizer.get_vocab()
    assert vocabulary.tokens == (*TOKENS, "[EOS]")


def test_the_tokenizer_of_odyssey(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer.json", {"pad_token": "[PAD]", "tokenizer_vocab": ids()})
    assert read_vocabulary(tmp_path)[0].tokens == TOKENS


def test_the_codes_of_hf_ehr_come_after_its_special_tokens(tmp_path: Path) -> None:
    ranged = {"unit": "mg/dL", "range_start": 0.0, "range_end": 100.0}
    content = hf_ehr(
        entry("ICD10CM/E11.9"),
        entry("LOINC/1234", "numerical_range", **ranged),
        entry("LOINC/1234", "categorical", categories=["high", "low"]),
    )
    vocabulary, _ = read_vocabulary(write(tmp_path, "tokenizer_config.json", content))
    assert vocabulary.tokens == (
        *("[BOS]", "[EOS]", "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"),
        *("ICD10CM/E11.9", "LOINC/1234 || mg/dL || 0.0 - 100.0", "LOINC/1234 || high,low"),
    )


def test_codes_by_their_index(tmp_path: Path) -> None:
    table = {"code": ["b", "gone", "a"], "code/vocab_index": pa.array([2, None, 1], pa.uint8()), "n": [1] * 3}
    vocabulary, _ = read_vocabulary(codes(tmp_path, table))
    assert vocabulary.tokens == ("[PAD]", "a", "b")
    codes(tmp_path, {"code": ["b", "a"], "code/vocab_index": [1.0, 0.0]}, row_group_size=1)
    assert read_vocabulary(tmp_path)[0].tokens == ("a", "b")


def test_settings_of_transformers_are_no_vocabulary(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    with pytest.raises(VocabularyError, match=r"holds no vocab\.json and no other vocabulary"):
        read_vocabulary(tmp_path)


def test_the_first_of_two_forms_is_believed_if_they_agree(tmp_path: Path) -> None:
    write(tmp_path, "labels.csv", lines(TOKENS))
    write(tmp_path, "vocab.json", ids())
    codes(tmp_path, {"code": TOKENS, "code/vocab_index": range(len(TOKENS))})
    assert [file.name for file in vocabulary_files(tmp_path)] == ["vocab.json", "labels.csv", "codes.parquet"]
    assert read_vocabulary(tmp_path)[1].name == "vocab.json"
    write(tmp_path, "labels.csv", lines(TOKENS[::-1]))
    with pytest.raises(VocabularyError, match=r"^vocab\.json and labels\.csv give different tokens or ids"):
        read_vocabulary(tmp_path)


BROKEN: dict[str, tuple[str, object, str]] = {
    "a token twice": ("labels.csv", "a\nb\na\n", "holds a token twice"),
    "an empty line": ("labels.csv", "a\n\nb\n", "labels.csv, line 2 is empty"),
    "an empty file": ("vocab_t0.csv", "", "is empty"),
    "an open quote": ("labels.csv", 'a\n"b\n', "not UTF-8 text of one token a line"),
    "a field without end": ("labels.csv", "a" * 200_000, "not UTF-8 text of one token a line"),
    "pieces": ("tokenizer.json", {"model": {"type": "BPE", "vocab": ids()}}, "does not give each code one"),
    "pieces with scores": (
        "tokenizer.json",
        {"model": {"type": "Unigram", "vocab": [["a", 0]]}},
        "each code",
    ),
    "no model": ("tokenizer.json", {"model": None}, "does not give each code one token"),
    "added tokens of no shape": (
        "tokenizer.json",
        {"tokenizer_vocab": ids(), "added_tokens": ["x"]},
        "does not give each code one token",
    ),
    "a token added with another id": (
        "tokenizer.json",
        {"model": {"type": "WordLevel", "vocab": ids()}, "added_tokens": [{"id": 3, "content": "[PAD]"}]},
        "two ids",
    ),
    "gaps": ("tokenizer.json", {"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 9}}}, "without gaps"),
    "half a surrogate": ("vocab.json", '{"a": 0, "\\ud800": 1}', "no Unicode text"),
    "tokens that are no list": ("tokenizer_config.json", {"tokens": {"a": 1}}, "not a list of objects"),
    "a code that is none": ("tokenizer_config.json", hf_ehr(entry("x") | {"code": 3}), "is no code"),
    "a range without end": (
        "tokenizer_config.json",
        hf_ehr(entry("x", "numerical_range", unit=1)),
        "no code",
    ),
    "another kind": ("tokenizer_config.json", hf_ehr(entry("x", "embedding")), "is no code"),
    "a code twice": ("tokenizer_config.json", hf_ehr(entry("x"), entry("x")), "holds a token twice"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_forms_are_refused(tmp_path: Path, case: str) -> None:
    name, content, sentence = BROKEN[case]
    with pytest.raises(VocabularyError) as caught:
        read_vocabulary(write(tmp_path, name, content))
    assert sentence in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"a\n\xff\n")
    with pytest.raises(VocabularyError, match="not UTF-8 text"):
        read_vocabulary(tmp_path)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"code": ["a", "a"], "code/vocab_index": [1, 2]}, "a code twice"),
        ({"code": ["a", None], "code/vocab_index": [1, 2]}, "an index without a code"),
        ({"code": ["a", "b"], "code/vocab_index": [1, 1]}, "one id to two tokens"),
        ({"code": ["a", "b"], "code/vocab_index": [2, 3]}, "without gaps"),
        ({"code": ["a", "[PAD]"], "code/vocab_index": [1, 2]}, "without gaps"),
        ({"code": ["a"], "code/vocab_index": [0.5]}, "is not a table of code"),
        ({"code": ["a"], "code/vocab_index": ["x"]}, "is not a table of code"),
        ({"code": [["a"]], "code/vocab_index": [0]}, "is not a table of code"),
        ({"code": [b"\xff"], "code/vocab_index": [0]}, "is not a table of code"),
        ({"code": ["a"]}, "is not a table of code"),
        ({"code": pa.array([], pa.string()), "code/vocab_index": pa.array([], pa.int64())}, "is empty"),
    ],
)
def test_broken_tables_of_codes(tmp_path: Path, table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(VocabularyError, match=sentence):
        read_vocabulary(codes(tmp_path, table))


def test_a_small_file_that_unpacks_to_much(tmp_path: Path) -> None:
    long = {"code": ["x" * 100_000_000 + str(index) for index in range(3)], "code/vocab_index": [0, 1, 2]}
    codes(tmp_path, long, compression="zstd", use_dictionary=False)
    assert (tmp_path / "codes.parquet").stat().st_size < 1 << 20
    with pytest.raises(VocabularyError, match="larger than any vocabulary"):
        read_vocabulary(tmp_path)


@pytest.mark.parametrize("name", ["labels.csv", "tokenizer.json", "codes.parquet"])
def test_size_is_capped_before_reading(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as stream:
        stream.truncate((1 << 26) + 1)
    with pytest.raises(VocabularyError, match="larger than 64 MiB"):
        read_vocabulary(tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["labels.csv", "tokenizer.json", "codes.parquet"]), content=st.binary(max_size=60)
)
def test_any_bytes_are_read_or_refused(tmp_path: Path, name: str, content: bytes) -> None:
    for other in tmp_path.iterdir():
        other.unlink()
    (tmp_path / name).write_bytes(content)
    try:
        assert len(read_vocabulary(tmp_path)[0])
    except VocabularyError as error:
        assert str(error).endswith(".")
