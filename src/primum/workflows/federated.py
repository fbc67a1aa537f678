"""``primum train federated simulate``: hospitals of this machine train together, each on its own patients."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primum.errors import InputError
from primum.evidence.canonical import plain
from primum.evidence.ranking import auc
from primum.fit.updates import Update, write_update
from primum.records.cases import Cases
from primum.records.ragged import IntArray
from primum.report.language import message
from primum.train.accounting import PrivacyLedger, Unit
from primum.train.federated.answering import answer
from primum.train.federated.local_grid import Apply, LocalGrid
from primum.train.federated.messages import Reply
from primum.train.federated.partition import unequal_sites
from primum.train.federated.rounds import FederatedSettings, result_of, run_rounds, site_ledger
from primum.train.federated.secure import SecureSettings, require_summable
from primum.train.federated.secure_site import SecureAnswer
from primum.train.federated.sites import Arrays, LinearSite, NetworkSite, Site, load, travelling
from primum.train.federated.standing import Standing
from primum.train.federated.suspicion import accused, suspicions
from primum.train.learners import CaseLearner
from primum.train.private_linear import LinearSettings, mechanisms_of, rate_under_noise
from primum.train.receipt import Receipt, patient_set
from primum.workflows.checkpoints import Checkpoints
from primum.workflows.kept_folder import keeping, key_of, unfinished_beside
from primum.workflows.learners import ModelOptions, Opened, open_learner
from primum.workflows.outputs import refuse_full, whole_folder
from primum.workflows.plan import Progress
from primum.workflows.private_options import PrivateOptions
from primum.workflows.training import READING, receipt_of

SITES_FILE = "sites.json"
ROUNDS = message("rounds between sites")
# One patient in so many of each site trains nothing, and says how well the model serves the site.
_ASIDE, _FEWEST = 10, 5
_FEWEST_MASKED = 3


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
    show_ids : bool
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
    show_ids: bool = False

    def shaping(self) -> dict[str, object]:
        """Return what shapes the weights beside the patients."""
        private = None if self.private is None else asdict(self.private)
        dealt = {
            "sites": self.sites,
            "alpha": self.alpha,
            "folders": len(self.records),
            "secure": self.secure,
        }
        return {
            "model": self.options.described(),
            "settings": asdict(self.settings),
            "private": private,
            **dealt,
        }


@dataclass(frozen=True, eq=False)
class Hospital:
    """A site with those of its patients who train nothing.

    Attributes
    ----------
    site : Site
    aside : Cases
    """

    site: Site
    aside: Cases


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
    model = learner.build(learner.patients, seed=plan.settings.seed)
    module = learner.module(model)
    unit: Unit = "record" if opened.data["image_level"] else "patient"
    hospitals = [_hospital(place, plan, learner, cases, unit) for place, cases in enumerate(parts)]
    settings = _settled(plan, hospitals, len(parts))
    travels, before = travelling(module)
    secure = _secure(plan, settings, len(parts))
    grid = LocalGrid(
        {
            place + 1: answer(one.site) if secure is None else SecureAnswer(one.site, settings=secure)
            for place, one in enumerate(hospitals)
        },
        apply=apply if secure is None else map,
    )
    left_out: list[tuple[int, str]] = []

    def told(number: int, replies: Sequence[Reply], sentences: Sequence[str]) -> None:
        left_out.extend((number, one) for one in sentences)
        progress(ROUNDS, 1)

    with keeping(unfinished_beside(plan.out), key=key_of(plan)) as kept:
        progress(ROUNDS, 0)
        standing = run_rounds(
            grid,
            travels,
            settings=settings,
            before=before,
            sites=len(hospitals),
            told=told,
            capture=_capturing(plan, settings, learner),
            keep=Checkpoints(unfinished_beside(plan.out), kept.key),
            secure=secure,
        )
        load(module, result_of(standing, settings))
        everyone = sum(one.site.records for one in hospitals)
        said = tuple(_said(one, standing, model, settings, everyone) for one in hospitals)
        receipt = _write(plan, opened, learner, model, standing, settings, said)
    return Federated(receipt, said, tuple(left_out))


def _parts(plan: FederatedPlan) -> tuple[Opened, list[Cases]]:
    """Return the cases of each site, and what all of them together are."""
    each = [
        open_learner(
            folder, replace(plan.options, patience=0), set_aside=False, seed=0, show_ids=plan.show_ids
        )
        for folder in plan.records
    ]
    for folder, one in zip(plan.records, each, strict=True):
        if not isinstance(one.learner, CaseLearner):
            raise InputError(
                "{path} holds health records: sites of one machine train classifiers of cases so far.",
                path=str(folder),
            )
        if one.learner.recipe != each[0].learner.recipe or one.data["kind"] == "table":
            raise InputError(
                "{path} does not fit the first site, or is a table, which each site would scale by its own "
                "patients: give cases of one kind with the same classes.",
                path=str(folder),
            )
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
        return replace(each[0], data={**each[0].data, **counted, **together}), [one.cases for one in learners]
    cases = learners[0].cases
    people, first = np.unique(cases.subject_ids, return_index=True)
    dealt = unequal_sites(cases.labels[first], sites=plan.sites, seed=plan.settings.seed, alpha=plan.alpha)
    return each[0], [cases.select(np.flatnonzero(np.isin(cases.subject_ids, people[one]))) for one in dealt]


def _hospital(place: int, plan: FederatedPlan, learner: Any, cases: Cases, unit: Unit) -> Hospital:
    people = np.unique(cases.subject_ids)
    apart = people[np.random.default_rng([plan.settings.seed, len(people)]).permutation(len(people))]
    apart = apart[: len(people) // _ASIDE]
    inside = np.isin(cases.subject_ids, apart)
    aside, trains = (cases.select(np.flatnonzero(one)) for one in (inside, ~inside))
    own = replace(learner, cases=trains, validation=None)
    model = own.build(own.patients, seed=0)
    rounds, name = plan.settings.rounds, f"site-{place + 1:02d}"
    if plan.options.network == "scattering":
        private: Any = (
            plan.private.settled(kind="image", patients=len(own.patients)) if plan.private else None
        )
        linear = replace(private or LinearSettings(None), steps=rounds, unit=unit)
        if linear.seed is not None:
            # Noise that two sites share would add up.
            linear = replace(linear, seed=1000 * linear.seed + place)
        return Hospital(LinearSite(name, model, trains, settings=linear), aside)
    if plan.private is not None:
        raise InputError("Private training between sites is for --network scattering so far: give that.")
    loop = replace(own.recipe.loop, learning_rate=plan.settings.learning_rate)
    return Hospital(NetworkSite(name, own, model, loop=loop), aside)


def _settled(plan: FederatedPlan, hospitals: Sequence[Hospital], sites: int) -> FederatedSettings:
    """Return the settings, with steps of the linear layer that suit the noise of all sites together."""
    if plan.options.network != "scattering":
        return plan.settings
    usual, strength = LinearSettings(None), 0.0
    if plan.private is not None:
        linear: Any = plan.private.settled(kind="image", patients=1)
        noise = mechanisms_of(replace(linear, steps=plan.settings.rounds))[1].noise_multiplier
        strength = noise * linear.clip * sites**0.5 / sum(one.site.patients for one in hospitals)
    rate = rate_under_noise(usual.learning_rate, strength)
    return replace(plan.settings, learning_rate=rate, averaged=True)


def _secure(plan: FederatedPlan, settings: FederatedSettings, sites: int) -> SecureSettings | None:
    """Choose neighbours and threshold for so many sites; of fifteen, five may fall silent."""
    if not plan.secure:
        return None
    require_summable(settings)
    if plan.capture is not None or settings.site_noise:
        raise InputError(
            "With secure aggregation nobody sees what one site sends: leave out --capture and --site-noise."
        )
    if sites < _FEWEST_MASKED:
        raise InputError("Secure aggregation needs three sites or more, not {sites}.", sites=sites)
    assert settings.bound is not None
    neighbours = min(14, (sites - 1) // 2 * 2)
    return SecureSettings(
        settings.bound, neighbours=neighbours, threshold=max(2, neighbours // 2 + 2 - (neighbours < 8))
    )


def _capturing(
    plan: FederatedPlan, settings: FederatedSettings, learner: Any
) -> Callable[[int, Arrays, Sequence[Reply]], None]:
    if (folder := plan.capture) is None:
        return lambda number, weights, replies: None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def capture(number: int, weights: Arrays, replies: Sequence[Reply]) -> None:
        for reply in replies:
            sent = {name: value - weights[name] for name, value in reply.arrays.items()}
            # The linear layer steps over everybody at once; with noise it takes one step a round.
            whole = plan.options.network == "scattering"
            batch = reply.records if whole else min(learner.recipe.loop.batch, reply.records)
            epochs = 1 if plan.private is not None else settings.epochs
            steps = epochs * -(-reply.records // batch)
            told = reply.records, steps, batch, settings.learning_rate
            update = Update(reply.site, number, "delta", *told, dict(weights), sent)
            write_update(update, folder / f"round-{number:03d}-{reply.site}.safetensors")

    return capture


def _said(
    one: Hospital, standing: Standing, model: Any, settings: FederatedSettings, everyone: int
) -> dict[str, Any]:
    """Say how much a site brought, how it pulled, how it is served, and what speaks against it."""
    agreement = np.array(standing.agreement.get(one.site.name, ()), float)
    against = next((found for found in suspicions(standing.history) if found.site == one.site.name), None)
    ledger = one.site.ledger(settings.rounds)
    return {
        "site": one.site.name,
        "patients": one.site.patients,
        "records": one.site.records,
        "share": one.site.records / everyone,
        "rounds_answered": int(np.isfinite(agreement).sum()),
        "agreement": float(np.nanmean(agreement)) if np.isfinite(agreement).any() else None,
        "served": _served(model, one.aside),
        "e_value": None if against is None else against.e_value,
        "reason": None if against is None else against.reason,
        "accused": any(found.site == one.site.name for found in accused(standing.history)),
        "ledger": None if ledger is None else ledger.as_json(),
    }


def _served(model: Any, aside: Cases) -> dict[str, Any] | None:
    """AUC of the first class against the rest on patients who trained nothing; None of too few to say."""
    if not len(aside):
        return None
    scores, labels = model.predict_proba(aside)[:, 0], aside.labels == 0
    if min(_people(aside, labels), _people(aside, ~labels)) < _FEWEST:
        return None
    found = auc(scores[labels], scores[~labels])
    return {
        "auc": found.value,
        "low": found.low,
        "high": found.high,
        "patients": len(np.unique(aside.subject_ids)),
    }


def _people(cases: Cases, rows: NDArray[np.bool_]) -> int:
    subjects: IntArray = cases.subject_ids[rows]
    return len(np.unique(subjects))


def _write(
    plan: FederatedPlan,
    opened: Opened,
    learner: Any,
    model: Any,
    standing: Standing,
    settings: FederatedSettings,
    said: Sequence[dict[str, Any]],
) -> Receipt:
    before = plan.options.network == "scattering"
    promised: PrivacyLedger | None = site_ledger(settings, len(said), before=before)
    ledgers = {one["site"]: one["ledger"] for one in said if one["ledger"] is not None}
    with whole_folder(plan.out) as folder:
        factory = learner.write(folder, model)
        told = {
            "sites": said,
            "rounds": standing.number,
            "settings": asdict(settings),
            "site_ledger": promised and promised.as_json(),
        }
        (folder / SITES_FILE).write_text(
            json.dumps(plain(told), indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )
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
