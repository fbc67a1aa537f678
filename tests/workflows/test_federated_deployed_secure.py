"""Masked updates between machines: deaths in a round, what the coordinator can see, and what sites refuse."""

import io
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tests.train.federated.test_secure import pages_of
from tests.workflows.federated_deployed_world import PUSH, Line, Running, prepare, requests

from primum.train.federated.aggregation import clipped
from primum.train.federated.secure import masking, weighted_words
from primum.train.federated.sites import LinearSite, Round
from primum.train.learners import CaseLearner
from primum.train.private_linear import LinearSettings
from primum.train.receipt import read_receipt
from primum.workflows.learners import ModelOptions, open_learner

# isort: split
from flwr.app import Message, RecordDict
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.inflatable.inflatable_object import get_object_id
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

FIVE = "north", "south", "west", "east", "coast"
ROUNDS, BOUND = 2, 40.0
# Of each round a site sends four answers: the third of round 1 is its masked update.
HELD = 4 + 3
MASKS = masking(BOUND, sites=5)
Numbers = NDArray[Any]
EMPTY = RecordDict()
PULL = b"POST /v1/fleet/pull-messages"


@dataclass(frozen=True)
class Masked:
    """What a masked training left behind, and the coordinator's memory while it waited for one update."""

    folder: Path
    status: dict[str, int | None]
    said: dict[str, str]
    lines: dict[str, Line]
    memory: bytes


def _started(log: Path, verb: str, **given: object) -> Running:
    shared = {"network": "scattering", "rounds": ROUNDS, "clip-updates": BOUND, "sites": 5}
    options = [part for option, value in {**given, **shared}.items() for part in (f"--{option}", value)]
    return Running(log, verb, "--secure", *options)


def _coordinator(folder: Path, port: int) -> Running:
    files = {
        "certificate": folder / "server.pem",
        "key": folder / "server.key",
        "registered": folder / "keys",
    }
    files |= {"like": folder / "like", "out": folder / "model"}
    return _started(folder / "coordinator.log", "coordinator", **files, port=port, timeout=60)


def _site(folder: Path, name: str, port: int) -> Running:
    files = {"ca": folder / "ca.pem", "key": folder / f"{name}.key", "secret": folder / "sites.secret"}
    files |= {"records": folder / name}
    more: dict[str, object] = {"coordinator": f"127.0.0.1:{port}", "name": name, "patience": 60}
    if name == "north":
        more |= {"epsilon": 8, "repeatable-seed": 3, "keep": folder / "kept"}
    return _started(folder / f"{name}.log", "site", **files, **more)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masked]:
    folder = tmp_path_factory.mktemp("masked") / "world"
    prepare(folder, FIVE)
    (folder / "sites.secret").write_bytes(os.urandom(32))
    (folder / "sites.secret").chmod(0o600)
    coordinator = _coordinator(folder, 0)
    port = int(coordinator.wait_for("127.0.0.1:").split("127.0.0.1:")[1].split(".")[0])
    before = {hash(page) for page in _memory(coordinator)}
    lines = {name: Line(folder, port, hold=HELD if name == "west" else 0) for name in FIVE}
    sites = {name: _site(folder, name, lines[name].port) for name in FIVE}
    try:
        assert lines["west"].held.wait(60)
        for name in set(FIVE) - {"west"}:
            _wait_for_update(lines[name])
        memory = b"".join(page for page in _memory(coordinator) if hash(page) not in before)
        sites["west"].kill()
        lines["west"].release()
        sites["west"] = _site(folder, "west", lines["west"].port)
        sites["north"].wait_for("Answering round 2.")
        coordinator.kill()
        again = _coordinator(folder, port)
        status = {"coordinator": again.status()} | {name: one.status() for name, one in sites.items()}
        said = {name: one.said() for name, one in {**sites, "coordinator": again}.items()}
        yield Masked(folder, status, said, lines, memory)
    finally:
        for line in lines.values():
            line.close()
        for one in (coordinator, *sites.values()):
            one.process.kill()


def _wait_for_update(line: Line) -> None:
    """Wait until a site that answered has asked for more: then the coordinator has all of its answer."""
    asked, until = -1, time.monotonic() + 60
    while asked in (-1, _count(line, PULL)):
        assert time.monotonic() < until
        if asked < 0 and _count(line, PUSH) == HELD:
            asked = _count(line, PULL)
        time.sleep(0.02)


def _count(line: Line, request: bytes) -> int:
    return sum(bytes(one).count(request) for one in line.sent)


def _memory(one: Running) -> list[bytes]:
    """Every page that a process holds, which stands still meanwhile."""
    assert one.process.pid is not None
    os.kill(one.process.pid, signal.SIGSTOP)
    held = list(pages_of(one.process.pid))
    os.kill(one.process.pid, signal.SIGCONT)
    return held


def _hospital(folder: Path, name: str) -> LinearSite:
    opened = open_learner(folder / name, ModelOptions("scattering", patience=0), set_aside=False, seed=0)
    assert isinstance(opened.learner, CaseLearner)
    model = opened.learner.build(opened.learner.patients, seed=0)
    settings = LinearSettings(8.0 if name == "north" else None, steps=ROUNDS, seed=3)
    return LinearSite(name, model, opened.learner.cases, settings=settings)


@pytest.fixture(scope="module")
def hospitals(masked: Masked) -> dict[str, LinearSite]:
    return {name: _hospital(masked.folder, name) for name in FIVE}


def _weights(masked: Masked) -> list[dict[str, Numbers]]:
    """What sites started each round from, as the coordinator sent it to one of them; and the model."""
    model = load_file(masked.folder / "model" / "model.safetensors")
    found: dict[str, dict[bytes, Numbers]] = {"centre": {}, "last.weight": {}}
    heard = b"".join(map(bytes, masked.lines["north"].received))
    for one in re.finditer(rb"\x93NUMPY", heard):
        array = np.lib.format.read_array(io.BytesIO(heard[one.start() :]))
        name = next(name for name in found if model[name].shape == array.shape)
        found[name].setdefault(array.tobytes(), array)
    # Several connections: in which order they came is not known, but both begin with zeros.
    (none, centre), (start, first) = (sorted(each.values(), key=np.any) for each in found.values())
    np.testing.assert_array_equal(centre, model["centre"])
    assert not none.any() and not start.any()
    pairs = (none, start), (centre, start), (centre, first), (centre, model["last.weight"])
    return [dict(zip(found, pair, strict=True)) for pair in pairs]


def _asked(number: int) -> Round:
    return Round(number, 5, 80.0, seed=number)


@pytest.mark.parametrize(("number", "there"), [(0, FIVE), (1, set(FIVE) - {"west"}), (2, FIVE)])
def test_each_round_is_the_mean_of_those_that_stayed(
    masked: Masked, hospitals: dict[str, LinearSite], number: int, there: set[str]
) -> None:
    assert set(masked.status.values()) == {0}, masked.said
    weights = _weights(masked)
    name = "last.weight" if number else "centre"
    sites = [hospitals[one] for one in sorted(there)]
    start = weights[number][name].astype(np.float64)
    updates = [(one.train(weights[number], _asked(number))[name] - start).ravel() for one in sites]
    short = clipped(np.array(updates), MASKS.limit(number))
    if number:
        assert sum(np.linalg.norm(one) > BOUND for one in updates) > 0, "some of them were too long"
    mean = np.average(short, axis=0, weights=[one.records for one in sites]).reshape(start.shape)
    found = weights[number + 1][name]
    # Half a step of the quantisation, and what 32 bits of a weight leave out.
    slack = MASKS.step(number) / 2 + np.spacing(np.abs(found).max())
    np.testing.assert_allclose(found, start + mean, rtol=0, atol=slack)
    assert np.abs(mean).max() > 1e4 * slack


def test_who_fell_silent_is_named(masked: Masked) -> None:
    log = (masked.folder / "coordinator.log").read_text()
    assert "west fell silent" in log and "Round 1: 4 sites" in log and "Round 2: 5 sites" in log
    assert log.count("fell silent") == 1
    receipt = read_receipt(masked.folder / "model")
    assert receipt.settings["least_sites"] == 2 and "records" not in receipt.data
    assert "Promised to each patient: epsilon 7.99 at delta 1e-05." in masked.said["north"]


def _replies(line: Line) -> list[Message]:
    parts: dict[str, bytes] = {}
    for stream in line.sent:
        for path, _, body in requests(bytes(stream)):
            if path.endswith(b"push-object"):
                content = PushObjectRequest.FromString(body).object_content
                parts[get_object_id(content)] = content
    # The coordinator has sent an empty record itself, and asks for none.
    parts[EMPTY.object_id] = EMPTY.deflate()
    heads = [one for one, content in parts.items() if content.startswith(b"Message")]
    found = [inflate_object_from_contents(one, dict(parts)) for one in heads]
    return [one for one in found if isinstance(one, Message) and one.has_content() and one.content]


def test_a_round_that_is_done_again_has_fresh_keys_and_counts_do_not_travel(masked: Masked) -> None:
    for name, line in masked.lines.items():
        replies = _replies(line)
        assert all(list(one.content) in (["secure"], ["masked"]) for one in replies)
        said = [one.content.config_records["secure"] for one in replies if "secure" in one.content]
        keys = [one[kind] for one in said if "pledge" in one for kind in ("mask", "lock", "pledge")]
        # Three rounds, and one of them twice.
        assert len(set(map(str, keys))) == len(keys) == 3 * 4, name


def _patterns(site: LinearSite, weights: dict[str, Numbers], number: int) -> list[bytes]:
    """An update in every form in which it could be given away."""
    name = "last.weight"
    trained = site.train(weights, _asked(number))[name].ravel()
    update = trained - weights[name].ravel().astype(np.float64)
    words = weighted_words(update, site.records, settings=MASKS, number=number, site=site.name)[:-1]
    once = words.view(np.int64) // site.records
    short = clipped(update[None], BOUND)[0]
    forms: list[Numbers] = [trained, trained.astype(float), words, once, once.astype(np.int32)]
    forms += [form.astype(kind) for form in (update, short) for kind in (np.float32, np.float64)]
    at = min(int(np.abs(update).argmax()), len(update) - 4)
    # Ends in a byte that differs from number to number: searching is many times faster.
    return [form[at : at + 4].tobytes()[: 3 * form.itemsize + 2] for form in forms]


def test_no_single_update_travels_or_lies_with_the_coordinator(
    masked: Masked, hospitals: dict[str, LinearSite]
) -> None:
    weights = _weights(masked)
    heard = b"".join(bytes(one) for line in masked.lines.values() for one in line.sent)
    told = b"".join(one.read_bytes() for one in masked.folder.glob("*.log"))
    for name, site in hospitals.items():
        for number in (1, 2):
            patterns = _patterns(site, weights[number], number)
            assert not [one for one in patterns if one in heard + told]
            if number == 1 and name != "west":
                assert not [one for one in patterns if one in masked.memory]
    # What the coordinator does hold is found: a stretch of the centre, and masked words of sites.
    assert weights[1]["centre"][:8].tobytes() in masked.memory
    answered = [masked.lines[name] for name in FIVE if name != "west"]
    assert any(one in masked.memory for line in answered for one in _stretches(line))


def _stretches(line: Line) -> Iterator[bytes]:
    """Parts of what a site sent under its masks, of every round.

    A copy that was freed may have links of the allocator in its first bytes, and something else over a part
    of it; and several connections do not say which round came first. So more than one place is looked at.
    """
    for reply in _replies(line):
        if "masked" in reply.content:
            words = reply.content.array_records["masked"]["masked"].data
            for quarter in (1, 2, 3):
                at = quarter * len(words) // 4
                yield words[at : at + 64]
