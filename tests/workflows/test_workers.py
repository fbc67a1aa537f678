"""Work shared by real processes gives what one process gives."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from tests.workflows.conftest import World
from tests.workflows.tasks import failing, growing, halved, slow

from primum.errors import InputError
from primum.evidence.canonical import canonical_bytes
from primum.records.histories import InMemory
from primum.workflows.audit import run_audit
from primum.workflows.plan import AuditPlan, AuditResult
from primum.workflows.workers import Backend, workers


def test_tasks_are_taken_as_others_are_finished() -> None:
    """Shards are read from disk when a worker is free, not all at the start."""
    taken, waiting = 0, []

    def tasks() -> Iterator[int]:
        nonlocal taken
        for number in range(30):
            taken += 1
            yield number

    with workers(2) as apply:
        # A process that still starts holds the first result back: let both come so far.
        list(apply(slow, range(40)))
        for place, _ in enumerate(apply(slow, tasks())):
            waiting.append(taken - place)
    assert taken == 30
    assert max(waiting) < 12


def test_processes_stay_though_they_load_a_model_and_end_with_the_audit() -> None:
    """loky takes what grows for a leak and starts it anew, in the middle of the work."""
    with workers(2) as apply:
        first, again = set(apply(growing, range(6))), set(apply(growing, range(2)))
    assert len(first) == 2
    assert again <= first
    for process in first:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_one_worker_is_this_process_and_none_is_refused() -> None:
    with workers() as apply:
        assert list(apply(halved, [2])) == [(1.0, os.getpid())]
    with pytest.raises(InputError, match="--workers"), workers(0):
        pass


def test_a_backend_that_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(InputError, match=r"install primum\[dask\]"), workers(2, backend="dask"):
        pass


@pytest.fixture(scope="module")
def plan(world: World) -> AuditPlan:
    members, held_out = (
        InMemory(tuple(side.select(part) for part in np.array_split(np.arange(len(side)), 3)))
        for side in (world.members, world.held_out)
    )
    return AuditPlan(world.opened(), members, held_out, sampled=12)


@pytest.fixture(scope="module")
def alone(plan: AuditPlan) -> AuditResult:
    """What one process finds."""
    return run_audit(plan)


@pytest.mark.parametrize("backend", ["loky", "ray", "dask"])
def test_other_processes_work_in_order_fail_aloud_and_find_what_one_finds(
    plan: AuditPlan, alone: AuditResult, backend: Backend
) -> None:
    # Once for all three: to start ray costs more than all that is asked of it.
    with workers(2, backend=backend) as apply:
        results = list(apply(halved, range(8)))
        with pytest.raises(InputError, match="cannot be used"):
            list(apply(failing, range(3)))
        together = run_audit(plan, apply=apply)
    assert [value for value, _ in results] == [number / 2 for number in range(8)]
    assert os.getpid() not in {process for _, process in results}
    assert canonical_bytes(alone.audit) == canonical_bytes(together.audit)
    assert alone.seconds.keys() == together.seconds.keys()
