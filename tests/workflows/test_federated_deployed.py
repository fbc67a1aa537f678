"""A training between hospitals as separate processes: killed, restarted, refused, and listened to."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tests.workflows.federated_deployed_world import SITES, Line, Running, prepare, requests

from primum.fit.networks import ScatteringNetwork
from primum.train.federated.answering import answer
from primum.train.federated.local_grid import LocalGrid
from primum.train.federated.messages import read_reply
from primum.train.federated.rounds import result_of, run_rounds
from primum.train.federated.settings import FederatedSettings
from primum.train.federated.sites import LinearSite, load
from primum.train.learners import CaseLearner
from primum.train.private_linear import LinearSettings, units_of
from primum.train.receipt import read_receipt
from primum.workflows.learners import ModelOptions, open_learner

# isort: split
from flwr.app import Message, RecordDict
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.inflatable.inflatable_object import get_object_id
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

ROUNDS, HELD = 5, 3
SETTINGS = FederatedSettings(ROUNDS, 5, 80.0, averaged=True)
PRIVATE = {name: LinearSettings(8.0 if name == "north" else None, steps=ROUNDS, seed=3) for name in SITES}
HEADERS = {b"host", b"accept", b"accept-encoding", b"connection", b"user-agent", b"content-type"} | {
    b"content-length", b"flwr-public-key", b"flwr-signature", b"flwr-timestamp"
}  # fmt: skip
EMPTY = RecordDict()


@dataclass(frozen=True)
class Played:
    """What a training left behind in which a site and the coordinator were killed."""

    folder: Path
    status: dict[str, int | None]
    said: dict[str, str]
    lines: dict[str, Line]


def _coordinator(folder: Path, *, port: int) -> Running:
    given: dict[str, object] = {
        "certificate": folder / "server.pem",
        "key": folder / "server.key",
        "registered": folder / "keys",
    }
    given |= {"sites": 3, "like": folder / "like", "network": "scattering", "rounds": ROUNDS, "port": port}
    given |= {"out": folder / "model", "timeout": 60}
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    return Running(folder / "coordinator.log", "coordinator", *options)


def _site(folder: Path, name: str, *, port: int, records: str = "", ca: str = "ca.pem") -> Running:
    given: dict[str, object] = {
        "coordinator": f"127.0.0.1:{port}",
        "ca": folder / ca,
        "key": folder / f"{name}.key",
    }
    given |= {"name": name, "records": folder / (records or name), "network": "scattering", "rounds": ROUNDS}
    given |= {"patience": 60}
    if name == "north":
        given |= {"epsilon": 8, "repeatable-seed": 3, "keep": folder / "kept"}
    options = [part for option, value in given.items() for part in (f"--{option}", value)]
    return Running(folder / f"{name}-{ca}.log", "site", *options)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("hospitals") / "world"
    prepare(folder)
    coordinator = _coordinator(folder, port=0)
    port = int(coordinator.wait_for("127.0.0.1:").split("127.0.0.1:")[1].split(".")[0])
    lines = {name: Line(folder, port, hold=HELD if name == "west" else 0) for name in SITES}
    sites = {name: _site(folder, name, port=lines[name].port) for name in SITES}
    refused = {
        "stranger": _site(folder, "stranger", port=port, records="west"),
        "wrong ca": _site(folder, "south", port=port, ca="other-ca.pem"),
    }
    try:
        assert lines["west"].held.wait(60)
        status = {name: one.status() for name, one in refused.items()}
        # It has answered, and nobody has heard it.
        sites["west"].kill()
        lines["west"].release()
        sites["west"] = _site(folder, "west", port=lines["west"].port)
        coordinator.wait_for(f"Round {HELD}:")
        coordinator.kill()
        again = _coordinator(folder, port=port)
        status |= {"coordinator": again.status()} | {name: one.status() for name, one in sites.items()}
        said = {name: one.said() for name, one in {**refused, **sites, "coordinator": again}.items()}
        yield Played(folder, status, said, lines)
    finally:
        for line in lines.values():
            line.close()
        for one in (coordinator, *sites.values(), *refused.values()):
            one.process.kill()


def _learner(folder: Path, name: str) -> CaseLearner:
    opened = open_learner(folder / name, ModelOptions("scattering", patience=0), set_aside=False, seed=0)
    assert isinstance(opened.learner, CaseLearner)
    return opened.learner


def _linear(folder: Path, name: str) -> LinearSite:
    learner = _learner(folder, name)
    model = learner.build(learner.patients, seed=0)
    return LinearSite(name, model, learner.cases, settings=PRIVATE[name])


def test_deaths_change_nothing_of_the_model(played: Played) -> None:
    """Not a bit: the same as in one process that nobody killed, noise of one site included."""
    assert {name: played.status[name] for name in (*SITES, "coordinator")} == dict.fromkeys(
        (*SITES, "coordinator"), 0
    ), played.said
    sites = {number + 1: answer(_linear(played.folder, name)) for number, name in enumerate(SITES)}
    made = load_file(played.folder / "model" / "model.safetensors")
    start = {name: np.zeros_like(made[name]) for name in ("centre", "last.weight")}
    standing = run_rounds(LocalGrid(sites), start, settings=SETTINGS, before=("centre",), sites=3)
    for name, value in result_of(standing, SETTINGS).items():
        np.testing.assert_array_equal(made[name], value)
    assert np.abs(made["last.weight"]).max() > 0


def test_each_round_is_done_once_with_everyone(played: Played) -> None:
    log = (played.folder / "coordinator.log").read_text()
    rounds = [line for line in log.splitlines() if line.startswith("Round")]
    assert all("3 sites" in line for line in rounds) and "left out" not in log
    # The one under way when the coordinator died may have been told of, and not kept.
    assert sorted({int(line.split()[1][:-1]) for line in rounds}) == list(range(ROUNDS + 1))
    assert len(rounds) <= ROUNDS + 2
    page = (played.folder / "model" / "sites.html").read_text(encoding="utf-8")
    assert all(name in page for name in SITES) and "and no patient: how well" in page
    written = json.loads((played.folder / "model" / "federated.json").read_text())
    assert set(written["sites"]) == set(SITES)
    receipt = read_receipt(played.folder / "model")
    assert (receipt.method, receipt.steps, receipt.data["sites"]) == ("federated", ROUNDS, 3)
    assert receipt.data["records"] == sum(written["sites"].values())
    assert not (played.folder / "model.unfinished").exists()


def test_who_is_not_registered_is_refused(played: Played) -> None:
    assert played.status["stranger"] == 2
    assert "refuses this site's key" in played.said["stranger"]
    assert "Joined" not in played.said["stranger"]


def test_a_coordinator_of_another_authority_is_refused(played: Played) -> None:
    assert played.status["wrong ca"] == 2
    assert "nothing was sent" in played.said["wrong ca"]


def test_a_promise_is_counted_across_deaths(played: Played) -> None:
    # Dead or alive, the coordinator had the answers to every round once, and no others.
    assert "Promised to each patient: epsilon 8 at delta 1e-05." in played.said["north"]
    kept = played.folder / "kept"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert all(one.stat().st_mode & 0o777 == 0o600 for one in kept.iterdir())


def test_what_a_site_sends_is_agreed_tensors_and_three_numbers(played: Played) -> None:
    weights = load_file(played.folder / "model" / "model.safetensors")
    expected = {name: weights[name].shape for name in ("centre", "last.weight")}
    for name, line in played.lines.items():
        parts: dict[str, bytes] = {}
        for stream in line.sent:
            for path, headers, body in requests(bytes(stream)):
                assert path.startswith(b"/v1/fleet/")
                assert not headers.keys() - HEADERS
                if path.endswith(b"push-object"):
                    content = PushObjectRequest.FromString(body).object_content
                    parts[get_object_id(content)] = content
        replies = [one for one, content in parts.items() if content.startswith(b"Message")]
        used = set[str]()
        for one in replies:
            # The coordinator has sent one of these itself, and asks for none.
            held = {EMPTY.object_id: EMPTY.deflate(), **parts}
            reply = inflate_object_from_contents(one, held)
            used |= parts.keys() - held.keys()
            assert isinstance(reply, Message)
            if not reply.content:
                continue  # goodbye
            assert set(reply.content) == {"arrays", "metrics", "config"}
            assert dict(reply.content.config_records["config"]) == {"site": name}
            assert set(reply.content.metric_records["metrics"]) == {"num-examples", "patients", "noise"}
            tensors = set(reply.content.array_records["arrays"])
            assert tensors in ({"centre"}, {"last.weight"})
            read_reply(reply.content, expected={key: expected[key] for key in tensors})
        assert len(replies) >= ROUNDS + 2
        assert used == parts.keys()


def _needles(folder: Path, name: str) -> Iterator[bytes]:
    """Give what must not travel: ids, pixels, features and words of a site's records."""
    learner = _learner(folder, name)
    cases, model = learner.cases, learner.build(learner.patients, seed=0)
    for row, image in zip(cases.subject_ids, cases.inputs, strict=True):
        yield str(row).encode()
        yield int(row).to_bytes(8, "little")
        pixels = np.asarray(image).tobytes()
        yield from (pixels[at : at + 16] for at in range(0, len(pixels) - 16, 8) if any(pixels[at : at + 16]))
    assert isinstance(model.module, ScatteringNetwork)
    units = units_of(model, model.module, cases).features
    load(model.module, load_file(folder / "model" / "model.safetensors"))
    centred = model.module.from_centre(torch.from_numpy(units)).numpy()
    for unit in (*units, *centred):
        yield from (unit[at : at + 4].tobytes() for at in range(0, len(unit), 4) if unit[at : at + 4].any())
    for values in cases.attributes.values():
        yield from (str(one).encode() for one in np.unique(values) if len(str(one)) > 3)
    yield from (b"pneumonia", b"no_finding", b"cases.csv", str(folder).encode())


def test_no_id_value_or_code_of_a_record_travels(played: Played) -> None:
    weights = load_file(played.folder / "model" / "model.safetensors")
    for name, line in played.lines.items():
        heard = b"\0".join(bytes(one) for one in (*line.sent, *line.received))
        # The line is heard in plain: what was agreed on is there to be found.
        assert weights["centre"].tobytes() in heard and name.encode() in heard
        needles = set(_needles(played.folder, name))
        assert len(needles) > 1000
        found = [one for one in needles if len(one) > 4 and one in heard]
        assert not found
        planted = heard + next(iter(needles))
        assert any(one in planted for one in needles)
