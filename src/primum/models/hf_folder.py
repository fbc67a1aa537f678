"""The Hugging Face folder door: safetensors, no remote code, no network; what is hashed is loaded."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from primum.errors import ModelError, VocabularyError
from primum.evidence.identity import ModelRef, manifest, manifest_digest
from primum.models.causal import CausalModel
from primum.models.mixture import Mixture, members_in, save_mixture, split_weights
from primum.models.opened import OpenedModel
from primum.records.profile_guess import PROFILE, read_tokenizer
from primum.records.tokenizer import Tokenizer
from primum.records.vocabulary_forms import vocabulary_files

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

# What shapes an answer, beside vocabulary and weights; nothing else in the folder is copied or hashed.
_SHAPING = ("config.json", PROFILE, "model.safetensors.index.json")
# What configurations call the number of tokens that a model sees at once, and what those that call it nothing
# are given: state models (Mamba) see without end, and this is the length that EHRMamba was trained on.
_CONTEXTS = (
    *("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_seq_length", "seq_length"),
    *("max_sequence_length", "context_length", "model_max_length"),
)
_DEFAULT_CONTEXT = 2048
# Embeddings are often rounded up to a multiple of this.
_ROUNDED_TO = 128
# State models read in chunks, at a cost of tokens times chunk; the default of 256 suits other processors.
_CHUNK = 32


def open_folder(path: Path) -> OpenedModel:
    """Open a causal language model saved by Hugging Face transformers.

    Raises
    ------
    ModelError
        Broken or incomplete weights or configuration, a link that leaves the folder.
    VocabularyError
        A vocabulary or token profile that does not fit the model.
    """
    with tempfile.TemporaryDirectory(prefix="primum-model-") as private:
        folder = Path(private)
        files = _copy(path, folder)
        digests = manifest(folder, files)
        tokenizer, source, guessed = read_tokenizer(folder)
        config = _config(folder, path)
        context = _context(config)
        if context is None:
            context, guessed = _DEFAULT_CONTEXT, (*guessed, f"context = {_DEFAULT_CONTEXT}")
        _check_size(len(tokenizer.vocabulary), config.vocab_size, source)
        model = CausalModel(
            _weights(folder, path, config), context=context, vocabulary_size=int(config.vocab_size)
        )
    ref = ModelRef(path.resolve().name, manifest_digest(digests), "computed", digests)
    return OpenedModel(ref, model, tokenizer, model.context, model.parameters, guessed)


def _check_size(tokens: int, size: int, source: Path) -> None:
    if tokens > size:
        raise VocabularyError(
            "{file} has {tokens} tokens but the model has {size}: give the one that it was trained with.",
            file=source.name,
            tokens=tokens,
            size=size,
        )
    if size > -(-tokens // _ROUNDED_TO) * _ROUNDED_TO:
        raise VocabularyError(
            "The model has {size} tokens but {file} only {tokens}, more than rounding explains: give the one "
            "that it was trained with.",
            file=source.name,
            tokens=tokens,
            size=size,
        )


def _copy(path: Path, folder: Path) -> list[Path]:
    """Copy what shapes an answer to a private folder, so that nobody changes it between hash and load."""
    names = [name for name in _SHAPING if (path / name).exists()]
    names += [file.name for file in (*vocabulary_files(path), *sorted(path.glob("*.safetensors")))]
    for name in names:
        source = path / name
        if source.is_symlink() or not source.is_file():
            raise ModelError(
                "{file} is a link or not a file: copy the file itself into the model folder.",
                file=str(source),
            )
        shutil.copyfile(source, folder / name)
    return [folder / name for name in names]


def _config(folder: Path, path: Path) -> Any:
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        context = _context(config)
        if int(config.vocab_size) < 2 or (context is not None and context < 2):
            raise ValueError
    except Exception as error:  # transformers lets through whatever a strange value makes Python raise
        raise ModelError(
            "{path}/config.json does not describe a causal language model that transformers knows: give the "
            "config.json saved with the weights.",
            path=str(path),
        ) from error
    return config


def _context(config: Any) -> int | None:
    """Return the first number of tokens that the configuration names."""
    named = (getattr(config, name, None) for name in _CONTEXTS)
    return next((int(number) for number in named if number is not None), None)


def _weights(folder: Path, path: Path, config: Any) -> torch.nn.Module:
    held = 0
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(str(file), framework="pt") as tensors:
                held += len(tensors.keys())
        except (SafetensorError, OSError) as error:
            raise ModelError(
                "{path}/{file} is truncated or not a safetensors file: copy it again from its source.",
                path=str(path),
                file=file.name,
            ) from error
    if hasattr(config, "chunk_size"):
        config.chunk_size = min(config.chunk_size, _CHUNK)
    try:
        # Layers are built before weights are looked at, and a damaged number of them may be without end.
        if getattr(config, "num_hidden_layers", 0) > held:
            raise ValueError
        members = members_in(config)
        if members == 1:
            return _module(folder, path, config)
        return Mixture([_module(one, path, config) for one in split_weights(folder, members)])
    except (MemoryError, ModelError):
        raise
    except Exception as error:
        raise ModelError(
            "{path}: the weights do not fit config.json: give the two that were saved together.",
            path=str(path),
        ) from error


def _module(folder: Path, path: Path, config: Any) -> torch.nn.Module:
    module, loading = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    # transformers fills what is missing with random numbers, and an audit of those would mean nothing.
    absent = sorted({*loading["missing_keys"], *(str(key[0]) for key in loading["mismatched_keys"])})
    if absent:
        raise ModelError(
            "{path}: {count} weights that config.json calls for are missing or of another shape, {first} for "
            "one: give the weights and the config.json that were saved together.",
            path=str(path),
            count=len(absent),
            first=absent[0],
        )
    result: torch.nn.Module = module
    return result


def save_folder(path: Path, model: CausalModel, tokenizer: Tokenizer) -> None:
    """Write a model as a folder that :func:`open_folder` opens."""
    module: Any = model.module
    if isinstance(module, Mixture):
        save_mixture(path, module)
    else:
        module.save_pretrained(path, safe_serialization=True)
    tokenizer.vocabulary.write(path / "vocab.json")
    tokenizer.profile.write(path / PROFILE)
