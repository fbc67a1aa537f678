"""A hospital's end of the line: Flower's SuperNode client, and code that is installed here alone.

Nothing that a coordinator sends is executed: no app bundle is asked for, and messages hold numbers.
"""

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from primum.errors import InputError, MachineError
from primum.report.language import message
from primum.train.federated.deployed import OVER
from primum.train.federated.local_grid import Answer

# Below the grid, which keeps Flower from calling home.
# isort: split
from flwr.app import Message, RecordDict
from flwr.app.message.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_MAX_INTERVAL
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
    push_objects,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

# Told by a site: a sentence and its parameters.
Heard = Callable[..., None]
# Seconds between two questions: at first, and after long silence, for signatures cost the coordinator time.
_ASK_EVERY, _SELDOM, _SLOWER = 0.3, 1.5, 1.2
_SECRET = 32
# Of a curve on which a signature is worth as much as those of TLS.
LEAST_BITS = 256
JOINED, LOST = message("Joined the training."), message("The coordinator cannot be reached; asking again.")


def read_file(path: Path) -> bytes:
    """Read a small file.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            "{path} cannot be read ({reason}): name a file that is there.",
            path=str(path),
            reason=error.strerror or type(error).__name__,
        ) from error


def private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the key by which a site is known.

    Raises
    ------
    InputError
        There is none, or of another kind.
    """
    try:
        key = load_pem_private_key(read_file(path), password=None)
    except (ValueError, TypeError) as error:
        raise not_a_key(path) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.key_size < LEAST_BITS:
        raise not_a_key(path)
    return key


def shared_secret(path: Path) -> bytes:
    """Read what all sites have and their coordinator has not.

    Raises
    ------
    InputError
        Not 32 bytes, or everybody of this machine may read them.
    """
    secret = read_file(path)
    if len(secret) != _SECRET or (os.name == "posix" and path.stat().st_mode & 0o007):
        raise InputError(
            "{path} is no secret of the sites: it must be {count} random bytes, the same at every site, and "
            "closed to others (chmod o= {path}).",
            path=str(path),
            count=_SECRET,
        )
    return secret


def not_a_key(path: Path) -> InputError:
    """Say that a file holds no key of a site."""
    return InputError(
        "{path} is no key of a site: make one with openssl genpkey -algorithm EC -pkeyopt "
        "ec_paramgen_curve:P-384.",
        path=str(path),
    )


class SiteLink:
    """A site's end: Flower's SuperNode client, and code of this site alone.

    Parameters
    ----------
    coordinator : str
        Host and port.
    ca : bytes
        PEM of who signed the coordinator's certificate; nobody else is trusted.
    key : EllipticCurvePrivateKey
    heard : callable
        Told what happens.
    patience : float
        Seconds without a coordinator, after which the site gives up.

    Raises
    ------
    InputError
        `ca` is no certificate.
    """

    def __init__(
        self, coordinator: str, ca: bytes, key: ec.EllipticCurvePrivateKey, *, heard: Heard, patience: float
    ) -> None:
        self._where, self._heard, self._patience = coordinator, heard, patience
        self._key = public_key_to_bytes(key.public_key())
        self._unsent: tuple[str, Message] | None = None
        self._pause = _ASK_EVERY
        try:
            self._client = FleetHttpClient.from_server_address(
                coordinator, False, ca, [NodeAuthHttpInterceptor(key, key.public_key())]
            )
        except (ssl.SSLError, ValueError) as error:
            raise InputError(
                "--ca holds no certificate that can be read: give that of who signed the coordinator's."
            ) from error

    def serve(self, answer: Answer) -> None:
        """Answer what the coordinator asks until it says that the training is over.

        Raises
        ------
        InputError
            The coordinator knows no such key, or shows a certificate that is not of the CA.
        MachineError
            It could not be reached for too long.
        """
        lost: float | None = None
        with self._client:
            while True:
                try:
                    node = self._joined()
                    lost = None
                    while not self._answered(node, answer):
                        pass
                    return
                except (httpx.HTTPError, ObjectPullError, ObjectPushError, ValueError) as error:
                    if _untrusted(error):
                        raise InputError(
                            "The coordinator at {where} shows a certificate that is not of --ca, or of "
                            "another name: nothing was sent.",
                            where=self._where,
                        ) from error
                    if lost is None:
                        lost = monotonic()
                        self._heard(LOST)
                    if monotonic() - lost > self._patience:
                        raise MachineError(
                            "The coordinator at {where} cannot be reached: start this site again once it is "
                            "there.",
                            where=self._where,
                        ) from error
                    sleep(_ASK_EVERY)

    def _joined(self) -> Node:
        request = ActivateNodeRequest(public_key=self._key, heartbeat_interval=HEARTBEAT_MAX_INTERVAL)
        try:
            node = Node(node_id=self._client.ActivateNode(request).node_id)
        except httpx.HTTPStatusError as error:
            if not error.response.is_client_error:
                raise
            raise InputError(
                "The coordinator at {where} refuses this site's key: have it registered there, and look "
                "whether the clocks agree.",
                where=self._where,
            ) from error
        self._heard(JOINED)
        return node

    def _answered(self, node: Node, answer: Answer) -> bool:
        """Answer what is waiting, if anything; true once the training is over."""
        pulled = self._client.PullMessages(PullMessagesRequest(node=node))
        if not pulled.messages_list:
            sleep(self._pause)
            self._pause = min(_SLOWER * self._pause, _SELDOM)
            return False
        self._pause = _ASK_EVERY
        head, tree = message_from_proto(pulled.messages_list[0]), pulled.message_object_trees[0]
        if head.metadata.message_type == OVER:
            self._send(node, Message(RecordDict(), reply_to=head))
            return True
        name = head.metadata.message_id
        # Where the line broke as it answered: no stage of a masked round is answered twice.
        if self._unsent is None or self._unsent[0] != name:
            pull = make_pull_object_fn_protobuf(self._client.PullObject, node, head.metadata.run_id)
            asked = pull_and_inflate_object_from_tree(tree, pull, lambda name: None, return_type=Message)
            asked.metadata.__dict__.update(head.metadata.__dict__)
            self._unsent = name, answer(asked)
        self._send(node, self._unsent[1])
        self._unsent = None
        return False

    def _send(self, node: Node, reply: Message) -> None:
        """Send the head of a reply, then what it holds."""
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            head = message_to_proto(remove_content_from_message(reply))
            tree, parts = get_object_tree(reply), get_all_nested_objects(reply)
            pushed = self._client.PushMessages(
                PushMessagesRequest(node=node, messages_list=[head], message_object_trees=[tree])
            )
            run, session = reply.metadata.run_id, pushed.session_id
            push = make_push_object_fn_protobuf(self._client.PushObject, node, run, session)
            push_objects(parts, push, object_ids_to_push=set(pushed.objects_to_push))


def _untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
