"""``primum train federated simulate``, and the deployed form beside it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from primum.cli import federated_options, options, train_options
from primum.cli.federated_deployed import deployed_app
from primum.cli.progress import Stages
from primum.errors import InputError
from primum.report.language import Language, message, preferred_language

federated_app = typer.Typer(no_args_is_help=True, help=message("Train between hospitals."))
federated_app.registered_commands += deployed_app.registered_commands

_Folders = Annotated[list[Path], typer.Argument(metavar="RECORDS...")]
_Sites = Annotated[
    int, typer.Option("--sites", min=2, max=1000, help=message("Sites that one folder is dealt to."))
]
_Alpha = Annotated[
    float, typer.Option("--alpha", min=0.01, help=message("How alike dealt sites are: small, not at all."))
]
_Capture = Annotated[
    Path | None,
    typer.Option("--capture", help=message("New folder for what sites send, for primum inspect-updates.")),
]
_Like = Annotated[
    Path | None,
    typer.Option("--like", help=message("Of tables: invented rows of the same columns, for their scales.")),
]


@federated_app.command(
    "simulate",
    help=message(
        "Train between sites of this machine: one folder a site, or one folder dealt to several.\n\n"
        "Example: primum train federated simulate cases/ --network scattering --epsilon 8 --out model/"
    ),
)
def simulate_command(
    records: _Folders,
    out: train_options.Out,
    network: train_options.Network = None,
    width: train_options.Width = None,
    sites: _Sites = 15,
    alpha: _Alpha = 1.0,
    rounds: federated_options.Rounds = 30,
    epochs: federated_options.LocalEpochs = None,
    batch: train_options.Batch = None,
    learning_rate: train_options.Rate = None,
    strategy: federated_options.Strategy = "fedavg",
    proximal: federated_options.Proximal = None,
    rule: federated_options.Rule = "mean",
    malicious: federated_options.Malicious = 0,
    clip_updates: federated_options.Bound = None,
    site_noise: federated_options.SiteNoise = 0.0,
    epsilon: train_options.Epsilon = None,
    delta: train_options.Delta = 1e-5,
    steps: federated_options.RoundSteps = None,
    clip: train_options.Clip = None,
    tokens: train_options.Tokens = None,
    like: _Like = None,
    repeatable_seed: train_options.RepeatableSeed = None,
    capture: _Capture = None,
    secure: federated_options.Secure = False,
    judge: federated_options.Judge = None,
    keep_duplicates: train_options.KeepDuplicates = False,
    workers: options.Workers = 1,
    backend: options.BackendName = "loky",
    lang: options.Lang = None,
    seed: options.Seed = 0,
    show_ids: options.ShowIds = False,
    log_json: options.LogJson = False,
) -> int:
    """Train between sites of this machine."""
    from primum.workflows.federated import FederatedPlan
    from primum.workflows.learners import ModelOptions
    from primum.workflows.private_options import private_options

    asked: dict[str, object] = {"--epochs": epochs, "--batch": batch, "--steps": steps, "--clip": clip}
    asked |= {"--learning-rate": learning_rate, "--proximal": proximal}
    asked["--strategy fedprox"] = strategy if strategy == "fedprox" else None
    _require_effect(asked, network, private=epsilon is not None)
    epochs = federated_options.passes(epochs, network, private=epsilon is not None)
    settings = federated_options.settings_of(
        learning_rate, strategy, proximal, rounds=rounds, epochs=epochs, rule=rule, malicious=malicious,
        bound=clip_updates, site_noise=site_noise, seed=seed,
    )  # fmt: skip
    private = None
    if epsilon is not None:
        said = {"steps": steps, "expected_batch": batch, "clip": clip}
        private = private_options(network, epsilon=epsilon, delta=delta, seed=repeatable_seed, given=said)
    model = ModelOptions(network, width, batch=batch, tokens=tokens, keep_duplicates=keep_duplicates)
    plan = FederatedPlan(
        tuple(records), out, model, settings, sites, alpha, private, capture, secure, judge, like, show_ids
    )
    return _carried_out(plan, workers, backend, lang=lang, log_json=log_json)


def _require_effect(asked: Mapping[str, object], network: str | None, *, private: bool) -> None:
    """Refuse what would have no effect."""
    linear = network == "scattering"
    rules = (
        (
            linear,
            ("--batch", "--learning-rate", "--steps"),
            message("{option} is not for the network scattering: leave it out."),
        ),
        (
            not private,
            ("--clip", "--steps"),
            message("{option} is for private sites: leave it out, or give --epsilon."),
        ),
        (
            private and not linear,
            ("--epochs", "--proximal", "--strategy fedprox"),
            message("{option} is not for sites that add noise for their patients: leave it out."),
        ),
    )
    for holds, options_of, sentence in rules:
        for option in options_of:
            if holds and asked[option] is not None:
                raise InputError(sentence, option=option)


def _carried_out(
    plan: Any, count: int, backend: Any, *, lang: Literal["fr", "en"] | None, log_json: bool
) -> int:
    from primum.workflows.federated import simulate
    from primum.workflows.workers import workers

    language = Language(lang or preferred_language())
    stages = Stages(language, as_json=log_json)
    with workers(count, backend=backend) as apply:
        found = simulate(replace(plan, language=language), progress=stages, apply=apply)
    stages.close()
    for line in _lines(found, plan.out, language):
        print(line)
    return 0


def _lines(found: Any, out: Path, language: Language) -> list[str]:
    from primum.report.site_words import PAGE, SITES_PAGE

    said, receipt = found.sites, found.receipt
    lines = [
        language.text(
            "Trained between {sites} sites ({patients} patients), {rounds} rounds: {path}",
            sites=len(said),
            patients=sum(one["patients"] for one in said),
            rounds=receipt.steps,
            path=str(out),
        )
    ]
    spent = [one["ledger"] for one in said if one["ledger"] is not None]
    if spent:
        lines.append(
            language.text(
                "Promised by every site to each of its patients (each image, where no patients are known): "
                "epsilon {epsilon} at delta {delta}.",
                epsilon=language.number(max(one["epsilon"] for one in spent), 2),
                delta=f"{spent[0]['delta']:g}",
            )
        )
    lines += _worst([one for one in said if one["served"] is not None], language)
    lines += [
        language.text("Look at {site}: it pulls another way than sites like it do.", site=one["site"])
        for one in said
        if one["accused"]
    ]
    lines += [
        language.text("Round {number} went on without a site: {reason}", number=number, reason=reason)
        for number, reason in found.left_out
    ]
    lines.append(language.text(PAGE, path=str(out / SITES_PAGE)))
    if receipt.factory is not None:
        lines.append(language.text("Open it with: --factory {place}", place=receipt.factory))
    return lines


def _worst(told: list[Any], language: Language) -> list[str]:
    """Say which site is served worst, in the measure of its records."""
    if not told:
        return []
    measure = "auc" if "auc" in told[0]["served"] else "log_likelihood"
    sentence = {
        "auc": message(
            "Served worst of {count} sites that can be judged: {site}, AUC {auc} ({low} to {high})."
        ),
        "log_likelihood": message(
            "Served worst of {count} sites that can be judged: {site}, mean log-probability of an event "
            "{log_likelihood} ({low} to {high})."
        ),
    }[measure]
    worst = min(told, key=lambda one: one["served"][measure])
    numbers = {name: language.number(worst["served"][name], 2) for name in (measure, "low", "high")}
    return [language.text(sentence, count=len(told), site=worst["site"], **numbers)]
