"""The states of a model, and which step leads from which to which, as a table.

::

    candidate ─► approved ─► shadow ─► canary ─► live ─► retired
        ▲            │          │         │        │        │
        │            └──────────┴─────────┴────────┴──► rolled_back
        └───────────────────────── reopen ◄─────────────────┘

A step to the right needs a decision that passes, the signatures of the committee, and the signature of an
operator. Stopping a model needs nobody's signature.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

from primum.release.policy import Phase

State = Literal["candidate", "approved", "shadow", "canary", "live", "retired", "rolled_back"]
STATES: Final[tuple[State, ...]] = get_args(State)
Action = Literal["admit", "shadow", "canary", "live", "retire", "reopen", "roll_back"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
# Who acts: an operator and a committee member by their role in the policy; anybody else is an outsider.
Actor = Literal["operator", "member", "author", "outsider"]


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes
    ----------
    after : State
    gate : Phase or None
        What the decision and the signatures of the committee must allow; None: nothing.
    signed : bool
        Whether an operator must sign it.
    first : bool
        Only where no model is live.
    beside : bool
        Only where another model is live.
    """

    after: State
    gate: Phase | None = None
    signed: bool = True
    first: bool = False
    beside: bool = False


_STOP: Final = Step("rolled_back", signed=False)
TABLE: Final[Mapping[tuple[State, Action], Step]] = MappingProxyType(
    {
        ("candidate", "admit"): Step("approved", gate="approved"),
        ("approved", "shadow"): Step("shadow", gate="shadow"),
        ("shadow", "canary"): Step("canary", gate="canary", beside=True),
        # Another share for the same canary.
        ("canary", "canary"): Step("canary", gate="canary", beside=True),
        ("canary", "live"): Step("live", gate="live", beside=True),
        # The first model of a registry has nothing to be compared with.
        ("shadow", "live"): Step("live", gate="live", first=True),
        ("approved", "roll_back"): _STOP,
        ("shadow", "roll_back"): _STOP,
        ("canary", "roll_back"): _STOP,
        ("live", "roll_back"): _STOP,
        ("candidate", "retire"): Step("retired"),
        ("approved", "retire"): Step("retired"),
        ("shadow", "retire"): Step("retired"),
        ("live", "retire"): Step("retired"),
        ("rolled_back", "reopen"): Step("candidate"),
        ("retired", "reopen"): Step("candidate"),
    }
)


def may_act(actor: Actor, action: Action) -> bool:
    """Tell whether somebody of a role may take a step, where the table has it.

    Examples
    --------
    >>> may_act("member", "live"), may_act("operator", "live"), may_act("outsider", "roll_back")
    (False, True, True)
    """
    return action == "roll_back" or actor == "operator"
