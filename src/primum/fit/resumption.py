"""Training that can be killed at any moment and goes on to the same weights, bit by bit."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from primum.fit.protocol import Keep

Arrays = dict[str, NDArray[Any]]
_NAME = "training"
# So long at least between two checkpoints.
SECONDS = 10.0


class BestCheckpoint:
    """Remembers the weights with the lowest validation loss; without a measure or patience does nothing.

    Parameters
    ----------
    module : Module
    measure : callable or None
        Gives the loss on validation patients.
    patience : int or None
        So many measures without a better one end the training.
    """

    def __init__(
        self, module: nn.Module, measure: Callable[[], float] | None, *, patience: int | None
    ) -> None:
        self.module, self.measure, self.patience = module, measure, patience
        self.loss, self.stale = float("inf"), 0
        self.weights: dict[str, torch.Tensor] | None = None

    def should_stop(self) -> bool:
        """Measure; True after `patience` measures without a better one."""
        if self.measure is None or self.patience is None:
            return False
        loss = self.measure()
        if loss < self.loss:
            self.loss, self.stale = loss, 0
            self.weights = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
        else:
            self.stale += 1
        return self.stale >= self.patience

    def restore(self) -> None:
        """Go back to the best checkpoint."""
        if self.weights is not None:
            self.module.load_state_dict(self.weights)


class Running:
    """A training under way: all that the next step depends on, but for settings and data.

    Parameters
    ----------
    module : Module
    optimiser : Optimizer
    best : BestCheckpoint
    schedule : LRScheduler or None
    random : numpy.random.Generator or None
        What draws patients, where its state cannot be had by drawing again.
    noise : torch.Generator or None
    average : Module or None
        Of the weights so far.
    keep : Keep or None
        Where it is kept; None: nowhere.
    """

    def __init__(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        best: BestCheckpoint,
        *,
        schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
        random: np.random.Generator | None = None,
        noise: torch.Generator | None = None,
        average: nn.Module | None = None,
        keep: Keep | None = None,
    ) -> None:
        self.module, self.optimiser, self.best, self.schedule = module, optimiser, best, schedule
        self.random, self.noise, self.average = random, noise, average
        self.keep = keep
        self.taken, self._kept_at = 0, time.monotonic()
        if keep is not None and (stored := keep.get(_NAME)) is not None:
            self._restore(stored)

    def step(self) -> None:
        """Take a step down the gradients that there are, and keep everything when it is time to."""
        self.optimiser.step()
        if self.schedule:
            self.schedule.step()
        self.stepped()

    def stepped(self) -> None:
        """Count a step that was taken, and keep everything when it is time to."""
        self.taken += 1
        if self.keep is not None and time.monotonic() - self._kept_at >= SECONDS:
            self.keep.put(_NAME, self._arrays())
            self._kept_at = time.monotonic()

    def _arrays(self) -> Arrays:
        state = self.optimiser.state_dict()
        found = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        if self.average is not None:
            found |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        found |= {f"best.{name}": value for name, value in (self.best.weights or {}).items()}
        found |= {
            f"optimiser.{place}.{name}": torch.as_tensor(value)
            for place, values in state["state"].items()
            for name, value in values.items()
        }
        found["torch"] = torch.get_rng_state()
        if self.noise is not None:
            found["noise"] = self.noise.get_state()
        facts = {
            "taken": self.taken,
            "loss": self.best.loss.hex(),
            "stale": self.best.stale,
            "groups": state["param_groups"],
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "random": self.random.bit_generator.state if self.random else None,
        }
        said = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        return {"facts": said} | {name: value.detach().cpu().numpy() for name, value in found.items()}

    def _restore(self, stored: Mapping[str, NDArray[Any]]) -> None:
        facts = json.loads(stored["facts"].tobytes())
        parts: dict[str, dict[str, torch.Tensor]] = {"module": {}, "average": {}, "best": {}, "optimiser": {}}
        for name, value in stored.items():
            part, _, rest = name.partition(".")
            if part in parts:
                parts[part][rest] = torch.from_numpy(np.array(value))
        self.module.load_state_dict(parts["module"])
        if self.average is not None:
            self.average.load_state_dict(parts["average"])
        self.best.weights = parts["best"] or None
        self.best.loss, self.best.stale = float.fromhex(facts["loss"]), facts["stale"]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in parts["optimiser"].items():
            place, _, key = name.partition(".")
            state.setdefault(int(place), {})[key] = tensor
        self.optimiser.load_state_dict({"state": state, "param_groups": facts["groups"]})
        if self.schedule:
            self.schedule.load_state_dict(facts["schedule"])
        if self.random:
            self.random.bit_generator.state = facts["random"]
        torch.set_rng_state(torch.from_numpy(np.array(stored["torch"])))
        if self.noise is not None:
            self.noise.set_state(torch.from_numpy(np.array(stored["noise"])))
        self.taken = facts["taken"]
