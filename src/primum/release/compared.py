"""Two registered models side by side: cards, files, and every estimate that both have."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding
from primum.release.evaluate import audit_of
from primum.release.registry import Registry
from primum.release.standing import ModelStanding, card_of


@dataclass(frozen=True)
class Difference:
    """One thing that differs; None where a side has no such thing.

    Attributes
    ----------
    kind : str
        ``card``, ``file`` or ``finding``.
    name : str
        The key, the path, the test.
    first, second : str, Estimate or None
        Of a finding its first estimate, or its verdict where it has none.
    verdicts : tuple of (str or None)
        Of a finding.
    """

    kind: str
    name: str
    first: str | Estimate | None
    second: str | Estimate | None
    verdicts: tuple[str | None, str | None] = (None, None)


def differences(registry: Registry, first: ModelStanding, second: ModelStanding) -> tuple[Difference, ...]:
    """List what differs between two models, newest findings of each test."""
    found: list[Difference] = []
    cards = card_of(first, registry.shelf), card_of(second, registry.shelf)
    for one in fields(cards[0]):
        values = [getattr(card, one.name) for card in cards]
        if values[0] != values[1]:
            found.append(Difference("card", one.name, _said(values[0]), _said(values[1])))
    found += [Difference("file", name, *pair) for name, pair in _unequal(first.files, second.files)]
    tests = [_newest(registry, one) for one in (first, second)]
    for name in sorted(tests[0].keys() | tests[1].keys()):
        pair = tests[0].get(name), tests[1].get(name)
        if pair[0] is None or pair[1] is None or _measured(pair[0]) != _measured(pair[1]):
            verdicts = (pair[0].verdict if pair[0] else None, pair[1].verdict if pair[1] else None)
            found.append(Difference("finding", name, _measured(pair[0]), _measured(pair[1]), verdicts))
    return tuple(found)


def _unequal(
    first: Mapping[str, str], second: Mapping[str, str]
) -> list[tuple[str, tuple[str | None, str | None]]]:
    names = sorted(first.keys() | second.keys())
    pairs = ((name, (first.get(name), second.get(name))) for name in names)
    return [(name, pair) for name, pair in pairs if pair[0] != pair[1]]


def _newest(registry: Registry, model: ModelStanding) -> dict[str, Finding]:
    return {
        finding.test: finding
        for ref in sorted(model.findings, key=lambda one: one.date)
        for finding in audit_of(registry.shelf, ref.digest).findings
    }


def _measured(finding: Finding | None) -> str | Estimate | None:
    if finding is None:
        return None
    return finding.estimates[0] if finding.estimates else finding.verdict


def _said(value: object) -> str | None:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or None
    return None if value in (None, "") else str(value)
