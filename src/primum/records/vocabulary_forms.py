"""The forms in which published models keep their vocabulary, read into one."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from primum.errors import VocabularyError
from primum.records.vocabulary import Vocabulary, read_object, read_small

PADDING = "[PAD]"
# Special tokens of hf_ehr's code tokenizers (Wornow et al., Context Clues, ICLR 2025), before the codes.
_HF_EHR_SPECIAL = ("[BOS]", "[EOS]", "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")
_MOST_ROWS, _MOST_UNPACKED = 1 << 22, 1 << 28


def vocabulary_files(folder: Path) -> list[Path]:
    """Return the files of `folder` that hold its vocabulary, in the order in which they are believed.

    ``vocab.json``, ``tokenizer.json``, ``vocab_t*.csv``, ``labels.csv``, ``codes.parquet``,
    ``tokenizer_config.json``. The last is a vocabulary only in the form of hf_ehr, with a list of ``tokens``:
    transformers gives that name to settings.
    """
    named = ("vocab.json", "tokenizer.json", "vocab_t*.csv", "labels.csv", "codes.parquet")
    found = [file for name in named for file in sorted(folder.glob(name))]
    settings = folder / "tokenizer_config.json"
    if settings.exists() and "tokens" in read_object(settings):
        found.append(settings)
    return found


def read_vocabulary(folder: Path) -> tuple[Vocabulary, Path]:
    """Read the vocabulary of a model folder, whichever of its six forms is there.

    Returns
    -------
    vocabulary, file
        The file is the first of :func:`vocabulary_files`; any other must say the same.

    Raises
    ------
    VocabularyError
        No such file, one that breaks its form, or two that disagree.
    """
    files = vocabulary_files(folder)
    if not files:
        raise VocabularyError(
            "The model folder holds no vocab.json and no other vocabulary (tokenizer.json, vocab_t*.csv, "
            "labels.csv, codes.parquet, tokenizer_config.json of hf_ehr): add it beside the weights."
        )
    vocabulary, *others = [_read(file) for file in files]
    for file, other in zip(files[1:], others, strict=True):
        if other != vocabulary:
            raise VocabularyError(
                "{first} and {second} give different tokens or ids: keep the one that the model was trained "
                "with.",
                first=files[0].name,
                second=file.name,
            )
    return vocabulary, files[0]


def _read(file: Path) -> Vocabulary:
    readers: dict[str, Callable[[Path], Vocabulary]] = {
        "vocab.json": Vocabulary.read,
        "tokenizer.json": _tokenizer,
        "codes.parquet": _codes,
        "tokenizer_config.json": _hf_ehr,
    }
    return readers.get(file.name, _lines)(file)


def _tokenizer(file: Path) -> Vocabulary:
    """Read whole words of the tokenizers library, or the ``tokenizer_vocab`` of Odyssey (EHRMamba)."""
    content = read_object(file)
    model = content.get("model")
    ids = content.get("tokenizer_vocab") if model is None else None
    if isinstance(model, dict) and model.get("type") in {"WordLevel", "WordPiece"}:
        ids = model.get("vocab")
    added = content.get("added_tokens") or []
    if not isinstance(ids, dict) or not _are_objects(added):
        raise VocabularyError(
            "{file} does not give each code one token (a WordLevel vocabulary): write vocab.json instead.",
            file=file.name,
        )
    ids = dict(ids)
    for one in added:
        token = one.get("content")
        if not isinstance(token, str) or ids.setdefault(token, one.get("id")) != one.get("id"):
            raise VocabularyError("{file} gives an added token two ids: correct it.", file=file.name)
    return Vocabulary.numbered(ids, file=file.name)


def _are_objects(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(one, dict) for one in content)


def _hf_ehr(file: Path) -> Vocabulary:
    entries = read_object(file)["tokens"]
    if not _are_objects(entries):
        raise VocabularyError("{file}: tokens is not a list of objects: correct it.", file=file.name)
    return Vocabulary((*_HF_EHR_SPECIAL, *(_hf_ehr_token(entry, file) for entry in entries)))


def _hf_ehr_token(entry: dict[str, Any], file: Path) -> str:
    """Name a token as hf_ehr does: a code, or a code with a range of numbers or some texts."""
    code, kind, how = entry.get("code"), entry.get("type"), entry.get("tokenization") or {}
    try:
        if isinstance(code, str) and kind == "code":
            return code
        if isinstance(code, str) and kind == "numerical_range":
            return f"{code} || {how['unit']} || {how['range_start']} - {how['range_end']}"
        if isinstance(code, str) and kind == "categorical":
            return f"{code} || {','.join(how['categories'])}"
    except (KeyError, TypeError):
        pass
    raise VocabularyError(
        "{file} has a token that is no code, numerical_range or categorical of hf_ehr: correct it.",
        file=file.name,
    )


def _lines(file: Path) -> Vocabulary:
    """Read one token a line, the first with id 0; quotes as in CSV, and a comma may stand unquoted."""
    try:
        rows = list(csv.reader(io.StringIO(read_small(file).decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise VocabularyError(
            "{file} is not UTF-8 text of one token a line: write it again.", file=file.name
        ) from error
    if [] in rows:
        raise VocabularyError(
            "{file}, line {line} is empty, but each line is the token of one id: correct it.",
            file=file.name,
            line=rows.index([]) + 1,
        )
    return Vocabulary(tuple(",".join(row) for row in rows))


def _codes(file: Path) -> Vocabulary:
    """Read the code metadata of MEDS-transforms; where indices begin at 1, 0 is padding."""
    try:
        with pq.ParquetFile(io.BytesIO(read_small(file)), read_dictionary=["code"]) as opened:
            groups = range(opened.metadata.num_row_groups)
            size = sum(opened.metadata.row_group(group).total_byte_size for group in groups)
            if opened.metadata.num_rows > _MOST_ROWS or size > _MOST_UNPACKED:
                raise VocabularyError(
                    "{file} is larger than any vocabulary: give that of the model.", file=file.name
                )
            table = opened.read(["code", "code/vocab_index"])
        column = table["code"].cast(pa.dictionary(pa.int32(), pa.string())).combine_chunks()
        # Text by text, the rows of a small file could fill the memory.
        names = [*column.dictionary.to_pylist(), None]
        codes = [names[-1 if place is None else place] for place in column.indices.to_pylist()]
        indices = table["code/vocab_index"].cast(pa.int64()).to_pylist()
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise VocabularyError(
            "{file} is not a table of code (text) and code/vocab_index (whole numbers): give the one that "
            "the model was trained with.",
            file=file.name,
        ) from error
    ids = {code: index for code, index in zip(codes, indices, strict=True) if index is not None}
    if None in ids or len(ids) + indices.count(None) < len(codes):
        raise VocabularyError(
            "{file} has a code twice, or an index without a code: correct it.", file=file.name
        )
    if ids and min(ids.values()) == 1:
        ids.setdefault(PADDING, 0)
    return Vocabulary.numbered(ids, file=file.name)
