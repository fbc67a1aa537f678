"""``primum train``: plain, private, adversarial, forget."""

from pathlib import Path
from typing import Any, Literal

import typer

from primum.cli import options, train_options
from primum.cli.federated import federated_app
from primum.cli.progress import Stages
from primum.errors import InputError
from primum.report.language import Language, message, preferred_language

_PROMISED = {
    "patient": message(
        "Promised to each patient: epsilon {epsilon} at delta {delta}, one patient more or less."
    ),
    "record": message(
        "Promised to each record, for no patients are known: epsilon {epsilon} at delta {delta}, one record "
        "more or less. A patient of several records is promised less."
    ),
}
train_app = typer.Typer(
    no_args_is_help=True, help=message("Train a model that harms less, and keep the receipt.")
)
train_app.add_typer(federated_app, name="federated")


@train_app.command(
    "plain",
    help=message(
        "Train without protection: early stopping, repeated patients left out.\n\n"
        "Example: primum train plain cases/ --shards 4 --slices 5 --out model/"
    ),
)
def plain_command(
    records: train_options.Records,
    out: train_options.Out,
    network: train_options.Network = None,
    width: train_options.Width = None,
    epochs: train_options.Epochs = None,
    batch: train_options.Batch = None,
    learning_rate: train_options.Rate = None,
    patience: train_options.Patience = 3,
    shards: train_options.Shards = 1,
    slices: train_options.Slices = 1,
    tokens: train_options.Tokens = None,
    keep_duplicates: train_options.KeepDuplicates = False,
    lang: options.Lang = None,
    seed: options.Seed = 0,
    show_ids: options.ShowIds = False,
    log_json: options.LogJson = False,
) -> int:
    """Train plainly."""
    from primum.train.shards import ShardSettings
    from primum.workflows.learners import ModelOptions
    from primum.workflows.training import TrainingPlan, train

    _require_rate(learning_rate)
    plan = TrainingPlan(
        records,
        out,
        ModelOptions(network, width, epochs, batch, learning_rate, patience, tokens, keep_duplicates),
        ShardSettings(shards, slices, seed),
        show_ids=show_ids,
    )
    return _carried_out(train, plan, out=out, lang=lang, log_json=log_json)


@train_app.command(
    "private",
    help=message(
        "Train with differential privacy: what one patient adds to a step is clipped whole and hidden in "
        "noise.\n\nExample: primum train private cases/ --epsilon 8 --out model/"
    ),
)
def private_command(
    records: train_options.Records,
    out: train_options.Out,
    epsilon: train_options.Epsilon = None,
    delta: train_options.Delta = 1e-5,
    noise_multiplier: train_options.Noise = None,
    steps: train_options.Steps = None,
    batch: train_options.Batch = None,
    clip: train_options.Clip = None,
    learning_rate: train_options.Rate = None,
    averaging: train_options.Averaging = None,
    copies: train_options.Copies = None,
    network: train_options.Network = None,
    width: train_options.Width = None,
    tokens: train_options.Tokens = None,
    keep_duplicates: train_options.KeepDuplicates = False,
    repeatable_seed: train_options.RepeatableSeed = None,
    lang: options.Lang = None,
    seed: options.Seed = 0,
    show_ids: options.ShowIds = False,
    log_json: options.LogJson = False,
) -> int:
    """Train privately."""
    from primum.train.shards import ShardSettings
    from primum.workflows.learners import ModelOptions
    from primum.workflows.private_options import private_options
    from primum.workflows.training import TrainingPlan, train

    _require_rate(learning_rate)
    given = {
        "noise_multiplier": noise_multiplier,
        "steps": steps,
        "expected_batch": batch,
        "clip": clip,
        "learning_rate": learning_rate,
        "averaging": averaging,
        "copies": copies,
    }
    plan = TrainingPlan(
        records,
        out,
        ModelOptions(network, width, tokens=tokens, keep_duplicates=keep_duplicates),
        ShardSettings(seed=seed),
        private_options(network, epsilon=epsilon, delta=delta, seed=repeatable_seed, given=given),
        show_ids=show_ids,
    )
    return _carried_out(train, plan, out=out, lang=lang, log_json=log_json)


@train_app.command(
    "adversarial",
    help=message(
        "Train on images changed at every step as an attacker would change them.\n\n"
        "Example: primum train adversarial images/ --method pgd --budget 8 --out model/"
    ),
)
def adversarial_command(
    records: train_options.Records,
    out: train_options.Out,
    method: train_options.AttackMethod = "pgd",
    budget: train_options.Budget = 8.0,
    attack_steps: train_options.AttackSteps = 5,
    weight: train_options.Weight = None,
    patch: train_options.Patch = 3,
    network: train_options.Network = None,
    width: train_options.Width = None,
    epochs: train_options.Epochs = None,
    batch: train_options.Batch = None,
    learning_rate: train_options.Rate = None,
    patience: train_options.Patience = 0,
    shards: train_options.Shards = 1,
    slices: train_options.Slices = 1,
    keep_duplicates: train_options.KeepDuplicates = False,
    lang: options.Lang = None,
    seed: options.Seed = 0,
    show_ids: options.ShowIds = False,
    log_json: options.LogJson = False,
) -> int:
    """Train against attacks."""
    from primum.train.adversarial import AdversarialSettings
    from primum.train.shards import ShardSettings
    from primum.workflows.learners import ModelOptions
    from primum.workflows.training import TrainingPlan, train

    _require_rate(learning_rate)
    usual = {"trades": 6.0, "patch": 0.5}.get(method, 1.0)
    plan = TrainingPlan(
        records,
        out,
        ModelOptions(network, width, epochs, batch, learning_rate, patience, None, keep_duplicates),
        ShardSettings(shards, slices, seed),
        adversarial=AdversarialSettings(
            method, budget / 255, attack_steps, usual if weight is None else weight, patch
        ),
        show_ids=show_ids,
    )
    return _carried_out(train, plan, out=out, lang=lang, log_json=log_json)


@train_app.command(
    "forget",
    help=message(
        "Make the model that never saw some patients, repeating only what did.\n\n"
        "Example: primum train forget model/ --records cases/ --patients ids.txt --out model-without/"
    ),
)
def forget_command(
    model: train_options.OlderModel,
    records: train_options.TrainedOn,
    patients: train_options.Patients,
    out: train_options.Out,
    tokens: train_options.Tokens = None,
    prove: train_options.Prove = False,
    lang: options.Lang = None,
    show_ids: options.ShowIds = False,
    log_json: options.LogJson = False,
) -> int:
    """Forget patients."""
    from primum.workflows.forgetting import forget

    return _carried_out(
        forget,
        model,
        patients,
        records=records,
        tokens=tokens,
        prove=prove,
        show_ids=show_ids,
        out=out,
        lang=lang,
        log_json=log_json,
    )


def _require_rate(learning_rate: float | None) -> None:
    if learning_rate is not None and not 0 < learning_rate < float("inf"):
        raise InputError("The learning rate must be above zero, not {rate}.", rate=learning_rate)


def _carried_out(
    perform: Any, *given: Any, out: Path, lang: Literal["fr", "en"] | None, log_json: bool, **named: Any
) -> int:
    """Train, and print what was made."""
    language = Language(lang or preferred_language())
    stages = Stages(language, as_json=log_json)
    if named:
        named["out"] = out
    found = perform(*given, **named, progress=stages)
    stages.close()
    for line in _lines(found, out, language):
        print(line)
    return 0


def _lines(found: Any, out: Path, language: Language) -> list[str]:
    receipt = found.receipt
    lines = [
        language.text(
            "Trained on {patients} patients ({records} records), {steps} steps: {path}",
            patients=receipt.data["patients"],
            records=receipt.data["records"],
            steps=receipt.steps,
            path=str(out),
        )
    ]
    if receipt.ledger is not None:
        lines.append(
            language.text(
                _PROMISED[receipt.ledger["unit"]],
                epsilon=language.number(receipt.ledger["epsilon"], 2),
                delta=f"{receipt.ledger['delta']:g}",
            )
        )
        if not receipt.ledger["randomness_is_secret"]:
            lines.append(
                language.text("The noise has a seed: the promise does not hold against who knows it.")
            )
    if receipt.forgotten is not None:
        lines.append(
            language.text(
                "Forgotten: {seen} patients of these records ({asked} asked); {reused} of {stages} stages "
                "had never seen them and were kept.",
                seen=receipt.forgotten["in_these_records"],
                asked=receipt.forgotten["asked"],
                reused=found.reused,
                stages=len(receipt.stages),
            )
        )
        lines += [_recognised(name, one, language) for name, one in sorted(found.recognised.items())]
        lines.append(
            language.text("The older model still remembers them: delete it, and whatever copies it has.")
        )
    if receipt.factory is not None:
        lines.append(language.text("Open it with: --factory {place}", place=receipt.factory))
    return lines


_RECOGNISED = {
    "after": message(
        "Told from patients who trained nothing by this model: AUC {auc} ({low} to {high}); .5 is chance."
    ),
    "before": message(
        "Told from patients who trained nothing by the older model: AUC {auc} ({low} to {high})."
    ),
}


def _recognised(name: str, found: Any, language: Language) -> str:
    said = {figure: language.number(found[figure], 2) for figure in ("auc", "low", "high")}
    return language.text(_RECOGNISED[name], **said)
