"""``primum train federated coordinator`` and ``site``."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from primum.cli import federated_options, options, train_options
from primum.cli.log import write_line
from primum.errors import InputError, clean_text
from primum.report.language import Language, message, preferred_language

_LEAST = 2
# Shown beside `simulate`.
deployed_app = typer.Typer()

_Host = Annotated[str, typer.Option("--host", help=message("Address to listen at."))]
_Port = Annotated[int, typer.Option("--port", min=0, max=65535, help=message("Port; 0: any that is free."))]
_Certificate = Annotated[
    Path, typer.Option("--certificate", help=message("The coordinator's certificate, PEM."))
]
_ServerKey = Annotated[Path, typer.Option("--key", help=message("Its private key, PEM."))]
_Registered = Annotated[
    Path, typer.Option("--registered", help=message("Folder of the sites' public keys, NAME.pem each."))
]
_Sites = Annotated[int, typer.Option("--sites", min=2, help=message("Sites that a first round waits for."))]
_Like = Annotated[
    Path,
    typer.Option(
        "--like", help=message("Cases or records of the same form, synthetic: they shape the model.")
    ),
]
_Timeout = Annotated[
    float, typer.Option("--timeout", min=1.0, help=message("Seconds that a round waits for a site."))
]
_Coordinator = Annotated[str, typer.Option("--coordinator", help=message("HOST:PORT of the coordinator."))]
_Authority = Annotated[
    Path, typer.Option("--ca", help=message("Certificate of who signed the coordinator's, PEM."))
]
_SiteKey = Annotated[Path, typer.Option("--key", help=message("This site's private key, PEM."))]
_Name = Annotated[str, typer.Option("--name", help=message("Name that the key is registered by."))]
_SiteRecords = Annotated[
    Path, typer.Option("--records", help=message("This site's records; they do not leave it."))
]
_Keep = Annotated[
    Path | None,
    typer.Option("--keep", help=message("Folder that remembers what was answered; needed with --epsilon.")),
]
_Patience = Annotated[
    float,
    typer.Option("--patience", min=0.0, help=message("Seconds without a coordinator before giving up.")),
]
_Secret = Annotated[
    Path | None,
    typer.Option("--secret", help=message("32 random bytes that all sites have, and the coordinator not.")),
]
_Together = Annotated[
    int | None, typer.Option("--sites", min=3, help=message("Sites that are registered, as agreed."))
]
_PROMISED = {
    "patient": message("Promised to each patient: epsilon {epsilon} at delta {delta}."),
    "record": message("Promised to each record: epsilon {epsilon} at delta {delta}."),
}


@deployed_app.command(
    "coordinator",
    help=message(
        "Start the coordinator of a training between hospitals.\n\n"
        "Example: primum train federated coordinator --certificate c.pem --key c.key --registered keys/ "
        "--sites 3 --like synthetic/ --out model/"
    ),
)
def coordinator_command(
    certificate: _Certificate,
    key: _ServerKey,
    registered: _Registered,
    sites: _Sites,
    like: _Like,
    out: train_options.Out,
    host: _Host = "127.0.0.1",
    port: _Port = 9092,
    rounds: federated_options.Rounds = 20,
    epochs: federated_options.LocalEpochs = None,
    learning_rate: train_options.Rate = None,
    strategy: federated_options.Strategy = "fedavg",
    proximal: federated_options.Proximal = None,
    rule: federated_options.Rule = "mean",
    malicious: federated_options.Malicious = 0,
    clip_updates: federated_options.Bound = None,
    site_noise: federated_options.SiteNoise = 0.0,
    secure: federated_options.Secure = False,
    least_sites: federated_options.LeastSites = None,
    judge: federated_options.Judge = None,
    timeout: _Timeout = 3600.0,
    network: train_options.Network = None,
    width: train_options.Width = None,
    tokens: train_options.Tokens = None,
    seed: options.Seed = 0,
    lang: options.Lang = None,
    log_json: options.LogJson = False,
) -> int:
    """Coordinate."""
    from primum.report.site_words import PAGE, SITES_PAGE
    from primum.train.federated.sites import usual_rate
    from primum.workflows.federated_deployed import CoordinatorPlan, coordinate
    from primum.workflows.learners import ModelOptions

    linear = network == "scattering"
    epochs, rate = federated_options.passes(epochs, network), learning_rate
    if linear and rate is None:
        rate = usual_rate(epochs)
    settings = federated_options.settings_of(
        rate, strategy, proximal, rounds=rounds, epochs=epochs, rule=rule, malicious=malicious,
        bound=clip_updates, site_noise=site_noise,
        averaged=linear, adapted=linear and learning_rate is None, seed=seed,
    )  # fmt: skip
    if least_sites is not None and not secure:
        raise InputError("--least-sites is for --secure: give both, or neither.")
    least = (least_sites or _LEAST) if secure else None
    model = ModelOptions(network, width, patience=0, tokens=tokens)
    placed = host, port, certificate, key, registered, sites, like, out
    heard = _heard(lang, log_json=log_json)
    language = Language(lang or preferred_language())
    coordinate(CoordinatorPlan(*placed, model, settings, timeout, least, judge, language), heard=heard)
    heard(message("Trained between {sites} sites: {path}"), sites=sites, path=str(out))
    if (out / SITES_PAGE).is_file():
        heard(PAGE, path=str(out / SITES_PAGE))
    return 0


@deployed_app.command(
    "site",
    help=message(
        "Take part in a training between hospitals: the records stay here, weights travel.\n\n"
        "Example: primum train federated site --coordinator host:9092 --ca ca.pem --key site.key "
        "--name north --records cases/"
    ),
)
def site_command(
    coordinator: _Coordinator,
    ca: _Authority,
    key: _SiteKey,
    name: _Name,
    records: _SiteRecords,
    rounds: federated_options.Rounds = 20,
    epsilon: train_options.Epsilon = None,
    delta: train_options.Delta = 1e-5,
    steps: federated_options.RoundSteps = None,
    clip: train_options.Clip = None,
    keep: _Keep = None,
    secure: federated_options.Secure = False,
    secret: _Secret = None,
    clip_updates: federated_options.Bound = None,
    sites: _Together = None,
    least_sites: federated_options.LeastSites = None,
    patience: _Patience = 3600.0,
    network: train_options.Network = None,
    width: train_options.Width = None,
    batch: train_options.Batch = None,
    tokens: train_options.Tokens = None,
    keep_duplicates: train_options.KeepDuplicates = False,
    repeatable_seed: train_options.RepeatableSeed = None,
    show_ids: options.ShowIds = False,
    lang: options.Lang = None,
    log_json: options.LogJson = False,
) -> int:
    """Take part."""
    from primum.workflows.federated_deployed import SitePlan, take_part
    from primum.workflows.learners import ModelOptions
    from primum.workflows.private_options import private_options

    private = None
    if epsilon is not None:
        said = {"steps": steps, "expected_batch": batch, "clip": clip}
        private = private_options(network, epsilon=epsilon, delta=delta, seed=repeatable_seed, given=said)
    model = ModelOptions(
        network, width, batch=batch, patience=0, tokens=tokens, keep_duplicates=keep_duplicates
    )
    masks = _masks(secure, secret, clip_updates, sites, least_sites, before=network == "scattering")
    placed = coordinator, ca, key, name, records
    plan = SitePlan(*placed, model, private, rounds, keep, patience, show_ids, masks, secret)
    heard = _heard(lang, log_json=log_json)
    ledger = take_part(plan, heard=heard)
    heard(message("The training is over."))
    if ledger is not None:
        heard(_PROMISED[ledger.unit], epsilon=round(ledger.epsilon, 2), delta=f"{ledger.delta:g}")
    return 0


def _masks(
    secure: bool,
    secret: Path | None,
    bound: float | None,
    sites: int | None,
    least: int | None,
    *,
    before: bool,
) -> Any:
    """Return how a site masks its updates, by what was agreed and not by what a coordinator says."""
    from primum.train.federated.secure import masking

    given = secret, bound, sites
    if (None in given) if secure else any(one is not None for one in (*given, least)):
        raise InputError(
            "--secure needs --secret, --clip-updates and --sites, and these are for --secure: give all of "
            "them, or none."
        )
    if bound is None or sites is None:
        return None
    return masking(bound, sites=sites, least=least or _LEAST, before=before)


def _heard(lang: Literal["fr", "en"] | None, *, log_json: bool) -> Callable[..., None]:
    """Print what happens as it does."""
    language = Language(lang or preferred_language())

    def heard(template: str, /, **parameters: str | int | float) -> None:
        sentence = language.text(template, **parameters)
        if log_json:
            write_line("info", "stage", message=sentence)
        else:
            print(clean_text(sentence), file=sys.stderr, flush=True)

    return heard
