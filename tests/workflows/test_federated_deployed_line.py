"""The line between a coordinator and sites, in one process: what is refused, repeated, and left out."""

import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.workflows.federated_deployed_world import SITES, prepare

from primum.errors import InputError, MachineError, PrimumError
from primum.train.federated.answering import answer
from primum.train.federated.deployed import CountedSite, SiteGrid
from primum.train.federated.messages import arrays_record, config_record, read_reply
from primum.train.federated.rounds import FederatedSettings, run_rounds
from primum.train.federated.sites import Arrays, Round
from primum.workflows import federated_deployed_link
from primum.workflows.federated_deployed import (
    CoordinatorPlan,
    SitePlan,
    coordinate,
    remembering,
    take_part,
)
from primum.workflows.federated_deployed_link import SiteLink, private_key
from primum.workflows.federated_deployed_server import listening, registered_keys, server_context, serving
from primum.workflows.learners import ModelOptions
from primum.workflows.private_options import PrivateOptions

# isort: split
from flwr.app import Message, RecordDict
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import RegisterNodeFleetRequest
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

WEIGHTS = {"layer": np.zeros((2, 3), np.float32)}


class Killed(BaseException):
    """What no site survives."""


class Adding:
    """A site that adds a number to every weight."""

    patients, records = 5, 7

    def __init__(self, name: str, number: float = 1.0) -> None:
        self.name, self.number, self.asked = name, number, 0

    def train(self, weights: Arrays, asked: Round) -> Arrays:
        self.asked += 1
        return {name: (value + self.number).astype(np.float32) for name, value in weights.items()}

    def ledger(self, rounds: int) -> None:
        return None


class Shelf(dict[str, Mapping[str, NDArray[Any]]]):
    def put(self, name: str, arrays: Mapping[str, NDArray[Any]], /) -> None:
        self[name] = dict(arrays)


class Served:
    """A coordinator's end on loopback, and links of its sites."""

    def __init__(self, folder: Path, port: int, grid: SiteGrid, pool: ThreadPoolExecutor) -> None:
        self.folder, self.port, self.grid, self.pool = folder, port, grid, pool
        self.ca = (folder / "ca.pem").read_bytes()

    def link(self, name: str, *, patience: float = 5.0) -> SiteLink:
        key = private_key(self.folder / f"{name}.key")
        return SiteLink(
            f"127.0.0.1:{self.port}", self.ca, key, heard=lambda said, **given: None, patience=patience
        )

    def start(self, name: str, reply: Callable[[Message], Message]) -> "Future[None]":
        return self.pool.submit(self.link(name).serve, reply)

    def ask(self, name: str, *, timeout: float = 10.0) -> "Future[list[Message]]":
        """Ask one site for a round, whether or not it has joined."""
        node = next(one for one, known in self.grid.names.items() if known == name)
        self.grid.state.activate_node(node, 30)
        content = RecordDict({"arrays": arrays_record(WEIGHTS), "config": config_record(Round(1, 1, 0.1))})
        message = Message(content, dst_node_id=node, message_type="train")
        return self.pool.submit(lambda: list(self.grid.send_and_receive([message], timeout=timeout)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("line") / "world"
    prepare(folder)
    return folder


@pytest.fixture
def served(world: Path) -> Iterator[Served]:
    grid = SiteGrid(registered_keys(world / "keys"), WEIGHTS)
    context = server_context(world / "server.pem", world / "server.key")
    with (
        ThreadPoolExecutor(8) as pool,
        listening("127.0.0.1", 0) as taken,
        serving(grid, taken, context),
    ):
        yield Served(world, taken.getsockname()[1], grid, pool)
        grid.dismiss(0, timeout=2)


def test_who_dies_while_learning_is_asked_again(served: Served) -> None:
    asked = served.ask("north")

    def dies(message: Message) -> Message:
        raise Killed

    with pytest.raises(Killed):
        served.link("north").serve(dies)
    served.start("north", answer(Adding("north")))
    (reply,) = asked.result(20)
    read = read_reply(reply.content, expected={"layer": (2, 3)})
    assert read.site == "north" and (read.arrays["layer"] == 1).all()


def test_half_a_reply_is_no_reply(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = served.ask("north")
    with monkeypatch.context() as patched:

        def dies(*given: object, **named: object) -> None:
            raise Killed

        patched.setattr(federated_deployed_link, "push_objects", dies)
        with pytest.raises(Killed):
            served.link("north").serve(answer(Adding("north", 2.0)))
    assert not asked.done()
    served.start("north", answer(Adding("north", 3.0)))
    (reply,) = asked.result(20)
    assert (reply.content.array_records["arrays"]["layer"].numpy() == 3).all()
    assert not len(served.grid.state.object_store) and not served.grid.state.num_message_ins()


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (answer(Adding("south")), "another name than its key"),
        (lambda asked: _broken(asked), "cannot be read"),
        (lambda asked: Message(_many(30), reply_to=asked), "did not answer in time"),
        (lambda asked: Message(_many(1, size=1 << 18), reply_to=asked), "did not answer in time"),
    ],
)
def test_a_reply_that_was_not_agreed_on_is_left_out(
    served: Served, reply: Callable[[Message], Message], why: str
) -> None:
    asked = served.ask("north", timeout=1.5)
    served.start("north", reply)
    (left,) = asked.result(20)
    said = str(left.error.reason)
    assert said.startswith("north ") and why in said


def _broken(asked: Message) -> Message:
    """Make what has the head of a message, and nothing behind it."""
    reply = Message(RecordDict(), reply_to=asked)
    reply.__dict__["deflate"] = lambda: b"Message  4\0junk"
    return reply


def _many(count: int, *, size: int = 1) -> RecordDict:
    return RecordDict({"arrays": arrays_record({str(one): np.full(size, one) for one in range(count)})})


def test_a_site_that_fails_says_nothing_of_it_to_the_coordinator(served: Served, world: Path) -> None:
    heard = list[str]()
    plan = _site_plan(world, served.port)
    told = served.pool.submit(take_part, plan, heard=lambda said, **given: heard.append(said.format(**given)))
    # The network of the plan has no tensor of this name, so that it cannot answer.
    (left,) = served.ask("north", timeout=20).result(30)
    assert left.error.reason == "north did not answer: its own log says why: it is left out of this round."
    served.grid.dismiss(1, timeout=5)
    told.result(10)
    assert any("was not answered" in one for one in heard)


def test_nothing_but_the_rounds_is_served(served: Served) -> None:
    key = private_key(served.folder / "stranger.key")
    signing = [NodeAuthHttpInterceptor(key, key.public_key())]
    where = f"127.0.0.1:{served.port}"
    with FleetHttpClient.from_server_address(where, False, served.ca, signing) as client:
        mine = RegisterNodeFleetRequest(public_key=public_key_to_bytes(key.public_key()))
        with pytest.raises(httpx.HTTPStatusError):
            client.RegisterNode(mine)
        with pytest.raises(httpx.HTTPStatusError):
            client.GetFab(GetFabRequest(hash_str="0", run_id=0))
    trusted = ssl.create_default_context(cadata=served.ca.decode())
    with httpx.Client(verify=trusted, base_url=f"https://{where}") as plain:
        for path, status in (
            ("/v1/control/start-run", 404),
            ("/v1/runtime/pull-task", 404),
            ("/v1/fleet/get-fab", 401),
        ):
            sent = plain.post(path, content=b"\x08\x01", headers={"content-type": "application/protobuf"})
            assert sent.status_code == status
        assert plain.post("/v1/fleet/push-object", content=b"0" * (1 << 20)).status_code == 413
        assert plain.get("/docs").status_code == 413
    trusted.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", served.port)) as old, pytest.raises(ssl.SSLError):
        trusted.wrap_socket(old, server_hostname="127.0.0.1")


def test_rounds_begin_with_the_sites_that_are_registered(served: Served) -> None:
    for number, name in enumerate(SITES):
        served.start(name, answer(Adding(name, number)))
    told = list[int]()
    standing = run_rounds(
        served.grid,
        WEIGHTS,
        settings=FederatedSettings(2),
        sites=3,
        told=lambda number, replies, left_out: told.append(len(replies)),
        timeout=20,
    )
    assert told == [3, 3]
    np.testing.assert_array_equal(standing.weights["layer"], np.full((2, 3), 2.0))


def test_a_site_gives_up_in_the_end(world: Path) -> None:
    with listening("127.0.0.1", 0) as nobody:
        port = nobody.getsockname()[1]
    link = Served(world, port, SiteGrid({}, WEIGHTS), ThreadPoolExecutor(1)).link("north", patience=0.0)
    with pytest.raises(MachineError, match="cannot be reached"):
        link.serve(answer(Adding("north")))


def test_no_round_is_answered_twice_with_new_noise() -> None:
    site, shelf = Adding("north"), Shelf()
    first = CountedSite(site, keep=shelf, rounds=2).train(WEIGHTS, Round(1, 1, 0.1))
    site.number = 9.0
    # Another process, the same folder.
    counted = CountedSite(site, keep=shelf, rounds=2)
    again = counted.train(WEIGHTS, Round(1, 1, 0.1))
    np.testing.assert_array_equal(again["layer"], first["layer"])
    assert site.asked == 1
    for other in ({"layer": WEIGHTS["layer"] + 1}, WEIGHTS):
        with pytest.raises(InputError, match="asks again for round 1"):
            counted.train(other, Round(1, 1, 0.1 if other is not WEIGHTS else 0.2))
    counted.train(WEIGHTS, Round(2, 1, 0.1))
    with pytest.raises(InputError, match="asks again for round 1"):
        counted.train(WEIGHTS, Round(1, 1, 0.1))
    for number in (3, -1):
        with pytest.raises(InputError, match="were promised 2 rounds"):
            counted.train(WEIGHTS, Round(number, 1, 0.1))
    assert (site.asked, counted.answered) == (2, 2)


def test_a_memory_is_of_one_promise(tmp_path: Path) -> None:
    promise = {"rounds": 2, "settings": {"epsilon": 8.0}}
    with remembering(tmp_path / "kept", promise) as kept:
        kept.put("answered", {"rounds": np.arange(1)})
        with pytest.raises(InputError, match="at work"), remembering(tmp_path / "kept", promise):
            pass
    with pytest.raises(InputError, match="another promise"), remembering(tmp_path / "kept", {"rounds": 3}):
        pass
    (tmp_path / "kept" / "answered.piece").write_bytes(b"half")
    with pytest.raises(InputError, match="is damaged"), remembering(tmp_path / "kept", promise):
        pass


def _site_plan(world: Path, port: int) -> SitePlan:
    options = ModelOptions("scattering", patience=0)
    return SitePlan(
        f"127.0.0.1:{port}", world / "ca.pem", world / "north.key", "north", world / "north", options
    )


def _coordinator_plan(world: Path, out: Path) -> CoordinatorPlan:
    options = ModelOptions("scattering", patience=0)
    placed = world / "server.pem", world / "server.key", world / "keys", 3, world / "like", out
    return CoordinatorPlan("127.0.0.1", 0, *placed, options, FederatedSettings(1))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"certificate": "none.pem"}, "cannot be read"),
        ({"certificate": "ca.pem"}, "no certificate and its private key"),
        ({"key": "keys/north.pem"}, "no certificate and its private key"),
        ({"registered": "none"}, "holds no registered keys"),
        ({"registered": "."}, "is no key of a site"),
        ({"like": "none"}, "none"),
        ({"out": "north"}, "is not empty"),
    ],
)
def test_a_coordinator_is_refused_what_cannot_be_used(
    world: Path, tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    given: dict[str, Any] = {name: world / one for name, one in changes.items()}
    plan = replace(_coordinator_plan(world, tmp_path / "model"), **given)
    with pytest.raises(InputError, match=says):
        coordinate(plan, heard=_silent)
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_and_too_many_sites(world: Path, tmp_path: Path) -> None:
    plan = _coordinator_plan(world, tmp_path / "model")
    with (
        listening("127.0.0.1", 0) as taken,
        pytest.raises(InputError, match="cannot be listened on"),
    ):
        coordinate(replace(plan, port=taken.getsockname()[1]), heard=_silent)
    with pytest.raises(InputError, match="with 3 registered keys"):
        coordinate(replace(plan, sites=4), heard=_silent)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ca": "none.pem"}, "cannot be read"),
        ({"ca": "north.key"}, "no certificate that can be read"),
        ({"key": "ca.pem"}, "is no key of a site"),
        ({"key": "server.pem"}, "is no key of a site"),
        ({"records": "none"}, "none"),
        ({"private": PrivateOptions(8.0, 1e-5, None, True, {})}, "give --keep"),
    ],
)
def test_a_site_is_refused_what_cannot_be_used(world: Path, changes: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {
        name: world / one if isinstance(one, str) else one for name, one in changes.items()
    }
    with pytest.raises(PrimumError, match=says) as refused:
        take_part(replace(_site_plan(world, 1), **given), heard=_silent)
    assert refused.value.exit_status == 2


def _silent(said: str, **given: object) -> None:
    return None
