import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from primum.errors import InputError
from primum.evidence.energy import energy_distance, energy_p_values, pair_distances, relabelled
from primum.evidence.measured import BoolArray, FloatArray


def models(
    patients: int, count: int, *, seed: int, values: int = 1, shift: float = 0.0, changed: int = 0
) -> tuple[FloatArray, BoolArray]:
    """What models say of each patient; of the first `changed` those that had them say something else."""
    rng = np.random.default_rng(seed)
    had = rng.random((patients, count)).argsort(axis=1) < count // 2
    answers = rng.standard_normal((patients, count, values)) ** 3
    answers[:changed] += shift * had[:changed, :, None]
    return answers, had


def test_distance_agrees_with_the_definition_and_with_cramer() -> None:
    answers, had = models(5, 12, seed=0, values=3)
    ours = energy_distance(pair_distances(answers), had)
    for row, (one, inside) in enumerate(zip(answers, had, strict=True)):
        x, y = one[inside], one[~inside]
        expected = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
        assert ours[row] == pytest.approx(expected)
    line, had = models(5, 9, seed=1)
    ours = energy_distance(pair_distances(line), had)
    for row, (one, inside) in enumerate(zip(line[:, :, 0], had, strict=True)):
        assert ours[row] == pytest.approx(stats.energy_distance(one[inside], one[~inside]) ** 2)


def test_p_values_agree_with_every_relabelling() -> None:
    answers, had = models(20, 8, seed=2, shift=3.0, changed=10)
    distances = pair_distances(answers)
    p_values = energy_p_values(distances, had, seed=3)
    labels = np.array([[b == "1" for b in f"{n:08b}"] for n in range(256) if n.bit_count() == 4])
    for row in range(20):
        every = energy_distance(np.repeat(distances[[row]], len(labels), axis=0), labels)
        seen = energy_distance(distances[[row]], had[[row]])
        exact = (every >= seen - 1e-9).mean()
        # ten extreme relabellings settle p to about a third
        assert exact / 2.6 < p_values[row] < exact * 2.6


def test_p_values_are_uniform_when_nothing_was_learnt() -> None:
    small = []
    for seed in range(200):
        answers, had = models(40, 16, seed=seed, values=2)
        p_values = energy_p_values(pair_distances(answers), had, seed=seed, most=999)
        small.append([(p_values <= level).mean() for level in (0.01, 0.05, 0.5)])
    # patients of one run share their relabellings, so that runs are what counts
    error = np.std(small, axis=0) / 200**0.5
    assert (abs(np.mean(small, axis=0) - [0.01, 0.05, 0.5]) < 3.5 * error).all()


def test_names_those_changed_and_nobody_by_random_labels() -> None:
    answers, had = models(200, 32, seed=4, shift=8.0, changed=20)
    distances = pair_distances(answers)
    found = stats.false_discovery_control(energy_p_values(distances, had)) <= 0.05
    assert found[:20].sum() >= 18
    assert found[20:].sum() <= 3
    control = relabelled(had, seed=1)
    assert (control.sum(axis=1) == had.sum(axis=1)).all()
    assert (control != had).any()
    assert not (stats.false_discovery_control(energy_p_values(distances, control)) <= 0.05).any()


def test_spread_alone_is_found() -> None:
    answers, had = models(30, 64, seed=5)
    answers[had] *= 6
    assert np.median(energy_p_values(pair_distances(answers), had, most=999)) < 0.05


def test_models_that_all_agree_say_nothing() -> None:
    _, had = models(3, 10, seed=6)
    assert (energy_p_values(pair_distances(np.ones((3, 10, 2))), had) == 1).all()


def test_refusals() -> None:
    answers, had = models(2, 6, seed=7)
    with pytest.raises(InputError, match="finite answer"):
        energy_p_values(pair_distances(np.where(answers == answers[0, 0], np.nan, answers)), had)
    with pytest.raises(InputError, match="had not"):
        energy_p_values(pair_distances(answers), np.ones_like(had))
