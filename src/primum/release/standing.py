"""Where everything stands: what the events so far make of models, test sets and what is served."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from primum.errors import InputError
from primum.evidence.documents import Misfit, decode_bytes
from primum.release.card import ReleaseCard, read_card
from primum.release.decision import Decision
from primum.release.policy import Policy
from primum.release.policy_checks import read_policy
from primum.release.routing import Serving
from primum.release.shelf import Shelf
from primum.release.statement import Signed
from primum.release.states import State


@dataclass(frozen=True)
class FindingsRef:
    """Findings of a model, as they lie in the registry."""

    digest: str
    date: str
    key: str | None


@dataclass(frozen=True)
class ModelStanding:
    """One registered model.

    Attributes
    ----------
    digest, card : str
    files : mapping of str to str
    authors : frozenset of str
        Of every card that it ever had, and who registered it.
    data : frozenset of str
        Digests of what trained it, by every card and receipt.
    state : State
    since : str
        When it came to this state.
    round : int
        How often it was reopened.
    findings : tuple of FindingsRef
    decisions : tuple of str
    ballots : tuple of Signed
    revoked : frozenset of str
        Digests of ballots.
    relied : tuple of Signed
        The signatures that its last steps rested on.
    broken : bool
        So many of those were revoked that the quorum is lost.
    was_live : bool
    """

    digest: str
    card: str
    files: Mapping[str, str]
    authors: frozenset[str]
    data: frozenset[str]
    state: State = "candidate"
    since: str = ""
    round: int = 0
    findings: tuple[FindingsRef, ...] = ()
    decisions: tuple[str, ...] = ()
    ballots: tuple[Signed, ...] = ()
    revoked: frozenset[str] = frozenset()
    relied: tuple[Signed, ...] = ()
    broken: bool = False
    was_live: bool = False


@dataclass(frozen=True)
class TestSetStanding:
    """A sealed test set: who vouched for it, and how often it was looked at."""

    __test__ = False

    digest: str
    seal: str
    sealed_by: tuple[Signed, ...]
    uses: int = 0


@dataclass(frozen=True)
class Standing:
    """Everything.

    Attributes
    ----------
    number : int
        Events so far.
    head : str
        Digest of the last one.
    date : str
    policy, policy_since : str
        Digest of the policy in force, and since when; empty before the first.
    models : mapping of str to ModelStanding
    test_sets : mapping of str to TestSetStanding
    ballots : tuple of Signed
        About policies to come.
    share : float
        Of the canary.
    former : tuple of str
        Models that were live and were replaced, the latest last.
    rolled_back : str or None
        The last model that was rolled back.
    """

    number: int = 0
    head: str = "0" * 64
    date: str = ""
    policy: str = ""
    policy_since: str = ""
    models: Mapping[str, ModelStanding] = field(default_factory=dict)
    test_sets: Mapping[str, TestSetStanding] = field(default_factory=dict)
    ballots: tuple[Signed, ...] = ()
    share: float = 0.0
    former: tuple[str, ...] = ()
    rolled_back: str | None = None

    def model(self, digest: str) -> ModelStanding:
        """Return a model.

        Raises
        ------
        InputError
            It is not registered.
        """
        if digest not in self.models:
            raise InputError("No model {model} is registered: register it first.", model=digest[:12])
        return self.models[digest]

    def only(self, state: State) -> str | None:
        """Return the digest of the one model in a state that holds one at most."""
        return next((one.digest for one in self.models.values() if one.state == state), None)

    def serving(self) -> Serving:
        """Return what is served."""
        canary = self.only("canary")
        back = self.models.get(self.rolled_back or "")
        return Serving(
            live=self.only("live"),
            canary=canary,
            share=self.share if canary else 0.0,
            shadow=self.only("shadow"),
            rolled_back=back.digest if back is not None and back.state == "rolled_back" else None,
        )

    def with_model(self, model: ModelStanding) -> "Standing":
        """Replace one model."""
        return replace(self, models={**self.models, model.digest: model})


def policy_of(standing: Standing, shelf: Shelf) -> Policy:
    """Return the policy in force.

    Raises
    ------
    InputError
        There is none yet.
    """
    if not standing.policy:
        raise InputError("The registry has no policy yet: begin it with primum release init.")
    return _policy(shelf.get(standing.policy))


def card_of(model: ModelStanding, shelf: Shelf) -> ReleaseCard:
    """Return the present card of a model."""
    return _card(shelf.get(model.card))


def read_decision(shelf: Shelf, digest: str) -> Decision:
    """Read a decision that was kept."""
    return _decision(shelf.get(digest))


@lru_cache(maxsize=64)
def _policy(content: bytes) -> Policy:
    return read_policy(content)


@lru_cache(maxsize=1024)
def _card(content: bytes) -> ReleaseCard:
    # The bytes as they were written: only JSON begins with a brace.
    return read_card(content, file="card.json" if content.lstrip()[:1] == b"{" else "card.toml")


@lru_cache(maxsize=1024)
def _decision(content: bytes) -> Decision:
    try:
        found: Decision = decode_bytes(Decision, content)
    except Misfit as error:
        raise InputError(
            "A decision in the registry cannot be read: copy the registry again, whole."
        ) from error
    return found
