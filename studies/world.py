"""What the EHR studies share: one population, models trained on known people, fresh people without end."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from primum.evidence.audit import Audit
from primum.evidence.finding import Finding
from primum.evidence.identity import ModelRef
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.causal import CausalModel
from primum.models.opened import OpenedModel
from primum.records.histories import Histories, InMemory
from primum.records.profile import learn_profile, vocabulary_of
from primum.records.synthetic import SyntheticSettings, catalogue_codes, synthetic_patients
from primum.records.tokenizer import Tokenizer
from primum.workflows.audit import run_audit
from primum.workflows.plan import AuditPlan, AuditResult
from primum.workflows.workers import workers

Job = TypeVar("Job")
Result = TypeVar("Result")
SETTINGS = SyntheticSettings(canary_pairs=0)
LONGEST = 10


def people(count: int, *, seed: Sequence[int], settings: SyntheticSettings = SETTINGS) -> Histories:
    """Draw fresh patients of the one population; other seeds give other people."""
    first = 1 + int(np.random.default_rng(list(seed)).integers(1 << 40)) * 100_000
    return synthetic_patients(count, settings=settings, seed=list(seed), first_subject_id=first)


@cache
def tokenizer() -> Tokenizer:
    """Make the tokens once, on patients whom no study uses again."""
    profile = learn_profile(InMemory((people(1000, seed=[99]),)))
    return Tokenizer(vocabulary_of(catalogue_codes(SETTINGS), profile), profile)


@dataclass(frozen=True, eq=False)
class Pair:
    """A model and its reference."""

    model: CausalModel
    reference: CausalModel


def target(
    members: Histories,
    *,
    epochs: int,
    seed: int,
    max_steps: int | None = None,
    width: int = 128,
    layers: int = 4,
    context: int = 256,
) -> CausalModel:
    """Train a model on `members`: 0.84M parameters unless a smaller one is asked for."""
    recipe = SmallCausalRecipe(LoopSettings(epochs=epochs), width=width, layers=layers, context=context)
    return recipe.fit(tokenizer().encode(members), max_steps=max_steps, seed=seed)


def reference(
    count: int,
    *,
    seed: int,
    epochs: int = LONGEST,
    width: int = 128,
    layers: int = 4,
    context: int = 256,
    settings: SyntheticSettings = SETTINGS,
) -> CausalModel:
    """Train a reference on patients who are in no other group, stopped on yet others."""
    loop = LoopSettings(epochs=min(epochs, LONGEST), patience=1)
    train, validation = (
        tokenizer().encode(people(size, seed=[first, seed], settings=settings))
        for first, size in ((7, count), (8, 100))
    )
    recipe = SmallCausalRecipe(loop, width=width, layers=layers, context=context)
    return recipe.fit(train, validation=validation, seed=seed + 500)


_STORE = joblib.Memory("studies/cache", verbose=0)


@_STORE.cache  # type: ignore[untyped-decorator]
def _reference_weights(count: int, seed: int, epochs: int) -> dict[str, NDArray[np.float32]]:
    weights = reference(count, seed=seed, epochs=epochs).module.state_dict()
    return {name: value.numpy() for name, value in weights.items()}


def shared_reference(count: int, *, seed: int, epochs: int) -> CausalModel:
    """Return a full-size reference, trained once and kept for every study that asks.

    It trains as long as its target (up to ten epochs, and no longer than it improves): with a longer training
    the ratio would also measure who profits from more training, which is noise.
    """
    model = SmallCausalRecipe(LoopSettings(epochs=1)).build(len(tokenizer().vocabulary.tokens), seed=0)
    weights = _reference_weights(count, seed, epochs)
    model.module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return model


def opened(model: CausalModel, name: str = "study") -> OpenedModel:
    """Dress a model in memory as if it had come through a door."""
    return OpenedModel(
        ModelRef(name, "0" * 64, "declared", {}), model, tokenizer(), model.context, model.parameters
    )


def audited(
    made: Pair,
    members: Histories,
    held_out: Histories,
    *,
    seed: int,
    only: Sequence[str] = ("membership",),
    sampled: int = 500,
) -> Audit:
    """Audit one draw of patients, with the whole command's statistics; ``only=()`` asks the whole suite."""
    return result_of(
        made.model,
        members,
        held_out,
        references=(opened(made.reference, "reference"),),
        only=only,
        seed=seed,
        sampled=sampled,
    ).audit


def result_of(model: CausalModel, members: Histories, held_out: Histories, **options: Any) -> AuditResult:
    """Audit with any of the other fields of :class:`primum.workflows.plan.AuditPlan`; keep the scores too."""
    plan = AuditPlan(opened(model), InMemory((members,)), InMemory((held_out,)), **options)
    return run_audit(plan)


def finding(audit: Audit, test: str) -> Finding:
    """Pick one finding."""
    return next(one for one in audit.findings if one.test == test)


def in_parallel(work: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
    """Run jobs on two processes of one thread each, keeping what is finished if interrupted."""
    kept, results = _STORE.cache(work), []
    with workers(2) as apply:
        for number, result in enumerate(apply(kept, jobs), 1):
            print(f"{number} of {len(jobs)} jobs are done", file=sys.stderr, flush=True)
            results.append(result)
    return results
