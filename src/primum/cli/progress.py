"""Progress on stderr: a live line on a terminal, one line a stage in a log, or one JSON object a stage."""

import sys
import time

from rich.console import Console
from rich.text import Text

from primum.cli.log import write_line
from primum.report.language import Language


class Stages:
    """Says which stage runs, how many patients it has done and how long it took."""

    def __init__(self, language: Language, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._language = language
        self._console = Console(stderr=True, highlight=False)
        self._stage = ""
        self._done = 0
        self._started = time.perf_counter()
        self._live = sys.stderr.isatty() and not as_json

    def __call__(self, stage: str, done: int) -> None:
        """Hear that `done` more units of `stage` are finished; 0 announces a stage."""
        if stage != self._stage:
            self.close()
            self._stage, self._done, self._started = stage, 0, time.perf_counter()
        self._done += done
        if self._live:
            self._console.print(Text(self._line()), end="\r")

    def close(self) -> None:
        """Finish the current stage."""
        if self._stage and self._as_json:
            seconds = time.perf_counter() - self._started
            write_line("info", "stage", stage=self._stage, patients=self._done or None, seconds=seconds)
        elif self._stage:
            self._console.print(Text(self._line()))
        self._stage = ""

    def _line(self) -> str:
        seconds = time.perf_counter() - self._started
        name = self._language.text(self._stage)
        count = f" {self._done:>7}" if self._done else ""
        return f"  {name:<44}{count:>8} {self._language.number(seconds, 1):>7} s"
