"""``primum train federated coordinator`` and ``site``: training between hospitals, each on its own machines.

Every hospital runs the code that it installed, over a folder that never leaves it. The round under way is all
that is lost when the coordinator is killed; a site that promised something counts what it answered.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import Error, Message

from primum.errors import InputError, PrimumError
from primum.evidence.canonical import canonical_bytes, plain
from primum.report.language import Language, message
from primum.train.accounting import PrivacyLedger
from primum.train.federated.answering import answer
from primum.train.federated.deployed import CountedSite, SiteGrid
from primum.train.federated.local_grid import Answer
from primum.train.federated.messages import CONFIG
from primum.train.federated.rounds import Told, rate_of, result_of, run_rounds, site_ledger
from primum.train.federated.secure import SecureSettings, masking, require_summable
from primum.train.federated.secure_site import SecureAnswer
from primum.train.federated.settings import FederatedSettings
from primum.train.federated.sites import Site, fixed_in, load, travelling
from primum.train.federated.standing import Standing
from primum.train.federated.suspicion import ranks
from primum.workflows.checkpoints import Checkpoints
from primum.workflows.federated_deployed_link import SiteLink, private_key, read_file, shared_secret
from primum.workflows.federated_deployed_server import listening, registered_keys, server_context, serving
from primum.workflows.federated_sites import SCATTERING, open_judge, open_site, site_of
from primum.workflows.kept import Kept, write_private
from primum.workflows.kept_folder import keeping, key_of, unfinished_beside
from primum.workflows.learners import ModelOptions
from primum.workflows.outputs import disk_refused, refuse_full, whole_folder
from primum.workflows.private_options import PrivateOptions
from primum.workflows.told_of_sites import told_of_standing, write_sites
from primum.workflows.training import Shaping, receipt_of

# Told what happens: a sentence and its parameters.
Heard = Callable[..., None]
ROUNDS = "federated.json"
_GOODBYES = 10.0
LISTENING = message("Waiting for {sites} sites at {host}:{port}.")
ROUND = message("Round {number}: {count} sites, {records} records.")
ANSWERING = message("Answering round {number}.")
FAILED = message("Round {number} was not answered ({kind}).")
_ENGLISH = Language("en")


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
        Seconds a round waits for a site; of a masked one, each of its four stages.
    least : int or None
        Updates are masked, and no sum is of fewer sites, whoever lies; None: updates are in the clear.
    judge : Path or None
        Cases of no site, by which updates are judged.
    language : Language
        Of the page of sites.
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
    least: int | None = None
    judge: Path | None = None
    language: Language = _ENGLISH

    def shaping(self) -> dict[str, object]:
        """Return what shapes the weights beside the sites' patients."""
        described = {"model": self.options.described(), "settings": asdict(self.settings)}
        return {**described, "least_sites": self.least}

    def masking(self, sites: int) -> SecureSettings | None:
        """Return how so many registered sites mask what they send; None: not at all.

        Raises
        ------
        InputError
            What is asked needs the updates of single sites, or a bound, or more sites.
        """
        if self.least is None:
            return None
        require_summable(self.settings)
        assert self.settings.bound is not None
        before = self.options.network == SCATTERING
        return masking(self.settings.bound, sites=sites, least=self.least, before=before)


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
    secure, context = plan.masking(len(keys)), server_context(plan.certificate, plan.key)
    with listening(plan.host, plan.port) as taken:
        opened = open_site(plan.like, plan.options)
        learner: Any = opened.learner  # of two kinds, each with models of its own
        model = learner.build(learner.patients, seed=plan.settings.seed)
        weights, before = travelling(learner.module(model))
        grid = SiteGrid(keys, weights)
        judge, by = open_judge(plan.judge, opened, plan.options, masked=secure is not None)
        shaping = Shaping({**plan.shaping(), "like": opened.data["digest"], "judge": by})
        with (
            keeping(unfinished_beside(plan.out), key=key_of(shaping)) as kept,
            serving(grid, taken, context),
        ):
            heard(LISTENING, sites=plan.sites, host=plan.host, port=str(taken.getsockname()[1]))
            standing = run_rounds(
                grid,
                weights,
                settings=plan.settings,
                before=before,
                fixed=fixed_in(learner.module(model)),
                sites=plan.sites,
                judge=judge,
                told=_teller(heard),
                keep=Checkpoints(unfinished_beside(plan.out), kept.key),
                secure=secure,
                timeout=plan.timeout,
            )
            load(learner.module(model), result_of(standing, plan.settings))
            with whole_folder(plan.out) as folder:
                factory = learner.write(folder, model)
                _write_evidence(plan, standing, folder, factory=factory, kind=opened.data["kind"])
            grid.dismiss(plan.sites, timeout=_GOODBYES)
    return standing


def _teller(heard: Heard) -> Told:
    def told(number: int, sites: int, records: int, left_out: Sequence[str]) -> None:
        heard(ROUND, number=number, count=sites, records=records)
        for sentence in left_out:
            heard("{sentence}", sentence=sentence)

    return told


def _write_evidence(
    plan: CoordinatorPlan, standing: Standing, folder: Path, *, factory: str | None, kind: str
) -> None:
    """Write the receipt, and what is known of each site; who the patients are, no coordinator knows."""
    rate = rate_of(plan.settings, standing)
    # Whether honest sites would be accused in this training, no coordinator knows: no e-values.
    said = {"sites": standing.sizes, "suspicion": ranks(standing.history), "learning_rate": rate}
    (folder / ROUNDS).write_text(json.dumps(plain(said), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    data: dict[str, object] = {"kind": kind, "sites": plan.sites}
    if plan.least is None:
        data |= {"sites": len(standing.sizes), "records": sum(standing.sizes.values())}
    promised = site_ledger(plan.settings, len(standing.sizes), before=plan.options.network == SCATTERING)
    receipt = receipt_of(
        data,
        plan.shaping(),
        folder,
        method="federated",
        factory=factory,
        # Of noise that is secret no seed would give the run again.
        seed=None if promised else plan.settings.seed,
        steps=standing.number,
        ledger={"patients": {}, "sites": promised.as_json()} if promised else None,
    )
    receipt.write(folder)
    # Of sites that mask what they send nothing is known.
    if standing.sizes:
        write_sites(folder, told_of_standing(standing), language=plan.language)


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
    secure : SecureSettings or None
        How updates are masked, as agreed: a coordinator that asks for anything else gets nothing.
    secret : Path or None
        What all sites have and the coordinator has not; needed with `secure`.
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
    secure: SecureSettings | None = None
    secret: Path | None = None


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
    answering = _masked(plan)
    link = SiteLink(plan.coordinator, ca, key, heard=heard, patience=plan.patience)
    opened = open_site(plan.records, plan.options, show_ids=plan.show_ids)
    agreed: Any = {"network": plan.options.network, "private": plan.private, "rounds": plan.rounds}
    site, settings = site_of(plan.name, opened, **agreed)
    if plan.keep is None:
        link.serve(_careful(answering(site), heard))
        return None
    promise = {"site": plan.name, "records": opened.data["digest"], "rounds": plan.rounds}
    with remembering(plan.keep, {**promise, "settings": asdict(settings) if settings else None}) as kept:
        counted = CountedSite(site, keep=kept, rounds=plan.rounds)
        link.serve(_careful(answering(counted), heard))
        return counted.ledger(counted.answered)


def _masked(plan: SitePlan) -> Callable[[Site], Answer]:
    """Return what answers for a site: around it, so that what is kept is what was under the masks."""
    if plan.secure is None:
        return answer
    assert plan.secret is not None
    return partial(SecureAnswer, settings=plan.secure, secret=shared_secret(plan.secret))


def _careful(plainly: Answer, heard: Heard) -> Answer:
    """Answer; of what went wrong the coordinator hears nothing, for it may name records."""

    def reply(asked: Message) -> Message:
        said = asked.content.config_records.get(CONFIG) if asked.has_content() else None
        # Of the four stages of a masked round one says its number.
        number = "?" if said is None else said.get("number", "?")
        if said is not None:
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
