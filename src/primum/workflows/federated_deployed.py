"""``primum train federated coordinator`` and ``site``: training between hospitals, each on its own machines.

Every hospital runs the code that it installed, over a folder that never leaves it. The round under way is all
that is lost when the coordinator is killed; a site that promised something counts what it answered.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flwr.app import Error, Message

from primum.errors import InputError, PrimumError
from primum.evidence.canonical import canonical_bytes, plain
from primum.report.language import message
from primum.train.accounting import PrivacyLedger, noise_for
from primum.train.federated.answering import answer
from primum.train.federated.deployed import CountedSite, SiteGrid
from primum.train.federated.local_grid import Answer
from primum.train.federated.messages import Reply
from primum.train.federated.rounds import FederatedSettings, result_of, run_rounds
from primum.train.federated.sites import LinearSite, NetworkSite, Site, load, travelling
from primum.train.federated.standing import Standing
from primum.train.federated.suspicion import as_json
from primum.train.private_linear import LinearSettings
from primum.workflows.checkpoints import Checkpoints
from primum.workflows.federated_deployed_link import SiteLink, private_key, read_file
from primum.workflows.federated_deployed_server import listening, registered_keys, server_context, serving
from primum.workflows.kept import Kept, write_private
from primum.workflows.kept_folder import keeping, key_of, unfinished_beside
from primum.workflows.learners import ModelOptions, Opened, open_learner
from primum.workflows.outputs import disk_refused, refuse_full, whole_folder
from primum.workflows.private_options import PrivateOptions
from primum.workflows.training import receipt_of

# Told what happens: a sentence and its parameters.
Heard = Callable[..., None]
ROUNDS = "federated.json"
_SCATTERING, _GOODBYES = "scattering", 10.0
LISTENING = message("Waiting for {sites} sites at {host}:{port}.")
ROUND = message("Round {number}: {count} sites, {records} records.")
ANSWERING = message("Answering round {number}.")
FAILED = message("Round {number} was not answered ({kind}).")


@dataclass(frozen=True)
class CoordinatorPlan:
    """What a coordinator was asked for.

    Attributes
    ----------
    host, port
        Where to listen; port 0: any that is free.
    certificate, key : Path
        Of TLS.
    registered : Path
        Folder of the public keys of sites, NAME.pem each.
    sites : int
        How many must have joined for the first round to begin.
    like : Path
        Cases or records of the same form, none of a patient: what the model is shaped by.
    out : Path
    options : ModelOptions
    settings : FederatedSettings
    timeout : float
        Seconds a round waits for a site.
    """

    host: str
    port: int
    certificate: Path
    key: Path
    registered: Path
    sites: int
    like: Path
    out: Path
    options: ModelOptions
    settings: FederatedSettings
    timeout: float = 3600.0

    def shaping(self) -> dict[str, object]:
        """Return what shapes the weights beside the sites' patients."""
        return {"model": self.options.described(), "settings": asdict(self.settings)}


def coordinate(plan: CoordinatorPlan, *, heard: Heard) -> Standing:
    """Train between the sites that join and write the model to `plan.out`; killed, the same call goes on.

    Raises
    ------
    InputError
        Something that cannot be used; nothing was written.
    MachineError
        Fewer than two sites answered a round; what was finished is kept.
    """
    _quiet()
    refuse_full(plan.out)
    keys = registered_keys(plan.registered)
    if not 2 <= plan.sites <= len(keys):
        raise InputError(
            "--sites is {sites}, with {count} registered keys: give two or more, and no more than are "
            "registered.",
            sites=plan.sites,
            count=len(keys),
        )
    context = server_context(plan.certificate, plan.key)
    with listening(plan.host, plan.port) as taken:
        opened = _opened(plan.like, plan.options)
        learner: Any = opened.learner  # of two kinds, each with models of its own
        model = learner.build(learner.patients, seed=plan.settings.seed)
        weights, before = travelling(learner.module(model))
        grid = SiteGrid(keys, weights)
        with (
            keeping(unfinished_beside(plan.out), key=key_of(plan)) as kept,
            serving(grid, taken, context),
        ):
            heard(LISTENING, sites=plan.sites, host=plan.host, port=str(taken.getsockname()[1]))
            standing = run_rounds(
                grid,
                weights,
                settings=plan.settings,
                before=before,
                sites=plan.sites,
                told=_teller(heard),
                keep=Checkpoints(unfinished_beside(plan.out), kept.key),
                timeout=plan.timeout,
            )
            load(learner.module(model), result_of(standing, plan.settings))
            with whole_folder(plan.out) as folder:
                factory = learner.write(folder, model)
                _write_evidence(plan, standing, folder, factory=factory, kind=opened.data["kind"])
            grid.dismiss(plan.sites, timeout=_GOODBYES)
    return standing


def _opened(records: Path, options: ModelOptions, *, show_ids: bool = False) -> Opened:
    opened = open_learner(records, options, set_aside=False, seed=0, show_ids=show_ids)
    if opened.data["kind"] == "records" and options.tokens is None:
        raise InputError(
            "Models of health records need one vocabulary at every site: give all of them the same --tokens."
        )
    return opened


def _teller(heard: Heard) -> Callable[[int, Sequence[Reply], Sequence[str]], None]:
    def told(number: int, replies: Sequence[Reply], left_out: Sequence[str]) -> None:
        heard(ROUND, number=number, count=len(replies), records=sum(one.records for one in replies))
        for sentence in left_out:
            heard("{sentence}", sentence=sentence)

    return told


def _write_evidence(
    plan: CoordinatorPlan, standing: Standing, folder: Path, *, factory: str | None, kind: str
) -> None:
    """Write the receipt, and what is known of each site; who the patients are, no coordinator knows."""
    said = {"sites": standing.sizes, "suspicion": as_json(standing.history)}
    (folder / ROUNDS).write_text(json.dumps(plain(said), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    data = {"kind": kind, "sites": len(standing.sizes), "records": sum(standing.sizes.values())}
    seed, steps = plan.settings.seed, standing.number
    receipt = receipt_of(
        data, plan.shaping(), folder, method="federated", factory=factory, seed=seed, steps=steps
    )
    receipt.write(folder)


@dataclass(frozen=True)
class SitePlan:
    """What a site was asked for.

    Attributes
    ----------
    coordinator : str
        Host and port.
    ca, key : Path
        Who signed the coordinator's certificate; the site's private key.
    name : str
        By which the coordinator registered the key.
    records : Path
        The site's own.
    options : ModelOptions
        As agreed.
    private : PrivateOptions or None
        What each patient is promised over all rounds.
    rounds : int
        How many that is.
    keep : Path or None
        Folder that remembers what was answered; needed where something is promised.
    patience : float
        Seconds without a coordinator, after which the site gives up.
    show_ids : bool
    """

    coordinator: str
    ca: Path
    key: Path
    name: str
    records: Path
    options: ModelOptions
    private: PrivateOptions | None = None
    rounds: int = 20
    keep: Path | None = None
    patience: float = 3600.0
    show_ids: bool = False


def take_part(plan: SitePlan, *, heard: Heard) -> PrivacyLedger | None:
    """Answer a coordinator until its training is over, and return what patients were promised by it.

    Raises
    ------
    InputError
        Something that cannot be used, a key that is not registered, a certificate that is not of the CA.
    MachineError
        The coordinator could not be reached for too long.
    """
    _quiet()
    if plan.private is not None and plan.keep is None:
        raise InputError("What is promised to patients must outlive this process: give --keep, a folder.")
    key, ca = private_key(plan.key), read_file(plan.ca)
    link = SiteLink(plan.coordinator, ca, key, heard=heard, patience=plan.patience)
    opened = _opened(plan.records, plan.options, show_ids=plan.show_ids)
    site, settings = _site(plan, opened)
    if plan.keep is None:
        link.serve(_answering(site, heard))
        return None
    promise = {"site": plan.name, "records": opened.data["digest"], "rounds": plan.rounds}
    with remembering(plan.keep, {**promise, "settings": asdict(settings) if settings else None}) as kept:
        counted = CountedSite(site, keep=kept, rounds=plan.rounds)
        link.serve(_answering(counted, heard))
        return counted.ledger(counted.answered)


def _site(plan: SitePlan, opened: Opened) -> tuple[Site, Any]:
    """Return the site and the settings of its promise; None: it promises nothing."""
    learner: Any = opened.learner  # of two kinds, each with models of its own
    model = learner.build(learner.patients, seed=0)
    private: Any = plan.private and plan.private.settled(
        kind=opened.data["kind"], patients=len(learner.patients)
    )
    unit: Any = "record" if opened.data["image_level"] else "patient"
    if plan.options.network == _SCATTERING:
        linear = replace(private or LinearSettings(None), steps=plan.rounds, unit=unit)
        return LinearSite(plan.name, model, learner.cases, settings=linear), private and linear
    if private is not None and private.epsilon is not None:
        rate = private.expected_batch / len(learner.patients)
        steps = plan.rounds * private.steps
        noise = noise_for(private.epsilon, private.delta, steps=steps, sampling_rate=rate)
        private = replace(private, epsilon=None, noise_multiplier=noise)
    loop = learner.recipe.loop
    return NetworkSite(plan.name, learner, model, loop=loop, private=private, unit=unit), private


def _answering(site: Site, heard: Heard) -> Answer:
    """Answer; of what went wrong the coordinator hears nothing, for it may name records."""
    plainly = answer(site)

    def reply(asked: Message) -> Message:
        number = asked.content.config_records["config"].get("number", "?") if asked.has_content() else "?"
        heard(ANSWERING, number=str(number))
        try:
            return plainly(asked)
        except PrimumError as error:
            heard(error.template, **error.parameters)
        except Exception as error:  # a round that fails is not the last
            heard(FAILED, number=str(number), kind=type(error).__name__)
        return Message(Error(1), reply_to=asked)

    return reply


@contextmanager
def remembering(folder: Path, promise: Mapping[str, object]) -> Iterator[Kept]:
    """Give the site's memory, of this promise and for one process at a time."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise disk_refused(folder, error) from error
    with keeping(folder / "running", key="site"):
        kept, place, said = Kept(folder, "site"), folder / "promise.json", canonical_bytes(promise)
        if place.is_file() and place.read_bytes() != said:
            raise InputError(
                "{folder} remembers another promise, of other records, rounds or settings: start the site as "
                "before, or agree on a new training and give a new folder.",
                folder=str(folder),
            )
        if kept and kept.get("answered") is None:
            raise InputError(
                "{folder} is damaged: what was answered is not known any more, and nothing can be promised; "
                "restore it, or agree on a new training and give a new folder.",
                folder=str(folder),
            )
        if not place.is_file():
            write_private(place, said)
        yield kept


def _quiet() -> None:
    """Let Flower's log say only what went wrong."""
    logging.getLogger("flwr").setLevel(logging.WARNING)
