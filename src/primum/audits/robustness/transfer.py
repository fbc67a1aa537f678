"""Attacks by proxy: an attacker trains a model of their own, attacks that, and tries the result on yours.

No gradient of the audited model is needed, and one question a case. The surrogate learns from other patients
than those who are attacked.

References
----------
Papernot, McDaniel & Goodfellow, Transferability in machine learning, arXiv:1605.07277, 2016.
"""

from dataclasses import replace

from primum.audits.privacy.label_only import Kind
from primum.audits.robustness.gradient import apgd
from primum.audits.robustness.room import Attacked, Norm, Room, WhiteBox, ask
from primum.fit.protocol import ClassifierTrainable
from primum.models.predictors import Predictor
from primum.records.cases import Cases

EPOCHS, BATCH, RATE = 20, 32, 3e-3


def train_surrogate(
    cases: Cases,
    classes: tuple[str, ...],
    *,
    kind: Kind,
    recipe: ClassifierTrainable | None = None,
    seed: int,
) -> Predictor:
    """Train a small network of the usual form for this kind of case, twenty times through the cases.

    Parameters
    ----------
    cases : Cases
        Of patients on whom nothing is then tried.
    classes : tuple of str
    kind : {"image", "volume", "signal", "table", "bag", "sequence"}
    recipe : ClassifierTrainable or None
        Trained in place of it.
    seed : int
    """
    if recipe is None:
        from primum.fit.classifier_recipe import ClassifierRecipe
        from primum.fit.loop import LoopSettings

        recipe = ClassifierRecipe(
            kind, classes, LoopSettings(EPOCHS, batch=BATCH, learning_rate=RATE, warmup=0.15)
        )
    return recipe.fit(cases, validation=None, max_steps=None, seed=seed)


def transfer(
    predictor: Predictor,
    surrogate: WhiteBox,
    cases: Cases,
    room: Room,
    *,
    budget: float,
    norm: Norm = "linf",
    steps: int = 20,
    seed: int,
    keep: bool = False,
) -> Attacked:
    """Attack the surrogate with :func:`primum.audits.robustness.gradient.apgd`, and ask the model once.

    Parameters
    ----------
    predictor : Predictor
    surrogate : Predictor and Differentiable
        Trained on others than `cases`.
    cases : Cases
    room : Room
    budget : float
        In parts of the range.
    norm : {"linf", "l2"}
    steps : int
        Gradients of the surrogate.
    seed : int
    keep : bool
        Return the changed inputs.
    """
    found = apgd(surrogate, cases, room, budget=budget, norm=norm, steps=steps, seed=seed, keep=True)
    assert found.inputs is not None
    return ask(predictor, replace(cases, inputs=found.inputs), keep=keep)
