"""A registered model run on a sealed test set, and the two files of one model compared."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from tests import tiny
from tests.release.world import Ward, key_of, policy_text, public

from primum.errors import InputError, ModelError, RecordsError
from primum.evidence.audit import FINDINGS
from primum.models.classifier_doors import open_classifier
from primum.models.doors import open_model
from primum.models.opened import OpenedClassifier
from primum.records.case_folder import open_cases
from primum.records.case_writer import write_cases
from primum.records.cases import Cases
from primum.records.histories import InMemory
from primum.release import acts
from primum.release.decision import converts
from primum.release.intake import register, take_findings
from primum.release.test_sets import open_sealed, seal
from primum.report.certificate import certificate
from primum.report.language import Language
from primum.workflows.certify import certify, write_certificate
from primum.workflows.certify_records import certify_records
from primum.workflows.conversion import compare_twins

WEIGHTS = np.linspace(-1, 1, 12, dtype=np.float32)
CARD = 'classes = ["healthy", "ill"]\noutput = "logits"\n[input]\ndtype = "float32"\n'


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Linear(12, 2)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.last(given.flatten(1))
        return answer


FACTORY = f"{__name__}:Linear"


def cases(count: int, *, seed: int, each: int = 1) -> Cases:
    random = np.random.default_rng(seed)
    ids = np.repeat(np.arange(count), each)
    ill = np.repeat(random.integers(0, 2, count), each)
    signals = random.normal(0, 1, (len(ids), 1, 12)) + 0.8 * ill[:, None, None] * WEIGHTS
    return Cases(ids, ids, signals.astype(np.float32), ill)


def onnx_folder(folder: Path, *, scale: float = 1.0, shift: float = 0.0) -> Path:
    columns = np.stack([-WEIGHTS / 2, WEIGHTS / 2]) * scale
    bias = np.array([0.0, shift])
    held = [
        numpy_helper.from_array(one.astype(np.float32), name) for one, name in ((columns, "w"), (bias, "b"))
    ]
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"], transB=1),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 12])]
    answer = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])]
    folder.mkdir()
    graph = helper.make_graph(nodes, "g", given, answer, held)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "model.onnx")
    (folder / "classifier.toml").write_text(CARD, encoding="utf-8")
    return folder


def torch_folder(folder: Path) -> Path:
    folder.mkdir()
    weights = torch.from_numpy(np.stack([-WEIGHTS / 2, WEIGHTS / 2]))
    save_file({"last.weight": weights, "last.bias": torch.zeros(2)}, folder / "model.safetensors")
    (folder / "classifier.toml").write_text(CARD, encoding="utf-8")
    return folder


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    made = Ward(tmp_path).begin(policy_text('[test_sets]\nroles = ["data_steward"]\nmost_uses = 2\n'))
    write_cases(tmp_path / "test-set", {"held_out": cases(300, seed=1, each=2)}, ("healthy", "ill"))
    return made


def registered(ward: Ward) -> tuple[Path, OpenedClassifier]:
    folder = onnx_folder(ward.root / "model")
    digest = register(ward.registry, folder, ward.card())
    opened = open_classifier(folder)
    assert opened.ref.digest == digest
    return folder, opened


def test_a_certificate_from_seal_to_decision(ward: Ward) -> None:
    test_set = ward.root / "test-set"
    _, model = registered(ward)
    with pytest.raises(InputError, match="never sealed"):
        certify(ward.registry, model, test_set, by="house")
    sealed = seal(ward.registry, test_set, name="three hundred", key=key_of("sam"))
    heard: list[tuple[str, int]] = []
    made = certify(
        ward.registry,
        model,
        test_set,
        by="house",
        threshold=0.5,
        command="primum release certify …",
        progress=lambda *stage: heard.append(stage),
    )
    assert made.uses == 1
    assert {stage for stage, _ in heard} == {"test set"} and sum(done for _, done in heard) == 600
    found = {one.test: one for one in made.audit.findings}
    area = found["performance.auc"].estimates[0]
    assert area.n == (300,)
    # The separation of the two groups is known: .8 by the norm of the weights.
    assert area.low < 0.90 < area.high
    assert {one.data for one in found.values()} == {sealed.digest}
    assert {one.verdict for one in found.values()} == {"descriptive"}
    write_certificate(
        ward.root / "certificate", made.audit, language=Language("fr"), sign_key=key_of("house")
    )
    key = key_of("house").public_key()
    digest, _ = take_findings(ward.registry, ward.root / "certificate", key, by="otto")
    rules = {one.rule: one for one in acts.decide(ward.registry, digest, by="otto").rules}
    assert rules["performance.auc"].passed
    assert rules["performance.auc"].saw["low"] == area.low
    kinds = [(one.kind, one.details.get("uses")) for one in ward.trail.entries]
    assert ("test_set.used", 1) in kinds
    sealing = next(one for one in ward.trail.entries if one.kind == "test_set.sealed")
    assert (sealing.details["key"], sealing.details["test_set"]) == (public("sam"), sealed.digest)


def test_a_use_is_counted_before_the_model_is_run(ward: Ward) -> None:
    class Breaks:
        classes = ("healthy", "ill")

        def logits(self, cases: Cases) -> None:
            return None

        def predict_proba(self, cases: Cases) -> np.ndarray:
            raise ModelError("It broke.")

    _, model = registered(ward)
    sealed = seal(ward.registry, ward.root / "test-set", name="t", key=key_of("sam"))
    broken = OpenedClassifier(model.ref, Breaks(), 0)
    with pytest.raises(ModelError, match="It broke"):
        certify(ward.registry, broken, ward.root / "test-set", by="house")
    assert ward.again().standing.test_sets[sealed.digest].uses == 1
    ward.trail.refuses = InputError("No trail.")
    with pytest.raises(InputError, match="No trail"):
        certify(ward.registry, broken, ward.root / "test-set", by="house")


def alter(folder: Path) -> None:
    content = bytearray((folder / "inputs.npy").read_bytes())
    content[-1] ^= 1
    (folder / "inputs.npy").write_bytes(content)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (alter, "inputs.npy"),
        (lambda folder: (folder / "more.txt").write_text("x"), "more.txt"),
        (lambda folder: (folder / "classes.txt").unlink(), "classes.txt"),
        (lambda folder: (folder / "link").symlink_to("cases.csv"), "link"),
    ],
)
def test_an_altered_test_set_is_named(ward: Ward, change: Callable[[Path], object], named: str) -> None:
    folder = ward.root / "test-set"
    _, model = registered(ward)
    seal(ward.registry, folder, name="t", key=key_of("sam"))
    change(folder)
    with pytest.raises(InputError, match=named):
        certify(ward.registry, model, folder, by="house")
    assert not any(one.kind == "test_set.used" for one in ward.trail.entries)


def test_certified_means_sealed_by_the_roles_of_the_policy(tmp_path: Path) -> None:
    text = policy_text('[test_sets]\nroles = ["data_steward", "clinician"]\nseals = 2\n')
    ward = Ward(tmp_path).begin(text.replace(b"above = 0.8", b"above = 0.8\ncertified = true"))
    write_cases(tmp_path / "test-set", {"held_out": cases(300, seed=1)}, ("healthy", "ill"))
    _, model = registered(ward)
    seal(ward.registry, tmp_path / "test-set", name="t", key=key_of("sam"))
    made = certify(ward.registry, model, tmp_path / "test-set", by="house")
    write_certificate(tmp_path / "c", made.audit, language=Language("en"), sign_key=key_of("house"))
    digest, _ = take_findings(ward.registry, tmp_path / "c", key_of("house").public_key(), by="otto")

    def reason() -> str:
        return acts.decide(ward.registry, digest, by="otto").rules[-1].reason

    assert reason() == "not_certified"
    with pytest.raises(InputError, match="sam has sealed this test set already"):
        seal(ward.registry, tmp_path / "test-set", name="t", key=key_of("sam"))
    seal(ward.registry, tmp_path / "test-set", name="t", key=key_of("otto"))
    assert reason() == "not_certified"
    with pytest.raises(InputError, match="knows nobody"):
        seal(ward.registry, tmp_path / "test-set", name="t", key=key_of("stranger"))
    seal(ward.registry, tmp_path / "test-set", name="t", key=key_of("ada"))
    assert reason() == "passed"
    assert open_sealed(ward.registry, tmp_path / "test-set").name == "t"


def test_only_registered_models_that_fit_are_run(ward: Ward) -> None:
    seal(ward.registry, ward.root / "test-set", name="t", key=key_of("sam"))
    model = open_classifier(onnx_folder(ward.root / "unknown"))
    with pytest.raises(InputError, match=r"No model .* is registered"):
        certify(ward.registry, model, ward.root / "test-set", by="house")
    with pytest.raises(InputError, match="is none of the model's"):
        certify(ward.registry, model, ward.root / "test-set", by="house", positive="gone")
    (ward.root / "empty").mkdir()
    (ward.root / "empty" / "x").write_text("x")
    seal(ward.registry, ward.root / "empty", name="x", key=key_of("sam"))
    with pytest.raises(RecordsError, match="holds no cases"):
        certify(ward.registry, model, ward.root / "empty", by="house")
    assert not any(one.uses for one in ward.registry.standing.test_sets.values())


def test_too_few_patients_give_no_interval_and_say_so(ward: Ward) -> None:
    folder = ward.root / "few"
    write_cases(folder, {"held_out": cases(30, seed=3)}, ("healthy", "ill"))
    _, model = registered(ward)
    seal(ward.registry, folder, name="few", key=key_of("sam"))
    made = certify(ward.registry, model, folder, by="house")
    assert {one.verdict for one in made.audit.findings} == {"not_applicable"}
    assert "20" in certificate(made.audit, {}, language=Language("en"))


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_the_page_escapes_what_people_called_things(ward: Ward, lang: str) -> None:
    _, model = registered(ward)
    seal(ward.registry, ward.root / "test-set", name="<script>\u202ex", key=key_of("sam"))
    made = certify(ward.registry, model, ward.root / "test-set", by="house", command="<img src=x>")
    page = certificate(made.audit, {"date": "2026-11-01T00:00:00+00:00"}, language=Language(lang))  # type: ignore[arg-type]
    assert "<script>" not in page
    assert "<img" not in page
    assert "\u202e" not in page
    assert f'lang="{lang}"' in page


def twins(root: Path, count: int, **other: float) -> tuple[OpenedClassifier, OpenedClassifier, Path]:
    write_cases(root / "many", {"held_out": cases(count, seed=5)}, ("healthy", "ill"))
    weights = open_classifier(torch_folder(root / "weights"), factory=FACTORY)
    return weights, open_classifier(onnx_folder(root / "graph", **other)), root / "many"


@pytest.mark.parametrize(
    ("count", "other", "alike"),
    [
        (1000, {}, True),
        (999, {}, False),
        (1000, {"scale": 1.0001}, True),
        (1000, {"scale": 1.01}, False),
        (1000, {"shift": 3e-4}, True),
        (1000, {"shift": 0.01}, False),
    ],
)
def test_a_conversion_holds_only_where_two_files_answer_alike(
    tmp_path: Path, count: int, other: dict[str, float], alike: bool
) -> None:
    weights, graph, folder = twins(tmp_path, count, **other)
    done: list[int] = []
    audit = compare_twins(weights, graph, open_cases(folder), progress=lambda _, more: done.append(more))
    assert sum(done) == count
    (found,) = audit.findings
    assert converts(found) is alike, found.settings
    assert (found.verdict == "none_found") is alike
    assert found.settings["twin"] == weights.ref.digest
    assert audit.model == graph.ref
    for name, digest in weights.ref.files.items():
        assert found.settings[f"twin {name}"] == digest


def test_equal_probabilities_with_another_decision_do_not_pass(tmp_path: Path) -> None:
    """One case on the fence is enough."""
    weights, graph, folder = twins(tmp_path, 1000, shift=2e-5)
    on_the_fence = np.zeros((1, 1, 12), np.float32)
    made = cases(999, seed=6)
    joined = Cases(
        np.arange(1000),
        np.arange(1000),
        np.concatenate([np.asarray(made.inputs), on_the_fence]),
        np.append(made.labels, 0),
    )
    write_cases(tmp_path / "fence", {"held_out": joined}, ("healthy", "ill"))
    (found,) = compare_twins(weights, graph, open_cases(tmp_path / "fence")).findings
    assert float(str(found.settings["largest_difference"])) < 1e-5
    assert found.settings["equal_decisions"] is False
    assert not converts(found)
    with pytest.raises(ModelError, match="the same model"):
        compare_twins(graph, graph, open_cases(folder))


def test_findings_of_the_weights_reach_the_graph_through_it(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(
        policy_text(require='[[require]]\ntest = "membership.combined.auc"\nverdict = ["none_found"]\n')
    )
    weights, graph, folder = twins(tmp_path, 1000)
    digest_of_factory = weights.ref.files[f"factory {FACTORY}"]
    made = ward.card("w", factory=FACTORY, factory_digest=digest_of_factory)
    assert register(ward.registry, tmp_path / "weights", made) == weights.ref.digest
    assert register(ward.registry, tmp_path / "graph", ward.card()) == graph.ref.digest
    audit = compare_twins(weights, graph, open_cases(folder))
    write_certificate(tmp_path / "conversion", audit, language=Language("en"), sign_key=key_of("house"))
    take_findings(ward.registry, tmp_path / "conversion", key_of("house").public_key(), by="otto")
    assert (tmp_path / "conversion" / FINDINGS).exists()
    assert not acts.decide(ward.registry, graph.ref.digest, by="otto").passed


def test_a_model_of_histories_is_certified_by_its_loss(tmp_path: Path) -> None:
    require = '[[require]]\ntest = "performance.loss"\nbound = "high"\nbelow = 50.0\ncertified = true\n'
    ward = Ward(tmp_path).begin(policy_text(require=require))
    patients = tiny.cohort(held_out=40, other=40)
    other = InMemory((patients.pop("other"),))
    tiny.records_folder(tmp_path / "test-set", patients)
    tiny.model_folder(tmp_path / "model", tokenizer := tiny.tokenizer_of(other), other)
    model = open_model(tmp_path / "model")
    assert register(ward.registry, tmp_path / "model", ward.card()) == model.ref.digest
    seal(ward.registry, tmp_path / "test-set", name="histories", key=key_of("sam"))
    done: list[int] = []
    made = certify_records(
        ward.registry, model, tmp_path / "test-set", by="house", progress=lambda _, more: done.append(more)
    )
    assert sum(done) == 40
    (found,) = made.audit.findings
    (loss,) = found.estimates
    # Guessing among all tokens would lose this much.
    assert 0 < loss.low < loss.value < loss.high < 3 * np.log(len(tokenizer.vocabulary))
    assert made.uses == 1
    write_certificate(tmp_path / "c", made.audit, language=Language("fr"), sign_key=key_of("house"))
    digest, _ = take_findings(ward.registry, tmp_path / "c", key_of("house").public_key(), by="otto")
    assert acts.decide(ward.registry, digest, by="otto").passed
