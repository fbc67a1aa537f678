from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from tests import tiny

from primum.errors import InputError
from primum.fit.loop import inputs_and_targets, loss_of
from primum.models.causal import CausalModel, padded
from primum.records.ragged import IntArray
from primum.records.tokens import TokenBatch
from primum.train import private_records
from primum.train.accounting import PrivacyLedger, epsilon_spent
from primum.train.private import PrivateSettings
from primum.train.private_records import WindowGradients, fit_private, one_window_each

VOCABULARY = 20
# Histories of one token predict nothing: what then moves the weights is noise alone.
NOBODY = [1] * 12


@pytest.fixture(autouse=True)
def plain_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradient descent of rate 1 instead of Adam: how far weights move is what the optimiser was given."""
    monkeypatch.setattr("torch.optim.Adam", lambda parameters, lr: torch.optim.SGD(parameters, lr=1.0))


def weights(model: CausalModel) -> torch.Tensor:
    return torch.cat([one.detach().flatten().clone() for one in model.module.parameters()]).double()


def moved(model: CausalModel, train: TokenBatch, **settings: Any) -> tuple[torch.Tensor, PrivacyLedger]:
    """Train in place; how far each weight went."""
    before = weights(model)
    wanted = {"epsilon": 4.0, "steps": 1, "expected_batch": len(train), "seed": 7, **settings}
    ledger = fit_private(model, train, settings=PrivateSettings(**wanted))
    return weights(model) - before, ledger


def gradient_of_one(model: CausalModel, train: TokenBatch, patient: int) -> list[torch.Tensor]:
    """The slow way: one patient, one backward pass."""
    chosen = np.array([patient])
    ids = padded(train, chosen, np.zeros(1, np.int64), train.lengths[chosen])
    loss = loss_of(model.module, *inputs_and_targets(ids, train.lengths[chosen])).sum()
    return list(torch.autograd.grad(loss, list(model.module.parameters())))


@pytest.mark.parametrize("tokens_a_pass", [1, 1 << 20])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_gradients_of_each_patient_equal_the_loop(
    architecture: str, tokens_a_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_records, "_TOKENS_A_PASS", tokens_a_pass)
    model = tiny.build(architecture, vocabulary=VOCABULARY)
    train = tiny.random_batch([9, 2, 16, 5], vocabulary=VOCABULARY)
    expected = [gradient_of_one(model, train, patient) for patient in range(4)]
    wrapped = GradSampleModule(model.module, loss_reduction="sum")
    gradients = WindowGradients(wrapped, model.context, train)
    for _ in gradients(np.arange(4), np.random.default_rng(0)):
        pass
    longest_first = np.argsort(-train.lengths)
    for number, parameter in enumerate(wrapped.parameters()):
        several = isinstance(parameter.grad_sample, list)
        found = torch.cat(parameter.grad_sample) if several else parameter.grad_sample
        assert found.shape == (4, *parameter.shape)
        for place, patient in enumerate(longest_first):
            torch.testing.assert_close(found[place], expected[patient][number], atol=2e-6, rtol=1e-4)


def test_a_patient_of_many_windows_gives_one_window_and_not_always_the_same() -> None:
    train = tiny.random_batch([100, 3], vocabulary=VOCABULARY)
    rng, starts = np.random.default_rng(0), set()
    for _ in range(40):
        patients, start, length = one_window_each(train, np.array([0, 1]), 16, rng)
        assert patients.tolist() == [0, 1]
        assert start[1] == 0
        assert length[0] <= 16
        starts.add(int(start[0]))
    assert starts == set(range(0, 99, 15))


@pytest.mark.parametrize(("scale", "clip", "binds"), [(1e4, 0.7, True), (1.0, 50.0, False)])
def test_one_patient_moves_the_sum_by_at_most_the_clip(scale: float, clip: float, binds: bool) -> None:
    steps = []
    for first in (12, 1):  # the same cohort, its first patient present or without a token to learn from
        model = tiny.build(vocabulary=VOCABULARY)
        with torch.no_grad():
            model.module.get_parameter("lm_head.weight").mul_(scale)
        train = tiny.random_batch([12, 5, 9, 7], vocabulary=VOCABULARY)
        ids = train.token_ids[12 - first :]
        offsets = np.append(0, train.offsets[1:] - (12 - first))
        kinds, index = train.kinds[12 - first :], train.event_index[12 - first :]
        cohort = TokenBatch(train.subject_ids, offsets, ids, kinds, index, VOCABULARY)
        steps.append(moved(model, cohort, clip=clip)[0])
    contribution = float(torch.linalg.vector_norm(steps[0] - steps[1])) * 4
    assert contribution <= clip * (1 + 1e-3)
    assert (contribution > clip * 0.99) == binds


@pytest.mark.parametrize("clip", [0.5, 2.0])
def test_noise_has_the_deviation_that_the_accountant_counts_on(clip: float) -> None:
    change, ledger = moved(
        tiny.build(vocabulary=VOCABULARY), tiny.random_batch(NOBODY, vocabulary=VOCABULARY), clip=clip
    )
    expected = ledger.mechanisms[0].noise_multiplier * clip / len(NOBODY)
    assert len(change) > 2000
    assert float(change.std()) == pytest.approx(expected, rel=0.08)  # five standard errors
    assert abs(float(change.mean())) < 5 * expected / len(change) ** 0.5


def test_patients_are_drawn_by_independent_coins(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[IntArray] = []
    usual = private_records.one_window_each

    def record(train: TokenBatch, sampled: IntArray, context: int, rng: np.random.Generator) -> Any:
        drawn.append(sampled)
        return usual(train, sampled, context, rng)

    monkeypatch.setattr(private_records, "one_window_each", record)
    model = tiny.build(vocabulary=VOCABULARY)
    moved(model, tiny.random_batch([1] * 200, vocabulary=VOCABULARY), steps=100, expected_batch=20)
    sizes = np.array([len(sampled) for sampled in drawn])
    assert len(sizes) == 100
    assert abs(sizes.mean() - 20) < 4 * (200 * 0.1 * 0.9 / 100) ** 0.5
    assert 3 < sizes.std() < 5.5  # a binomial's is 4.24, that of batches of one size is 0
    held = np.bincount(np.concatenate(drawn), minlength=200)
    assert 2 < held.std() < 4  # a binomial's is 3; passes over a shuffled cohort would give 0


def test_the_promise_is_kept_and_nearly_used_up() -> None:
    train = tiny.random_batch(NOBODY, vocabulary=VOCABULARY)
    _, ledger = moved(tiny.build(vocabulary=VOCABULARY), train, epsilon=3.0, steps=6, expected_batch=4)
    assert 2.9 < ledger.epsilon <= 3.0
    assert (ledger.steps, ledger.patients, ledger.delta) == (6, len(NOBODY), 1e-5)
    assert ledger.mechanisms[0].sampling_rate == pytest.approx(1 / 3)
    assert ledger.epsilon == epsilon_spent(ledger.mechanisms, 1e-5)


def test_stopping_early_spends_less_and_keeps_the_best_checkpoint() -> None:
    model = tiny.build(vocabulary=VOCABULARY)
    train = tiny.random_batch(NOBODY, vocabulary=VOCABULARY)
    validation = tiny.random_batch([16] * 4, vocabulary=VOCABULARY, seed=3)
    losses, heard = [], []

    def listen(taken: int, steps: int) -> None:
        heard.append((taken, steps))
        if taken % 5 == 0:
            losses.append(loss(model, validation))

    def loss(model: CausalModel, tokens: TokenBatch) -> float:
        return -float(np.concatenate(model.log_probs(tokens)).mean())

    settings = PrivateSettings(epsilon=4, steps=60, expected_batch=6, seed=2)
    ledger = fit_private(model, train, settings=settings, validation=validation, progress=listen)
    assert ledger.steps < 60
    assert heard == [(step + 1, 60) for step in range(ledger.steps)]
    assert ledger.epsilon == epsilon_spent(ledger.mechanisms, 1e-5)
    assert ledger.epsilon < 4
    assert losses[-1] > min(losses)
    assert loss(model, validation) == pytest.approx(min(losses), abs=1e-6)


def test_a_seed_repeats_a_run_and_its_absence_does_not() -> None:
    train = tiny.random_batch(NOBODY, vocabulary=VOCABULARY)
    runs = {
        seed: [moved(tiny.build(vocabulary=VOCABULARY), train, seed=seed) for _ in range(2)]
        for seed in (7, None)
    }
    assert torch.equal(runs[7][0][0], runs[7][1][0])
    assert not torch.equal(runs[None][0][0], runs[None][1][0])
    assert [runs[seed][0][1].randomness_is_secret for seed in (7, None)] == [False, True]


def test_a_private_model_is_a_plain_one_again(tmp_path: Path) -> None:
    model = tiny.build(vocabulary=VOCABULARY)
    moved(model, tiny.random_batch([5] * 12, vocabulary=VOCABULARY))
    assert not isinstance(model.module, GradSampleModule)
    assert not any(hasattr(parameter, "grad_sample") for parameter in model.module.parameters())
    assert len(model.log_probs(tiny.random_batch([4], vocabulary=VOCABULARY))[0]) == 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"expected_batch": 13}, "13 patients a step but there are 12: lower the batch"),
        ({"epsilon": 0.0}, "above zero, not 0.0"),
        ({"epsilon": -1.0}, "above zero, not -1.0"),
        ({"epsilon": float("nan")}, "above zero, not nan"),
        ({"delta": 0.0}, "between zero and one, not 0.0"),
    ],
)
def test_refusals(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        moved(tiny.build(vocabulary=VOCABULARY), tiny.random_batch(NOBODY, vocabulary=VOCABULARY), **settings)
    assert sentence in str(caught.value)
