"""Whether what a ``release.toml`` says can be meant: each check names its table and its key."""

import re
from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from primum.errors import InputError, clean_text
from primum.release.canary_words import message
from primum.release.policy import MinorChange, Policy, Requirement
from primum.release.toml_tables import parse_document

_WORD: Final = re.compile(r"[\w.:@/+=-]{1,256}", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{64}")


def read_policy(content: bytes, *, file: str = "release.toml") -> Policy:
    """Read the bytes of a policy.

    Raises
    ------
    InputError
        No TOML, or a key that is unknown, missing, of another type or of no use; names file, table and key.
    """
    policy = parse_document(Policy, content, file=file)
    for table, key, right, sentence in _checks(policy):
        if not right:
            raise InputError(sentence, file=clean_text(file), table=table, key=key)
    return policy


_Check = tuple[str, str, bool, str]
_TWICE: Final = message("{file}, {table}: {key} is there twice: each person and each key once.")
_NO_KEY: Final = message(
    "{file}, {table}: {key} is no Ed25519 public key of 64 lower-case hexadecimal digits."
)
_NO_WORD: Final = message("{file}, {table}: {key} must be letters, digits and _.:@/+=-.")
_NOBODY: Final = message("{file}, {table}: {key} must name roles that persons of this policy have.")
_SHARE: Final = message("{file}, {table}: {key} must lie above 0 and be 1 at most.")
_POSITIVE: Final = message("{file}, {table}: {key} must be 1 or more.")
_PERSONS: Final = message(
    "{file}, {table}: {key} must be 1 or more, and no more than the persons who may sign."
)
_REQUIRED: Final = message(
    "{file}, {table}: {key} must be among the roles of approval, and no more than the quorum."
)
_PHASE: Final = message('{file}, {table}: {key} must hold "approved".')
_APART: Final = message(
    "{file}, {table}: {key} must not be roles that approve: who signs and who carries out are two persons."
)
_TEST: Final = message("{file}, {table}: {key} must name a test, or its beginning and *.")
_ENDED: Final = message(
    '{file}, {table}: {key} must be "low" with above, or "high" with below: thresholds are set on the ends '
    "of intervals."
)
_BOUND: Final = message("{file}, {table}: {key} needs a bound.")
_VERDICT: Final = message("{file}, {table}: {key} must be there where no bound is.")
_PLAN: Final = message("{file}, {table}: {key} must name the plan.")
_FILE: Final = message("{file}, {table}: {key} must name a file.")
_LOSS: Final = message("{file}, {table}: {key} must bound the loss of one test or more, each by 0 or more.")
_DIGESTS: Final = message('{file}, {table}: {key} must be sha256 digests, and only where data = "declared".')
_NOT_NEGATIVE: Final = message("{file}, {table}: {key} must not be negative.")


def _checks(policy: Policy) -> Iterable[_Check]:
    yield from _people(policy)
    yield from _approval(policy)
    for place, one in enumerate(policy.require):
        yield from _requirement(f"require[{place}]", one)
    shares = policy.canary
    yield "canary", "largest_share", 0 < shares.largest_share <= 1, _SHARE
    yield "canary", "fewest_days", shares.fewest_days >= 0, _NOT_NEGATIVE
    yield "canary", "watch", bool(shares.watch()), _SHARE
    sealed = policy.test_sets
    yield "test_sets", "seals", 1 <= sealed.seals <= len(policy.person), _PERSONS
    yield "test_sets", "most_uses", sealed.most_uses >= 1, _POSITIVE
    yield "findings", "max_age_days", policy.findings.max_age_days >= 1, _POSITIVE
    if policy.minor_change is not None:
        yield from _minor(policy, policy.minor_change)


def _people(policy: Policy) -> Iterable[_Check]:
    named = [("person", one.name, one.key) for one in policy.person]
    named += [("auditor", one.name, one.key) for one in policy.auditor]
    keys = [key for _, _, key in named]
    for place, (table, name, key) in enumerate(named):
        yield table, "name", bool(_WORD.fullmatch(name)), _NO_WORD
        yield table, "key", _is_key(key), _NO_KEY
        yield table, "key", key not in keys[:place], _TWICE
    people = [one.name for one in policy.person]
    yield "person", "name", len(set(people)) == len(people), _TWICE
    for person in policy.person:
        yield "person", "role", bool(_WORD.fullmatch(person.role)), _NO_WORD


def _approval(policy: Policy) -> Iterable[_Check]:
    given, roles = policy.approval, {one.role for one in policy.person}
    may = sum(one.role in given.roles for one in policy.person)
    yield "approval", "roles", bool(given.roles) and set(given.roles) <= roles, _NOBODY
    yield ("approval", "quorum", 1 <= given.quorum <= may, _PERSONS)
    yield (
        "approval",
        "required_roles",
        _required(given.required_roles, given.quorum, given.roles),
        _REQUIRED,
    )
    yield "approval", "phases", "approved" in given.phases, _PHASE
    yield "approval", "max_age_days", given.max_age_days >= 1, _POSITIVE
    yield "operation", "roles", bool(policy.operation.roles), _NOBODY
    yield "operation", "roles", set(policy.operation.roles) <= roles, _NOBODY
    yield "operation", "roles", not set(policy.operation.roles) & set(given.roles), _APART
    yield "test_sets", "roles", set(policy.test_sets.roles) <= roles, _NOBODY


def _requirement(table: str, one: Requirement) -> Iterable[_Check]:
    ends = {
        "low": one.above is not None and one.below is None,
        "high": one.below is not None and one.above is None,
    }
    whole = one.bound is None and one.above is None and one.below is None
    yield table, "test", bool(one.test.strip("*")) and "*" not in one.test[:-1], _TEST
    yield table, "bound", whole or (one.bound is not None and ends[one.bound]), _ENDED
    yield table, "estimate", one.estimate is None or not whole, _BOUND
    yield table, "verdict", bool(one.verdict) or not whole, _VERDICT
    yield (table, "max_age_days", one.max_age_days is None or one.max_age_days >= 1, _POSITIVE)


def _minor(policy: Policy, plan: MinorChange) -> Iterable[_Check]:
    may = sum(one.role in policy.approval.roles for one in policy.person)
    yield "minor_change", "plan", bool(plan.plan.strip()), _PLAN
    yield "minor_change", "quorum", 1 <= plan.quorum <= may, _PERSONS
    yield (
        "minor_change",
        "required_roles",
        _required(plan.required_roles, plan.quorum, policy.approval.roles),
        _REQUIRED,
    )
    yield "minor_change", "may_change", bool(plan.may_change), _FILE
    losses = plan.largest_loss.values()
    yield "minor_change", "largest_loss", bool(losses) and all(one >= 0 for one in losses), _LOSS
    listed = plan.declared
    yield (
        "minor_change",
        "declared",
        all(_HEX.fullmatch(one) for one in listed) and (plan.data == "declared" or not listed),
        _DIGESTS,
    )


def _required(roles: tuple[str, ...], quorum: int, allowed: tuple[str, ...]) -> bool:
    return set(roles) <= set(allowed) and len(set(roles)) <= quorum


def _is_key(key: str) -> bool:
    if not _HEX.fullmatch(key):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
    except ValueError:
        return False
    return True
