"""The line between a coordinator and sites, in one process: what is refused, repeated, and left out."""

import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.workflows.federated_deployed_world import SITES, prepare

from primum.cli.main import run
from primum.errors import InputError, MachineError, PrimumError
from primum.records.case_writer import write_cases
from primum.records.synthetic_cases import ImageSettings, synthetic_images
from primum.records.synthetic_cases.images import IMAGE_CLASSES
from primum.train.federated.answering import answer
from primum.train.federated.deployed import CountedSite, SiteGrid
from primum.train.federated.local_grid import LocalGrid
from primum.train.federated.messages import arrays_record, config_record, read_reply
from primum.train.federated.rounds import run_rounds, site_ledger
from primum.train.federated.secure import SecureSettings, masking
from primum.train.federated.secure_coordinator import secure_round
from primum.train.federated.secure_site import SecureAnswer
from primum.train.federated.settings import FederatedSettings
from primum.train.federated.sites import Arrays, Round, Site
from primum.train.private_linear import LinearSettings, mechanisms_of
from primum.train.receipt import read_receipt
from primum.workflows import federated_deployed, federated_deployed_link
from primum.workflows.federated_deployed import (
    CoordinatorPlan,
    SitePlan,
    coordinate,
    remembering,
    take_part,
)
from primum.workflows.federated_deployed_link import SiteLink, private_key, shared_secret
from primum.workflows.federated_deployed_server import listening, registered_keys, server_context, serving
from primum.workflows.learners import ModelOptions
from primum.workflows.private_options import PrivateOptions

# isort: split
from flwr.app import Message, RecordDict
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import RegisterNodeFleetRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_utils import push_objects
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

SITE = "site --coordinator a:1 --ca c --name n --records r"
COORDINATOR = "coordinator --certificate c --registered k --sites 3 --like r --out o"
WEIGHTS = {"layer": np.zeros((2, 3), np.float32)}


class Killed(BaseException):
    """What no site survives."""


class Adding:
    """A site that adds a number to every weight."""

    patients, records, noise = 5, 7, 0.0

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
        grid.dismiss(0, timeout=0.5)


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


def test_a_line_that_breaks_as_a_site_answers_is_no_death(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answer is sent again: asked for a stage twice, a site that masks would fall silent."""
    asked, site, broken = served.ask("north"), Adding("north"), list[str]()
    usual = push_objects

    def breaks(*given: Any, **named: Any) -> Any:
        if not broken:
            broken.append("once")
            raise httpx.ReadError("cut")
        return usual(*given, **named)

    monkeypatch.setattr(federated_deployed_link, "push_objects", breaks)
    served.start("north", answer(site))
    (reply,) = asked.result(20)
    assert reply.has_content() and broken and site.asked == 1


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


MASKS = masking(1.0, sites=3)


def _hearing(served: Served, plan: SitePlan) -> tuple["Future[Any]", list[str]]:
    heard = list[str]()
    told = served.pool.submit(take_part, plan, heard=lambda said, **given: heard.append(said.format(**given)))
    return told, heard


def _secret(folder: Path, secret: bytes = b"s" * 32, mode: int = 0o640) -> Path:
    (folder / "sites.secret").write_bytes(secret)
    (folder / "sites.secret").chmod(mode)
    return folder / "sites.secret"


def test_a_site_that_masks_sends_nothing_in_the_clear(served: Served, world: Path, tmp_path: Path) -> None:
    plan = replace(_site_plan(world, served.port), secure=MASKS, secret=_secret(tmp_path))
    told, heard = _hearing(served, plan)
    (left,) = served.ask("north", timeout=20).result(30)
    assert "did not answer" in str(left.error.reason)
    served.grid.dismiss(1, timeout=5)
    told.result(10)
    assert any("for an update in the clear, and --secure was agreed on" in one for one in heard)


@pytest.mark.parametrize(
    ("known", "says"),
    [
        (None, "start this site with --secure"),
        (masking(0.5, sites=3), "agreed on different things"),
    ],
)
def test_a_site_masks_as_it_was_told_and_not_as_the_coordinator_says(
    served: Served, world: Path, tmp_path: Path, known: SecureSettings | None, says: str
) -> None:
    plan = _site_plan(world, served.port)
    if known is not None:
        plan = replace(plan, secure=known, secret=_secret(tmp_path))
    told, heard = _hearing(served, plan)
    for name in ("south", "west"):
        served.start(name, SecureAnswer(Adding(name), settings=MASKS, secret=b"s" * 32))
    while len(list(served.grid.get_node_ids())) < 3:
        sleep(0.02)
    with pytest.raises(MachineError, match="no update was seen"):
        secure_round(
            served.grid,
            list(served.grid.names),
            WEIGHTS,
            Round(1, 1, 0.1),
            names=["layer"],
            settings=MASKS,
            timeout=20,
        )
    served.grid.dismiss(3, timeout=5)
    told.result(10)
    assert any(says in one for one in heard)


def test_what_is_kept_is_what_was_under_the_masks() -> None:
    """A masked round that is done again has the same noise in it, and other masks."""
    sites, shelf = {name: Adding(name) for name in SITES}, Shelf()
    means = []
    for number in (0.01, 0.5):
        sites["north"].number = number
        # Another process, the same folder.
        counted = CountedSite(sites["north"], keep=shelf, rounds=2)
        others: list[Site] = [sites["south"], sites["west"]]
        answers = {
            place: SecureAnswer(one, settings=MASKS) for place, one in enumerate([counted, *others], start=1)
        }
        asked = list(answers), WEIGHTS, Round(1, 1, 0.1)
        mean, *_ = secure_round(LocalGrid(answers), *asked, names=["layer"], settings=MASKS)
        means.append(mean["layer"])
    np.testing.assert_array_equal(means[0], means[1])
    assert sites["north"].asked == 1 and counted.answered == 1


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
    told = list[tuple[int, int]]()
    standing = run_rounds(
        served.grid,
        WEIGHTS,
        settings=FederatedSettings(2),
        sites=3,
        told=lambda number, sites, records, left_out: told.append((sites, records)),
        timeout=20,
    )
    assert told == [(3, 21)] * 2
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
        ({"judge": "like"}, "or leave --judge out"),
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


def test_the_coordinators_own_cases_judge(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, seen = synthetic_images(40, seed=8, settings=ImageSettings(size=16)), list[Any]()
    write_cases(tmp_path / "held", {"train": cases}, IMAGE_CLASSES)

    def spying(*given: Any, judge: Any, **named: Any) -> Any:
        seen.append(judge.recalls(given[1]))
        raise InputError("That is all.")

    monkeypatch.setattr(federated_deployed, "run_rounds", spying)
    plan = replace(_coordinator_plan(world, tmp_path / "model"), judge=tmp_path / "held")
    with pytest.raises(InputError, match="That is all"):
        coordinate(plan, heard=_silent)
    assert seen[0].tolist() == [1.0, 0.0], "weights of zero say the first class"


def test_a_site_asks_more_seldom_while_there_is_nothing_to_do(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, key, pauses = (world / "ca.pem").read_bytes(), private_key(world / "north.key"), list[float]()
    link = SiteLink("127.0.0.1:1", ca, key, heard=_silent, patience=1.0)
    silence = SimpleNamespace(PullMessages=lambda request: SimpleNamespace(messages_list=[]))
    monkeypatch.setattr(link, "_client", silence)
    monkeypatch.setattr(federated_deployed_link, "sleep", pauses.append)
    for _ in range(20):
        assert not link._answered(Node(node_id=1), lambda asked: asked)
    assert pauses[0] == 0.3 and pauses[-1] == 1.5 and pauses == sorted(pauses)


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    assert shared_secret(_secret(tmp_path)) == b"s" * 32
    for secret, mode in ((b"s" * 32, 0o644), (b"s" * 31, 0o600), (b"s" * 33, 0o600)):
        with pytest.raises(InputError, match="closed to others"):
            shared_secret(_secret(tmp_path, secret, mode))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rule": "krum"}, "The rule krum compares"),
        ({"bound": None}, "give --clip-updates"),
        ({"site_noise": 1.0}, "leave out --site-noise"),
    ],
)
def test_a_coordinator_that_sees_sums_alone_is_refused_what_needs_more(
    world: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    plan = replace(_coordinator_plan(world, tmp_path / "model"), least=2)
    settings = replace(plan.settings, **{"bound": 1.0, **changes})
    with pytest.raises(InputError, match=says):
        coordinate(replace(plan, settings=settings), heard=_silent)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (f"{SITE} --secure", "give all of them, or none"),
        (f"{SITE} --secure --clip-updates 1 --sites 3", "give all of them, or none"),
        (f"{SITE} --clip-updates 1", "give all of them, or none"),
        (f"{COORDINATOR} --least-sites 2", "give both, or neither"),
    ],
)
def test_half_of_secure_aggregation_is_refused(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "federated", *words.split(), "--key", "k", "--lang", "en"]) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_sites_that_add_noise_and_a_coordinator_that_does(world: Path, tmp_path: Path) -> None:
    """Both promises between machines: Adam's steps suit the noise, and the receipt holds the ledger."""
    heard = list[str]()
    settings = FederatedSettings(
        2, learning_rate=320.0, server="fedadam", bound=10.0, site_noise=0.5, adapted=True, averaged=True
    )
    plan = replace(_coordinator_plan(world, tmp_path / "model"), sites=2, settings=settings)
    promised = PrivateOptions(8.0, 1e-5, None, True, {})
    # Found once, so that two sites need not find it at the same time.
    noise = mechanisms_of(LinearSettings(8.0, steps=2))[1].noise_multiplier * LinearSettings().clip

    def part(name: str) -> Any:
        place = _site_plan(world, port)
        own: dict[str, Any] = {"key": world / f"{name}.key", "records": world / name, "keep": tmp_path / name}
        return take_part(replace(place, name=name, private=promised, rounds=2, **own), heard=_silent)

    with ThreadPoolExecutor(4) as pool:
        told = pool.submit(coordinate, plan, heard=lambda said, **given: heard.append(said.format(**given)))
        while not heard:
            sleep(0.02)
        port = int(heard[0].rstrip(".").rpartition(":")[2])
        ledgers = [one.result(60) for one in [pool.submit(part, name) for name in SITES[:2]]]
        standing = told.result(60)
    assert [one.epsilon for one in ledgers] == [pytest.approx(8.0, abs=0.02)] * 2
    receipt, ledger = read_receipt(tmp_path / "model"), site_ledger(settings, 2, before=True)
    assert ledger is not None and receipt.ledger is not None
    assert receipt.ledger["sites"] == json.loads(json.dumps(ledger.as_json()))
    assert receipt.seed is None and standing.optimiser
    said = json.loads((tmp_path / "model" / "federated.json").read_text())
    assert said["learning_rate"] == pytest.approx(0.25 * 16 / (noise * 2**0.5))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "",
            {"server": "fedavg", "proximal": 0.0, "learning_rate": 80.0, "adapted": True, "averaged": True},
        ),
        ("--strategy fedprox", {"server": "fedavg", "proximal": 0.01}),
        ("--strategy fedprox --proximal 2 --learning-rate 7", {"proximal": 2.0, "learning_rate": 7.0}),
        ("--learning-rate 7", {"adapted": False, "averaged": True}),
        (
            "--strategy fedadam --network image",
            {"server": "fedadam", "learning_rate": 3e-3, "adapted": False},
        ),
        ("--site-noise 2 --clip-updates 3", {"site_noise": 2.0, "bound": 3.0}),
    ],
)
def test_what_is_typed_is_what_sites_are_asked(
    words: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[CoordinatorPlan]()
    monkeypatch.setattr(federated_deployed, "coordinate", lambda plan, heard: asked.append(plan))
    typed = f"train federated {COORDINATOR} --key k --network scattering --lang en {words}"
    assert run(typed.split()) == 0
    assert {name: getattr(asked[0].settings, name) for name in expected} == expected


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
        ({"secure": MASKS, "secret": "none.pem"}, "cannot be read"),
        ({"secure": MASKS, "secret": "ca.pem"}, "no secret of the sites: it must be 32 random bytes"),
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
