"""Rounds between sites of this process: what comes of them, and what a site cannot do to them."""

import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from torch import nn

from primum.errors import InputError, MachineError
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.train.accounting import epsilon_spent
from primum.train.federated.answering import answer
from primum.train.federated.local_grid import Answer, LocalGrid
from primum.train.federated.rounds import rate_of, result_of, run_rounds, site_ledger
from primum.train.federated.settings import FederatedSettings
from primum.train.federated.sites import LinearSite, NetworkSite, Round, Site, near
from primum.train.federated.standing import Standing, resumed
from primum.train.federated.suspicion import accused
from primum.train.learners import CaseLearner
from primum.train.private import PrivateSettings
from primum.train.private_linear import LinearSettings, fit_private_linear, mechanisms_of

CLASSES = ("no", "yes")


def small_images(patients: int) -> Cases:
    """One or two images of 8 x 8 pixels a patient; the ill have a bright half."""
    rng = np.random.default_rng(3)
    subjects = np.repeat(np.arange(patients), rng.integers(1, 3, patients))
    labels = rng.integers(0, 2, patients)[subjects]
    images = rng.integers(0, 128, (len(subjects), 1, 8, 8))
    images[labels == 1, :, :, 4:] += 60
    return Cases(np.arange(len(subjects)), subjects, images.astype(np.uint8), labels)


CASES = small_images(90)
PLAIN = LinearSettings(epsilon=None, learning_rate=3.0)
LOOP = LoopSettings(1, batch=16, warmup=0.15)
NAMES = ("centre", "last.weight")


def model_of(network: str, seed: int = 0) -> TorchClassifier:
    return ClassifierRecipe(network, CLASSES, LOOP, 8 if network == "image" else None).build(CASES, seed=seed)


def dealt(sites: int) -> list[Cases]:
    """Each patient to one site, the first site twice as large as the last."""
    place = np.searchsorted(np.cumsum(np.linspace(2, 1, sites)), CASES.subject_ids / 90 * 1.5 * sites)
    return [CASES.select(np.flatnonzero(place == one)) for one in range(sites)]


def linear(sites: int, settings: LinearSettings = PLAIN) -> list[Site]:
    return [
        LinearSite(f"site {place}", model_of("scattering"), cases, settings=settings)
        for place, cases in enumerate(dealt(sites))
    ]


def nothing_learnt() -> dict[str, Any]:
    state = model_of("scattering").module.state_dict()
    return {name: np.zeros_like(state[name].numpy()) for name in NAMES}


def between(sites: list[Any], *, keep: Any = None, apply: Any = map, **settings: Any) -> Standing:
    """Run rounds between sites, or callables that stand for one."""
    answers: dict[int, Answer] = {
        place + 1: one if callable(one) else answer(one) for place, one in enumerate(sites)
    }
    asked = FederatedSettings(**{"rounds": 4, "learning_rate": 3.0, **settings})
    return run_rounds(
        LocalGrid(answers, apply=apply),
        nothing_learnt(),
        settings=asked,
        before=("centre",),
        sites=len(sites),
        keep=keep,
    )


class Shelf(dict[str, Any]):
    """Keeps in memory."""

    def put(self, name: str, arrays: Mapping[str, Any], /) -> None:
        self[name] = {one: np.array(value) for one, value in arrays.items()}


def test_steps_over_all_patients_of_all_sites_are_those_of_one_place() -> None:
    """Of equal weights a case, which a site's mean over patients gives where each has as many."""
    once = CASES.select(np.unique(CASES.subject_ids, return_index=True)[1])
    sites = [
        LinearSite(f"site {place}", model_of("scattering"), once.select(rows), settings=PLAIN)
        for place, rows in enumerate(np.split(np.arange(len(once)), [10, 45]))
    ]
    standing = between(sites, rounds=6, averaged=True)
    together = result_of(standing, FederatedSettings(rounds=6, averaged=True))
    central = model_of("scattering")
    fit_private_linear(central, once, settings=replace(PLAIN, steps=6))
    for name in NAMES:
        expected = central.module.state_dict()[name].numpy()
        np.testing.assert_allclose(together[name], expected, atol=2e-5 * np.abs(expected).max())


def test_each_site_keeps_its_promise_and_no_noise_comes_twice() -> None:
    settings = LinearSettings(epsilon=8.0, steps=4, seed=5)
    site = linear(3, settings)[0]
    ledger = site.ledger(4)
    assert ledger is not None and 7.9 < ledger.epsilon <= 8.0
    assert ledger.epsilon == epsilon_spent(mechanisms_of(settings), 1e-5)
    weights = {**nothing_learnt(), **site.train(nothing_learnt(), Round(0, 1, 1.0))}
    plain = linear(3)[0].train(weights, Round(1, 1, 1.0))["last.weight"]
    noise = [
        (site.train(weights, Round(number, 1, 1.0))["last.weight"] - plain) * site.patients
        for number in (1, 2)
    ]
    assert not np.allclose(noise[0], noise[1])
    assert np.array_equal(
        site.train(weights, Round(2, 1, 1.0))["last.weight"],
        site.train(weights, Round(2, 1, 1.0))["last.weight"],
    )
    expected = mechanisms_of(settings)[1].noise_multiplier * settings.clip
    assert np.std(noise) == pytest.approx(expected, rel=0.1)
    secret = linear(3, replace(settings, seed=None))[0]
    first, second = (secret.train(weights, Round(1, 1, 1.0))["last.weight"] for _ in range(2))
    assert not np.allclose(first, second)
    assert linear(3)[0].ledger(4) is None


def test_sites_that_have_the_same_train_as_one() -> None:
    learner = CaseLearner(ClassifierRecipe("image", CLASSES, LOOP, 8), CASES)
    sites = [NetworkSite(name, learner, model_of("image", 1), loop=LOOP) for name in ("a", "b")]
    start = {name: value.numpy() for name, value in model_of("image").module.state_dict().items()}
    settings = FederatedSettings(rounds=2, learning_rate=3e-3, seed=4)
    grid = LocalGrid({place + 1: answer(one) for place, one in enumerate(sites)})
    standing = run_rounds(grid, start, settings=settings, sites=2)
    alone = dict(start)
    for number in (1, 2):
        alone = dict(sites[0].train(alone, Round(number, 1, 3e-3, 0.0, 4 + number)))
    for name, value in alone.items():
        np.testing.assert_allclose(standing.weights[name], value, atol=1e-6)
    assert not any(np.allclose(alone[name], start[name], atol=1e-6) for name in alone)


def test_private_networks_are_accounted_by_site() -> None:
    learner = CaseLearner(ClassifierRecipe("image", CLASSES, LOOP, 8), CASES)
    private = PrivateSettings(None, noise_multiplier=1.0, steps=2, expected_batch=30, seed=1)
    site = NetworkSite("a", learner, model_of("image"), loop=LOOP, private=private)
    start = {name: value.numpy() for name, value in model_of("image").module.state_dict().items()}
    first, again, second = (site.train(start, Round(number, 1, 1e-3)) for number in (1, 1, 2))
    name = next(iter(start))
    assert np.array_equal(first[name], again[name]) and not np.array_equal(first[name], second[name])
    ledger = site.ledger(3)
    assert ledger is not None and ledger.mechanisms[0].steps == 6
    assert ledger.epsilon == epsilon_spent([replace(ledger.mechanisms[0])], 1e-5)


def test_the_proximal_term_is_a_squared_distance() -> None:
    layer = nn.Linear(3, 2)
    inputs = torch.arange(12.0).reshape(4, 3)
    anchor = [weight.detach().clone() for weight in layer.parameters()]
    with near(layer, 0.7):
        for weight in layer.parameters():
            weight.data += 0.5
        layer(inputs).square().sum().backward()
    with_pull = [weight.grad.clone() for weight in layer.parameters() if weight.grad is not None]
    layer.zero_grad()
    squared = sum(
        (weight - one).square().sum() for weight, one in zip(layer.parameters(), anchor, strict=True)
    )
    (layer(inputs).square().sum() + 0.35 * squared).backward()
    for one, weight in zip(with_pull, layer.parameters(), strict=True):
        assert weight.grad is not None
        torch.testing.assert_close(one, weight.grad)


def test_a_strong_pull_keeps_sites_where_they_were() -> None:
    free, held = (between(linear(3), rounds=1, proximal=mu, epochs=5) for mu in (0.0, 0.3))
    assert np.linalg.norm(held.weights["last.weight"]) < 0.9 * np.linalg.norm(free.weights["last.weight"])


@pytest.mark.parametrize("more", [{}, {"server": "fedadam"}, {"averaged": True}])
def test_a_coordinator_that_starts_again_goes_on(more: dict[str, Any]) -> None:
    whole = between(linear(3), **more)
    shelf = Shelf()

    class Stopped(Exception):
        """The coordinator dies."""

    sites = linear(3)
    usual, seen = sites[2].train, []

    def dying(weights: Any, asked: Round) -> Any:
        seen.append(asked.number)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return usual(weights, asked)

    sites[2].train = dying  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        between(sites, keep=shelf, **more)
    again = between(sites, keep=shelf, **more)
    assert seen == [0, 1, 2, 3, 3, 4]
    assert again.number == whole.number == 4 and again.sizes == whole.sizes
    assert again.history == whole.history and again.pull == whole.pull
    for part in ("weights", "total", "optimiser"):
        one, other = getattr(again, part), getattr(whole, part)
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


def lying(site: Site, change: Callable[[dict[str, Any], dict[str, Any]], None], since: int = 1) -> Answer:
    """A site whose reply is changed on its way, from a round on."""
    honest = answer(site)

    def reply(message: Message) -> Message:
        said = honest(message)
        number = message.content.config_records["config"]["server-round"]
        arrays = {name: one.numpy() for name, one in said.content.array_records["arrays"].items()}
        rest: dict[str, Any] = {
            **said.content.metric_records["metrics"],
            **said.content.config_records["config"],
        }
        if number >= since:  # type: ignore[operator]
            change(arrays, rest)
        packed = {name: one if isinstance(one, Array) else Array(one) for name, one in arrays.items()}
        site_name = rest.pop("site")
        content = RecordDict(
            {
                "arrays": ArrayRecord(packed),
                "metrics": MetricRecord(rest),
                "config": ConfigRecord({"site": site_name}),
            }
        )
        return Message(content, reply_to=message)

    return reply


def header(shape: str, kind: str = "<f4", *, order: bool = False) -> bytes:
    """What numpy's format begins with, whatever follows."""
    text = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def as_bytes(data: bytes) -> Callable[[dict[str, Any], dict[str, Any]], Any]:
    """Send these as the tensor that was asked for."""
    return lambda arrays, rest: arrays.update(
        {"last.weight": Array("float32", arrays["last.weight"].shape, "numpy.ndarray", data)}
    )


LIES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], Any], str]] = {
    "NaN": (
        lambda arrays, rest: arrays.update({"last.weight": arrays["last.weight"] * np.nan}),
        "NaN or infinite",
    ),
    "another shape": (lambda arrays, rest: arrays.update({"last.weight": np.zeros((1, 1))}), "other tensors"),
    "another tensor": (lambda arrays, rest: arrays.update({"more": np.zeros(3)}), "other tensors"),
    "nothing": (lambda arrays, rest: arrays.clear(), "other tensors"),
    "text": (
        lambda arrays, rest: arrays.update({"last.weight": np.full(arrays["last.weight"].shape, "x")}),
        "cannot be read",
    ),
    "too much": (
        lambda arrays, rest: arrays.update(
            {"last.weight": Array("float64", arrays["last.weight"].shape, "numpy.ndarray", b"\0" * (1 << 20))}
        ),
        "more than its tensors hold",
    ),
    "broken bytes": (
        lambda arrays, rest: arrays.update(
            {"last.weight": Array("float64", arrays["last.weight"].shape, "numpy.ndarray", b"no")}
        ),
        "cannot be read",
    ),
    "another size": (lambda arrays, rest: rest.update({"num-examples": 10_000}), "another number of records"),
    "no size": (lambda arrays, rest: rest.update({"num-examples": -1}), "no hospital has"),
    "half a patient": (lambda arrays, rest: rest.update({"num-examples": 0.5}), "no hospital has"),
    "noise below nothing": (lambda arrays, rest: rest.update({"noise": -1.0}), "noise that nobody can add"),
    "noise without end": (lambda arrays, rest: rest.update({"noise": np.inf}), "noise that nobody can add"),
    "noise that is no number": (lambda arrays, rest: rest.update({"noise": np.nan}), "noise that nobody"),
    "no noise": (lambda arrays, rest: rest.pop("noise"), "cannot be read"),
    "another's name": (lambda arrays, rest: rest.update({"site": "site 1"}), "answered twice"),
    "empty bytes": (as_bytes(b""), "cannot be read"),
    "an archive": (as_bytes(b"PK\x03\x04" + b"0" * 40), "cannot be read"),
    "a header of terabytes": (as_bytes(header("(1099511627776,)")), "cannot be read"),
    "a pickle": (as_bytes(header("(2, 2026)", "|O")), "cannot be read"),
    "another order": (as_bytes(header("(2, 82)", order=True) + b"\0" * 4096), "cannot be read"),
    "no end": (as_bytes(header("((((" * 300)), "cannot be read"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_round_survives_a_site_that_sends_what_was_not_agreed(lie: str) -> None:
    change, sentence = LIES[lie]
    honest = linear(4)
    told: list[str] = []
    answers = {place + 1: answer(one) for place, one in enumerate(honest[:3])}
    answers[4] = lying(honest[3], change)
    standing = run_rounds(
        LocalGrid(answers),
        nothing_learnt(),
        settings=FederatedSettings(rounds=2, learning_rate=3.0),
        before=("centre",),
        sites=4,
        told=lambda number, sites, records, left_out: told.extend(left_out),
    )
    assert standing.number == 2 and len(told) == 2 and sentence in told[0]
    # What the three others give, from the centre of all four.
    weights: Any = between(list(honest), rounds=0).weights
    for number in (1, 2):
        sent = [one.train(weights, Round(number, 1, 3.0))["last.weight"] for one in honest[:3]]
        mean = np.average(sent, axis=0, weights=[one.records for one in honest[:3]])
        weights = {**weights, "last.weight": mean}
    np.testing.assert_allclose(standing.weights["last.weight"], mean, atol=1e-4)


def test_a_site_that_fails_is_back_in_the_next_round_and_too_few_stop_cleanly() -> None:
    sites = linear(3)
    usual = sites[0].train
    told: list[tuple[int, int]] = []

    def failing(weights: Any, asked: Round) -> Any:
        if asked.number == 2:
            raise ValueError("a record of somebody")
        return usual(weights, asked)

    sites[0].train = failing  # type: ignore[method-assign]
    answers = {place + 1: answer(one) for place, one in enumerate(sites)}
    sentences: list[str] = []

    def tell(number: int, sites: int, records: int, left_out: Any) -> None:
        told.append((number, sites))
        sentences.extend(left_out)

    settings = FederatedSettings(rounds=3, learning_rate=3.0)
    run_rounds(
        LocalGrid(answers), nothing_learnt(), settings=settings, before=("centre",), sites=3, told=tell
    )
    assert told == [(0, 3), (1, 3), (2, 2), (3, 3)]
    assert sentences == ["ValueError"], "what an error says may name a patient"
    broken: dict[int, Any] = {**answers, 2: answers[2], 3: lambda message: 1 / 0, 1: lambda message: 1 / 0}
    with pytest.raises(MachineError, match="answers of 1 sites"):
        run_rounds(LocalGrid(broken), nothing_learnt(), settings=settings, before=("centre",), sites=3)


def noisy(sites: int, seed: int = 0) -> list[LinearSite]:
    promised = [LinearSettings(8.0, steps=4, seed=10 * seed + place) for place in range(sites)]
    return [
        LinearSite(f"site {place}", model_of("scattering"), cases, settings=promised[place])
        for place, cases in enumerate(dealt(sites))
    ]


def test_noise_that_sites_say_is_the_noise_of_the_mean_gradient() -> None:
    strength = between(list(noisy(5)), rounds=0, adapted=True).strength
    means = []
    for seed in (1, 2):
        sites = noisy(5, seed)
        sent = [one.train(nothing_learnt(), Round(1, 1, 1.0))["last.weight"] for one in sites]
        means.append(np.average(sent, axis=0, weights=[one.records for one in sites]))
    # What two of them differ by is noise alone, twice.
    assert np.std(means[0] - means[1]) / 2**0.5 == pytest.approx(strength, rel=0.15)


def test_steps_suit_the_noise_that_sites_say_and_a_liar_moves_them_little() -> None:
    def rate_with(*lies: Callable[[dict[str, Any], dict[str, Any]], None], **more: Any) -> float:
        sites: list[Any] = list(noisy(5))
        sites[: len(lies)] = [lying(sites[place], one, since=0) for place, one in enumerate(lies)]
        settings = FederatedSettings(rounds=0, learning_rate=320.0, **{"adapted": True, **more})
        return rate_of(settings, between(sites, rounds=0))

    one = noisy(1)[0]
    honest = rate_with()
    assert honest == pytest.approx(0.25 * 90 / (one.noise * 5**0.5)) and honest < 32
    assert rate_with(adapted=False) == 320.0
    assert rate_with(lambda arrays, rest: rest.update({"noise": 0.0})) == honest
    assert rate_with(lambda arrays, rest: rest.update({"noise": 1e300})) == honest
    many = {"patients": 1 << 30, "num-examples": 1 << 30}
    # Its patients count as all others at most.
    assert honest < rate_with(lambda arrays, rest: rest.update(many)) < 2 * honest


def test_a_coordinator_that_dies_remembers_the_noise() -> None:
    shelf = Shelf()
    before = between(list(noisy(3)), rounds=1, adapted=True, learning_rate=320.0, keep=shelf)
    assert resumed(shelf, Standing(-1, {})).strength == before.strength > 0


def test_no_site_counts_for_more_than_all_others() -> None:
    def much(arrays: dict[str, Any], rest: dict[str, Any]) -> None:
        rest.update({"num-examples": 1 << 30})
        arrays.update({name: value + 1.0 for name, value in arrays.items()})

    sites: list[Any] = linear(4)
    honest = between(sites, rounds=0).weights["centre"]
    sites[3] = lying(sites[3], much, since=0)
    moved = between(sites, rounds=0).weights["centre"]
    assert 0.3 < float(np.mean(moved - honest)) <= 0.52


def test_a_site_that_turns_its_updates_round_is_accused_and_a_robust_rule_holds() -> None:
    sites: list[Any] = linear(7)

    def turned(arrays: dict[str, Any], rest: dict[str, Any]) -> None:
        arrays["last.weight"] = -20 * arrays["last.weight"]

    straight = between(sites, rounds=8)
    assert not accused(straight.history)
    sites[2] = lying(sites[2], turned)
    standing = between(sites, rounds=8, rule="median")
    assert [one.site for one in accused(standing.history)] == ["site 2"]
    first, second = (one.weights["last.weight"].ravel() for one in (straight, standing))
    assert np.corrcoef(first, second)[0, 1] > 0.9


def test_noise_for_each_site_is_counted_and_needs_a_bound() -> None:
    settings = FederatedSettings(rounds=5, bound=0.1, site_noise=2.0)
    ledger, longer = (site_ledger(settings, 15, before=before) for before in (False, True))
    assert ledger is not None and ledger.mechanisms[0].of == "updates" and ledger.unit == "site"
    assert ledger.epsilon == epsilon_spent(ledger.mechanisms, 1e-5)
    assert longer is not None and longer.mechanisms[0].steps == 6 and longer.epsilon > ledger.epsilon
    with pytest.raises(InputError, match="--clip-updates"):
        FederatedSettings(site_noise=1.0)
    # Secret noise cannot be seeded: so many draws that the bounds are eight deviations wide.
    sites: list[Any] = linear(3)
    drawn = [between(sites, rounds=1, bound=1e-3, site_noise=2.0).weights for _ in range(40)]
    spread = {name: np.std([one[name] for one in drawn], axis=0, ddof=1).mean() for name in NAMES}
    assert spread["last.weight"] == pytest.approx(2e-3 / 3, rel=0.1)
    # What is agreed on before training is paid for, so it is noised too: by its own bound of 1.
    assert spread["centre"] == pytest.approx(2 / 3, rel=0.1)


def test_several_at_a_time_give_the_same() -> None:
    one = between(linear(3))
    with ThreadPoolExecutor(3) as pool:
        two = between(linear(3), apply=pool.map)
    assert np.array_equal(one.weights["last.weight"], two.weights["last.weight"])
    # Other processes are sent sites and messages, and send messages back.
    for what in (answer(linear(3)[0]), Message(RecordDict(), dst_node_id=1, message_type="train")):
        assert type(pickle.loads(pickle.dumps(what))) is type(what)


def test_it_is_seen_which_way_sites_pull() -> None:
    sites: list[Any] = linear(4)

    def turned(arrays: dict[str, Any], rest: dict[str, Any]) -> None:
        arrays["last.weight"] = -arrays["last.weight"]

    sites[3] = lying(sites[3], turned)
    standing = between(sites, rounds=3, rule="median")
    assert {site: len(each) for site, each in standing.agreement.items()} == {
        f"site {one}": 3 for one in range(4)
    }
    assert standing.agreement["site 3"][0] < 0 < min(standing.agreement[f"site {one}"][0] for one in range(3))


@pytest.mark.parametrize("bound", [None, 0.5])
def test_what_each_site_pulled_adds_up_to_the_step(bound: float | None) -> None:
    sites: list[Any] = linear(3)
    sent: dict[tuple[int, int], Any] = {}
    for place, site in enumerate(sites):

        def train(weights: Any, asked: Round, usual: Any = site.train, place: int = place) -> Any:
            arrays = usual(weights, asked)
            if asked.number:
                moved = (arrays["last.weight"] - weights["last.weight"]).ravel().astype(float)
                sent[place, asked.number] = moved * min(1.0, (bound or np.inf) / np.linalg.norm(moved))
            return arrays

        site.train = train
    standing = between(sites, rounds=3, bound=bound)
    weights = [site.records / sum(one.records for one in sites) for site in sites]
    for number in (1, 2, 3):
        step = sum(weights[place] * sent[place, number] for place in range(3))
        pulls = [standing.pull[f"site {place}"][number - 1] for place in range(3)]
        expected = [weights[place] * np.dot(sent[place, number], step) for place in range(3)]
        np.testing.assert_allclose(pulls, expected, rtol=1e-4)
        assert sum(pulls) == pytest.approx(np.dot(step, step), rel=1e-4)
    assert between(linear(3), rounds=1, rule="median").pull == {}
    assert between(linear(3), rounds=1, bound=1.0, site_noise=0.1).pull == {}


def test_flowers_own_loop_runs_on_the_grid() -> None:
    """What Flower's FedAvg makes of honest sites is what the rounds make of them."""
    sites = linear(3)
    start: Any = between(list(sites), rounds=0).weights
    grid = LocalGrid({place + 1: answer(one) for place, one in enumerate(sites)})
    config = ConfigRecord({"number": 1, "epochs": 1, "learning_rate": 3.0, "proximal": 0.0, "seed": 0})
    messages = FedAvg(fraction_evaluate=0.0, weighted_by_key="num-examples").configure_train(
        1, ArrayRecord({name: Array(value) for name, value in start.items()}), config, grid
    )
    names = list(grid.push_messages(messages))
    replies = [one.content for one in grid.pull_messages(names)]
    assert len(replies) == 3 and not list(grid.pull_messages(names))
    found = aggregate_arrayrecords(replies, "num-examples")["last.weight"].numpy()
    records = np.array([one.records for one in sites], float)
    each = [one.train(start, Round(1, 1, 3.0))["last.weight"] for one in sites]
    np.testing.assert_allclose(found, np.average(each, axis=0, weights=records), atol=1e-5)
    asked = grid.create_message(RecordDict(), "train", 2, "7")
    assert (asked.metadata.dst_node_id, asked.metadata.group_id) == (2, "7") and grid.run.run_id == 0
