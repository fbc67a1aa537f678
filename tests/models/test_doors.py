import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests import tiny

from primum.errors import ModelError, PrimumError, VocabularyError
from primum.evidence.identity import manifest
from primum.models import hf_folder
from primum.models.causal import CausalModel
from primum.models.doors import open_model
from primum.models.hf_folder import save_folder
from primum.models.mixture import Mixture
from primum.records.tokenizer import Tokenizer
from primum.records.vocabulary import Vocabulary

TOKENS = 20
BATCH = tiny.random_batch([9, 40, 2, 16], vocabulary=TOKENS)
TOKENIZER = Tokenizer(Vocabulary(tuple(f"c{token}" for token in range(TOKENS))), tiny.BARE)
SHAPING = ["config.json", "model.safetensors", "token_profile.json", "vocab.json"]


@pytest.fixture(scope="module")
def model() -> CausalModel:
    return tiny.build(vocabulary=TOKENS, seed=4)


@pytest.fixture
def folder(tmp_path: Path, model: CausalModel) -> Path:
    save_folder(tmp_path / "model", model, TOKENIZER)
    return tmp_path / "model"


def scores(folder: Path) -> np.ndarray:
    return np.concatenate(tiny.scorer_of(open_model(folder)).log_probs(BATCH))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_saved_and_opened_gives_the_same_scores(tmp_path: Path, architecture: str) -> None:
    model = tiny.build(architecture, vocabulary=TOKENS)
    save_folder(tmp_path / architecture, model, TOKENIZER)
    opened = open_model(tmp_path / architecture)
    expected = np.concatenate(model.log_probs(BATCH))
    np.testing.assert_allclose(scores(tmp_path / architecture), expected, atol=1e-6, rtol=0)
    assert opened.tokenizer == TOKENIZER
    assert (opened.context, opened.parameters) == (16, model.parameters)
    assert (opened.ref.name, opened.ref.identity) == (architecture, "computed")


def test_weights_in_several_files_are_one_model(tmp_path: Path, folder: Path, model: CausalModel) -> None:
    (folder / "model.safetensors").unlink()
    model.module.save_pretrained(folder, max_shard_size="8KB")  # type: ignore[operator]
    parts = sorted(file.name for file in folder.glob("*.safetensors"))
    assert len(parts) > 1
    opened = open_model(folder)
    assert set(opened.ref.files) == {*parts, "model.safetensors.index.json", *SHAPING} - {"model.safetensors"}
    np.testing.assert_allclose(scores(folder), np.concatenate(model.log_probs(BATCH)), atol=1e-6, rtol=0)
    (folder / parts[0]).unlink()
    with pytest.raises(ModelError, match="saved together"):
        open_model(folder)


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda folder: with_config(primum_members=3)(folder), "config.json calls for"),
        (lambda folder: with_config(primum_members=1)(folder), "do not fit config.json"),
        (lambda folder: with_config(primum_members=True)(folder), "do not fit config.json"),
        (lambda folder: with_config(primum_members=10**9)(folder), "do not fit config.json"),
        (lambda folder: with_config(primum_members="2")(folder), "do not fit config.json"),
        (lambda folder: with_config(primum_members=None)(folder), "config.json calls for"),
        (lambda folder: with_weights(lambda all_: all_.update(other=torch.ones(1)))(folder), "do not fit"),
        (lambda folder: with_weights(lambda all_: all_.pop("member-1.lm_head.weight"))(folder), "lm_head"),
    ],
)
def test_a_mixture_that_is_not_whole(tmp_path: Path, break_it: Callable[[Path], None], sentence: str) -> None:
    each = [tiny.build(vocabulary=TOKENS, seed=seed) for seed in (1, 2)]
    mixture = CausalModel(Mixture([one.module for one in each]), context=16, vocabulary_size=TOKENS)
    save_folder(tmp_path / "model", mixture, TOKENIZER)
    assert open_model(tmp_path / "model").parameters == 2 * each[0].parameters
    mean = np.log(np.mean([np.exp(np.concatenate(one.log_probs(BATCH))) for one in each], axis=0))
    np.testing.assert_allclose(scores(tmp_path / "model"), mean, atol=1e-5)
    break_it(tmp_path / "model")
    with pytest.raises(ModelError, match=sentence):
        open_model(tmp_path / "model")


def test_the_digest_is_that_of_every_file_that_shapes_an_answer(folder: Path, tmp_path: Path) -> None:
    ref = open_model(folder).ref
    assert sorted(ref.files) == SHAPING
    for name in SHAPING:
        assert ref.files[name] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    shutil.copytree(folder, tmp_path / "another name")
    assert open_model(tmp_path / "another name").ref.digest == ref.digest
    for unrelated in ("README.md", "optimizer.pt", "pytorch_model.bin", "generation_config.json", "run.py"):
        (folder / unrelated).write_text("raise SystemExit", encoding="utf-8")
    assert open_model(folder).ref.digest == ref.digest


@pytest.mark.parametrize("name", SHAPING)
def test_one_changed_byte_is_another_model(folder: Path, name: str) -> None:
    before = open_model(folder).ref
    content = bytearray((folder / name).read_bytes())
    place = -2 if name == "model.safetensors" else content.index(b"\n")
    content[place] = content[place] ^ 1 if name == "model.safetensors" else ord(" ")
    (folder / name).write_bytes(bytes(content))
    after = open_model(folder).ref
    assert after.digest != before.digest
    assert {file for file in SHAPING if after.files[file] != before.files[file]} == {name}


def test_what_is_hashed_is_what_is_loaded(
    folder: Path, model: CausalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights exchanged after they were hashed change nothing."""

    def exchange(root: Path, files: list[Path]) -> dict[str, str]:
        digests = manifest(root, files)
        tensors = load_file(folder / "model.safetensors")
        other = {name: tensor + 1 for name, tensor in tensors.items()}
        save_file(other, folder / "model.safetensors", metadata={"format": "pt"})
        return digests

    monkeypatch.setattr(hf_folder, "manifest", exchange)
    expected = np.concatenate(model.log_probs(BATCH))
    np.testing.assert_allclose(scores(folder), expected, atol=1e-6, rtol=0)


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (exec, ("raise AssertionError('the pickle was opened')",))


def with_config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | changes
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    return change


def with_text(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    return write


def with_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb()))


def a_link(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "elsewhere")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")


def remote_code(folder: Path) -> None:
    (folder / "evil.py").write_text("raise AssertionError('ran')", encoding="utf-8")
    with_config(model_type="unheard of", auto_map={"AutoModelForCausalLM": "evil.Evil"})(folder)


BROKEN: dict[str, tuple[Callable[[Path], None], type[PrimumError], str]] = {
    "truncated": (truncated, ModelError, "truncated or not a safetensors file"),
    "text for weights": (with_text("model.safetensors", "no"), ModelError, "truncated or not a safetensors"),
    "a tensor gone": (
        with_weights(lambda tensors: tensors.pop("lm_head.weight")),
        ModelError,
        "1 weights that config.json calls for are missing or of another shape, lm_head.weight",
    ),
    "another width": (with_config(hidden_size=32), ModelError, "saved together"),
    "pickle": (only_a_pickle, ModelError, "pytorch_model.bin is a pickle"),
    "link": (a_link, ModelError, "is a link"),
    "no weights": (without("model.safetensors"), ModelError, "no weights"),
    "no config": (without("config.json"), ModelError, "holds no config.json"),
    "no vocabulary": (without("vocab.json"), VocabularyError, "holds no vocab.json"),
    "config is no JSON": (with_text("config.json", "{"), ModelError, "does not describe"),
    "config is a list": (with_text("config.json", "[1]"), ModelError, "does not describe"),
    "config is empty": (with_text("config.json", "{}"), ModelError, "does not describe"),
    "config is deep": (with_text("config.json", "[" * 100_000), ModelError, "does not describe"),
    "config of the wrong type": (with_config(vocab_size="many"), ModelError, "does not describe"),
    "no context": (with_config(max_position_embeddings=0), ModelError, "does not describe"),
    "no heads": (with_config(num_attention_heads=0), ModelError, "config.json"),
    "unknown architecture": (with_config(model_type="x"), ModelError, "does not describe"),
    "remote code": (remote_code, ModelError, "does not describe"),
    "not a language model": (with_config(model_type="vit"), ModelError, "config.json"),
    "vocabulary of another model": (
        with_text("vocab.json", json.dumps({f"c{token}": token for token in range(TOKENS + 1)})),
        VocabularyError,
        "21 tokens but the model has 20",
    ),
    "vocabulary with gaps": (with_text("vocab.json", '{"a": 0, "b": 7}'), VocabularyError, "number them"),
    "profile with an unknown key": (
        with_text("token_profile.json", '{"beginn": "B"}'),
        VocabularyError,
        "unknown key beginn",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_opened_is_refused_with_the_remedy(folder: Path, case: str) -> None:
    break_it, kind, sentence = BROKEN[case]
    break_it(folder)
    with pytest.raises(kind) as caught:
        open_model(folder)
    said = str(caught.value)
    assert sentence in said
    assert said.endswith(".")
    assert ": " in said  # what is wrong, then what to do
    assert "\n" not in said


def test_places_that_are_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(pickle.dumps(_Bomb()))
    for place, sentence in (("model.pt", "is a pickle"), ("nowhere", "is not a model folder")):
        with pytest.raises(ModelError, match=sentence):
            open_model(tmp_path / place)


def test_the_sentence_about_no_folder_names_every_door(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        open_model(tmp_path / "nowhere")
    for door in ("config.json", "recorded answers", "address of a server"):
        assert door in str(caught.value)


def test_numbers_that_are_not_finite_are_refused_when_asked(folder: Path) -> None:
    with_weights(lambda tensors: tensors["lm_head.weight"].fill_(float("nan")))(folder)
    opened = open_model(folder)
    with pytest.raises(ModelError, match="not finite"):
        tiny.scorer_of(opened).log_probs(BATCH)


def test_tokens_beyond_the_embedding_are_refused(folder: Path) -> None:
    beyond = tiny.random_batch([30], vocabulary=TOKENS + 15)
    with pytest.raises(ModelError, match="embedding of 20 rows"):
        tiny.scorer_of(open_model(folder)).log_probs(beyond)


def test_nothing_stays_in_the_temporary_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "temporary"
    private.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(private))
    open_model(folder)
    truncated(folder)
    with pytest.raises(ModelError):
        open_model(folder)
    assert list(private.iterdir()) == []
