"""What a network learns from: changed images, as far and where they may be changed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from primum.errors import InputError
from primum.fit.classifier_recipe import ClassifierRecipe
from primum.fit.loop import LoopSettings
from primum.records.synthetic_cases import synthetic_images, synthetic_table
from primum.train.adversarial import AdversarialObjective, AdversarialSettings
from primum.train.learners import CaseLearner

IMAGES = torch.rand(6, 1, 12, 12, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 0, 1, 1, 0])


class Watched(nn.Module):
    """A linear classifier that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.last = nn.Linear(144, 2)
        self.asked: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.asked.append(inputs.detach().clone())
        answers: Tensor = self.last(inputs.flatten(1))
        return answers


def asked(settings: AdversarialSettings, progress: float = 1.0) -> tuple[Watched, Tensor, Tensor]:
    """What the network was shown last, and the loss."""
    module = Watched()
    objective = AdversarialObjective(settings, low=0.0, high=1.0)
    torch.manual_seed(2)
    loss = objective(module, IMAGES, LABELS, progress=progress)
    return module, module.asked[-1], loss.detach()


@pytest.mark.parametrize("method", ["pgd", "trades"])
def test_of_a_linear_network_the_worst_change_is_found(method: Any) -> None:
    settings = AdversarialSettings(method, 0.1, 10)
    module, changed, loss = asked(settings)
    slope = (module.last.weight[1] - module.last.weight[0]).reshape(1, 12, 12).sign()
    # The verdict is moved away from: of pgd that of the label, of trades in either direction.
    away = torch.where(LABELS == 1, -1.0, 1.0).reshape(-1, 1, 1, 1) * slope
    ends = [(IMAGES + 0.1 * side * away).clamp(0, 1) for side in (1, -1)]
    far = torch.stack([(changed - end).abs().amax((1, 2, 3)) for end in ends])
    reached = far[0] if method == "pgd" else far.amin(0)
    assert float(reached.detach().max()) < 0.03 and float((changed - IMAGES).abs().max()) <= 0.1 + 1e-6
    assert float(changed.min()) >= 0 and float(changed.max()) <= 1
    plain = functional.cross_entropy(module.last(IMAGES.flatten(1)), LABELS, reduction="sum")
    of_changed = functional.cross_entropy(module.last(changed.flatten(1)), LABELS, reduction="sum")
    if method == "pgd":
        torch.testing.assert_close(loss, of_changed.detach())
        assert float(of_changed.detach()) > float(plain.detach())
    else:
        clean, other = (torch.softmax(module.last(one.flatten(1)), 1) for one in (IMAGES, changed))
        divergence = (clean * (clean / other).log()).sum()
        torch.testing.assert_close(loss, (plain + 6 * divergence).detach())


def test_a_patch_is_one_square_that_climbs() -> None:
    settings = AdversarialSettings("patch", steps=6, weight=0.25, patch=3)
    module, changed, loss = asked(settings)
    for before, after in zip(IMAGES, changed, strict=True):
        rows, columns = torch.nonzero((before != after)[0], as_tuple=True)
        assert rows.max() - rows.min() < 3 and columns.max() - columns.min() < 3 and len(rows) >= 8
    plain, of_changed = (
        functional.cross_entropy(module.last(one.flatten(1)), LABELS, reduction="sum")
        for one in (IMAGES, changed)
    )
    assert float(of_changed.detach()) > float(plain.detach())
    torch.testing.assert_close(loss, (0.75 * plain + 0.25 * of_changed).detach())


def test_the_change_grows_to_its_full_size() -> None:
    settings = AdversarialSettings("pgd", 0.1, 10, warmup=0.5)
    far = [float((asked(settings, progress)[1] - IMAGES).abs().max()) for progress in (0.1, 0.25, 0.5, 1.0)]
    assert far == pytest.approx([0.02, 0.05, 0.1, 0.1], abs=1e-5)


def test_training_against_changes_survives_more_of_them() -> None:
    cases = synthetic_images(50, seed=3)
    recipe = ClassifierRecipe("image", ("a", "b"), LoopSettings(6, batch=16, learning_rate=3e-3), 8)
    plain = CaseLearner(recipe, cases)
    hardened = plain.against(AdversarialSettings("pgd", 16 / 255, 4))
    left = []
    for learner in (plain, hardened):
        model = learner.build(learner.patients, seed=0)
        torch.manual_seed(0)
        learner.fit(model, learner.patients, epochs=6, seed=0)
        _, slope = model.loss_and_gradient(cases, cases.labels)
        moved = np.clip(np.asarray(cases.inputs, np.float64) + 16 * np.sign(slope), 0, 255)
        stepped = replace(cases, inputs=np.rint(moved).astype(np.uint8))
        answers = model.predict_proba(stepped)
        left.append(float((answers.argmax(1) == cases.labels).mean()))
    assert left[1] > left[0] + 0.1


def test_refusals() -> None:
    for wrong in ({"budget": 0.0}, {"budget": 2.0}, {"budget": float("nan")}, {"weight": 0.0}):
        with pytest.raises(InputError, match="above"):
            AdversarialSettings(**wrong)  # type: ignore[arg-type]
    recipe = ClassifierRecipe("table", ("a", "b"), LoopSettings(1), 8)
    with pytest.raises(InputError, match="images of one size"):
        CaseLearner(recipe, synthetic_table(4, seed=1)).against(AdversarialSettings())
    recipe = replace(recipe, network="image")
    with pytest.raises(InputError, match="patch of 29 pixels is larger"):
        CaseLearner(recipe, synthetic_images(4, seed=1)).against(AdversarialSettings("patch", patch=29))
