"""Events without a disk: a standing, a shelf in memory, and everything that may be tried on them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.release.world import START, card_text, clean, key_of, policy_text, public

from primum.evidence.audit import Audit
from primum.evidence.canonical import canonical_bytes
from primum.evidence.finding import Finding
from primum.evidence.identity import ModelRef, manifest_digest
from primum.release.evaluate import evaluate, subject_of
from primum.release.event import (
    BallotCast,
    Body,
    Decided,
    Event,
    FindingsTaken,
    Kind,
    PolicyAdopted,
    Registered,
    Stepped,
)
from primum.release.folding import apply
from primum.release.shelf import MemoryShelf
from primum.release.standing import ModelStanding, Standing
from primum.release.statement import Signed, Statement, sign_statement
from primum.release.states import TABLE, Action


def files_of(name: str) -> dict[str, str]:
    return {"model.onnx": sha256(name.encode()).hexdigest()}


def digest_of(name: str) -> str:
    return manifest_digest(files_of(name))


@dataclass(frozen=True)
class Bench:
    """Where things stand; every method gives another bench, so that paths can fork."""

    shelf: MemoryShelf = field(default_factory=MemoryShelf)
    standing: Standing = field(default_factory=Standing)
    now: datetime = START

    @property
    def date(self) -> str:
        return self.now.isoformat(timespec="seconds")

    def happens(self, kind: Kind, body: Body, *, by: str = "somebody") -> "Bench":
        event = Event(self.standing.number, self.standing.head, kind, self.date, by, body)
        return replace(self, standing=apply(self.standing, event, self.shelf))

    def later(self, days: float) -> "Bench":
        return replace(self, now=self.now + timedelta(days=days))

    def policy(self, content: bytes) -> "Bench":
        return self.happens("policy", PolicyAdopted(self.shelf.put(content)))

    def registers(
        self, name: str, *, data: tuple[str, ...] = (), files: Mapping[str, str] | None = None, **card: object
    ) -> "Bench":
        kept = self.shelf.put(card_text(name=name, **card))
        digest = manifest_digest(files) if files else digest_of(name)
        body = Registered(digest, kept, "onnx", files or files_of(name), {}, None, data)
        return self.happens("registered", body)

    def findings(
        self,
        name: str,
        found: list[Finding],
        *,
        signer: str | None = "house",
        identity: str = "computed",
        date: str | None = None,
        files: Mapping[str, str] | None = None,
    ) -> "Bench":
        held = files or files_of(name)
        ref = ModelRef(name, manifest_digest(held), identity, held)  # type: ignore[arg-type]
        stated = tuple(replace(one, model=ref.digest) for one in found)
        content = canonical_bytes(Audit(ref, {}, {}, f"audit on day {self.date}", 0, stated))
        report = "bb" * 32
        signature = None
        if signer is not None:
            signature = key_of(signer).sign(b"primum audit 1\n" + report.encode() + b"\n" + content).hex()
        key = None if signer is None else public(signer)
        body = FindingsTaken(ref.digest, self.shelf.put(content), report, date or self.date, key, signature)
        return self.happens("findings", body)

    def decides(self, name: str, *, digest: str | None = None) -> "Bench":
        decision = evaluate(self.standing, digest or digest_of(name), self.shelf, date=self.date)
        kept = self.shelf.put(canonical_bytes(decision))
        return self.happens("decision", Decided(decision.model, kept))

    def model(self, name: str) -> ModelStanding:
        return self.standing.models[digest_of(name)]

    def statement(
        self, name: str, who: str, action: str = "approve", *, role: str | None = None, **other: object
    ) -> Statement:
        """What a member would sign now, but for what `other` replaces."""
        subject = subject_of(self.standing, digest_of(name), self.shelf, date=self.date)
        decisions = self.model(name).decisions
        said = Statement(
            action=action,
            name=who,
            role=role or ROLES[who],
            date=self.date,
            model=subject.model,
            card=subject.card,
            policy=subject.policy,
            findings=subject.findings,
            decision=decisions[-1] if decisions else "",
        )
        return replace(said, **other)  # type: ignore[arg-type]

    def ballot(
        self, name: str, who: str, action: str = "approve", *, key: str | None = None, **other: object
    ) -> Signed:
        return sign_statement(self.statement(name, who, action, **other), key_of(key or who))  # type: ignore[arg-type]

    def casts(self, name: str, who: str, action: str = "approve", **other: object) -> "Bench":
        return self.happens("ballot", BallotCast(digest_of(name), self.ballot(name, who, action, **other)))  # type: ignore[arg-type]

    def steps(
        self,
        name: str,
        action: Action,
        *,
        by: str | None = "otto",
        role: str = "operator",
        share: float | None = None,
        digest: str | None = None,
        key: Ed25519PrivateKey | None = None,
    ) -> "Bench":
        digest = digest or digest_of(name)
        share = 0.1 if share is None and action == "canary" else share
        body = Stepped(digest, action, share)
        rule = TABLE.get((self.standing.models[digest].state, action))
        if rule is not None and rule.gate is not None:
            decision = evaluate(self.standing, digest, self.shelf, date=self.date)
            body = replace(body, decision=self.shelf.put(canonical_bytes(decision)))
        if by is not None:
            said = Statement(
                action,
                by,
                role,
                self.date,
                model=digest,
                policy=self.standing.policy,
                head=self.standing.head,
                share=share,
            )
            body = replace(body, by=sign_statement(said, key or key_of(by)))
        return self.happens("step", body)

    def ready(self, name: str) -> "Bench":
        """Registered, with clean findings and a decision that passes."""
        return self.registers(name).findings(name, clean()).decides(name)

    def approved(self, name: str, *members: str) -> "Bench":
        bench = self
        for who in members or ("ada", "ben"):
            bench = bench.casts(name, who)
        return bench

    def live(self, name: str) -> "Bench":
        """The first model, all the way."""
        bench = self.ready(name).approved(name)
        for action in ("admit", "shadow", "live"):
            bench = bench.steps(name, action)
        return bench


ROLES = {
    "ada": "clinician",
    "ben": "data_protection",
    "cleo": "engineering",
    "otto": "operator",
    "sam": "data_steward",
}


def fresh(policy: bytes | None = None) -> Bench:
    return Bench().policy(policy if policy is not None else policy_text())


def read(content: bytes) -> object:
    return json.loads(content)
