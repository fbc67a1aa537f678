"""Several causal models as one, in one folder: the next token is drawn by the mean of their probabilities."""

import copy
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

# transformers takes seconds to import, and whoever trains on images needs none of it.
if TYPE_CHECKING:
    from transformers import PretrainedConfig
    from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast

# What the configuration calls their number; transformers keeps names that it does not know.
MEMBERS = "primum_members"
MOST = 99
_WEIGHTS, _CONFIGURATION = "model.safetensors", "config.json"


class Mixture(nn.Module):
    """Answers as a Hugging Face causal model does, by the logarithm of the members' mean probabilities.

    Parameters
    ----------
    members : sequence of Module
        Of one configuration.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config: Any = copy.deepcopy(members[0].config)
        setattr(self.config, MEMBERS, len(members))

    def forward(self, *, past_key_values: "_Caches | None" = None, **given: Any) -> "CausalLMOutputWithPast":
        """Answer token ids (batch, length) by logits (batch, length, vocabulary)."""
        from transformers.modeling_outputs import CausalLMOutputWithPast

        pasts = past_key_values.each if past_key_values else [None] * len(self.members)
        answers = [one(past_key_values=past, **given) for one, past in zip(self.members, pasts, strict=True)]
        each = torch.stack([torch.log_softmax(answer.logits, -1) for answer in answers])
        mean = torch.logsumexp(each, 0) - float(torch.log(torch.tensor(float(len(answers)))))
        caches = _Caches([answer.past_key_values for answer in answers])
        return CausalLMOutputWithPast(logits=mean, past_key_values=caches)

    def base_model(self, **given: Any) -> "BaseModelOutput":
        """Return the members' hidden states side by side, shape (batch, length, members x width)."""
        from transformers.modeling_outputs import BaseModelOutput

        each: list[Tensor] = [one.base_model(**given).last_hidden_state for one in self.members]  # type: ignore[operator]
        return BaseModelOutput(last_hidden_state=torch.cat(each, -1))


@dataclass(frozen=True)
class _Caches:
    """What each member has read so far."""

    each: list[Any]

    def reorder_cache(self, rows: Tensor) -> None:
        for one in self.each:
            one.reorder_cache(rows)


def save_mixture(folder: Path, mixture: Mixture) -> None:
    """Write one configuration and all weights, which no reader takes for those of one model."""
    folder.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for place, member in enumerate(mixture.members):
            member.save_pretrained(scratch, safe_serialization=True)  # type: ignore[operator]
            weights |= {
                f"{_name(place)}.{key}": value for key, value in load_file(Path(scratch) / _WEIGHTS).items()
            }
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    mixture.config.save_pretrained(folder)


def members_in(config: "PretrainedConfig") -> int:
    """Return how many models a configuration says there are, 1 where it says nothing.

    Raises
    ------
    ValueError
        No number from 2 to :data:`MOST`.
    """
    said = getattr(config, MEMBERS, None)
    if said is None:
        return 1
    if isinstance(said, bool) or not isinstance(said, int) or not 2 <= said <= MOST:
        raise ValueError(MEMBERS)
    return said


def split_weights(folder: Path, members: int) -> list[Path]:
    """Write each member as a folder of its own inside `folder`, and return these.

    Raises
    ------
    ValueError
        Weights that belong to none of them.
    """
    shares: list[dict[str, Tensor]] = [{} for _ in range(members)]
    for key, value in load_file(folder / _WEIGHTS).items():
        said = re.fullmatch(r"member-(\d{1,2})\.(.+)", key)
        if said is None or int(said[1]) >= members:
            raise ValueError(key)
        shares[int(said[1])][said[2]] = value
    folders = [folder / _name(place) for place in range(members)]
    for place, share in zip(folders, shares, strict=True):
        place.mkdir()
        save_file(share, place / _WEIGHTS, metadata={"format": "pt"})
        shutil.copyfile(folder / _CONFIGURATION, place / _CONFIGURATION)
    return folders


def _name(place: int) -> str:
    return f"member-{place}"
