"""Sites in this process: Flower's own strategies and messages without any transport."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import uuid4

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

Answer = Callable[[Message], Message]
Apply = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
_FAILED = 1


class OneRun:
    """What every grid of one training answers alike."""

    _run: Run | None = None

    def set_run(self, run: Run) -> None:
        """Remember the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that was set, else one without a name."""
        return self._run or Run.create_empty(TaskIdentity.run_id)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message for a site."""
        return Message(
            content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl
        )


class LocalGrid(OneRun, Grid):
    """Hands each message to the site it is for, and its answers back.

    Parameters
    ----------
    sites : mapping of int to callable
        By node id, from a message to the reply.
    apply : callable
        As ``map``: here, or several at a time in other processes.
    """

    def __init__(self, sites: Mapping[int, Answer], *, apply: Apply = map) -> None:
        self._sites, self._apply, self._replies = sites, apply, dict[str, Message]()
        # Messages carry the run and the node that made them.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 0, 0

    def get_node_ids(self) -> Iterable[int]:
        """Return who takes part."""
        return list(self._sites)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Ask, and wait for everyone; the replies are there to be pulled."""
        tasks = [(self._sites[one.metadata.dst_node_id], one) for one in messages]
        named = {uuid4().hex: reply for reply in self._apply(_asked, tasks)}
        self._replies |= named
        return list(named)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return replies, each once."""
        return [self._replies.pop(one) for one in message_ids if one in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Ask, and wait for everyone."""
        return self.pull_messages(self.push_messages(messages))


def _asked(task: tuple[Answer, Message]) -> Message:
    site, message = task
    try:
        return site(message)
    except Exception as error:  # a site that fails is a site that does not answer
        return Message(Error(_FAILED, type(error).__name__), reply_to=message)
