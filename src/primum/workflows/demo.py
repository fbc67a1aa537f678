"""The demonstration: one leaky model, one protected one, and what an audit says of each."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from primum.evidence.audit import Audit
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.causal import CausalModel
from primum.models.doors import open_model
from primum.models.hf_folder import save_folder
from primum.records.meds import MedsFolder, write_meds
from primum.records.overlap import duplicates_within
from primum.records.profile import learn_profile, vocabulary_of
from primum.records.synthetic import SyntheticSettings, catalogue_codes, synthetic_cohort
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import TokenBatch
from primum.report.language import Language
from primum.train.accounting import PrivacyLedger
from primum.train.private import PrivateSettings
from primum.train.private_records import fit_private
from primum.workflows.audit import run_audit
from primum.workflows.command import audit_plan, written_command
from primum.workflows.outputs import write_result

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class DemoSettings:
    """How large a demonstration: the default takes minutes, tests take less of the same code."""

    members: int = 300
    tuning: int = 300
    held_out: int = 1000
    leaky_epochs: int = 20
    private_steps: int = 40
    private_batch: int = 100
    epsilon: float = 8.0
    canary_pairs: int = 4
    width: int = 128
    layers: int = 4
    sampled: int = 200


SMALL = DemoSettings(
    members=60,
    tuning=60,
    held_out=320,
    leaky_epochs=12,
    private_steps=4,
    private_batch=30,
    width=64,
    layers=2,
    sampled=40,
)


@dataclass(frozen=True)
class DemoOutcome:
    """Both audits, what was promised to the patients of the protected model, and seconds by stage."""

    leaky: Audit
    protected: Audit
    ledger: PrivacyLedger
    seconds: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class _Bench:
    """What the stages of the demonstration share."""

    settings: DemoSettings
    seed: int
    tokenizer: Tokenizer
    train: TokenBatch
    distinct: TokenBatch
    tuning: TokenBatch
    progress: Progress


def run_demo(
    folder: Path, *, settings: DemoSettings, language: Language, seed: int, shown_as: Path, progress: Progress
) -> DemoOutcome:
    """Make the cohort, train the models, audit them; leaves ``leaky/`` and ``protected/`` in `folder`.

    `shown_as` is where the folder will lie when it is finished, for the commands that reproduce the audits.
    """
    started = time.perf_counter()
    seconds: dict[str, float] = {}

    def stage(name: str) -> None:
        nonlocal started
        seconds[name] = time.perf_counter() - started
        started = time.perf_counter()

    progress("synthetic cohort", 0)
    bench = _prepare(folder, settings, seed, progress)
    stage("synthetic cohort")
    models = folder / "models"
    progress("leaky model", 0)
    save_folder(models / "leaky", _leaky(bench), bench.tokenizer)
    stage("leaky model")
    progress("protected model", 0)
    protected, ledger = _protected(bench)
    save_folder(models / "protected", protected, bench.tokenizer)
    stage("protected model")
    progress("reference model", 0)
    save_folder(models / "reference", _reference(bench), bench.tokenizer)
    stage("reference model")
    audits = []
    for name in ("leaky", "protected"):
        audits.append(_audit(bench, folder, name, language=language, shown_as=shown_as))
        stage(f"audit of the {name} model")
    return DemoOutcome(audits[0], audits[1], ledger, seconds)


def _prepare(folder: Path, settings: DemoSettings, seed: int, progress: Progress) -> _Bench:
    wanted = SyntheticSettings(
        sizes={"train": settings.members, "tuning": settings.tuning, "held_out": settings.held_out},
        canary_pairs=settings.canary_pairs,
    )
    cohort = synthetic_cohort(wanted, seed=seed)
    write_meds(
        folder / "records",
        {name: [patients] for name, patients in cohort.splits.items()},
        canaries=cohort.canaries,
        name="primum-demo",
    )
    records = MedsFolder(folder / "records")
    train = records.split("train")
    profile = learn_profile(train)
    # A public list of codes, so that the vocabulary itself does not say who trained the model.
    tokenizer = Tokenizer(vocabulary_of(catalogue_codes(wanted), profile), profile)
    tokens, tuning = (tokenizer.encode(cohort.splits[name]) for name in ("train", "tuning"))
    dropped = duplicates_within(train).dropped
    kept = np.setdiff1d(np.arange(len(tokens)), dropped)
    return _Bench(settings, seed, tokenizer, tokens, tokens.select(kept), tuning, progress)


def _recipe(bench: _Bench, loop: LoopSettings) -> SmallCausalRecipe:
    return SmallCausalRecipe(loop, width=bench.settings.width, layers=bench.settings.layers)


def _leaky(bench: _Bench) -> CausalModel:
    recipe = _recipe(bench, LoopSettings(epochs=bench.settings.leaky_epochs))
    return recipe.fit(bench.train, seed=bench.seed, progress=lambda *_: bench.progress("leaky model", 1))


def _reference(bench: _Bench) -> CausalModel:
    cut = len(bench.tuning) * 85 // 100
    recipe = _recipe(bench, LoopSettings(epochs=10, patience=1))
    return recipe.fit(
        bench.tuning.select(np.arange(cut)),
        validation=bench.tuning.select(np.arange(cut, len(bench.tuning))),
        seed=bench.seed + 1,
        progress=lambda *_: bench.progress("reference model", 1),
    )


def _protected(bench: _Bench) -> tuple[CausalModel, PrivacyLedger]:
    model = _recipe(bench, LoopSettings(epochs=1)).build(bench.train.vocabulary_size, seed=bench.seed + 2)
    promise = PrivateSettings(
        epsilon=bench.settings.epsilon,
        steps=bench.settings.private_steps,
        expected_batch=bench.settings.private_batch,
        seed=bench.seed + 3,
    )
    ledger = fit_private(
        model,
        bench.distinct,
        settings=promise,
        validation=bench.tuning,
        progress=lambda *_: bench.progress("protected model", 1),
    )
    return model, ledger


def _audit(bench: _Bench, folder: Path, name: str, *, language: Language, shown_as: Path) -> Audit:
    typed = {
        "--records": shown_as / "records",
        "--reference": shown_as / "models" / "reference",
        "--sampled": bench.settings.sampled,
        "--seed": bench.seed,
    }
    words = [
        "audit",
        str(shown_as / "models" / name),
        *(str(word) for pair in typed.items() for word in pair),
    ]
    plan = audit_plan(
        open_model(folder / "models" / name),
        records=MedsFolder(folder / "records"),
        references=[open_model(folder / "models" / "reference")],
        seed=bench.seed,
        sampled=bench.settings.sampled,
        command=written_command(words),
    )
    result = run_audit(plan, progress=bench.progress)
    target = folder / name
    target.mkdir()
    write_result(target, result, language=language)
    return result.audit
