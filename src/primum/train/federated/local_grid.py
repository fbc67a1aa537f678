"""Sites in this process: Flower's own strategies and messages without any transport."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import Error, Message
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

Answer = Callable[[Message], Message]
Apply = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
_FAILED = 1


class LocalGrid(Grid):
    """Hands each message to the site it is for, and its answers back.

    Parameters
    ----------
    sites : mapping of int to callable
        By node id, from a message to the reply.
    apply : callable
        As ``map``: here, or several at a time in other processes.
    """

    def __init__(self, sites: Mapping[int, Answer], *, apply: Apply = map) -> None:
        self._sites, self._apply = sites, apply
        # Messages carry the run and the node that made them.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 0, 0

    def get_node_ids(self) -> Iterable[int]:
        """Return who takes part."""
        return list(self._sites)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Ask, and wait for everyone."""
        return list(self._apply(_asked, [(self._sites[one.metadata.dst_node_id], one) for one in messages]))

    def set_run(self, run: Any) -> None:
        """Take no notice: there is one run."""

    @property
    def run(self) -> Any:
        """There is none to name."""
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Make none: strategies make their own."""
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take none: :meth:`send_and_receive` does."""
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Give none: :meth:`send_and_receive` does."""
        raise NotImplementedError


def _asked(task: tuple[Answer, Message]) -> Message:
    site, message = task
    try:
        return site(message)
    except Exception as error:  # a site that fails is a site that does not answer
        return Message(Error(_FAILED, type(error).__name__), reply_to=message)
