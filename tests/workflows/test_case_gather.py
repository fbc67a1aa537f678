"""How cases are gathered: in order, one copy in memory, each side announced before it is read."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from primum.errors import RecordsError
from primum.models.opened import OpenedClassifier
from primum.records.cases import Cases, CasesInMemory
from primum.workflows.case_gather import CaseGroup, CaseReading, gather_cases


@dataclass
class Told:
    """What was announced, read and finished, in order."""

    events: list[str] = field(default_factory=list)

    def tick(self, side: str) -> Callable[[int], None]:
        return lambda done: self.events.append(f"{side} {done}")


@dataclass(frozen=True, eq=False)
class Heard(CasesInMemory):
    told: Told = field(default_factory=Told)
    side: str = ""

    def shards(self) -> Iterator[Cases]:
        for part in self.parts:
            self.told.events.append(f"read {self.side}")
            yield part


class Sure:
    """Answers each case with its first number."""

    classes = ("no", "yes")

    def logits(self, cases: Cases) -> None:
        return None

    def predict_proba(self, cases: Cases) -> Any:
        yes = np.asarray(cases.inputs)[:, 0]
        return np.column_stack([1 - yes, yes])


def shard(first: int, count: int) -> Cases:
    ids = np.arange(first, first + count)
    inputs = np.random.default_rng(first).random((count, 3))
    return Cases(ids, ids // 2, inputs, ids % 2, {"site": np.full(count, f"S{first}")})


def gathered(told: Told, apply: Any = map) -> tuple[CaseGroup, int]:
    parts = {"members": (shard(0, 4), shard(4, 2)), "held-out": (shard(10, 3), shard(13, 1))}
    sides = [Heard(cases, ("no", "yes"), told=told, side=name) for name, cases in parts.items()]
    reading = CaseReading(cast(OpenedClassifier, type("Opened", (), {"predictor": Sure()})), None, 0)
    return gather_cases(reading, sides, ticks=[told.tick(name) for name in parts], apply=apply)


def test_sides_follow_one_another() -> None:
    cases, members = gathered(Told())
    assert members == 6
    assert cases.case_ids.tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13]
    assert cases.attributes["site"].tolist() == ["S0"] * 4 + ["S4"] * 2 + ["S10"] * 3 + ["S13"]
    assert set(cases.scores) == {"loss", "entropy"}
    assert np.isnan(cases.known[:, 0]).all()
    assert cases.known[6:9, 4:] == pytest.approx(np.asarray(shard(10, 3).inputs))
    assert (cases.buckets >= 0).tolist() == [[True, False, False, False, False]] * 10
    probability = np.where(cases.labels == 1, cases.known[:, 4], 1 - cases.known[:, 4])
    assert cases.probabilities[:, 1] == pytest.approx(cases.known[:, 4])
    assert cases.scores["loss"] == pytest.approx(np.log(probability / (1 - probability)), rel=1e-4)
    assert not cases.logits


def test_a_side_is_announced_before_it_is_read() -> None:
    """Else its first shard, and all of it where there is one, would seem to take no time."""
    told = Told()
    gathered(told)
    assert told.events == [
        *("members 0", "read members", "members 4", "read members", "members 2"),
        *("held-out 0", "read held-out", "held-out 3", "read held-out", "held-out 1"),
    ]


def test_with_others_at_work_a_side_is_announced_when_the_one_before_is_finished() -> None:
    def ahead(function: Callable[[Any], Any], tasks: Iterable[Any], /) -> Iterator[Any]:
        yield from map(function, list(tasks))

    told = Told()
    gathered(told, ahead)
    assert [one for one in told.events if not one.startswith("read")] == [
        *("members 0", "members 4", "members 2", "held-out 0", "held-out 3", "held-out 1")
    ]


def test_an_empty_side_is_refused() -> None:
    empty = CasesInMemory((), ("no", "yes"))
    reading = CaseReading(cast(OpenedClassifier, type("Opened", (), {"predictor": Sure()})), None, 0)
    with pytest.raises(RecordsError, match="empty"):
        gather_cases(reading, [empty, empty], ticks=[lambda done: None] * 2)
