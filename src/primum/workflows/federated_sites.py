"""A hospital of either form: its records, opened as was agreed, and the site that trains on them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from primum.errors import InputError
from primum.train.accounting import Unit, noise_for
from primum.train.federated.judge import Judge, judge_of
from primum.train.federated.sites import LinearSite, NetworkSite
from primum.train.learners import RecordLearner
from primum.train.private import PrivateSettings
from primum.train.private_linear import LinearSettings
from primum.workflows.learners import ModelOptions, Opened, open_learner
from primum.workflows.private_options import PrivateOptions

SCATTERING = "scattering"


def open_site(records: Path, options: ModelOptions, *, show_ids: bool = False) -> Opened:
    """Read the patients of a site, all of whom train until the end.

    Raises
    ------
    InputError
        Health records without a vocabulary, which one hospital would make of its own patients.
    """
    opened = open_learner(records, replace(options, patience=0), set_aside=False, seed=0, show_ids=show_ids)
    if opened.data["kind"] == "records" and options.tokens is None:
        raise InputError(
            "Models of health records need one vocabulary at every site: give all of them the same --tokens."
        )
    return opened


def open_judge(
    records: Path | None, sites: Opened, options: ModelOptions, *, masked: bool, show_ids: bool = False
) -> tuple[Judge | None, str | None]:
    """Open the coordinator's cases, which judge with a model of their own, and give their digest.

    Parameters
    ----------
    records : Path or None
        None: nobody judges.
    sites : Opened
        What the model is shaped by.
    options : ModelOptions
    masked : bool
        Whether sites mask what they send, so that there is nothing to judge.
    show_ids : bool

    Raises
    ------
    InputError
        Masks, health records, cases of another kind, or too few of a class.
    """
    if records is None:
        return None, None
    if masked:
        raise InputError(
            "With secure aggregation nobody sees what one site sends: leave out {option}.", option="--judge"
        )
    learner: Any = sites.learner
    if isinstance(learner, RecordLearner):
        raise InputError("--judge is for cases, which have classes: leave it out.")
    opened: Any = open_site(records, options, show_ids=show_ids)
    if (opened.learner.recipe, opened.columns) != (learner.recipe, sites.columns):
        raise InputError(
            "{path} does not fit the sites' cases: give cases of one kind with the same classes.",
            path=str(records),
        )
    return judge_of(learner.build(learner.patients, seed=0), opened.learner.cases), opened.data["digest"]


def site_of(
    name: str, opened: Opened, *, network: str | None, private: PrivateOptions | None, rounds: int
) -> tuple[LinearSite | NetworkSite, PrivateSettings | LinearSettings | None]:
    """Return a site, and the settings of what it promises.

    Parameters
    ----------
    name : str
    opened : Opened
        Its patients.
    network : str or None
    private : PrivateOptions or None
        What each patient is promised over all rounds; its steps are those of one round. None: nothing.
    rounds : int

    Returns
    -------
    LinearSite or NetworkSite
    PrivateSettings, LinearSettings or None
        None where nothing is promised. The noise multiplier is that of every step.

    Raises
    ------
    InputError
        An epsilon that no noise reaches, or settings that the network has no use for.
    """
    learner: Any = opened.learner  # of two kinds, each with models of its own
    model, people = learner.build(learner.patients, seed=0), len(learner.patients)
    settled = None if private is None else private.settled(kind=opened.data["kind"], patients=people)
    unit: Unit = "record" if opened.data["image_level"] else "patient"
    if network == SCATTERING:
        assert not isinstance(settled, PrivateSettings)
        linear = replace(settled or LinearSettings(None), steps=rounds, unit=unit)
        return LinearSite(name, model, learner.cases, settings=linear), settled and linear
    assert not isinstance(settled, LinearSettings)
    if private is not None and settled is not None:
        settled = _over_rounds(settled, private, people, rounds)
    return NetworkSite(name, learner, model, loop=learner.recipe.loop, private=settled, unit=unit), settled


def _over_rounds(
    settled: PrivateSettings, private: PrivateOptions, people: int, rounds: int
) -> PrivateSettings:
    """Spend the promise over the steps of all rounds; unless said, as many in all as in one place."""
    steps = private.said.get("steps") or -(-settled.steps // rounds)
    # A mean over the few steps of one round holds every round near its start.
    settled = replace(settled, steps=steps, averaging=0.0)
    if settled.epsilon is None:
        return settled
    rate = settled.expected_batch / people
    noise = noise_for(settled.epsilon, settled.delta, steps=rounds * steps, sampling_rate=rate)
    return replace(settled, epsilon=None, noise_multiplier=noise)
