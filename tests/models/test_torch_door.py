"""The torch door: weights that must fit, answers that are checked, gradients, cards, and bad folders."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.conformance.classifiers import CLASSES, cases_of, trained, write

from primum.errors import InputError, ModelError
from primum.fit.networks import build_network
from primum.models import checked_predictor, classifier_card
from primum.models.classifier_card import Card, InputCard, card_text, parse_card
from primum.models.classifier_doors import is_classifier, open_classifier
from primum.models.predictors import CaseEmbedder, Differentiable
from primum.models.torch_door import TorchClassifier
from primum.records.cases import Cases
from primum.records.histories import FloatArray

FACTORY = "tests.conformance.classifiers:image"
TWO = ("well", "ill")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write("torch", "image", tmp_path, cases_of("image"))
    return tmp_path


def rows(values: Any) -> Cases:
    inputs = np.asarray(values)
    places = np.arange(len(inputs))
    return Cases(places, places, inputs, places % 2)


def giving(values: Any, *, output: Any = "probabilities", classes: tuple[str, ...] = TWO) -> TorchClassifier:
    """Make a classifier that answers each case with the same numbers."""

    class Fixed(torch.nn.Module):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float64).expand(len(given), *np.shape(values))

    return TorchClassifier(Fixed(), classes, Card(output=output))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([0.5, float("nan")], "answers 3 of 3 cases with NaN or infinity"),
        ([float("inf"), 0.0], "NaN or infinity"),
        ([0.5, 0.6], "no probabilities"),
        ([1.5, -0.5], "no probabilities"),
        ([1.5], "no probabilities"),
        ([0.2, 0.3, 0.5], "gives 3 numbers a case and has 2 classes"),
        ([[0.5, 0.5]], r"array of shape \[3, 1, 2\]"),
    ],
)
def test_answers_that_are_no_probabilities(values: Any, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        giving(values).predict_proba(rows(np.zeros((3, 4))))


def test_rounded_rows_are_made_to_sum_to_one() -> None:
    found = giving([0.33333, 0.66666]).predict_proba(rows(np.zeros((3, 4))))
    np.testing.assert_allclose(found, [[1 / 3, 2 / 3]] * 3, rtol=0, atol=1e-5)
    assert (abs(found.sum(1) - 1) < 1e-15).all()
    assert giving([0.5, 0.5]).logits(rows(np.zeros((3, 4)))) is None


def test_one_column_is_the_second_of_two_classes() -> None:
    cases = rows(np.zeros((2, 4)))
    assert giving([0.25]).predict_proba(cases).tolist() == [[0.75, 0.25]] * 2
    one = giving([800.0], output="logits")
    np.testing.assert_array_equal(cast(FloatArray, one.logits(cases)), [[0, 800]] * 2)
    assert one.predict_proba(cases).tolist() == [[0, 1]] * 2


def test_eight_bits_become_parts_of_one_unless_the_card_says_otherwise() -> None:
    image = np.full((2, 1, 2, 2), 255, np.uint8)
    assert InputCard().prepared(image).max() == 1
    assert InputCard(scale=2.0).prepared(image).max() == 510
    assert InputCard(dtype="uint8").prepared(image).max() == 255
    assert InputCard().prepared(image.astype(np.int16)).max() == 255
    letters = np.full((2, 5), 65, np.uint8)
    assert InputCard().prepared(letters).dtype == np.int64
    assert InputCard().prepared(letters).max() == 65


@pytest.mark.parametrize("kind", [None, "bag"])
def test_large_inputs_are_prepared_in_parts(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = np.random.default_rng(0).integers(256, size=(1, 7, 2, 3, 3), dtype=np.uint8)
    card = InputCard(kind, mean=(0.3, 0.4) if kind else (0.3,), std=(0.2,))
    one, many = stored, np.repeat(stored, 3, axis=0)
    whole = card.prepared(one), card.prepared(many)
    monkeypatch.setattr(classifier_card, "_NUMBERS_AT_ONCE", 40)
    for parts, expected in zip((card.prepared(one), card.prepared(many)), whole, strict=True):
        np.testing.assert_array_equal(parts, expected)
    each_tile = InputCard(mean=tuple(range(7)), dtype="float64", scale=1.0)
    np.testing.assert_array_equal(each_tile.prepared(stored), stored - np.arange(7.0).reshape(1, 7, 1, 1, 1))


def test_tiles_of_a_large_bag_are_given_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = build_network("bag", shape=(1, 8, 8), classes=2, width=8)
    classifier = TorchClassifier(network, TWO, Card(output="logits", input=InputCard("bag")))
    bags = tuple(np.random.default_rng(0).integers(256, size=(n, 1, 8, 8), dtype=np.uint8) for n in (9, 100))
    places = np.arange(2)
    cases = Cases(places, places, bags, places)
    whole = cast(FloatArray, classifier.logits(cases)), cast(CaseEmbedder, classifier).embed(cases)
    seen: list[int] = []
    network.register_forward_hook(lambda *_: pytest.fail("given a bag as a whole"))
    network.get_submodule("tile").register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    monkeypatch.setattr(checked_predictor, "_BYTES_A_BATCH", 8 * 64 * 32)
    parts = cast(FloatArray, classifier.logits(cases)), cast(CaseEmbedder, classifier).embed(cases)
    assert seen == [9, 32, 32, 32, 4] * 2
    for few, all_at_once in zip(parts, whole, strict=True):
        np.testing.assert_allclose(few, all_at_once, atol=1e-5)
    with torch.no_grad():
        given = torch.from_numpy(InputCard("bag").prepared(bags[1][None]))
        network._forward_hooks.clear()
        np.testing.assert_allclose(network(given).numpy()[0], whole[0][1], atol=1e-5)


def test_channels_are_scaled_each_and_moved_last() -> None:
    image = np.arange(2 * 3 * 4 * 5, dtype=np.float64).reshape(2, 3, 4, 5)
    card = InputCard(mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0), layout="channels_last", dtype="float64")
    found = card.prepared(image)
    assert found.shape == (2, 4, 5, 3)
    np.testing.assert_allclose(found[..., 2], (image[:, 2] - 3) / 4)
    bag = InputCard(kind="bag", mean=(1.0, 2.0), layout="channels_last", dtype="float64")
    assert bag.prepared(np.zeros((1, 7, 2, 4, 4)))[0, 6, 3, 3].tolist() == [-1, -2]
    with pytest.raises(ModelError, match="another number of channels than the 3"):
        InputCard(mean=(1.0, 2.0)).prepared(image)
    with pytest.raises(ModelError, match="takes int64, and the inputs are float64"):
        InputCard(dtype="int64").prepared(image)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("output", ["logits", "probabilities"])
@pytest.mark.parametrize("columns", [1, 2])
def test_gradients_are_those_of_differences(layout: Any, output: Any, columns: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        parts = [torch.nn.Flatten(), torch.nn.Linear(24, 6), torch.nn.Tanh(), torch.nn.Linear(6, columns)]
        if output == "probabilities":
            parts.append(torch.nn.Sigmoid() if columns == 1 else torch.nn.Softmax(1))
        module = torch.nn.Sequential(*parts).double()
    card = InputCard(scale=0.1, mean=(1.0, 2.0), std=(0.5, 0.25), layout=layout, dtype="float64")
    model: Any = TorchClassifier(module, TWO, Card(output=output, input=card))
    cases = rows(np.random.default_rng(0).normal(10, 3, (4, 2, 3, 4)))
    loss, gradient = model.loss_and_gradient(cases, cases.labels)
    expected = -np.log(model.predict_proba(cases)[np.arange(4), cases.labels])
    np.testing.assert_allclose(loss, expected, rtol=1e-9)
    assert (gradient.dtype, gradient.shape) == (np.float64, (4, 2, 3, 4))
    for place in np.ndindex(2, 3, 4):
        sides = []
        for step in (1e-4, -1e-4):
            moved = np.array(cases.inputs)
            moved[(slice(None), *place)] += step
            sides.append(model.loss_and_gradient(rows(moved), cases.labels)[0])
        difference = (sides[0] - sides[1]) / 2e-4
        np.testing.assert_allclose(gradient[(slice(None), *place)], difference, rtol=1e-5, atol=1e-8)


def test_gradients_of_stored_bytes_and_of_nobody(folder: Path) -> None:
    model: Any = open_classifier(folder, factory=FACTORY).predictor
    cases = cases_of("image")
    loss, gradient = model.loss_and_gradient(cases, cases.labels)
    as_numbers = Cases(cases.case_ids, cases.subject_ids, np.asarray(cases.inputs) / 255, cases.labels)
    same = model.loss_and_gradient(as_numbers, cases.labels)
    np.testing.assert_allclose(loss, same[0], rtol=1e-6)
    np.testing.assert_allclose(gradient * 255, same[1], rtol=1e-4, atol=1e-9)
    assert [part.shape for part in model.loss_and_gradient(cases.select(np.arange(0)), np.arange(0))] == [
        (0,),
        (0, 1, 8, 8),
    ]


def test_what_a_module_can_answer() -> None:
    plain: Any = giving([0.5, 0.5])
    assert isinstance(plain, Differentiable)
    assert not isinstance(plain, CaseEmbedder)
    letters = TorchClassifier(
        torch.nn.Linear(3, 2), TWO, Card(output="logits", input=InputCard(dtype="int64"))
    )
    assert not isinstance(letters, Differentiable)
    assert isinstance(letters, CaseEmbedder)


def test_nothing_is_answered_in_training_mode() -> None:
    module = torch.nn.Sequential(
        torch.nn.Dropout(0.9), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)
    ).train()
    model = TorchClassifier(module, TWO, Card(output="logits"))
    cases = rows(np.random.default_rng(0).normal(size=(9, 4)))
    np.testing.assert_array_equal(model.predict_proba(cases), model.predict_proba(cases))


def test_the_stored_inputs_are_never_written_to() -> None:
    class Greedy(torch.nn.Module):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return given.zero_()

    card = Card(output="logits", input=InputCard(dtype="uint8"))
    inputs = np.full((2, 2), 7, np.uint8)
    inputs.setflags(write=False)
    TorchClassifier(Greedy(), TWO, card).predict_proba(rows(inputs))
    assert (inputs == 7).all()


def test_weights_that_do_not_fit(folder: Path) -> None:
    weights = trained("image").state_dict()
    wrong: list[dict[str, torch.Tensor]] = [
        {name: one for name, one in weights.items() if name != "last.bias"},
        {**weights, "extra": torch.zeros(1)},
        {**weights, "last.bias": torch.zeros(4)},
    ]
    for given in wrong:
        save_file(given, folder / "model.safetensors")
        with pytest.raises(ModelError, match=r"^1 weights are missing, unknown or of another shape"):
            open_classifier(folder, factory=FACTORY)
    (folder / "model.safetensors").write_bytes(b"\x10" * 30)
    with pytest.raises(ModelError, match="truncated or not a safetensors file"):
        open_classifier(folder, factory=FACTORY)


def test_factories(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for place in ("nowhere:image", "tests.conformance.classifiers:nothing", "tests.conformance.classifiers"):
        with pytest.raises(InputError, match="cannot be imported"):
            open_classifier(folder, factory=place)
    with pytest.raises(InputError, match="returns no torch module"):
        open_classifier(folder, factory="builtins:dict")
    with pytest.raises(InputError, match="say with --factory module:name"):
        open_classifier(folder)
    made = ModuleType("made_here")
    source = tmp_path / "made_here.py"
    digests = set()
    for comment in ("one", "two"):
        source.write_text(
            f"from tests.conformance.classifiers import Network\ndef f(): return Network('image')\n#{comment}"
        )
        made.__file__ = str(source)
        exec(compile(source.read_text(), str(source), "exec"), made.__dict__)
        monkeypatch.setitem(sys.modules, "made_here", made)
        digests.add(open_classifier(folder, factory="made_here:f").ref.digest)
    assert len(digests) == 2


def test_pickles_and_other_folders(tmp_path: Path, folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match="holds no classifier"):
        open_classifier(empty)
    (empty / "weights.pt").write_bytes(b"")
    with pytest.raises(ModelError, match=r"weights\.pt is a pickle"):
        open_classifier(empty)
    with pytest.raises(ModelError, match=r"weights\.pt is a pickle"):
        open_classifier(empty / "weights.pt")
    with pytest.raises(ModelError, match="is not the folder of a classifier"):
        open_classifier(tmp_path / "nowhere")
    assert (is_classifier(empty), is_classifier(folder), is_classifier(tmp_path / "nowhere")) == (
        False,
        True,
        False,
    )
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"holds two models, model\.onnx and model\.safetensors"):
        open_classifier(folder, factory=FACTORY)


def test_links_are_refused(folder: Path, tmp_path: Path) -> None:
    real = (folder / "model.safetensors").rename(folder / "elsewhere")
    (folder / "model.safetensors").symlink_to(real)
    with pytest.raises(ModelError, match="is missing, a link or outside"):
        open_classifier(folder, factory=FACTORY)


@pytest.mark.parametrize(
    "text",
    [
        "classes = 3",
        'classes = ["one"]',
        'classes = ["a", "a"]',
        'classes = ["a", 1]',
        'output = "softmax"',
        'factory = "os:abort"',
        "input = 3",
        "[input]\nkind = 'film'",
        "[input]\nshape = [-1]",
        "[input]\nshape = [true]",
        "[input]\nscale = true",
        "[input]\nscale = nan",
        "[input]\nscale = 0",
        "[input]\nmean = [inf]",
        "[input]\nstd = [0.0]",
        "[input]\ndtype = 'float128'",
        "[input]\ndtype = 'uint8'\nscale = 2",
        "[input]\nlayout = 'rows'",
        "[input]\nlayout = ['channels_last']",
        "not toml",
        "a" * 3 + "=" + "[" * 5000,
    ],
)
def test_cards_that_cannot_be_used(text: str) -> None:
    with pytest.raises(ModelError, match=r"classifier\.toml"):
        parse_card(text.encode())


def test_a_card_is_read_as_it_was_written() -> None:
    said = InputCard("bag", (0, 3, 8, 8), 0.1, (0.5,), (0.25, 1.0, 2.0), "channels_last", "float32")
    for card in (Card(), Card(('é "quoted"', "b\\"), "probabilities", said), Card(CLASSES)):
        assert parse_card(card_text(card).encode()) == card


def test_the_output_is_never_guessed(folder: Path) -> None:
    (folder / "classifier.toml").write_text('classes = ["a", "b", "c"]')
    with pytest.raises(ModelError, match='write output = "logits" or output = "probabilities"'):
        open_classifier(folder, factory=FACTORY)
    (folder / "classifier.toml").write_text('output = "logits"')
    with pytest.raises(ModelError, match="classes of the model are not known"):
        open_classifier(folder, factory=FACTORY)
