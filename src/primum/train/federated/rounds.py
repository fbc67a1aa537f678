"""The coordinator's side of federated training: round after round, on Flower's strategies.

Replies are held against what was agreed, their updates clipped and put together by a rule that may be robust,
and what comes of it goes through one of Flower's server optimisers. Nothing else of a site is kept but what
speaks against it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg
from numpy.typing import NDArray

from primum.errors import InputError, MachineError
from primum.fit.protocol import Keep
from primum.train.accounting import Mechanism, PrivacyLedger, epsilon_spent
from primum.train.federated.aggregation import aggregated, clipped
from primum.train.federated.judge import Judge, changes
from primum.train.federated.messages import (
    ARRAYS,
    METRICS,
    RECORDS,
    Reply,
    arrays_record,
    config_record,
    read_reply,
)
from primum.train.federated.secure import SecureSettings
from primum.train.federated.secure_coordinator import secure_round
from primum.train.federated.settings import FederatedSettings
from primum.train.federated.sites import Arrays, Round, usual_rate
from primum.train.federated.standing import Standing, noted, put, resumed
from primum.train.federated.suspicion import observe
from primum.train.private_linear import rate_under_noise

_MOMENTS = ("m_t", "v_t")
_SILENT = "{site} fell silent: it is left out of this round."
_SITE_DELTA, _BOUND_BEFORE = 1e-5, 1.0
# Told of each round: its number, how many sites and records are in it, a sentence on each site left out.
Told = Callable[[int, int, int, Sequence[str]], None]
# Given the round, the weights that sites started from, and what they sent.
Capture = Callable[[int, Arrays, Sequence[Reply]], None]


def run_rounds(
    grid: Grid,
    weights: Arrays,
    *,
    settings: FederatedSettings,
    before: Sequence[str] = (),
    fixed: Sequence[str] = (),
    sites: int,
    judge: Judge | None = None,
    told: Told = lambda number, sites, records, left_out: None,
    capture: Capture = lambda number, weights, replies: None,
    keep: Keep | None = None,
    secure: SecureSettings | None = None,
    timeout: float = 3600.0,
) -> Standing:
    """Train between the sites of a grid.

    Parameters
    ----------
    grid : Grid
    weights : mapping of str to array
        To start from: all that travels.
    settings : FederatedSettings
    before, fixed : sequence of str
        Tensors that are agreed on in a round 0 and then stay; that are sent and stay: scales of a table.
    sites : int
        How many must be there for a round to begin.
    judge, told, capture
        See there, or None; told what became of a round; given what was sent in it.
    keep : Keep or None
        Holds what lies there of the same training.
    secure : SecureSettings or None
        Sites mask what they send, and only its sum is seen: then nobody can be suspected.
    timeout : float
        Seconds a round waits for a site; whoever is late is left out of it.

    Raises
    ------
    MachineError
        Fewer than two sites answered as agreed.
    """
    standing = resumed(keep, Standing(-1 if before else 0, dict(weights)))
    inner = _server(settings, sites, standing)
    while standing.number < settings.rounds:
        number = standing.number + 1
        names = [name for name in standing.weights if (name in before) == (number == 0) and name not in fixed]
        asked = _asked(settings, standing, number)
        messages = inner.configure_train(number, arrays_record(standing.weights), config_record(asked), grid)
        if secure is not None:
            how: Any = {"names": names, "settings": secure, "timeout": timeout}
            mean = _masked_mean(grid, standing.weights, asked, told, **how)
            standing = _summed(standing, mean, names, number, settings, inner)
        else:
            replies, left_out = _read(grid.send_and_receive(messages, timeout=timeout), standing, names)
            told(number, len(replies), sum(reply.records for reply in replies), left_out)
            capture(number, standing.weights, replies)
            _require_enough(replies, number, sites)
            standing = _after(standing, replies, names, number, settings, inner, judge)
        put(keep, standing)
    return standing


def _masked_mean(grid: Grid, weights: Arrays, asked: Round, told: Told, **how: Any) -> Arrays:
    nodes = list(grid.get_node_ids())
    mean, silent, records = secure_round(grid, nodes, weights, asked, **how)
    told(asked.number, len(nodes) - len(silent), records, [_SILENT.format(site=one) for one in silent])
    return mean


def _asked(settings: FederatedSettings, standing: Standing, number: int) -> Round:
    rate = rate_of(settings, standing)
    return Round(number, settings.epochs, rate, settings.proximal, settings.seed + number)


def rate_of(settings: FederatedSettings, standing: Standing) -> float:
    """Return the learning rate of the sites; one that suits the noise, where they said that they add some."""
    if not settings.adapted or not standing.strength:
        return settings.learning_rate
    # With noise a site takes one step a round, as in one place.
    return rate_under_noise(usual_rate(1), standing.strength)


def _strength(replies: Sequence[Reply]) -> float:
    """Deviation of the noise in the mean gradient of all sites, whatever a few of them claim."""
    patients = _capped([reply.patients for reply in replies]).sum()
    return float(np.median([reply.noise for reply in replies]) * len(replies) ** 0.5 / patients)


def _require_enough(replies: Sequence[Reply], number: int, sites: int) -> None:
    if len(replies) < min(2, sites):
        raise MachineError(
            "Round {number} has answers of {count} sites that can be used: look at the others, then "
            "start the coordinator again; it goes on from here.",
            number=number,
            count=len(replies),
        )


def site_ledger(settings: FederatedSettings, sites: int, *, before: bool) -> PrivacyLedger | None:
    """Return what each site is promised by the noise at the coordinator; None: nothing.

    Parameters
    ----------
    settings : FederatedSettings
    sites : int
    before : bool
        Whether a round 0 agreed on something, which is paid for too.
    """
    if not settings.site_noise:
        return None
    assert settings.bound is not None
    spent = Mechanism("updates", settings.site_noise, 1.0, settings.rounds + before)
    epsilon = epsilon_spent([spent], _SITE_DELTA)
    return PrivacyLedger(epsilon, _SITE_DELTA, "site", (spent,), settings.bound, sites, sites, True)


def result_of(standing: Standing, settings: FederatedSettings) -> Arrays:
    """Return the weights of the model."""
    if not settings.averaged:
        return standing.weights
    count = settings.rounds - settings.rounds // 2
    averaged = {name: (value / count).astype(np.float32) for name, value in standing.total.items()}
    return {**standing.weights, **averaged}


def _server(settings: FederatedSettings, sites: int, standing: Standing) -> FedAvg:
    known: dict[str, Any] = {
        "min_train_nodes": sites,
        "min_available_nodes": sites,
        "weighted_by_key": RECORDS,
    }
    if settings.server == "fedavg":
        return FedAvg(**known)
    adam = FedAdam(**known, eta=settings.server_rate)
    for name in _MOMENTS:
        part = {key[4:]: value for key, value in standing.optimiser.items() if key.startswith(name)}
        if part:
            setattr(adam, name, part)
    return adam


def _read(messages: Any, standing: Standing, names: Sequence[str]) -> tuple[list[Reply], list[str]]:
    """Take the replies that are as agreed, one a site, in the order of their names."""
    expected = {name: standing.weights[name].shape for name in names}
    replies: dict[str, Reply] = {}
    left_out = []
    for message in messages:
        if message.has_error():
            left_out.append(str(message.error.reason))
            continue
        try:
            reply = read_reply(message.content, expected=expected)
            if reply.site in replies or standing.sizes.get(reply.site, reply.records) != reply.records:
                raise InputError(
                    "{site} answered twice, or says it has another number of records than before: it is left "
                    "out of this round.",
                    site=reply.site,
                )
            replies[reply.site] = reply
        except InputError as error:
            left_out.append(str(error))
    return [replies[name] for name in sorted(replies)], left_out


def _after(
    standing: Standing,
    replies: Sequence[Reply],
    names: Sequence[str],
    number: int,
    settings: FederatedSettings,
    inner: FedAvg,
    judge: Judge | None,
) -> Standing:
    start = _flat(standing.weights, names)
    updates = np.stack([_flat(reply.arrays, names) - start for reply in replies])
    sizes = {**{reply.site: reply.records for reply in replies}, **standing.sizes}
    if number == 0:
        # Means of vectors of norm 1: no longer than that, but for the noise of sites.
        step = _step(updates, replies, settings, bound=_BOUND_BEFORE if settings.site_noise else None)
        agreed = _shaped(start + step, standing.weights, names)
        known = {**standing.weights, **agreed}
        return replace(standing, number=0, weights=known, sizes=sizes, strength=_strength(replies))
    named = {reply.site: update for reply, update in zip(replies, updates, strict=True)}
    judged = {} if judge is None else _judged(judge, standing.weights, names, named)
    step = _step(updates, replies, settings, bound=settings.bound)
    stepped = _stepped(standing, step, names, number, settings, inner)
    history = observe(standing.history, named, number=number, **judged)
    lengths = np.linalg.norm(updates, axis=1) * np.linalg.norm(step)
    cosines = updates @ step / np.maximum(lengths, 1e-300)
    agreement, pull = noted(standing.agreement, list(named), cosines, number), standing.pull
    if settings.rule == "mean" and not settings.site_noise:
        pull = noted(pull, list(named), _pulls(updates, replies, settings, step), number)
    return replace(stepped, history=history, sizes=sizes, agreement=agreement, pull=pull)


def _summed(
    standing: Standing,
    mean: Arrays,
    names: Sequence[str],
    number: int,
    settings: FederatedSettings,
    inner: FedAvg,
) -> Standing:
    """Take the mean of masked updates."""
    step = _flat(mean, names)
    if number == 0:
        agreed = _shaped(_flat(standing.weights, names) + step, standing.weights, names)
        return replace(standing, number=0, weights={**standing.weights, **agreed})
    return _stepped(standing, step, names, number, settings, inner)


def _stepped(
    standing: Standing,
    step: NDArray[np.float64],
    names: Sequence[str],
    number: int,
    settings: FederatedSettings,
    inner: FedAvg,
) -> Standing:
    agreed = _shaped(_flat(standing.weights, names) + step, standing.weights, names)
    stepped = _through(inner, standing, agreed, number)
    total = standing.total
    if settings.averaged and number > settings.rounds // 2:
        total = {name: stepped[name] + total.get(name, 0.0) for name in names}
    weights = {**standing.weights, **stepped}
    return replace(standing, number=number, weights=weights, total=total, optimiser=_moments(inner))


def _moments(inner: FedAvg) -> Arrays:
    held = {one: getattr(inner, one, None) or {} for one in _MOMENTS}
    return {f"{one}.{key}": value for one, each in held.items() for key, value in each.items()}


def _step(
    updates: NDArray[np.float64],
    replies: Sequence[Reply],
    settings: FederatedSettings,
    *,
    bound: float | None,
) -> NDArray[np.float64]:
    """Put the updates of a round together, each shortened to the bound first, with noise if it was asked."""
    if bound is not None:
        updates = clipped(updates, bound)
    if settings.site_noise:
        assert bound is not None
        noise = np.random.default_rng().standard_normal(updates.shape[1])
        return np.asarray(updates.mean(axis=0) + settings.site_noise * bound / len(replies) * noise)
    return aggregated(updates, _weights(replies), rule=settings.rule, malicious=settings.malicious)


def _pulls(
    updates: NDArray[np.float64],
    replies: Sequence[Reply],
    settings: FederatedSettings,
    step: NDArray[np.float64],
) -> NDArray[np.float64]:
    """How far along the step each update moved it as it was shortened and weighted, shape (sites,)."""
    taken = updates if settings.bound is None else clipped(updates, settings.bound)
    weights = _weights(replies)
    return np.asarray(weights / weights.sum() * (taken @ step))


def _through(inner: FedAvg, standing: Standing, agreed: Arrays, number: int) -> Arrays:
    """Hand what sites agreed on to Flower's server optimiser, as if one site had sent it."""
    everything = {**standing.weights, **agreed}
    content = RecordDict({ARRAYS: arrays_record(everything), METRICS: MetricRecord({RECORDS: 1})})
    stepped, _ = inner.aggregate_train(number, [Message(content, dst_node_id=0, message_type="train")])
    assert stepped is not None
    return {name: stepped[name].numpy().astype(agreed[name].dtype) for name in agreed}


def _weights(replies: Sequence[Reply]) -> NDArray[np.float64]:
    """Count each site by its records."""
    return _capped([reply.records for reply in replies])


def _capped(counts: Sequence[int]) -> NDArray[np.float64]:
    """Count no site for more than all others: a site says itself how many."""
    said = np.array(counts, np.float64)
    return np.minimum(said, said.sum() - said) if len(said) > 1 else said


def _judged(
    judge: Judge, weights: Arrays, names: Sequence[str], updates: Mapping[str, NDArray[np.float64]]
) -> dict[str, Any]:
    start = _flat(weights, names)
    after = {site: _shaped(start + update, weights, names) for site, update in updates.items()}
    return {"recalls": changes(judge, weights, after), "span": judge.span(weights)}


def _flat(weights: Arrays, names: Sequence[str]) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(weights[name], np.float64).ravel() for name in names])


def _shaped(flat: NDArray[np.float64], like: Arrays, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    ends = np.cumsum([like[name].size for name in names])
    parts = np.split(flat, ends[:-1])
    return {
        name: part.reshape(like[name].shape).astype(like[name].dtype)
        for name, part in zip(names, parts, strict=True)
    }
