"""Both ends of a federated training between machines: Flower's SuperLink as a grid, and a site that counts.

The coordinator's process holds the SuperLink's state itself. What is relied upon of Flower 1.41.0 is named in
``docs/federated-deployed.md``.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from time import monotonic, sleep

import numpy as np

from primum.errors import InputError
from primum.fit.protocol import Keep
from primum.train.accounting import PrivacyLedger
from primum.train.federated.local_grid import OneRun
from primum.train.federated.messages import SITE
from primum.train.federated.sites import Arrays, Round, Site

# Below messages, which keeps Flower from calling home.
# isort: split
from flwr.app import Error, Message, RecordDict
from flwr.app.message.message import remove_content_from_message
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, SUPERLINK_NODE_ID, Status
from flwr.proto.message_pb2 import ObjectTree
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.serverapp import Grid
from flwr.supercore.constant import NOOP_FEDERATION_ID, NodeStatus, TaskType
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager

# The type of the message that ends a training.
OVER = "evaluate"
_FAILED, _EACH = 1, 0.1
# Of a reply beside its tensors: a message, its records, and their numbers.
_BESIDE, _A_TENSOR = 16, 4


class SiteState(InMemoryLinkState):
    """A SuperLink's state for sites that are killed and come back, and replies of an agreed size.

    Parameters
    ----------
    most : int
        Objects in a reply.
    """

    def __init__(self, most: int) -> None:
        super().__init__(NoOpFederationManager(), InMemoryObjectStore())
        self._most = most

    def activate_node(self, node_id: int, heartbeat_interval: float) -> bool:
        """Let a site in whether or not it said goodbye, and give it again what it had not answered."""
        with self.lock:
            self.deactivate_node(node_id)
            for name, message in self.message_ins_store.items():
                if message.metadata.dst_node_id == node_id and self.contents(name) is None:
                    if half := self.message_ins_id_to_message_res_id.get(name):
                        self._on_push_session_expired({half})
                        self.object_store.delete(half)
                    message.metadata.delivered_at = ""
            return super().activate_node(node_id, heartbeat_interval)

    def store_message_and_object_tree(
        self, message: Message, object_tree: ObjectTree, session_id: str
    ) -> tuple[bool, list[str]]:
        """Take the head of a reply, unless it announces more than a reply holds."""
        if sum(1 for _ in iterate_object_tree(object_tree)) > self._most:
            return False, []
        return super().store_message_and_object_tree(message, object_tree, session_id)

    def contents(self, message_id: str) -> dict[str, bytes] | None:
        """Return all objects of the reply to a message, its head last; None while one is missing."""
        with self.lock:
            reply = self.message_ins_id_to_message_res_id.get(message_id)
            if reply is None or reply not in self.object_store:
                return None
            tree = self.object_store.get_object_tree(reply)
            found = {one.object_id: self.object_store.get(one.object_id) for one in iterate_object_tree(tree)}
            whole = {name: content for name, content in found.items() if content}
            return {**whole, reply: whole.pop(reply)} if len(whole) == len(found) else None

    def forget(self, message_id: str) -> None:
        """Delete a message, its reply and their objects."""
        with self.lock:
            reply = self.message_ins_id_to_message_res_id.get(message_id)
            self.delete_messages({message_id})
            for one in filter(None, (message_id, reply)):
                self.object_store.delete(one)


class SiteGrid(OneRun, Grid):
    """The sites whose keys are registered, behind a SuperLink in this process.

    Parameters
    ----------
    keys : mapping of str to bytes
        Public key (PEM, as Flower writes it) of each site by its name.
    weights : mapping of str to array
        All that travels: replies are no larger.
    """

    def __init__(self, keys: Mapping[str, bytes], weights: Arrays) -> None:
        # Masked numbers take twice the room.
        self.largest = 2 * sum(one.nbytes for one in weights.values()) + (1 << 16)
        self.state = SiteState(_BESIDE + _A_TENSOR * len(weights) + self.largest // (1 << 20))
        account = NOOP_FLWR_AID, NOOP_ACCOUNT_NAME
        self.names = {self.state.create_node(*account, key, 0, name=name): name for name, key in keys.items()}
        self._run_id = self.state.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        task = self.state.run_ids[self._run_id].run.primary_task_id
        assert task is not None
        # A task that is claimed dies without the heartbeat of an executor; there is none here.
        self.state.task_store[task].status.status = Status.RUNNING
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = (
            task,
            self._run_id,
            SUPERLINK_NODE_ID,
        )

    def get_node_ids(self) -> Iterable[int]:
        """Return who has joined; one that is gone may come back within the round."""
        joined = self.state.get_node_info(statuses=[NodeStatus.ONLINE, NodeStatus.OFFLINE])
        return [one.node_id for one in joined]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Ask, and wait for everyone until the time is over; who is late is told from the others by name."""
        waiting = {one: message for message in messages for one in self.push_messages([message])}
        asked, replies = dict(waiting), list[Message]()
        until = None if timeout is None else monotonic() + timeout
        while waiting and (until is None or monotonic() < until):
            for reply in self.pull_messages(waiting):
                replies.append(reply)
                del waiting[reply.metadata.reply_to_message_id]
            sleep(_EACH)
        for one in asked:
            self.state.forget(one)
        return [*replies, *(self._left_out(one, "did not answer in time") for one in waiting.values())]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Leave messages for their sites."""
        sent = []
        for message in messages:
            with no_object_id_recompute():
                name = message.metadata.__dict__["_message_id"] = message.object_id
                self.state.object_store.preregister(self._run_id, get_object_tree(message))
                for one, part in get_all_nested_objects(message).items():
                    self.state.object_store.put(one, part.deflate())
            if self.state.store_message_ins(remove_content_from_message(message)):
                sent.append(name)
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are whole."""
        for name in list(message_ids):
            contents = self.state.contents(name)
            if contents is not None:
                yield self._read(self.state.message_ins_store[name], contents)

    def _read(self, asked: Message, contents: dict[str, bytes]) -> Message:
        """Take the content of a reply; who sent it is known by the key, whatever it says."""
        name = self.names[asked.metadata.dst_node_id]
        try:
            reply = inflate_object_from_contents(list(contents)[-1], contents)
            assert isinstance(reply, Message)
            if reply.has_error():
                return self._left_out(asked, "did not answer: its own log says why")
            content = reply.content
            if any(one.get(SITE, name) != name for one in content.config_records.values()):
                return self._left_out(asked, "answered under another name than its key is registered by")
        except Exception:  # whatever a site can send that is no message
            return self._left_out(asked, "sent a reply that cannot be read")
        return Message(content, reply_to=asked)

    def _left_out(self, asked: Message, why: str) -> Message:
        name = self.names[asked.metadata.dst_node_id]
        return Message(Error(_FAILED, f"{name} {why}: it is left out of this round."), reply_to=asked)

    def dismiss(self, sites: int, *, timeout: float) -> None:
        """Tell the sites, so many, that the training is over; nobody waits longer than `timeout` seconds."""
        until = monotonic() + timeout
        while len(joined := list(self.get_node_ids())) < sites and monotonic() < until:
            sleep(_EACH)
        over = [Message(RecordDict(), dst_node_id=one, message_type=OVER) for one in joined]
        self.send_and_receive(over, timeout=until - monotonic())


class CountedSite:
    """A site whose promise outlives its process: no round is answered twice with new noise.

    Parameters
    ----------
    site : Site
    keep : Keep
        Holds which rounds were answered, and the last answer.
    rounds : int
        How many were promised.
    """

    def __init__(self, site: Site, *, keep: Keep, rounds: int) -> None:
        self._site, self._keep, self._rounds = site, keep, rounds
        self.name, self.patients, self.records = site.name, site.patients, site.records
        self.noise = site.noise

    def train(self, weights: Arrays, asked: Round) -> Arrays:
        """Answer a round that was not answered, or repeat the last answer to the same question.

        Raises
        ------
        InputError
            A round that was answered already, or more of them than were promised.
        """
        question, held = _digest(weights, asked), self._keep.get("answered") or {}
        answered = [int(one) for one in held.get("rounds", ())]
        if asked.number in answered:
            if held["question"].tobytes() != question:
                raise InputError(
                    "The coordinator asks again for round {number}, with other weights: another answer would "
                    "spend more than patients were promised. A new training needs a promise of its own: "
                    "agree on it, then start this site with a new --keep folder.",
                    number=asked.number,
                )
            return {name[7:]: value for name, value in held.items() if name.startswith("answer/")}
        if not 0 <= asked.number <= self._rounds:
            raise InputError(
                "The coordinator asks for round {number}, and patients were promised {rounds} rounds.",
                number=asked.number,
                rounds=self._rounds,
            )
        answer = self._site.train(weights, asked)
        now = {"rounds": np.array([*answered, asked.number]), "question": np.frombuffer(question, np.uint8)}
        # Kept before it is sent: what is sent can be repeated.
        self._keep.put("answered", {**now, **{f"answer/{name}": value for name, value in answer.items()}})
        return answer

    def ledger(self, rounds: int) -> PrivacyLedger | None:
        """See :class:`primum.train.federated.sites.Site`."""
        return self._site.ledger(rounds)

    @property
    def answered(self) -> int:
        """Rounds after the first, which agrees on what comes before training."""
        return sum(1 for one in (self._keep.get("answered") or {}).get("rounds", ()) if one > 0)


def _digest(weights: Arrays, asked: Round) -> bytes:
    digest = hashlib.sha256(repr(astuple(asked)).encode())
    for name, value in sorted(weights.items()):
        digest.update(
            f" {name} {value.dtype} {value.shape} ".encode() + np.ascontiguousarray(value).tobytes()
        )
    return digest.digest()
