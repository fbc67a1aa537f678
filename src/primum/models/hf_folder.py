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
from primum.models.opened import OpenedModel
from primum.records.profile import TokenProfile
from primum.records.tokenizer import Tokenizer
from primum.records.vocabulary import Vocabulary

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

# Everything that shapes an answer; what else lies in the folder is neither copied nor hashed.
_SHAPING = ("config.json", "vocab.json", "token_profile.json", "model.safetensors.index.json")


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
        for name in ("vocab.json", "token_profile.json"):
            if not (folder / name).is_file():
                raise ModelError(
                    "{path} holds no {file}: add it beside the weights.", path=str(path), file=name
                )
        vocabulary = Vocabulary.read(folder / "vocab.json")
        profile = TokenProfile.read(folder / "token_profile.json")
        config = _config(folder, path)
        if len(vocabulary.tokens) > config.vocab_size:
            raise VocabularyError(
                "vocab.json has {tokens} tokens but the model has {size}: give the vocab.json that it was "
                "trained with.",
                tokens=len(vocabulary.tokens),
                size=config.vocab_size,
            )
        model = CausalModel(
            _weights(folder, path),
            context=int(config.max_position_embeddings),
            vocabulary_size=int(config.vocab_size),
        )
    ref = ModelRef(path.resolve().name, manifest_digest(digests), "computed", digests)
    return OpenedModel(ref, model, Tokenizer(vocabulary, profile), model.context, model.parameters)


def _copy(path: Path, folder: Path) -> list[Path]:
    """Copy what shapes an answer to a private folder, so that nobody changes it between hash and load."""
    names = [name for name in _SHAPING if (path / name).exists()]
    names += sorted(file.name for file in path.glob("*.safetensors"))
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
        if min(int(config.vocab_size), int(config.max_position_embeddings)) < 2:
            raise ValueError
    except Exception as error:  # transformers lets through whatever a strange value makes Python raise
        raise ModelError(
            "{path}/config.json does not describe a causal language model that transformers knows: give the "
            "config.json saved with the weights.",
            path=str(path),
        ) from error
    return config


def _weights(folder: Path, path: Path) -> torch.nn.Module:
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(str(file), framework="pt") as tensors:
                tensors.keys()
        except (SafetensorError, OSError) as error:
            raise ModelError(
                "{path}/{file} is truncated or not a safetensors file: copy it again from its source.",
                path=str(path),
                file=file.name,
            ) from error
    try:
        module, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except MemoryError:
        raise
    except Exception as error:
        raise ModelError(
            "{path}: the weights do not fit config.json: give the two that were saved together.",
            path=str(path),
        ) from error
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
    module.save_pretrained(path, safe_serialization=True)
    tokenizer.vocabulary.write(path / "vocab.json")
    tokenizer.profile.write(path / "token_profile.json")
