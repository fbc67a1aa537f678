"""``primum train federated simulate``, and the deployed form beside it."""

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
_Server = Annotated[
    Literal["fedavg", "fedprox", "fedadam"],
    typer.Option("--strategy", help=message("fedavg, fedprox (sites stay near) or fedadam.")),
]
_Proximal = Annotated[
    float | None,
    typer.Option("--proximal", min=0.0, help=message("Pull of FedProx to the weights of the round.")),
]
_SiteNoise = Annotated[
    float,
    typer.Option("--site-noise", min=0.0, help=message("Noise over that bound, which protects whole sites.")),
]
_Capture = Annotated[
    Path | None,
    typer.Option("--capture", help=message("New folder for what sites send, for primum inspect-updates.")),
]
_Secure = Annotated[
    bool,
    typer.Option("--secure", help=message("Sites mask what they send: the coordinator sees the sum alone.")),
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
    epochs: federated_options.LocalEpochs = 1,
    batch: train_options.Batch = None,
    learning_rate: train_options.Rate = None,
    strategy: _Server = "fedavg",
    proximal: _Proximal = None,
    rule: federated_options.Rule = "mean",
    malicious: federated_options.Malicious = 0,
    clip_updates: federated_options.Bound = None,
    site_noise: _SiteNoise = 0.0,
    epsilon: train_options.Epsilon = None,
    delta: train_options.Delta = 1e-5,
    repeatable_seed: train_options.RepeatableSeed = None,
    capture: _Capture = None,
    secure: _Secure = False,
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

    if network == "scattering":
        _require_unsaid({"--batch": batch, "--learning-rate": learning_rate})
    settings = _settings(
        learning_rate, strategy, proximal, rounds=rounds, epochs=epochs, rule=rule, malicious=malicious,
        bound=clip_updates, site_noise=site_noise, seed=seed,
    )  # fmt: skip
    private = None
    if epsilon is not None:
        private = private_options(network, epsilon=epsilon, delta=delta, seed=repeatable_seed, given={})
    model = ModelOptions(network, width, None, batch, None, 0, None, keep_duplicates)
    plan = FederatedPlan(
        tuple(records), out, model, settings, sites, alpha, private, capture, secure, show_ids
    )
    return _carried_out(plan, workers, backend, lang=lang, log_json=log_json)


def _require_unsaid(given: dict[str, float | None]) -> None:
    """Refuse what would have no effect."""
    for option, value in given.items():
        if value is not None:
            raise InputError("{option} is not for the network scattering: leave it out.", option=option)


def _settings(rate: float | None, strategy: str, proximal: float | None, **said: Any) -> Any:
    from primum.train.federated.rounds import FederatedSettings

    if rate is not None and not 0 < rate < float("inf"):
        raise InputError("The learning rate must be above zero, not {rate}.", rate=rate)
    return FederatedSettings(
        learning_rate=3e-3 if rate is None else rate,
        proximal=proximal if proximal is not None else (0.01 if strategy == "fedprox" else 0.0),
        server="fedadam" if strategy == "fedadam" else "fedavg",
        **said,
    )


def _carried_out(
    plan: Any, count: int, backend: Any, *, lang: Literal["fr", "en"] | None, log_json: bool
) -> int:
    from primum.workflows.federated import simulate
    from primum.workflows.workers import workers

    language = Language(lang or preferred_language())
    stages = Stages(language, as_json=log_json)
    with workers(count, backend=backend) as apply:
        found = simulate(plan, progress=stages, apply=apply)
    stages.close()
    for line in _lines(found, plan.out, language):
        print(line)
    return 0


def _lines(found: Any, out: Path, language: Language) -> list[str]:
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
    told = [one for one in said if one["served"] is not None]
    if told:
        worst = min(told, key=lambda one: one["served"]["auc"])
        lines.append(
            language.text(
                "Served worst of {count} sites that can be judged: {site}, AUC {auc} ({low} to {high}).",
                count=len(told),
                site=worst["site"],
                **{name: language.number(worst["served"][name], 2) for name in ("auc", "low", "high")},
            )
        )
    lines += [
        language.text("Look at {site}: it pulls another way than sites like it do.", site=one["site"])
        for one in said
        if one["accused"]
    ]
    lines += [
        language.text("Round {number} went on without a site: {reason}", number=number, reason=reason)
        for number, reason in found.left_out
    ]
    if receipt.factory is not None:
        lines.append(language.text("Open it with: --factory {place}", place=receipt.factory))
    return lines
