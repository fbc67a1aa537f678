"""Whether a change is minor under the plan of the policy, and which gates then differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from primum.evidence.finding import Scalar
from primum.release.card import ReleaseCard
from primum.release.decision import Candidates, Reason, Seen, judge_requirement
from primum.release.policy import MinorChange, Requirement


@dataclass(frozen=True)
class Version:
    """A model as a change compares it.

    Attributes
    ----------
    files : mapping of str to str
    data : frozenset of str
        Digests of what trained it.
    findings : Candidates
    released : bool
        Whether it was ever live.
    """

    files: Mapping[str, str]
    data: frozenset[str]
    findings: Candidates
    released: bool


def judge_change(
    card: ReleaseCard, plan: MinorChange | None, new: Version, old: Version | None
) -> tuple[Seen, ...]:
    """Judge whether what the card calls a minor change is one.

    A change that is none does not pass as a whole one: its card must say ``whole``.
    """
    if card.change == "whole":
        return ()
    if plan is None or card.plan != plan.plan:
        return (Seen("minor.plan", False, "plan", {"plan": card.plan}),)
    if old is None or not old.released:
        return (Seen("minor.parent", False, "no_parent", {"parent": card.parent}),)
    return (
        *_same(plan, new, old),
        *(_loss(test, most, new, old) for test, most in plan.largest_loss.items()),
    )


def _same(plan: MinorChange, new: Version, old: Version) -> Iterator[Seen]:
    changed = sorted(
        name for name in new.files.keys() | old.files.keys() if new.files.get(name) != old.files.get(name)
    )
    beyond = [name for name in changed if not any(fnmatchcase(name, one) for one in plan.may_change)]
    first: dict[str, Scalar] = {"file": beyond[0]} if beyond else {"changed": len(changed)}
    yield Seen("minor.files", not beyond, "files" if beyond else "passed", first)
    allowed = old.data | (frozenset(plan.declared) if plan.data == "declared" else frozenset())
    foreign = sorted(new.data - allowed)
    # Whoever does not say what trained a model cannot say that it is the same.
    known = bool(new.data) and not foreign
    yield Seen(
        "minor.data", known, "passed" if known else "data", {"data": foreign[0] if foreign else len(new.data)}
    )


def _loss(test: str, most: float, new: Version, old: Version) -> Seen:
    """Compare the low ends of both intervals, on the same test set."""
    ends: list[float] = []
    sets: list[str] = []
    for version in (new, old):
        any_end = Requirement(test, bound="low", above=float("-inf"), max_age_days=36_500)
        seen = judge_requirement(any_end, version.findings)
        low = seen.saw.get("low")
        if not seen.passed or not isinstance(low, float | int):
            return Seen(
                f"minor.loss:{test}", False, seen.reason if not seen.passed else "no_interval", seen.saw
            )
        ends.append(float(low))
        kept = seen.saw["findings"]
        sets += [f.data for t, f in version.findings.of(test) if t.digest == kept][:1]
    saw: dict[str, Scalar] = {"low": ends[0], "parent_low": ends[1], "largest_loss": most}
    reason: Reason = "data" if sets[0] != sets[1] else "passed" if ends[1] - ends[0] <= most else "loss"
    return Seen(f"minor.loss:{test}", reason == "passed", reason, saw)


def judge_waived(rule: Requirement, plan: MinorChange, new: Version, old: Version) -> Seen:
    """Judge a rule of a minor change: where the plan waives the test, the parent's finding stands for it."""
    seen = judge_requirement(rule, new.findings)
    waived = any(rule.test.startswith(one) for one in plan.waived)
    if seen.passed or not waived or seen.reason not in ("missing", "expired"):
        return seen
    stands = judge_requirement(rule, old.findings)
    return Seen(rule.test, True, "parent", stands.saw) if stands.passed else stands
