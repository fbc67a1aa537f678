"""A trained model as text and plain arrays, and back: what can be kept without a pickle or a tokenizer."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from primum.models.causal import CausalModel


def to_arrays(model: object) -> dict[str, Any] | None:
    """Take a causal model apart; None when its configuration alone does not say how to build it again.

    Parameters
    ----------
    model : object
        Whatever a recipe returned.

    Returns
    -------
    dict or None
        ``config`` (JSON), ``context``, ``vocabulary_size``, ``weights`` (name to float array).
    """
    if type(model) is not CausalModel:
        return None
    module: Any = model.module
    try:
        config = json.dumps(module.config.to_dict())
        weights = {name: value.detach().numpy() for name, value in module.state_dict().items()}
        parts = {
            "config": config,
            "context": model.context,
            "vocabulary_size": model.vocabulary_size,
            "weights": weights,
        }
        again = from_arrays(parts)
    except Exception:  # a module of the user's own may be anything
        return None
    return parts if type(again.module) is type(module) else None


def from_arrays(parts: Mapping[str, Any]) -> CausalModel:
    """Put together what :func:`to_arrays` took apart."""
    settings = json.loads(parts["config"])
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    # The fork leaves the caller's random numbers as they were.
    with torch.random.fork_rng():
        module: Any = AutoModelForCausalLM.from_config(config)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in parts["weights"].items()})
    return CausalModel(module, context=parts["context"], vocabulary_size=parts["vocabulary_size"])
