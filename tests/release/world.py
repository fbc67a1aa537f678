"""A hospital with a committee, an operator, an auditor, and models of a few bytes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primum.evidence.audit import FINDINGS, REPORT, RUN, Audit
from primum.evidence.canonical import canonical_bytes
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding, Scalar, Verdict
from primum.evidence.identity import ModelRef, manifest_digest
from primum.evidence.signature import sign
from primum.release.registry import Registry
from primum.trail.entry import Entry, Position

START = datetime(2026, 11, 1, 8, tzinfo=UTC)


@cache
def key_of(name: str) -> Ed25519PrivateKey:
    """The key of a person, the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def public(name: str) -> str:
    return key_of(name).public_key().public_bytes_raw().hex()


@dataclass
class Remembered:
    """A trail in memory."""

    entries: list[Entry] = field(default_factory=list)
    refuses: Exception | None = None

    def append(self, entry: Entry) -> Position:
        if self.refuses is not None:
            raise self.refuses
        self.entries.append(entry)
        return Position(0, len(self.entries) - 1, "0" * 64)


@dataclass
class Time:
    """A clock that goes when it is told to."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def pass_days(self, days: float) -> None:
        self.now += timedelta(days=days)


PEOPLE = {
    "ada": "clinician",
    "ben": "data_protection",
    "cleo": "engineering",
    "otto": "operator",
    "sam": "data_steward",
}


def policy_text(more: str = "", *, approval: str = "", require: str | None = None) -> bytes:
    people = "".join(
        f'[[person]]\nname = "{name}"\nrole = "{role}"\nkey = "{public(name)}"\n'
        for name, role in PEOPLE.items()
    )
    given = (
        require
        if require is not None
        else (
            '[[require]]\ntest = "membership.combined.auc"\nverdict = ["none_found"]\n'
            '[[require]]\ntest = "performance.auc"\nbound = "low"\nabove = 0.8\n'
        )
    )
    return (
        f'name = "A ward"\n[approval]\nquorum = 2\nroles = ["clinician", "data_protection", "engineering"]\n'
        f'{approval}\n[[auditor]]\nname = "house"\nkey = "{public("house")}"\n{people}{given}{more}'
    ).encode()


def card_text(**given: object) -> bytes:
    said: dict[str, object] = {
        "name": "chest",
        "version": "1",
        "intended_use": "Adults, frontal radiographs, to order the reading list.",
        "authors": ["mia"],
        "licence": "Apache-2.0",
    }
    return json.dumps(said | given).encode()


@dataclass
class Ward:
    """A registry, its trail and its clock."""

    root: Path
    trail: Remembered = field(default_factory=Remembered)
    time: Time = field(default_factory=Time)
    registry: Registry = field(init=False)

    def begin(self, policy: bytes) -> "Ward":
        self.registry = Registry.create(
            self.root / "registry", policy, self.trail, by="otto", clock=self.time
        )
        return self

    def again(self) -> Registry:
        """Open it anew, as another process would."""
        return Registry(self.root / "registry", self.trail, clock=self.time)

    def model(self, name: str, files: Mapping[str, bytes] | None = None) -> Path:
        folder = self.root / name
        folder.mkdir()
        for file, content in (files or {"model.onnx": f"weights of {name}".encode()}).items():
            (folder / file).write_bytes(content)
        return folder

    def card(self, name: str = "card", **given: object) -> Path:
        file = self.root / f"{name}.json"
        file.write_bytes(card_text(**given))
        return file

    def audit(
        self, name: str, model: Path, findings: list[Finding], *, signer: str | None = "house", **of: object
    ) -> Path:
        """Write the folder of an audit of a model folder, signed."""
        files = {one.name: sha256(one.read_bytes()).hexdigest() for one in sorted(model.iterdir())}
        files = {name: digest for name, digest in files.items() if name not in ("receipt.json", "README.md")}
        identity = "declared" if of.get("declared") else "computed"
        ref = ModelRef(model.name, manifest_digest(files), identity, files)  # type: ignore[arg-type]
        stated = tuple(replace(one, model=ref.digest) for one in findings)
        folder = self.root / name
        folder.mkdir()
        audit = Audit(ref, {"held_out": "aa" * 32}, {"held_out": 400}, "primum audit …", 0, stated)
        (folder / FINDINGS).write_bytes(canonical_bytes(audit))
        (folder / REPORT).write_text("<!doctype html>", encoding="utf-8")
        (folder / RUN).write_bytes(canonical_bytes({"date": str(of.get("date", self.time().isoformat()))}))
        if signer is not None:
            sign(folder, key_of(signer))
        return folder


def finding(
    test: str,
    verdict: Verdict = "none_found",
    *,
    low: float = 0.9,
    high: float = 0.95,
    data: str = "aa" * 32,
    name: str = "auc",
    attacker: str = "scores",
    **settings: Scalar,
) -> Finding:
    harmful = verdict in ("leak", "fragile", "unfair", "tainted")
    estimate = Estimate(name, (low + high) / 2, low, high, (200, 200), "delong-logit")
    return Finding(
        test, verdict, harmful, "00" * 32, data, estimates=(estimate,), attacker=attacker, settings=settings
    )


def clean() -> list[Finding]:
    return [
        finding("membership.combined.auc", low=0.48, high=0.52),
        finding("performance.auc", "descriptive", low=0.85, high=0.92),
    ]


Make = Callable[[], Ward]
