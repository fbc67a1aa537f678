"""The canary: a model that serves a share of the patients is watched against the live one, and rolled back.

Five streams are watched, each by a test that may be looked at after every patient
(:mod:`primum.evidence.sequential`):

===============  =======================================================================================
``error_rate``   wrong answers, canary against live patients, of those whose label came
``refusals``     cases that the guards or the model refused, canary against live patients
``agreement``    cases on which both answered and decided differently, against a bound of the policy
``latency``      answers slower than a limit of the policy, canary against live patients
``calibration``  Brier scores, canary against live patients, of those whose label came
===============  =======================================================================================

The probability of a false rollback over the whole canary is shared out between them (Bonferroni: a stream
rolls back when its e-value reaches 1 over its own part). An average of the e-values would be a little
quicker, but holds only where every test is valid in the order of all streams together; shared out, each needs
its own.

**The unit is the patient.** In each stream a patient counts once, with the first of their cases that is
settled after the canary began, and in the arm that answered it. Not with the mean of their cases: that is
final only when the patient never comes back. Whoever feeds the canary says which streams count the patient
for the first time; :class:`primum.release.canary_file.CanaryFile` keeps that on disk.

**Order.** Patients count in the order in which their outcomes become known, late or not, whatever the order
in which they came. Where labels of one arm come later than those of the other, patients of different times
would meet: then give each outcome the period in which its case was routed, and only those of one period are
compared.

**Share.** The share may change at any time: patients routed at different shares are never compared.
"""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, get_args

from primum.errors import InputError
from primum.evidence.canonical import canonical_bytes
from primum.evidence.documents import Misfit, decode
from primum.evidence.finding import Finding, Message, Scalar
from primum.evidence.sequential import Kind, SequentialTest
from primum.evidence.text import clean_text
from primum.release.outcomes import STREAMS, Arm, Outcome, Stream, Watch

SCHEMA: Final = "1.0"
_KINDS: Final[Mapping[Stream, Kind]] = MappingProxyType(
    {
        "error_rate": "shares",
        "refusals": "shares",
        "agreement": "bound",
        "latency": "shares",
        "calibration": "means",
    }
)


@dataclass(frozen=True)
class Decision:
    """Whether the canary is rolled back, and why.

    Attributes
    ----------
    roll_back : bool
    reason : str
        A stream, ``"harmful_finding"``, or ``"none"``.
    e_value, threshold : float or None
        Of the stream that is nearest to its threshold, or crossed it; None with a harmful finding.
    statistic : float or None
        Of that stream: canary minus live, or the share of disagreement; None where one arm is empty.
    patients : int
        Who counted in that stream, of both arms.
    messages : tuple of Message
        Codes of :data:`primum.release.canary_words.SENTENCES` and their parameters.
    """

    roll_back: bool
    reason: str
    e_value: float | None
    threshold: float | None
    statistic: float | None
    patients: int
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class CanaryState:
    """All that a canary remembers: a few kilobytes, however many patients it saw.

    Attributes
    ----------
    schema : str
    live, canary : str
        Digests of the models.
    watch : Watch
    tests : mapping of str to SequentialTest
        By stream.
    rolled_back : Decision or None
        Once it is there, it stays, and nothing more is counted.
    """

    schema: str
    live: str
    canary: str
    watch: Watch
    tests: Mapping[str, SequentialTest]
    rolled_back: Decision | None = None


class Canary:
    """A canary under watch. The same outcomes in the same order give the same decisions, restarts or not.

    Examples
    --------
    >>> canary = Canary.begin(live="11", canary="22")
    >>> for patient in range(200):
    ...     arm = "canary" if patient % 2 else "live"
    ...     decision = canary.observe(Outcome(arm, 0.5, error=arm == "canary"))
    >>> decision.roll_back, decision.reason, decision.patients
    (True, 'error_rate', 20)
    """

    def __init__(self, state: CanaryState) -> None:
        self.state = state

    @classmethod
    def begin(cls, *, live: str, canary: str, watch: Watch | None = None) -> "Canary":
        """Start to watch the model `canary` against `live`, which are digests."""
        watch = watch or Watch()
        tests: dict[str, SequentialTest] = {
            stream: SequentialTest.begin(kind, bound=watch.disagreement if kind == "bound" else None)
            for stream, kind in _KINDS.items()
        }
        return cls(CanaryState(SCHEMA, live, canary, watch, tests))

    def observe(self, outcome: Outcome, *, first: Collection[str] = STREAMS) -> Decision:
        """Count what became known of one case.

        Parameters
        ----------
        outcome : Outcome
        first : collection of str
            Streams that have not counted this patient yet; the others leave the outcome out.

        Raises
        ------
        InputError
            A value is not one that its stream can have; nothing is counted then.
        """
        if self.state.rolled_back:
            return self.decision
        if outcome.arm not in get_args(Arm) or not 0 <= outcome.share <= 1:
            raise InputError("An outcome is of the live model or the canary, at a share between 0 and 1.")
        tests, stratum = {**self.state.tests}, f"{float(outcome.share)!r} {outcome.period:d}"
        for stream, value in outcome.values(self.state.watch).items():
            if stream in first:
                tested = outcome.arm == "canary" or _KINDS[stream] == "bound"
                tests[stream] = tests[stream].add(value, tested=tested, stratum=stratum)
        self.state = replace(self.state, tests=tests)
        decision = _nearest(self.state)
        if decision.roll_back:
            self.state = replace(self.state, rolled_back=decision)
        return decision

    def report(self, finding: Finding) -> Decision:
        """Take note of a finding about the canary: a harmful one rolls it back at once, whatever was counted.

        Raises
        ------
        InputError
            The finding is about another model.
        """
        if finding.model != self.state.canary:
            raise InputError("The finding {test} is about another model than the canary.", test=finding.test)
        if finding.harmful and not self.state.rolled_back:
            said = Message("canary.harmful_finding", {"test": finding.test, "verdict": finding.verdict})
            harmful = Decision(True, "harmful_finding", None, None, None, 0, (said,))
            self.state = replace(self.state, rolled_back=harmful)
        return self.decision

    @property
    def decision(self) -> Decision:
        """As things stand."""
        return self.state.rolled_back or _nearest(self.state)

    def as_bytes(self) -> bytes:
        """Its state as canonical JSON."""
        return canonical_bytes(self.state)

    @classmethod
    def from_bytes(cls, content: bytes, *, file: str = "canary.json") -> "Canary":
        """Go on from :meth:`as_bytes`.

        Raises
        ------
        InputError
            It is not such a state; names `file` and the key.
        """
        try:
            document: Any = json.loads(content)
            state: CanaryState = decode(CanaryState, document)
            if state.schema != SCHEMA:
                raise Misfit("schema")
            for stream, kind in _KINDS.items():
                test = state.tests.get(stream)
                if test is None or test.kind != kind or not test.sound or len(state.tests) != len(_KINDS):
                    raise Misfit(f"tests.{stream}")
            if state.rolled_back and not state.rolled_back.roll_back:
                raise Misfit("rolled_back")
        except (ValueError, RecursionError) as error:
            raise _refused(file, "JSON") from error
        except Misfit as error:
            raise _refused(file, str(error)) from error
        return cls(state)


def _refused(file: str, where: str) -> InputError:
    return InputError(
        "{file} is no state of a canary that this version can read ({key}): end this canary and begin "
        "another.",
        file=clean_text(file),
        key=clean_text(where),
    )


def _nearest(state: CanaryState) -> Decision:
    """Judge by the stream whose e-value is largest beside its threshold; of equals, by the first."""
    watched = [stream for stream in STREAMS if state.watch.weights.get(stream)]
    log_thresholds = {stream: math.log(state.watch.threshold(stream)) for stream in watched}
    beyond = {stream: state.tests[stream].log_e_value - log_thresholds[stream] for stream in watched}
    stream = max(watched, key=lambda one: beyond[one])
    test, crossed = state.tests[stream], beyond[stream] >= 0
    seen = test.seen
    statistic = seen.difference
    if test.kind == "bound":
        statistic = seen.tested_sum / seen.tested if seen.tested else math.nan
    return Decision(
        crossed,
        stream if crossed else "none",
        test.e_value,
        state.watch.threshold(stream),
        None if math.isnan(statistic) else statistic,
        seen.tested + seen.reference,
        _said(stream, test, state.watch) if crossed else (Message("canary.watching"),),
    )


def _said(stream: Stream, test: SequentialTest, watch: Watch) -> tuple[Message, ...]:
    seen = test.seen
    counts: dict[str, Scalar] = {"canary_patients": seen.tested, "live_patients": seen.reference}
    if test.kind == "means":
        counts["canary_mean"] = round(seen.tested_sum / max(1, seen.tested), 3)
        counts["live_mean"] = round(seen.reference_sum / max(1, seen.reference), 3)
    else:
        counts["canary_events"], counts["live_events"] = int(seen.tested_sum), int(seen.reference_sum)
    if stream == "latency":
        counts["limit_ms"] = watch.latency_limit_ms
    share = watch.false_rollback * watch.weights[stream]
    limits: dict[str, Scalar] = {
        "e_value": float(f"{test.e_value:.3g}"),
        "threshold": float(f"{watch.threshold(stream):.3g}"),
        "share": share,
    }
    return Message(f"canary.{stream}", counts), Message("canary.evidence", limits)
