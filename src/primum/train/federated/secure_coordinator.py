"""The coordinator's side of secure aggregation: it learns the sum of updates, and of their weights."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from random import SystemRandom
from typing import Any, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from flwr.app import Message, RecordDict
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.serverapp import Grid

from primum.errors import MachineError
from primum.train.federated.messages import ARRAYS, CONFIG, arrays_record, config_record
from primum.train.federated.secure import (
    MASKED,
    SECURE,
    SecureSettings,
    Words,
    agreed_key,
    mean_of,
    own_mask,
    packed,
    pair_mask,
    public_of,
    shaped,
)
from primum.train.federated.sites import Arrays, Round

T = TypeVar("T")
Near = Mapping[int, Sequence[int]]
# Bytes: a share of 32 and their padding with its place, and two of them sealed.
_SHARE, _SEALED = 52, 132


@dataclass(frozen=True)
class _Keys:
    """What a site says of itself in the first stage."""

    site: str
    lock: bytes
    mask: bytes
    pledge: bytes


def secure_round(
    grid: Grid,
    nodes: Sequence[int],
    weights: Arrays,
    asked: Round,
    *,
    names: Collection[str],
    settings: SecureSettings,
    timeout: float = 3600.0,
) -> tuple[Arrays, list[str], int]:
    """Ask sites for a round of training, and learn nothing but their mean update and the sum of records.

    Parameters
    ----------
    grid : Grid
    nodes : sequence of int
        Whom to ask. Each answers as a :class:`primum.train.federated.secure_site.SecureAnswer`.
    weights : mapping of str to array
        All that is sent.
    asked : Round
    names : collection of str
        Tensors that sites answer with.
    settings : SecureSettings
    timeout : float
        Seconds each of the four stages waits for a site; whoever is late has fallen silent.

    Returns
    -------
    mapping of str to float64 array
        Mean change of each of `names`, weighted by records; zero: sites agree to change nothing.
    list of str
        Sites that are not in it, sorted; of one that never said its name, ``node`` and its number.
    int
        Sum of the records that sites count for.

    Raises
    ------
    InputError
        More sites than the sum has bits for.
    MachineError
        Too few sites are left to open what is masked, or the sum is none that honest sites make.
    """
    settings.require_room(len(nodes))
    session = _Session(grid, asked.number, settings, timeout, os.urandom(16))
    known = _distinct(session.ask("keys", {node: packed(vars(settings)) for node in nodes}, _keys))
    session.require([len(known) - 1])
    near = _neighbours(list(known), settings.neighbours)
    sealed = _sealed(session, known, near)
    # Only those whose secrets can be found again may put a mask on anything.
    near = {node: [one for one in near[node] if one in sealed] for node in sealed}
    session.require([len(near), *map(len, near.values())])
    sent = _masked(session, known, near, sealed, (weights, asked, names))
    session.require([len(sent)])
    secrets = _opened(session, known, near, sent)
    total: Words = np.stack(list(sent.values())).sum(axis=0)
    total -= _masks(session, known, near, sent, secrets, count=len(total))
    mean, records = mean_of(total, len(sent), settings=settings, number=asked.number)
    silent = [session.called(node, known) for node in nodes if node not in sent]
    return shaped(mean, {name: weights[name] for name in names}), sorted(silent), records


@dataclass(frozen=True)
class _Session:
    grid: Grid
    number: int
    settings: SecureSettings
    timeout: float
    name: bytes

    def ask(
        self, stage: str, told: Mapping[int, RecordDict], read: Callable[[RecordDict, int], T]
    ) -> dict[int, T]:
        """Tell each node its own, and return what can be read of the answers, in the order of those asked."""
        messages = []
        for node, content in told.items():
            content.config_records[SECURE].update({"stage": stage, "session": self.name})
            kind = "train" if ARRAYS in content else "query"
            messages.append(Message(content, dst_node_id=node, message_type=kind))
        answers: dict[int, T] = {}
        for message in self.grid.send_and_receive(messages, timeout=self.timeout):
            node = message.metadata.src_node_id
            # What cannot be read is as good as silence.
            with suppress(KeyError, TypeError, ValueError):
                if node in told and node not in answers and not message.has_error():
                    answers[node] = read(message.content, node)
        return {node: answers[node] for node in told if node in answers}

    def called(self, node: int, known: Mapping[int, _Keys]) -> str:
        """Name a site as it does itself; between machines the grid knows whose key is registered."""
        if node in known:
            return known[node].site
        names: Mapping[int, str] = getattr(self.grid, "names", {})
        return names.get(node, f"node {node}")

    def require(self, counts: Sequence[int]) -> None:
        if min(counts, default=0) < self.settings.threshold:
            raise MachineError(
                "Of the sites that hold shares of a secret in round {number}, {count} are left where "
                "{needed} are needed: the round cannot be opened, and no update was seen. Look at the silent "
                "sites, then start the coordinator again; it goes on from here.",
                number=self.number,
                count=min(counts, default=0),
                needed=self.settings.threshold,
            )


def _distinct(known: Mapping[int, _Keys]) -> dict[int, _Keys]:
    """Leave out who says another's name, or has another's key."""
    first: dict[bytes | str, int] = {}
    for node, one in known.items():
        first.setdefault(one.mask, node)
        first.setdefault(one.site, node)
    return {node: one for node, one in known.items() if first[one.mask] == first[one.site] == node}


def _neighbours(nodes: Sequence[int], count: int) -> dict[int, list[int]]:
    """Deal neighbours: in a ring in random order, so many on each side."""
    if len(nodes) - 1 <= count:
        return {node: [one for one in nodes if one != node] for node in nodes}
    ring = SystemRandom().sample(nodes, len(nodes))
    steps = [step for step in range(-count // 2, count // 2 + 1) if step]
    return {node: [ring[(place + step) % len(ring)] for step in steps] for place, node in enumerate(ring)}


def _keys(content: RecordDict, node: int) -> _Keys:
    said = content.config_records[SECURE]
    lock, mask, pledge = (_bytes_of(said[name], 32) for name in ("lock", "mask", "pledge"))
    for one in (lock, mask):
        # A key with which nothing can be agreed would silence every neighbour.
        agreed_key(X25519PrivateKey.generate(), one, purpose=b"", salt=b"")
    return _Keys(str(said["site"])[:80], lock, mask, pledge)


def _sealed(session: _Session, known: Mapping[int, _Keys], near: Near) -> dict[int, dict[int, bytes]]:
    """Return shares by who sealed them and whom they are for."""

    def read(content: RecordDict, node: int) -> dict[int, bytes]:
        return _dealt(content, near[node], _SEALED)

    def told(ones: Sequence[int]) -> RecordDict:
        return packed(
            {"masks": [known[one].mask for one in ones], "locks": [known[one].lock for one in ones]}
        )

    return session.ask("shares", {node: told(ones) for node, ones in near.items()}, read)


def _masked(
    session: _Session,
    known: Mapping[int, _Keys],
    near: Near,
    sealed: Mapping[int, Mapping[int, bytes]],
    work: tuple[Arrays, Round, Collection[str]],
) -> dict[int, Words]:
    """Return what each site adds to the sum, under its masks."""
    weights, asked, names = work
    count = sum(weights[name].size for name in names) + 1
    arrays, config = arrays_record(weights), config_record(asked)

    def read(content: RecordDict, node: int) -> Words:
        data = _bytes_of(content.array_records[MASKED][MASKED].data, 8 * count)
        return np.frombuffer(data, "<u8").astype(np.uint64)

    def told(node: int, ones: Sequence[int]) -> RecordDict:
        shares = [sealed[one][node] for one in ones]
        content = packed({"masks": [known[one].mask for one in ones], "sealed": shares, "names": list(names)})
        content[ARRAYS], content[CONFIG] = arrays, config
        return content

    return session.ask("update", {node: told(node, ones) for node, ones in near.items()}, read)


def _opened(
    session: _Session, known: Mapping[int, _Keys], near: Near, sent: Collection[int]
) -> dict[int, bytes]:
    """Return a secret of each site: that of its own mask if its update came, else its key."""
    parts = {
        node: [[one for one in near[node] if (one in sent) == there] for there in (True, False)]
        for node in sent
    }

    def read(content: RecordDict, node: int) -> dict[int, bytes]:
        return _dealt(content, [*parts[node][0], *parts[node][1]], _SHARE)

    def told(there: Sequence[int], silent: Sequence[int]) -> RecordDict:
        return packed(
            {"there": [known[one].mask for one in there], "silent": [known[one].mask for one in silent]}
        )

    answers = session.ask("unmask", {node: told(*both) for node, both in parts.items()}, read)
    shares = {node: [dealt[node] for dealt in answers.values() if node in dealt] for node in near}
    session.require([len(ones) for ones in shares.values()])
    return {
        node: _secret(session, known[node], ones[: session.settings.threshold], there=node in sent)
        for node, ones in shares.items()
    }


def _secret(session: _Session, keys: _Keys, shares: list[bytes], *, there: bool) -> bytes:
    with suppress(ValueError):
        secret = combine_shares(shares)
        told = sha256(secret).digest() if there else public_of(X25519PrivateKey.from_private_bytes(secret))
        if told == (keys.pledge if there else keys.mask):
            return secret
    raise MachineError(
        "The shares of a secret of {site} do not fit: a site sent wrong ones, and round {number} cannot be "
        "opened. Start the coordinator again; it goes on from here.",
        site=keys.site,
        number=session.number,
    )


def _masks(
    session: _Session,
    known: Mapping[int, _Keys],
    near: Near,
    sent: Collection[int],
    secrets: Mapping[int, bytes],
    *,
    count: int,
) -> Words:
    """Return what masks leave in the sum: own ones of those in it, and what they put on for others."""
    total = np.zeros(count, np.uint64)
    for node, secret in secrets.items():
        if node in sent:
            total += own_mask(secret, count)
            continue
        key = X25519PrivateKey.from_private_bytes(secret)
        for one in near[node]:
            # The neighbour put it on with the other sign; of two that are silent, both cancel.
            total -= pair_mask(key, known[one].mask, count, session=session.name)
    return total


def _dealt(content: RecordDict, nodes: Sequence[int], length: int) -> dict[int, bytes]:
    listed = content.config_records[SECURE]["sealed" if length == _SEALED else "shares"]
    if not isinstance(listed, list):
        raise ValueError
    return {node: _bytes_of(one, length) for node, one in zip(nodes, listed, strict=True)}


def _bytes_of(value: Any, length: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != length:
        raise ValueError
    return value
