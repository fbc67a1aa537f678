"""Secure aggregation: the sum is exact, nobody's update is seen, and silence is survived."""

import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as Wire
from numpy.typing import NDArray

import primum.train.federated.secure_site as site_side
from primum.errors import InputError, MachineError, PrimumError
from primum.train.federated.local_grid import Answer, LocalGrid
from primum.train.federated.secure import (
    SECURE,
    SecureSettings,
    masking,
    own_mask,
    packed,
    public_of,
    require_summable,
)
from primum.train.federated.secure_coordinator import secure_round
from primum.train.federated.secure_site import SecureAnswer
from primum.train.federated.settings import FederatedSettings
from primum.train.federated.sites import Arrays, Round

SHAPES = {"layer": (7, 5), "bias": (5,), "one": (1, 1)}
STAGES = ("keys", "shares", "update", "unmask")
# Enough of nine sites, and five of 15 or 20 may fall silent.
SETTINGS = SecureSettings(1.0, neighbours=12, threshold=7)
ASKED = Round(1, 1, 0.1)
Floats = NDArray[np.float64]


class Hospital:
    """Learns one update by heart."""

    def __init__(self, name: str, update: Arrays, records: int) -> None:
        self.name, self.update, self.records, self.patients = name, update, records, records
        self.noise = 0.0

    def train(self, weights: Arrays, asked: Round) -> Arrays:
        return {name: weights[name] + self.update[name] for name in self.update}

    def ledger(self, rounds: int) -> None:
        return None


def hospitals(
    count: int, *, seed: int = 0, shapes: Mapping[str, tuple[int, ...]] = SHAPES, size: float = 0.05
) -> list[Hospital]:
    rng = np.random.default_rng(seed)
    return [
        Hospital(
            f"site {place:02d}",
            {name: size * rng.standard_normal(shape) for name, shape in shapes.items()},
            int(rng.integers(1, 3000)),
        )
        for place in range(count)
    ]


def flat(arrays: Arrays) -> Floats:
    return np.concatenate([np.asarray(arrays[name], np.float64).ravel() for name in sorted(arrays)])


def plain_mean(sites: Collection[Hospital], bound: float = 1.0) -> Floats:
    """What the coordinator would make of updates in the clear."""
    updates = [flat(one.update) for one in sites]
    short = [one * min(1.0, bound / float(np.linalg.norm(one))) for one in updates]
    return np.asarray(np.average(short, axis=0, weights=[one.records for one in sites]))


class Watched(LocalGrid):
    """Keeps all that reaches the coordinator, and lets nodes fall silent from a stage on."""

    def __init__(self, sites: Mapping[int, Answer], silent: Mapping[int, str] | None = None) -> None:
        super().__init__(sites)
        self.silent, self.received, self.asked = silent or {}, list[Message](), list[Message]()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Any:
        messages = list(messages)
        stage = stage_of(messages[0])
        gone = {node for node, since in self.silent.items() if STAGES.index(since) <= STAGES.index(stage)}
        asked = [one for one in messages if one.metadata.dst_node_id not in gone]
        replies = list(super().send_and_receive(asked, timeout=timeout))
        self.asked += asked
        self.received += replies
        return replies


def stage_of(message: Message) -> str:
    return str(message.content.config_records[SECURE]["stage"])


def answers(sites: Iterable[Hospital], **more: Any) -> dict[int, Answer]:
    settings = more.pop("settings", SETTINGS)
    return {place + 1: SecureAnswer(one, settings=settings, **more) for place, one in enumerate(sites)}


def summed(
    sites: Mapping[int, Answer],
    *,
    silent: Mapping[int, str] | None = None,
    settings: SecureSettings = SETTINGS,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    asked: Round = ASKED,
) -> tuple[Floats, list[str], int, Watched]:
    grid = Watched(sites, silent)
    weights = {name: np.full(shape, 0.25) for name, shape in shapes.items()}
    found = secure_round(grid, list(sites), weights, asked, names=list(shapes), settings=settings)
    assert {name: part.shape for name, part in found[0].items()} == dict(shapes)
    return flat(found[0]), found[1], found[2], grid


@pytest.mark.parametrize(("count", "bits"), [(8, 10), (15, 32), (20, 16)])
def test_the_sum_is_exact_to_the_quantisation(count: int, bits: int) -> None:
    settings = replace(SETTINGS, bits=bits, most_records=1 << 16)
    every: list[Mapping[str, tuple[int, ...]]] = [SHAPES, {"a": (3,)}, {"b": (2, 3, 4), "a": (64,)}]
    for seed, shapes in enumerate(every):
        sites = hospitals(count, seed=seed, shapes=shapes, size=0.02 * (1 + 9 * (seed == 2)))
        mean, silent, records, _ = summed(answers(sites, settings=settings), settings=settings, shapes=shapes)
        assert silent == [] and records == sum(one.records for one in sites)
        step = 2.0 ** (1 - bits)
        assert np.abs(mean - plain_mean(sites)).max() <= step / 2 * (1 + 1e-9)
        # Python's own integers, of any length.
        short = [plain_mean([one]) for one in sites]
        whole = [
            sum(
                int(np.rint(one[place] / step)) * site.records for one, site in zip(short, sites, strict=True)
            )
            for place in range(len(mean))
        ]
        np.testing.assert_allclose(mean, np.array(whole, np.float64) / records * step, rtol=1e-14, atol=1e-30)


MIXED = ["keys", "shares", "update", "update", "unmask"]


@pytest.mark.parametrize(
    ("count", "stages"),
    [*((15, [one] * 5) for one in STAGES), (15, MIXED), (20, MIXED), (20, ["update"] * 5)],
    ids=lambda one: str(one) if isinstance(one, int) else "-".join(one),
)
def test_five_sites_may_fall_silent_at_any_stage(count: int, stages: list[str]) -> None:
    sites = hospitals(count)
    places = np.random.default_rng(len(stages[0])).permutation(count)[:5]
    silent = {int(place) + 1: stage for place, stage in zip(places, stages, strict=True)}
    settings = SecureSettings(1.0) if count == 15 else SETTINGS
    mean, left_out, records, _ = summed(answers(sites, settings=settings), silent=silent, settings=settings)
    there = [one for place, one in enumerate(sites) if silent.get(place + 1) in (None, "unmask")]
    np.testing.assert_allclose(mean, plain_mean(there), atol=SETTINGS.step(1))
    assert records == sum(one.records for one in there)
    named = {f"node {node}" if stage == "keys" else sites[node - 1].name for node, stage in silent.items()}
    assert left_out == sorted(named - {one.name for one in there})


@pytest.mark.parametrize("stage", STAGES)
def test_too_few_stop_cleanly(stage: str) -> None:
    sites = answers(hospitals(15))
    # Eight of fifteen leave seven, of whom each has six others.
    grid = Watched(sites, dict.fromkeys(range(1, 10), stage))
    weights = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    with pytest.raises(MachineError, match="no update was seen"):
        secure_round(grid, list(sites), weights, ASKED, names=list(SHAPES), settings=SETTINGS)
    # Nobody trains for nothing: it may cost patients a part of what they were promised.
    assert (stage in ("keys", "shares")) == ("update" not in map(stage_of, grid.asked))
    if stage == "update":  # the same sites answer the next time
        mean, *_ = summed(sites)
        np.testing.assert_allclose(mean, plain_mean(hospitals(15)), atol=SETTINGS.step(1))


BIG = {"layer": (60, 50), "bias": (50,)}


def patterns(site: Hospital, settings: SecureSettings = SETTINGS) -> list[bytes]:
    """A site's update in every form in which its memory could give it away."""
    update = flat(site.update)
    whole = np.rint(plain_mean([site]) / settings.step(1)).astype(np.int64)
    forms: list[NDArray[Any]] = [update, update + 0.25, whole, whole * site.records, whole.astype(np.int32)]
    forms += [one.astype(np.float32) for one in forms[:2]]
    # Ends in a byte that differs from number to number: searching is many times faster.
    return [form[at : at + 5].tobytes()[: 4 * form.itemsize + 2] for form in forms for at in (8, 2000)]


def leaks(sites: Collection[Hospital], seen: bytes) -> list[str]:
    return [one.name for one in sites if any(pattern in seen for pattern in patterns(one))]


def correlations(sites: Collection[Hospital], grid: Watched, *, opened: bool) -> Floats:
    """Of each vector that was received with each site's update; without the sites' own masks if opened."""
    keys, shares = told_by(grid, "keys"), shares_by_key(grid, "there")
    words = []
    for one in grid.received:
        if "masked" in one.content.array_records:
            sent = np.frombuffer(one.content.array_records["masked"]["masked"].data, "<u8")
            if opened:
                given = shares[keys[one.metadata.src_node_id]["mask"]]
                sent = sent - own_mask(combine_shares(given[: SETTINGS.threshold]), len(sent))
            words.append(sent[:-1].view(np.int64))
    rows = np.array([*words, *(flat(one.update) for one in sites)], np.float64)
    return np.abs(np.atleast_2d(np.corrcoef(rows))[: len(words), len(words) :])


def without_masks(
    monkeypatch: pytest.MonkeyPatch, left_out: Sequence[str] = ("own_mask", "pair_mask")
) -> None:
    def no_mask(*known: Any, **more: Any) -> NDArray[np.uint64]:
        return np.zeros(known[-1], np.uint64)

    for name in left_out:
        monkeypatch.setattr(site_side, name, no_mask)


@pytest.mark.parametrize("left_out", [(), ("pair_mask",), ("own_mask", "pair_mask")])
def test_nothing_that_reaches_the_coordinator_tells_of_a_site(
    left_out: Sequence[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys are fresh in each run: by chance alone this fails once in ten million runs."""
    sites = hospitals(15, shapes=BIG)
    without_masks(monkeypatch, left_out)
    grid = Watched(answers(sites))
    weights = {name: np.full(shape, 0.25) for name, shape in BIG.items()}
    with caplog.at_level("DEBUG"), suppress(*[PrimumError] * bool(left_out)):
        secure_round(grid, range(1, 16), weights, ASKED, names=list(BIG), settings=SETTINGS)
    seen = b"".join(message_to_proto(one).SerializeToString() for one in grid.received)
    assert len(seen) > 15 * 8 * 3050
    everyone = [one.name for one in sites]
    assert leaks(sites, seen + caplog.text.encode()) == (everyone if len(left_out) == 2 else [])
    # Even once the coordinator has opened a site's own mask, those of its neighbours are left.
    for opened, leaking in ((False, len(left_out) == 2), (True, left_out == ("pair_mask",))):
        # Six deviations of what chance gives.
        alike = correlations(sites, grid, opened=opened) > 6 / 3050**0.5
        assert alike.shape == (15, 15) and alike.sum() == 15 * leaking


COORDINATOR = """
import sys
import numpy as np
from primum.train.federated.local_grid import LocalGrid
from primum.train.federated.secure import SecureSettings
from primum.train.federated.secure_coordinator import secure_round
from primum.train.federated.sites import Round
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as Wire

def put(data):
    sys.stdout.buffer.write(len(data).to_bytes(8, "little") + data)
    sys.stdout.buffer.flush()

def get():
    return sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(8), "little"))

class Piped(LocalGrid):
    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        put(len(messages).to_bytes(8, "little"))
        for one in messages:
            put(message_to_proto(one).SerializeToString())
        return [message_from_proto(Wire.FromString(get())) for _ in messages]

weights = {"layer": np.full((60, 50), 0.25), "bias": np.full(50, 0.25)}
put(b"")
while get():
    try:
        settings = SecureSettings(1.0, neighbours=12, threshold=7)
        found = secure_round(
            Piped({}), range(1, 10), weights, Round(1, 1, 0.1), names=list(weights), settings=settings
        )
        put(b"")
        put(np.concatenate([found[0][name].ravel() for name in sorted(weights)]).tobytes())
    except Exception as error:
        put(b"")
        put(str(error).encode())
"""


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="looks into a process as Linux shows it")
def test_the_memory_of_the_coordinator_holds_no_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coordinator in a process of its own, searched while it waits and once it is done."""
    sites = hospitals(9, shapes=BIG)
    LocalGrid({})
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", COORDINATOR], stdin=pipe, stdout=pipe, stderr=pipe) as child:
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        assert child.stdout.read(8) == bytes(8), "it has begun"
        before = {hash(page) for page in pages_of(child.pid)}

        def memory() -> bytes:
            return b"".join(page for page in pages_of(child.pid) if hash(page) not in before)

        mean, held = round_with(child, sites, memory)
        after = memory()
        assert leaks(sites, held) == leaks(sites, after) == []
        # What it does hold is found.
        assert mean[:64] in after
        without_masks(monkeypatch)
        assert leaks(sites, round_with(child, sites, memory)[1]) == [one.name for one in sites]
        child.stdin.close()
        assert leaks(sites, child.stderr.read()) == []
    np.testing.assert_allclose(np.frombuffer(mean), plain_mean(sites), atol=SETTINGS.step(1))


def round_with(
    child: subprocess.Popen[bytes], sites: Sequence[Hospital], memory: Callable[[], bytes]
) -> tuple[bytes, bytes]:
    """Run a round with a coordinator: its result, and what it held at the last stage."""
    assert child.stdin is not None and child.stdout is not None
    came, gone, asked, found = child.stdout, child.stdin, answers(sites), b""

    def get() -> bytes:
        return came.read(int.from_bytes(came.read(8), "little"))

    def put(data: bytes) -> None:
        gone.write(len(data).to_bytes(8, "little") + data)
        gone.flush()

    put(b"go")
    while count := int.from_bytes(get(), "little"):
        messages = [message_from_proto(Wire.FromString(get())) for _ in range(count)]
        if stage_of(messages[0]) == "unmask":
            found = memory()
        for one in messages:
            put(message_to_proto(asked[one.metadata.dst_node_id](one)).SerializeToString())
    return get(), found


def pages_of(process: int) -> Iterator[bytes]:
    """Everything that a process holds and no file is behind."""
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            place, rights, _, _, file, *_ = line.split()
            if rights.startswith("rw") and file == "0":
                start, end = (int(one, 16) for one in place.split("-"))
                memory.seek(start)
                whole = memory.read(end - start)
                yield from (whole[at : at + 4096] for at in range(0, len(whole), 4096))


def told_by(grid: Watched, stage: str) -> dict[int, Mapping[str, Any]]:
    """What each node answered in a stage."""
    asked = {one.metadata.dst_node_id for one in grid.asked if stage_of(one) == stage}
    key = {"keys": "pledge", "unmask": "shares"}[stage]
    records = {
        one.metadata.src_node_id: one.content.config_records[SECURE]
        for one in grid.received
        if one.has_content() and key in one.content.config_records.get(SECURE, {})
    }
    assert asked >= records.keys()
    return dict(records)


def shares_by_key(grid: Watched, part: str) -> dict[bytes, list[bytes]]:
    """Shares that the coordinator was given, by the public key of whose secret it is."""
    found: dict[bytes, list[bytes]] = {}
    replies = told_by(grid, "unmask")
    for one in grid.asked:
        if stage_of(one) == "unmask" and one.metadata.dst_node_id in replies:
            said: Mapping[str, Any] = one.content.config_records[SECURE]
            shares = replies[one.metadata.dst_node_id]["shares"]
            first = 0 if part == "there" else len(said["there"])
            for key, share in zip(said[part], shares[first:], strict=False):
                found.setdefault(key, []).append(share)
    return found


def test_one_share_less_opens_nothing() -> None:
    *_, grid = summed(answers(hospitals(15)), silent={4: "update"})
    pledges = {said["mask"]: said["pledge"] for said in told_by(grid, "keys").values()}
    own, keys = shares_by_key(grid, "there"), shares_by_key(grid, "silent")
    assert len(own) == 14 and len(keys) == 1
    for key, shares in [*list(own.items())[:3], *keys.items()]:
        for count in (SETTINGS.threshold - 1, SETTINGS.threshold):
            assert opens(shares[:count], key, pledges[key]) == (count == SETTINGS.threshold)


def opens(shares: list[bytes], key: bytes, pledge: bytes) -> bool:
    """Too few shares give chance bytes, sometimes not even of a secret's length."""
    try:
        secret = combine_shares(shares)
        return (
            sha256(secret).digest() == pledge or public_of(X25519PrivateKey.from_private_bytes(secret)) == key
        )
    except ValueError:
        return False


def test_a_coordinator_that_lies_about_who_fell_silent_opens_neither() -> None:
    """Half of the neighbours are told that a site is there, half that it is not; then all are asked again."""
    sites = hospitals(15)
    asked = answers(sites)

    class Lying(Watched):
        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Any:
            messages = list(messages)
            if stage_of(messages[0]) != "unmask":
                return super().send_and_receive(messages, timeout=timeout)
            victim = told_by(self, "keys")[3]["mask"]
            for place, one in enumerate(messages):
                said: Any = one.content.config_records[SECURE]
                if place % 2 and victim in said["there"]:
                    said["there"] = [key for key in said["there"] if key != victim]
                    said["silent"] = [*said["silent"], victim]
            replies = super().send_and_receive(messages, timeout=timeout)
            self.given = [len(shares_by_key(self, part)[victim]) for part in ("there", "silent")]
            again = super().send_and_receive(messages, timeout=timeout)
            assert all(one.has_error() for one in again)
            return replies

    grid = Lying(asked)
    weights = {name: np.full(shape, 0.25) for name, shape in SHAPES.items()}
    with pytest.raises(MachineError):
        secure_round(grid, range(1, 16), weights, ASKED, names=list(SHAPES), settings=SETTINGS)
    # It may open one of the two, where it tells more of them that; never both.
    assert sum(grid.given) == SETTINGS.neighbours < 2 * SETTINGS.threshold
    assert min(grid.given) < SETTINGS.threshold


def stage(said: Mapping[str, Any], node: int = 1) -> Message:
    return Message(packed(said), dst_node_id=node, message_type="query")


def stages_until(name: str, hospital: Hospital, **more: Any) -> tuple[SecureAnswer, dict[str, Any]]:
    """A site that has answered all stages before one, and what an honest coordinator tells it then."""
    caught: dict[str, Any] = {}

    class Stopping(Watched):
        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Any:
            messages = list(messages)
            if stage_of(messages[0]) == name:
                one = next(one for one in messages if one.metadata.dst_node_id == 1)
                caught["message"], caught["said"] = one, dict(one.content.config_records[SECURE])
                raise KeyboardInterrupt
            return super().send_and_receive(messages, timeout=timeout)

    asked = answers([hospital, *hospitals(15)[1:]], **more)
    weights = {key: np.full(shape, 0.25) for key, shape in SHAPES.items()}
    with pytest.raises(KeyboardInterrupt):
        secure_round(Stopping(asked), range(1, 16), weights, ASKED, names=list(SHAPES), settings=SETTINGS)
    site = asked[1]
    assert isinstance(site, SecureAnswer)
    return site, caught


WRONG: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "another bound": ("keys", lambda said: said.update(bound=1e9), "agreed on different things"),
    "a lower threshold": ("keys", lambda said: said.update(threshold=2), "agreed on different things"),
    "no session": ("keys", lambda said: said.update(session=3), "not due"),
    "a later stage": ("shares", lambda said: said.update(stage="unmask"), "not due"),
    "no stage": ("shares", lambda said: said.update(stage="all"), "not due"),
    "another session": ("shares", lambda said: said.update(session=b"0" * 16), "not due"),
    "few neighbours": ("shares", lambda said: said.update(masks=said["masks"][:6]), "fewer sites"),
    "itself twice": ("shares", lambda said: said.update(masks=said["masks"][:1] * 12), "fewer sites"),
    "no keys": ("shares", lambda said: said.pop("locks"), "fewer sites"),
    "keys that are none": ("shares", lambda said: said.update(locks=[bytes(32)] * 12), "changed keys"),
    "few that answered": (
        "update",
        lambda said: said.update(masks=said["masks"][:6], sealed=said["sealed"][:6]),
        "fewer sites",
    ),
    "a stranger": ("update", lambda said: said.update(masks=[b"1" * 32, *said["masks"][1:]]), "fewer sites"),
    "shares exchanged": ("update", lambda said: said["sealed"].reverse(), "does not open"),
    "shares cut": ("update", lambda said: said.update(sealed=[b"12"] * 12), "does not open"),
    "more tensors": ("update", lambda said: said["names"].append("patients"), "other tensors"),
    "both shares of one": ("unmask", lambda said: said["silent"].append(said["there"][0]), "fewer sites"),
    "one left out": ("unmask", lambda said: said["there"].pop(), "fewer sites"),
    "too few there": (
        "unmask",
        lambda said: said.update(there=said["there"][:6], silent=said["there"][6:]),
        "fewer sites",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_site_answers_nothing_that_was_not_agreed(wrong: str) -> None:
    name, change, sentence = WRONG[wrong]
    hospital = hospitals(1)[0]
    site, caught = stages_until(name, hospital)
    said = {key: list(one) if isinstance(one, list) else one for key, one in caught["said"].items()}
    change(said)
    message = caught["message"]
    message.content[SECURE] = packed(said)[SECURE]
    with pytest.raises(InputError, match=sentence) as raised:
        site(message)
    assert hospital.name in str(raised.value)
    # Nothing more of this session either.
    message.content[SECURE] = packed(caught["said"])[SECURE]
    if name != "keys":
        with pytest.raises(InputError, match="not due"):
            site(message)


@pytest.mark.parametrize("secret", [b"", b"k" * 32])
def test_a_secret_of_the_sites_stops_a_coordinator_that_plays_their_neighbours(secret: bytes) -> None:
    """The others are the coordinator's own, which know all but the secret."""
    victim, *played = hospitals(9)
    trained = []
    usual = victim.train
    victim.train = lambda *known: trained.append(1) or usual(*known)  # type: ignore[func-returns-value, method-assign]
    asked = answers([victim, *played])
    asked[1] = SecureAnswer(victim, settings=SETTINGS, secret=secret)
    if secret:
        with pytest.raises(MachineError, match="no update was seen"):
            summed(asked)
    else:
        summed(asked)
    assert len(trained) == (not secret)


def test_stages_may_find_a_process_of_their_own_and_leave_nothing() -> None:
    sites = hospitals(9)
    held = [RecordDict() for _ in sites]

    def afresh(place: int) -> Answer:
        return lambda message: SecureAnswer(sites[place], settings=SETTINGS, held=held[place])(message)

    mean, *_ = summed({place + 1: afresh(place) for place in range(9)})
    np.testing.assert_allclose(mean, plain_mean(sites), atol=SETTINGS.step(1))
    assert not any(one.values() for one in held)


def changed(site: Answer, name: str, change: Callable[[dict[str, Any]], Any]) -> Answer:
    """A site whose answer to one stage is another."""

    def reply(message: Message) -> Message:
        honest = site(message)
        if stage_of(message) != name:
            return honest
        if name == "update":
            array = honest.content.array_records["masked"]["masked"]
            told = {"data": array.data}
            change(told)
            record = ArrayRecord({"masked": Array("uint64", array.shape, "raw", told["data"])})
            return Message(RecordDict({"masked": record}), reply_to=message)
        told = dict[str, Any](honest.content.config_records[SECURE].items())
        change(told)
        return Message(packed(told), reply_to=message)

    return reply


NONSENSE: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "a key of which nothing comes": ("keys", lambda told: told.update(mask=bytes(32))),
    "a short key": ("keys", lambda told: told.update(lock=b"k")),
    "no key": ("keys", lambda told: told.pop("pledge")),
    "the name of another": ("keys", lambda told: told.update(site="site 00")),
    "few shares": ("shares", lambda told: told["sealed"].pop()),
    "long shares": ("shares", lambda told: told.update(sealed=[b"1" * 999] * len(told["sealed"]))),
    "one share": ("shares", lambda told: told.update(sealed=3)),
    "few words": ("update", lambda told: told.update(data=told["data"][:-8])),
    "no words": ("update", lambda told: told.update(data=b"")),
    "shares of few": ("unmask", lambda told: told["shares"].pop()),
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_is_silence(nonsense: str) -> None:
    name, change = NONSENSE[nonsense]
    sites = hospitals(9)
    asked = answers(sites)
    mean, left_out, *_ = summed({**asked, 5: changed(asked[5], name, change)})
    there = [one for place, one in enumerate(sites) if place != 4 or name == "unmask"]
    np.testing.assert_allclose(mean, plain_mean(there), atol=SETTINGS.step(1))
    assert len(left_out) == 9 - len(there)


def added(data: bytes, place: int, more: int) -> bytes:
    """Change what lies under masks, as any site can."""
    words = np.frombuffer(data, "<u8").copy()
    words[place:][:1] += np.array([more]).astype(np.uint64)
    return words.tobytes()


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("unmask", lambda told: told.update(shares=[told["shares"][0]] * 8), "do not fit"),
        ("unmask", lambda told: told.update(shares=[b"\1" + bytes(51)] * 8), "do not fit"),
        ("keys", lambda told: told.update(pledge=bytes(32)), "do not fit"),
        ("update", lambda told: told.update(data=added(told["data"], 0, 1 << 60)), "keep to the bound"),
        ("update", lambda told: told.update(data=added(told["data"], -1, 1 << 60)), "keep to the bound"),
        ("update", lambda told: told.update(data=added(told["data"], -1, -(1 << 20))), "keep to the bound"),
    ],
)
def test_a_site_that_cheats_stops_the_round_cleanly(name: str, change: Any, sentence: str) -> None:
    asked = answers(hospitals(9))
    with pytest.raises(MachineError, match=sentence):
        # The first answers come first: its shares are among those that are used.
        summed({**asked, 1: changed(asked[1], name, change)})


def test_sites_shorten_their_updates_and_count_no_more_than_agreed() -> None:
    sites = hospitals(9)
    long = replace(SETTINGS, bound=0.1)
    assert min(np.linalg.norm(flat(one.update)) for one in sites) > 0.1
    mean, *_ = summed(answers(sites, settings=long), settings=long)
    np.testing.assert_allclose(mean, plain_mean(sites, 0.1), atol=long.step(1))
    # Round 0 has a bound of its own.
    mean, *_ = summed(answers(sites, settings=long), settings=long, asked=Round(0, 1, 0.1))
    np.testing.assert_allclose(mean, plain_mean(sites), atol=long.step(0))
    alike = replace(SETTINGS, most_records=1)
    mean, _, records, _ = summed(answers(sites, settings=alike), settings=alike)
    assert records == 9
    np.testing.assert_allclose(mean, np.mean([flat(one.update) for one in sites], axis=0), atol=alike.step(1))


def test_a_site_whose_training_went_wrong_sends_nothing() -> None:
    sites = hospitals(15)
    sites[2].update = {**sites[2].update, "one": np.full((1, 1), np.nan)}
    sites[3].update = {"one": np.zeros((1, 1))}
    mean, left_out, *_ = summed(answers(sites))
    assert left_out == ["site 02", "site 03"]
    there = [one for place, one in enumerate(sites) if place not in (2, 3)]
    np.testing.assert_allclose(mean, plain_mean(there), atol=SETTINGS.step(1))


def test_what_needs_single_updates_is_refused() -> None:
    require_summable(FederatedSettings(bound=1.0))
    for rule in ("krum", "multi_krum", "median", "trimmed_mean", "bulyan"):
        with pytest.raises(InputError, match=f"The rule {rule.replace('_', ' ')} compares"):
            require_summable(FederatedSettings(rule=rule, bound=1.0))
    with pytest.raises(InputError, match="Who is malicious"):
        require_summable(FederatedSettings(bound=1.0), detector=True)
    with pytest.raises(InputError, match="--clip-updates"):
        require_summable(FederatedSettings())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"bound": 0.0}, "bound"),
        ({"bound": float("nan")}, "bound"),
        ({"bound_before": -1.0}, "bound"),
        ({"neighbours": 11}, "even number"),
        ({"threshold": 6}, "above half"),
        ({"threshold": 13}, "above half"),
        ({"neighbours": 2, "threshold": 1}, "above half"),
        ({"bits": 53}, "52 bits"),
        ({"most_records": 0}, "one record"),
    ],
)
def test_settings_that_protect_nobody_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        replace(SETTINGS, **wrong)


def test_more_sites_than_fit_the_sum_are_refused() -> None:
    SETTINGS.require_room(255)
    with pytest.raises(InputError, match="do not fit"):
        SETTINGS.require_room(256)


@pytest.mark.parametrize("sites", range(3, 60))
def test_no_story_of_a_coordinator_makes_a_sum_of_fewer_sites(sites: int) -> None:
    """The counting of docs/federated.md, and no threshold below that would do."""
    most = min(15, (sites - 1) // 2 * 2 + 1)
    for least in range(2, most + 1):
        settings = masking(1.0, sites=sites, least=least)
        count, needed = settings.neighbours, settings.threshold
        fewest = [one + 1 - sites * (count - one) // one for one in range(count // 2 + 1, count + 1)]
        assert needed + 1 - sites * (count - needed) // needed >= least
        assert all(one < least for one in fewest[: needed - count // 2 - 1])
    with pytest.raises(InputError, match=f"at most {most} can be held together"):
        masking(1.0, sites=sites, least=most + 1)
