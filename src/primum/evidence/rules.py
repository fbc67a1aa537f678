"""Every test of the suite: how its numbers are judged, what its attacker has, where it comes from."""

from collections.abc import Collection, Mapping, Sequence

from primum.errors import InputError
from primum.evidence.beside import RULES_BESIDE
from primum.evidence.membership import Suite, membership_tests, wanted
from primum.evidence.rule import Rule

_SUITE = ("tonekaboni2025",)
_SEQUENCE: Mapping[str, Rule] = {
    "trajectory.codes": Rule("share", "prompt", _SUITE, primary=True),
    "trajectory.verbatim": Rule("share", "prompt", (*_SUITE, "carlini2021")),
    "trajectory.distance": Rule("auc", "prompt", _SUITE),
    "trajectory.likelihood": Rule("auc", "prompt", _SUITE),
    "sensitive.inferred": Rule("guesses", "scrubbed", _SUITE, primary=True),
    "sensitive.sampled": Rule("guesses", "scrubbed", _SUITE, claims=False),
    "sensitive.exposed": Rule("share", "scrubbed", _SUITE, claims=False),
    "embedding.probe": Rule("auc", "embedding", _SUITE, primary=True),
    "embedding.linkage": Rule("share", "embedding", _SUITE),
    "embedding.attribute": Rule("guesses", "embedding", _SUITE),
    **{
        f"embedding.attribute.known_{known}": Rule("guesses", "embedding", _SUITE, claims=False)
        for known in range(3)
    },
    "perturbation.combined": Rule("auc", "scores", _SUITE, primary=True, permuted=True),
    "perturbation.age": Rule("auc", "scores", _SUITE, permuted=True),
    "perturbation.sex": Rule("auc", "scores", _SUITE, permuted=True),
    "perturbation.site": Rule("auc", "scores", _SUITE, permuted=True),
    "perturbation.dates": Rule("auc", "scores", _SUITE, permuted=True),
    "knowledge.depth": Rule("auc", "partial", ("carlini2023", *_SUITE), primary=True),
    "knowledge.cost": Rule("share", "partial", ("hayes2025", *_SUITE)),
    "extraction.passages": Rule("share", "partial", ("hayes2025", "carlini2023"), primary=True),
}
_CLASSIFIER: Mapping[str, Rule] = {
    # It speaks of the recipe: models of it may do so though the audited one saw nobody.
    "bias.future": Rule("share", "later", ("knolle2026", "szekely2004"), claims=False),
    "attribute.inferred": Rule(
        "guesses", "all_but_one", ("fredrikson2014", "mehnaz2022", "yeom2018"), primary=True
    ),
    "attribute.outputs": Rule("guesses", "outputs", ("song2020", "yeom2018")),
    "inversion.instance": Rule("share", "weights", ("fredrikson2015", "zhang2020"), primary=True),
    "inversion.class": Rule("share", "weights", ("fredrikson2015", "zhang2020")),
    "structure.stored": Rule("share", "weights", ("preen2024",), primary=True),
    "structure.leaves": Rule("share", "weights", ("preen2024", "sweeney2002"), claims=False),
    "structure.classes": Rule("share", "weights", ("preen2024", "sweeney2002"), claims=False),
}
_BESIDE: Mapping[str, Rule] = {test: rule for rules in RULES_BESIDE.values() for test, rule in rules.items()}
RULES_OF: Mapping[Suite, Mapping[str, Rule]] = {
    "sequence": _SEQUENCE,
    "classifier": {**_CLASSIFIER, **_BESIDE},
}
RULES: Mapping[str, Rule] = {**_SEQUENCE, **_CLASSIFIER, **_BESIDE}
# Of a classifier, what compares members with held-out patients: prefixes, as `only` takes them.
PRIVACY = ("data.overlap", "membership", *dict.fromkeys(test.partition(".")[0] for test in _CLASSIFIER))
TESTS: Mapping[Suite, tuple[str, ...]] = {
    "sequence": ("data.overlap", *membership_tests("sequence"), *_SEQUENCE),
    "classifier": ("data.overlap", *membership_tests("classifier"), *_CLASSIFIER, *_BESIDE),
}


def family_of(test: str) -> str:
    """Return the family of a test, the part before the first dot."""
    return test.partition(".")[0]


def families_wanted(only: Sequence[str], suite: Suite) -> frozenset[str]:
    """Return the families of which some test was asked for."""
    return frozenset(
        family_of(test)
        for test in TESTS[suite]
        if wanted(test, only) or any(prefix.startswith(f"{test}@") for prefix in only)
    )


def require_known(only: Sequence[str], suite: Suite) -> None:
    """Refuse a prefix that no test begins with, before any work is done.

    Raises
    ------
    InputError
        Names the first such prefix. Names of subgroups depend on the patients and are not checked.
    """
    tests = TESTS[suite]
    for prefix in only:
        if not prefix or not any(test.startswith(prefix) or prefix.startswith(f"{test}@") for test in tests):
            raise InputError(
                "--only: no test is named {prefix} or begins so: give some of {tests}.",
                prefix=prefix or "''",
                tests=", ".join(tests),
            )


def require_groups(only: Sequence[str], groups: Collection[str]) -> None:
    """Refuse a prefix that names a group of patients which is not there.

    Raises
    ------
    InputError
        Names the first such group and lists those there are.
    """
    for prefix in only:
        test, at, group = prefix.partition("@")
        if at and test not in _BESIDE and not any(name.startswith(group) for name in groups):
            raise InputError(
                "--only: no group of these patients is named {group} or begins so: give some of {groups}.",
                group=group,
                groups=", ".join(sorted(groups)),
            )
