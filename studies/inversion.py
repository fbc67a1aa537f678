"""Attributes, inversion and structure: the null of each, and what models that learnt by heart give away.

Five frozen models of each kind (networks of 1,178 parameters or fewer; forests of ten trees), each with
forty disjoint fresh draws of 60 patients a side, of whom nobody trained it. Beside inversion as built stands
the way to be wrong: to ask whether the completed halves of members are like the true ones (cosine of
thumbnails above 0), without held-out patients beside them. Then networks that learnt by heart: images of 12
by 12 and rows of a table, with classes drawn by lot.
"""

import importlib

import numpy as np
import torch
from scipy.stats import ttest_1samp
from sklearn.ensemble import RandomForestClassifier

from primum.audits.privacy.attribute import infer_from_outputs, infer_inputs
from primum.audits.privacy.case_subjects import CaseSubjects
from primum.audits.privacy.inversion import Scale, draw, invert, thumbnails
from primum.audits.privacy.structure import read_structure
from primum.evidence.guesses import auroc_difference, auroc_difference_p_value, auroc_of
from primum.evidence.identity import ModelRef
from primum.evidence.measured import BoolArray, Measured
from primum.evidence.shares import share_difference, share_p_value
from primum.models.classifier_card import Card, InputCard
from primum.models.opened import OpenedClassifier
from primum.models.predictors import Differentiable
from primum.models.sklearn_door import sklearn_predictor
from primum.models.torch_door import TorchClassifier
from primum.records.case_files.table import Feature
from primum.records.cases import Cases
from primum.records.synthetic_cases.images import ImageSettings, synthetic_images
from primum.records.synthetic_cases.people import split_patients
from studies.tables import Table, write_page
from studies.world import in_parallel

MODELS, DRAWS, SIDE, TRAINED, PIXELS = 5, 40, 60, 120, 12
# The 99.9 % point of a binomial with 200 runs at 5 %.
MOST = 21
FLAG = Feature("smoker", "boolean", 0)
CLASSES = ("no", "yes")
MISTAKE = "members' drawings are like them"


def images(patients: int, *, seed: int) -> Cases:
    """Draw images of 12 by 12, one a patient."""
    drawn = synthetic_images(patients, seed=seed, settings=ImageSettings(size=PIXELS))
    return drawn.select(np.unique(drawn.subject_ids, return_index=True)[1])


def table(patients: int, *, seed: int) -> Cases:
    """Draw rows of twelve columns: an attribute, one that goes with it, two that make the class with it."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((patients, 12))
    rows[:, 0] = rng.random(patients) < 0.4
    rows[:, 1] += rows[:, 0]
    labels = (rows[:, 0] + rows[:, 2] + rows[:, 3] + rng.standard_normal(patients) > 0.4).astype(np.int64)
    return Cases(np.arange(patients), np.arange(patients), rows, labels)


def by_lot(cases: Cases, *, seed: int) -> Cases:
    """Give classes that can be learnt by heart alone."""
    labels = np.random.default_rng(seed).integers(2, size=len(cases))
    return Cases(cases.case_ids, cases.subject_ids, cases.inputs, labels, cases.attributes)


def network(cases: Cases, *, width: int, epochs: int, seed: int) -> TorchClassifier:
    """Train two linear layers on all cases at once."""
    inputs = np.asarray(cases.inputs)
    torch.manual_seed(seed)
    module = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(inputs[0].size, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, 2),
    )
    card = Card(CLASSES, "logits", InputCard(kind="image" if inputs.ndim == 4 else "table"))
    given, wanted = torch.from_numpy(card.input.prepared(inputs)), torch.from_numpy(cases.labels)
    optimiser = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(epochs):
        optimiser.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(module(given), wanted))
        optimiser.step()
    return TorchClassifier(module, CLASSES, card)


def subjects_of(cases: Cases, *, members: int, seed: int) -> CaseSubjects:
    """Take the first as members."""
    places = np.arange(len(cases))
    return CaseSubjects(places, places < members, cases, places, seed)


def judged(measured: Measured, is_member: BoolArray) -> dict[str, tuple[float, ...]]:
    """Return difference and p-value of each test, and what each side gives."""
    found: dict[str, tuple[float, ...]] = {}
    for test, scores in measured.scores.items():
        sides = scores[is_member], scores[~is_member]
        means = (float(one.mean()) for one in sides)
        found[test] = share_difference(*sides).value, share_p_value(*sides), *means
    for test, guesses in measured.guesses.items():
        four = guesses.sides(is_member)
        each = auroc_of(four[0][:, 0], four[1][:, 0]), auroc_of(four[2][:, 0], four[3][:, 0])
        found[test] = auroc_difference(*four).value, auroc_difference_p_value(*four), *each
    return found


def forest(cases: Cases, *, seed: int) -> OpenedClassifier:
    """Train ten trees."""
    model = RandomForestClassifier(10, min_samples_leaf=3, random_state=seed)
    model.fit(cases.inputs, cases.labels)
    predictor = sklearn_predictor(model, Card(CLASSES))
    return OpenedClassifier(ModelRef("forest", "0" * 64, "computed", {}), predictor, 0, model)


def alone(model: TorchClassifier, subjects: CaseSubjects) -> tuple[float, float]:
    """Return how alike members' completed halves are to the true ones, and the p-value of no likeness."""
    cases = subjects.first()
    scale = Scale.of(np.asarray(cases.inputs))
    truth = scale.standard(np.asarray(cases.inputs))
    hidden = np.broadcast_to(np.arange(PIXELS) >= PIXELS // 2, truth.shape[1:])
    assert isinstance(model, Differentiable)
    drawn = draw(model, cases, scale, start=np.where(hidden, 0.0, truth), hidden=hidden)
    halves = (thumbnails(one[..., PIXELS // 2 :]) for one in (drawn, truth))
    likeness = np.multiply(*halves).sum(axis=1)[subjects.is_member]
    return float(likeness.mean()), float(ttest_1samp(likeness, 0, alternative="greater").pvalue)


def null(number: int) -> list[dict[str, tuple[float, ...]]]:
    """Train one model of each kind and audit this number's draws."""
    sizes = {"train": TRAINED} | {str(draw): 2 * SIDE for draw in range(DRAWS)}
    pictures = split_patients(images(sum(sizes.values()), seed=number), sizes)
    net = network(pictures["train"], width=8, epochs=150, seed=number)
    rows = table(TRAINED, seed=1000 * number)
    plain, trees = network(rows, width=15, epochs=150, seed=number), forest(rows, seed=number)
    seen = []
    for which in range(DRAWS):
        subjects = subjects_of(pictures[str(which)], members=SIDE, seed=which)
        people = subjects_of(table(2 * SIDE, seed=1000 * number + which + 1), members=SIDE, seed=which)
        side = subjects.is_member
        found = judged(invert(net, subjects), side) | judged(infer_from_outputs(net, subjects), side)
        found |= judged(infer_inputs(plain, people, [FLAG]), side)
        found |= judged(read_structure(trees, people), side)
        found[MISTAKE] = alone(net, subjects)
        seen.append(found)
    return seen


def by_heart(job: tuple[int, int]) -> dict[str, tuple[float, ...]]:
    """Audit models of `job[0]` patients after `job[1]` epochs, with twice as many held-out patients."""
    count, epochs = job
    first, is_member = np.arange(count), np.arange(3 * count) < count
    pictures = by_lot(images(3 * count, seed=77), seed=1)
    net = network(pictures.select(first), width=32, epochs=epochs, seed=0)
    found = judged(invert(net, subjects_of(pictures, members=count, seed=0)), is_member)
    rows = by_lot(table(3 * count, seed=78), seed=2)
    plain = network(rows.select(first), width=64, epochs=epochs, seed=0)
    people = subjects_of(rows, members=count, seed=0)
    return found | judged(infer_inputs(plain, people, [FLAG]), is_member)


def main() -> None:
    """Run, print and write the tables."""
    runs = [seen for chunk in in_parallel(null, list(range(MODELS))) for seen in chunk]
    figures = "Mean", "± standard error", "Deviation", "p < .05"
    table_of_nulls = Table("Test, as built", "Runs", *figures, "Allowed", "Holds")
    mistake = Table("Mistake in inversion.instance", "Runs", *figures)
    for name in runs[0]:
        values, p_values = np.array([run[name][:2] for run in runs]).T
        mean, deviation = float(values.mean()), float(values.std(ddof=1))
        error, alarms = deviation / len(values) ** 0.5, int((p_values < 0.05).sum())
        row = name, len(values), mean, error, deviation, alarms
        if name == MISTAKE:
            mistake.add(*row)
        else:
            table_of_nulls.add(*row, MOST, abs(mean) <= 3 * error and alarms <= MOST)
    leaks = Table("Patients", "Epochs", "Test", "Members", "Held-out", "Difference", "p")
    jobs = [(count, epochs) for count in (50, 100, 200, 400) for epochs in (20, 100, 400)]
    for job, found in zip(jobs, in_parallel(by_heart, jobs), strict=True):
        for name, (difference, p_value, members, others) in found.items():
            leaks.add(*job, name, members, others, difference, p_value)
    write_page("inversion", __doc__, table_of_nulls, mistake, leaks)


if __name__ == "__main__":
    # By its own name, so that what is kept of a run serves the next one however it is started.
    importlib.import_module("studies.inversion").main()
