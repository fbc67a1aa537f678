"""A release from end to end, on invented patients: audit, certify, two of three sign, a canary goes wrong."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from primum.cli.main import run
from primum.evidence.signature import read_private_key
from primum.records.case_writer import write_cases
from primum.records.cases import Cases
from primum.release.acts import roll_back_if
from primum.release.canary import Canary
from primum.release.outcomes import Outcome
from primum.release.registry import Registry
from primum.release.routing import route
from primum.release.standing import policy_of
from primum.trail.log import Trail

PEOPLE = dict(ada="clinician", ben="data_protection", cleo="engineering", otto="operator", sam="data_steward")
MAKE = ("openssl", "genpkey", "-algorithm", "ed25519", "-out")
WEIGHTS = np.linspace(-1, 1, 16, dtype=np.float32)


def patients(count: int, *, first: int) -> Cases:
    """One signal each; the ill ones lean towards the weights."""
    random, ids = np.random.default_rng(first), np.arange(first, first + count)
    ill = random.integers(0, 2, count)
    signals = random.normal(0, 1, (count, 1, 16)) + 0.7 * ill[:, None, None] * WEIGHTS
    return Cases(ids, ids, signals.astype(np.float32), ill)


def model(folder: Path, weights: np.ndarray) -> Path:
    """Write a linear classifier as an ONNX folder."""
    columns = np.stack([np.zeros(16), 0.7 * weights], axis=1).astype(np.float32)
    bias = np.array([0, -0.245 * weights @ weights], np.float32)
    nodes = [
        helper.make_node("Flatten", ["signal"], ["flat"]),
        helper.make_node("Gemm", ["flat", "columns", "bias"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("signal", TensorProto.FLOAT, ["n", 1, 16])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])]
    held = [numpy_helper.from_array(columns, "columns"), numpy_helper.from_array(bias, "bias")]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, held)
    folder.mkdir()
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "model.onnx")
    (folder / "classifier.toml").write_text('classes = ["healthy", "ill"]\n', encoding="utf-8")
    return folder


def primum(*arguments: object) -> None:
    """Type a command, and stop where it does not end well."""
    print("\n$ primum", *arguments)
    if status := run([*map(str, arguments), "--lang", "en"]):
        raise SystemExit(status)


def keys(here: Path) -> None:
    """Make a pair of keys for everybody, and the policy that names them."""
    text = Path(__file__).with_name("release.toml").read_text(encoding="utf-8")
    public: dict[str, str] = {}
    for name in (*PEOPLE, "house", "trail"):
        subprocess.run([*MAKE, here / f"{name}.pem"], check=True)
        public[name] = read_private_key(here / f"{name}.pem").public_key().public_bytes_raw().hex()
    house = ("openssl", "pkey", "-in", f"{here}/house.pem", "-pubout", "-out", f"{here}/house.pub")
    subprocess.run(house, check=True)
    for name, role in PEOPLE.items():
        text += f'\n[[person]]\nname = "{name}"\nrole = "{role}"\nkey = "{public[name]}"\n'
    text += f'\n[[auditor]]\nname = "house"\nkey = "{public["house"]}"\n'
    (here / "release.toml").write_text(text, encoding="utf-8")


def release(here: Path, version: str, weights: np.ndarray, last: str) -> None:
    """Take one model from its folder to `last`."""
    folder, name = model(here / f"model-{version}", weights), f"signals:{version}"
    card = here / f"card-{version}.toml"
    said = f'name = "signals"\nversion = "{version}"\nauthors = ["mia"]\nlicence = "Apache-2.0"\n'
    card.write_text(said + 'intended_use = "Invented patients; a demonstration."\n', encoding="utf-8")
    place = ("--registry", here / "registry", "--trail", here / "trail.db")
    primum("release", "register", folder, "--card", card, *place)
    audit, certificate = here / f"audit-{version}", here / f"certificate-{version}"
    tests = ("--only", "data.overlap,membership.combined", "--out", audit, "--sign-key", here / "house.pem")
    primum("audit", folder, "--records", here / "cases", *tests)
    sealed = ("certify", folder, here / "test-set", "--threshold", "0.4", "--out", certificate)
    primum("release", *sealed, "--sign-key", here / "house.pem", *place)
    for findings in (audit, certificate):
        primum("release", "findings", findings, "--public-key", here / "house.pub", *place)
    primum("release", "decide", name, *place)
    for member in ("ada", "ben"):
        primum("release", "approve", name, "--key", here / f"{member}.pem", *place)
    for state in ("approved", "shadow", last):
        share = ("--share", "0.5") if state == "canary" else ()
        primum("release", "advance", name, "--to", state, *share, "--key", here / "otto.pem", *place)


def main(here: Path) -> Registry:
    """Release one model, then a second that does well on the test set and badly in service."""
    keys(here)
    splits = {"train": patients(700, first=1), "held_out": patients(700, first=1001)}
    write_cases(here / "cases", splits, ("healthy", "ill"))
    write_cases(here / "test-set", {"held_out": patients(400, first=5001)}, ("healthy", "ill"))
    place = ("--registry", here / "registry", "--trail", here / "trail.db")
    primum("trail", "create", here / "trail.db", "--key", here / "trail.pem")
    primum("release", "init", "--policy", here / "release.toml", *place)
    primum("release", "seal", here / "test-set", "--name", "invented", "--key", here / "sam.pem", *place)
    release(here, "1", WEIGHTS, "live")
    release(here, "2", WEIGHTS * 1.1, "canary")
    watch(here)
    for verb in (("status",), ("history", "signals:2"), ("diff", "signals:1", "signals:2")):
        primum("release", *verb, "--registry", here / "registry")
    primum("trail", "head", here / "trail.db", "--key", here / "trail.pem")
    primum("trail", "verify", here / "trail.db", "--deep")
    return Registry(here / "registry")


def watch(here: Path) -> None:
    """Answer patients until the canary is rolled back: it is wrong three times as often."""
    random, key = np.random.default_rng(0), b"a routing key of 32 bytes or more"
    with Trail(str(here / "trail.db")) as trail:
        registry = Registry(here / "registry", trail)
        served = registry.serving()
        watch = policy_of(registry.standing, registry.shelf).canary.watch()
        canary = Canary.begin(live=str(served.live), canary=str(served.canary), watch=watch)
        for _ in range(5000):
            arm = route(registry.serving(), random.bytes(16), key=key)
            wrong = bool(random.random() < (0.45 if arm == "canary" else 0.15))
            decision = canary.observe(Outcome(arm, served.share, error=wrong))
            if roll_back_if(registry, str(served.canary), decision, by="watch"):
                return print(f"\nrolled back after {decision.patients} patients: {decision.reason}")


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        main(Path(name))
