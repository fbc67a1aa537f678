"""``primum train federated simulate``: hospitals of this machine train together, each on its own patients."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from primum.errors import InputError
from primum.fit.updates import Update, write_update
from primum.records.cases import Cases
from primum.records.ragged import IntArray
from primum.records.tokens import TokenBatch
from primum.report.language import Language, message
from primum.train.accounting import PrivacyLedger
from primum.train.federated.answering import answer
from primum.train.federated.local_grid import Apply, LocalGrid
from primum.train.federated.messages import Reply
from primum.train.federated.partition import unequal_sites
from primum.train.federated.rounds import result_of, run_rounds, site_ledger
from primum.train.federated.secure import SecureSettings, masking, require_summable
from primum.train.federated.secure_site import SecureAnswer
from primum.train.federated.settings import FederatedSettings
from primum.train.federated.sites import Arrays, fixed_in, load, travelling, usual_rate
from primum.train.federated.standing import Standing
from primum.train.federated.suspicion import STEPS_APART
from primum.train.learners import Learner, RecordLearner
from primum.train.private_linear import mechanisms_of, rate_under_noise
from primum.train.receipt import Receipt, patient_set
from primum.workflows.checkpoints import Checkpoints
from primum.workflows.federated_sites import SCATTERING, open_judge, open_site, site_of
from primum.workflows.kept_folder import keeping, key_of, unfinished_beside
from primum.workflows.learners import ModelOptions, Opened
from primum.workflows.outputs import refuse_full, whole_folder
from primum.workflows.plan import Progress
from primum.workflows.private_options import PrivateOptions
from primum.workflows.told_of_sites import FEWEST, Hospital, classes_of_patients, told_of_sites, write_sites
from primum.workflows.training import READING, Shaping, receipt_of

# The patients of a site: their cases, or their histories.
Part = Cases | TokenBatch
ROUNDS = message("rounds between sites")
_ENGLISH = Language("en")
# One patient in so many of each site trains nothing, and says how well the model serves it; where that is too
# few to say, up to one in so many.
_ASIDE, _MOST = 10, 4


@dataclass(frozen=True)
class FederatedPlan:
    """What was asked for.

    Attributes
    ----------
    records : tuple of Path
        One folder a site; or one, dealt to `sites` of them.
    out : Path
    options : ModelOptions
    settings : FederatedSettings
    sites : int
    alpha : float
        How alike dealt sites are; small: not at all.
    private : PrivateOptions or None
        What each patient is promised by the own site.
    capture : Path or None
        New folder for what sites sent, to be inspected.
    secure : bool
        Whether the coordinator is to see nothing but the sum.
    judge : Path or None
        Cases of no site, which the coordinator judges updates by.
    like : Path or None
        Of tables: one of the same columns and of no patient, whose scales are used.
    show_ids : bool
    language : Language
        Of the page of sites.
    """

    records: tuple[Path, ...]
    out: Path
    options: ModelOptions
    settings: FederatedSettings
    sites: int = 15
    alpha: float = 1.0
    private: PrivateOptions | None = None
    capture: Path | None = None
    secure: bool = False
    judge: Path | None = None
    like: Path | None = None
    show_ids: bool = False
    language: Language = _ENGLISH

    def shaping(self) -> dict[str, object]:
        """Return what shapes the weights beside the patients."""
        private = None if self.private is None else asdict(self.private)
        dealt = {
            "sites": self.sites,
            "alpha": self.alpha,
            "folders": len(self.records),
            "secure": self.secure,
            "like": self.like is not None,
        }
        return {
            "model": self.options.described(),
            "settings": asdict(self.settings),
            "private": private,
            **dealt,
        }


@dataclass(frozen=True)
class Federated:
    """What a training between sites gives back: the receipt, what is said of each, who missed which round."""

    receipt: Receipt
    sites: tuple[dict[str, Any], ...]
    left_out: tuple[tuple[int, str], ...] = ()


def simulate(plan: FederatedPlan, *, progress: Progress, apply: Apply = map) -> Federated:
    """Train between sites of this machine and write the model, its receipt and what is said of each site.

    Killed at any moment, the same call goes on from the last round.

    Raises
    ------
    InputError
        Sites whose records do not fit together, or a rule that so few sites cannot have.
    MachineError
        Fewer than two sites answered a round.
    """
    refuse_full(plan.out)
    # Of an interrupted run it holds the first rounds already.
    if plan.capture is not None and not unfinished_beside(plan.out).exists():
        refuse_full(plan.capture)
    progress(READING, 0)
    opened, parts = _parts(plan)
    learner: Any = opened.learner
    model, like = _start(plan, opened)
    module = learner.module(model)
    hospitals = [_hospital(place, plan, opened, part) for place, part in enumerate(parts)]
    settings = _settled(plan, hospitals, len(parts))
    judge, judged_by = open_judge(
        plan.judge, opened, plan.options, masked=plan.secure, show_ids=plan.show_ids
    )
    travels, before = travelling(module)
    secure = _secure(plan, settings, len(parts), before=bool(before))
    grid = _grid(hospitals, secure, apply)
    left_out: list[tuple[int, str]] = []

    def told(number: int, sites: int, records: int, sentences: Sequence[str]) -> None:
        left_out.extend((number, one) for one in sentences)
        progress(ROUNDS, 1)

    shaping = Shaping({**plan.shaping(), "data": opened.data, "judge": judged_by, "like": like})
    with keeping(unfinished_beside(plan.out), key=key_of(shaping)) as kept:
        progress(ROUNDS, 0)
        standing = run_rounds(
            grid,
            travels,
            settings=settings,
            before=before,
            fixed=fixed_in(module),
            sites=len(hospitals),
            judge=judge,
            told=told,
            capture=_capturing(plan, settings, hospitals),
            keep=Checkpoints(unfinished_beside(plan.out), kept.key),
            secure=secure,
        )
        load(module, result_of(standing, settings))
        said = told_of_sites(
            hospitals, standing, model, rounds=settings.rounds, calibrated=_is_calibrated(plan, settings)
        )
        receipt = _write(plan, opened, learner, model, standing, settings, said)
    return Federated(receipt, tuple(said["sites"]), tuple(left_out))


def _parts(plan: FederatedPlan) -> tuple[Opened, list[Part]]:
    """Return the patients of each site, and what all of them together are."""
    each = [open_site(folder, plan.options, show_ids=plan.show_ids) for folder in plan.records]
    for folder, one in zip(plan.records, each, strict=True):
        _require_alike(folder, one, each[0])
    learners: list[Any] = [one.learner for one in each]
    if len(learners) > 1:
        counted = {
            name: sum(one.data[name] for one in each)
            for name in ("patients", "records", "duplicates_dropped")
        }
        together = {
            "digest": hashlib.sha256("".join(one.data["digest"] for one in each).encode()).hexdigest(),
            "patient_set": patient_set(np.concatenate([one.patients for one in learners])),
        }
        data = {**each[0].data, **counted, **together}
        return replace(each[0], data=data), [_held(one) for one in learners]
    held = _held(learners[0])
    people, first = np.unique(held.subject_ids, return_index=True)
    # Histories have no classes to be dealt by.
    labels = held.labels[first] if isinstance(held, Cases) else np.zeros(len(people), np.int64)
    dealt = unequal_sites(labels, sites=plan.sites, seed=plan.settings.seed, alpha=plan.alpha)
    return each[0], [held.select(np.flatnonzero(np.isin(held.subject_ids, people[one]))) for one in dealt]


def _held(learner: Learner) -> Part:
    return learner.tokens if isinstance(learner, RecordLearner) else learner.cases


def _require_alike(folder: Path, opened: Opened, first: Opened) -> None:
    if opened.learner.recipe != first.learner.recipe or opened.columns != first.columns:
        raise InputError(
            "{path} does not fit the first site: give records of one kind, of the same classes and columns.",
            path=str(folder),
        )


def _start(plan: FederatedPlan, opened: Opened) -> tuple[Any, Any]:
    """Return the untrained model, and a digest of the rows, of no patient, that a table is scaled by."""
    learner: Any = opened.learner
    digest = None
    table = opened.data["kind"] == "table"
    if table and plan.like is None:
        raise InputError(
            "Columns of a table need one scale at every site, made of no patient: give --like, a folder with "
            "a few invented rows of the same columns."
        )
    if not table and plan.like is not None:
        raise InputError("--like is for tables: leave it out.")
    if plan.like is not None:
        like = open_site(plan.like, replace(plan.options, keep_duplicates=True))
        _require_alike(plan.like, like, opened)
        learner, digest = like.learner, like.data["digest"]
    return learner.build(learner.patients, seed=plan.settings.seed), digest


def _hospital(place: int, plan: FederatedPlan, opened: Opened, part: Part) -> Hospital:
    people, classes = np.unique(part.subject_ids), classes_of_patients(part)
    inside = np.isin(part.subject_ids, people[_apart(people, classes, seed=plan.settings.seed)])
    aside, trains = (part.select(np.flatnonzero(one)) for one in (inside, ~inside))
    learner: Any = opened.learner
    own = replace(learner, **{"tokens" if isinstance(learner, RecordLearner) else "cases": trains})
    private = plan.private
    if private is not None and private.seed is not None:
        # Noise that two sites share would add up.
        private = replace(private, seed=1000 * private.seed + place)
    agreed: Any = {"network": plan.options.network, "private": private, "rounds": plan.settings.rounds}
    site = site_of(f"site-{place + 1:02d}", replace(opened, learner=own), **agreed)[0]
    return Hospital(site, aside, classes)


def _apart(people: IntArray, classes: IntArray | None, *, seed: int) -> IntArray:
    """Draw a tenth of the patients of each class: more, so that a class can be judged, where that is few."""
    order = np.random.default_rng([seed, len(people)]).permutation(len(people))
    kinds = np.zeros_like(people) if classes is None else classes
    drawn = [order[kinds[order] == kind] for kind in np.unique(kinds)]
    return np.concatenate([one[: max(len(one) // _ASIDE, min(FEWEST, len(one) // _MOST))] for one in drawn])


def _settled(plan: FederatedPlan, hospitals: Sequence[Hospital], sites: int) -> FederatedSettings:
    """Return the settings, with steps of the linear layer that suit the noise of all sites together."""
    if plan.options.network != SCATTERING:
        return replace(plan.settings, averaged=plan.private is not None)
    rate = usual_rate(plan.settings.epochs)
    if plan.private is not None:
        linear: Any = plan.private.settled(kind="image", patients=1)
        noise = mechanisms_of(replace(linear, steps=plan.settings.rounds))[1].noise_multiplier
        strength = noise * linear.clip * sites**0.5 / sum(one.site.patients for one in hospitals)
        # With noise a site takes one step a round, whatever was typed.
        rate = rate_under_noise(usual_rate(1), strength)
    return replace(plan.settings, learning_rate=rate, averaged=True)


def _is_calibrated(plan: FederatedPlan, settings: FederatedSettings) -> bool:
    """Whether honest sites were seen not to be accused when they train like this.

    Not with noise of their own: that of few patients makes an honest update long, and turns it away.
    """
    plainly = plan.options.network == SCATTERING and plan.private is None and not plan.secure
    return plainly and settings.epochs == STEPS_APART


def _grid(hospitals: Sequence[Hospital], secure: SecureSettings | None, apply: Apply) -> LocalGrid:
    """Let sites answer, each in plain or under its masks, which it must remember from stage to stage."""
    answers = {
        place + 1: answer(one.site) if secure is None else SecureAnswer(one.site, settings=secure)
        for place, one in enumerate(hospitals)
    }
    return LocalGrid(answers, apply=apply if secure is None else map)


def _secure(
    plan: FederatedPlan, settings: FederatedSettings, sites: int, *, before: bool
) -> SecureSettings | None:
    if not plan.secure:
        return None
    require_summable(settings)
    if plan.capture is not None:
        raise InputError(
            "With secure aggregation nobody sees what one site sends: leave out {option}.", option="--capture"
        )
    assert settings.bound is not None
    return masking(settings.bound, sites=sites, before=before)


def _capturing(
    plan: FederatedPlan, settings: FederatedSettings, hospitals: Sequence[Hospital]
) -> Callable[[int, Arrays, Sequence[Reply]], None]:
    if (folder := plan.capture) is None:
        return lambda number, weights, replies: None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    paces = {one.site.name: one.site.pace(settings.epochs) for one in hospitals}

    def capture(number: int, weights: Arrays, replies: Sequence[Reply]) -> None:
        for reply in replies:
            sent = {name: value - weights[name] for name, value in reply.arrays.items()}
            steps, batch = paces[reply.site]
            told = reply.records, steps, batch, settings.learning_rate
            update = Update(reply.site, number, "delta", *told, dict(weights), sent)
            write_update(update, folder / f"round-{number:03d}-{reply.site}.safetensors")

    return capture


def _write(
    plan: FederatedPlan,
    opened: Opened,
    learner: Any,
    model: Any,
    standing: Standing,
    settings: FederatedSettings,
    said: dict[str, Any],
) -> Receipt:
    before = plan.options.network == SCATTERING
    promised: PrivacyLedger | None = site_ledger(settings, len(said["sites"]), before=before)
    ledgers = {one["site"]: one["ledger"] for one in said["sites"] if one["ledger"] is not None}
    with whole_folder(plan.out) as folder:
        factory = learner.write(folder, model)
        told = {
            **said,
            "unit": "record" if opened.data["image_level"] else "patient",
            "rounds": standing.number,
            "settings": asdict(settings),
            "site_ledger": promised and promised.as_json(),
        }
        write_sites(folder, told, language=plan.language)
        receipt = receipt_of(
            opened.data,
            plan.shaping(),
            folder,
            method="federated",
            factory=factory,
            seed=_seed(plan, settings),
            steps=standing.number,
            ledger={"patients": ledgers, "sites": promised and promised.as_json()}
            if ledgers or promised
            else None,
        )
        receipt.write(folder)
    return receipt


def _seed(plan: FederatedPlan, settings: FederatedSettings) -> int | None:
    """Return the seed of a run that can be repeated; None where noise was secret."""
    if settings.site_noise or (plan.private is not None and plan.private.seed is None):
        return None
    return settings.seed
