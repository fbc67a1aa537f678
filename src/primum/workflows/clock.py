"""Seconds by stage of an audit."""

import time
from dataclasses import dataclass

from primum.workflows.plan import Progress


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def spend(self, stage: str, seconds: float) -> None:
        """Record a stage that was timed where it ran, maybe beside others."""
        self.seconds[stage] = seconds

    def restart(self) -> None:
        """Begin the next stage now."""
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Close a stage, which may come again."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


@dataclass(frozen=True)
class Stage:
    """Hears of patients or cases, as they are finished, for the progress and the clock."""

    name: str
    progress: Progress
    clock: Clock

    def __call__(self, done: int) -> None:
        """Hear that `done` more are finished; 0 announces the stage."""
        self.progress(self.name, done)
        self.clock.lap(self.name)
