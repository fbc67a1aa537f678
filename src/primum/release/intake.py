"""What comes into a registry: models with their cards, and findings."""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from primum.errors import InputError, MachineError, clean_text
from primum.evidence.documents import load_object
from primum.release.acts import signed_act
from primum.release.artefact import Artefact, copy_artefact, read_artefact, require_same
from primum.release.card import ReleaseCard, read_card
from primum.release.event import Body, FindingsTaken, Kind, Registered
from primum.release.registry import Registry
from primum.release.shelf import keep_name
from primum.release.standing import Standing, policy_of
from primum.release.statement import moment
from primum.release.taken import read_handed
from primum.release.toml_tables import read_bytes


def register(
    registry: Registry,
    source: Path,
    card_file: Path,
    *,
    by: str | None = None,
    key: Ed25519PrivateKey | None = None,
) -> str:
    """Take a model and its card into the registry; of a model that is there, only the card.

    Parameters
    ----------
    registry : Registry
    source : Path
        Folder of a model, or an ``.onnx`` file.
    card_file : Path
    by : str or None
        Who registers it; None: the first author of the card.
    key : Ed25519PrivateKey, optional
        Of a person of the policy, who then is one of its makers.

    Returns
    -------
    str
        Digest of the model.

    Raises
    ------
    InputError
        A pickle, a link, no model, a card that cannot be used, a receipt of other weights.
    """
    content = read_bytes(card_file)
    card = read_card(content, file=card_file.name)
    artefacts = registry.folder / "artefacts"
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=artefacts) as name:
        copy = Path(name) / "model"
        copy.mkdir()
        copy_artefact(source, copy)
        artefact = read_artefact(copy, more=_factory(card))
        receipt, data = _receipt(copy, artefact, card)
        _put(copy, registry.artefact(artefact.digest))
        kept = read_artefact(registry.artefact(artefact.digest), more=_factory(card))
        require_same(kept, artefact.digest, files=artefact.files)

    def build(standing: Standing, date: str) -> tuple[Kind, Body]:
        body = Registered(
            model=artefact.digest,
            card=registry.shelf.put(content),
            format=artefact.format,
            files=artefact.files,
            beside=artefact.beside,
            receipt=receipt,
            data=data,
        )
        if key is not None:
            body = replace(body, by=signed_act(registry, standing, key, "register", artefact.digest, date))
        return "registered", body

    registry.commit(by or card.authors[0], build)
    return artefact.digest


def _put(copy: Path, place: Path) -> None:
    """Give a copy its place, unless the model is there already."""
    if place.exists():
        return
    try:
        copy.rename(place)
        keep_name(place.parent)
    except OSError as error:
        # Another process may have been quicker with the same model.
        if not place.exists():
            raise MachineError(
                "{file} cannot be written ({reason}): look at the disk and repeat the command; nothing was "
                "changed.",
                file=clean_text(place.name),
                reason=error.strerror or type(error).__name__,
            ) from error


def _factory(card: ReleaseCard) -> Mapping[str, str]:
    return {f"factory {card.factory}": card.factory_digest} if card.factory and card.factory_digest else {}


def _receipt(copy: Path, artefact: Artefact, card: ReleaseCard) -> tuple[str | None, tuple[str, ...]]:
    """Read the training receipt: its digest, and what it says trained the model."""
    name = card.receipt or "receipt.json"
    file = copy / name
    if not file.exists():
        if card.receipt is None:
            return None, ()
        raise InputError("{file} is not in the model folder: the card names it.", file=clean_text(name))
    said = load_object(file)
    if said.get("weights") not in artefact.files.values():
        raise InputError(
            "{file} is the receipt of other weights than these: give the one that lay beside them.",
            file=clean_text(name),
        )
    data = said.get("data")
    digest = data.get("digest") if isinstance(data, dict) else None
    return hashlib.sha256(file.read_bytes()).hexdigest(), (str(digest),) if isinstance(digest, str) else ()


def take_findings(
    registry: Registry, directory: Path, public_key: Ed25519PublicKey | None, *, by: str
) -> tuple[str, str]:
    """Take the findings of an audit in.

    Parameters
    ----------
    registry : Registry
    directory : Path
        What ``primum audit`` or ``primum release certify`` wrote.
    public_key : Ed25519PublicKey or None
        Of the auditor; None: unsigned, which a policy does not take unless it says so.
    by : str

    Returns
    -------
    model, findings : str
        Digests.

    Raises
    ------
    InputError
        Unsigned, altered, of an unknown auditor, of a declared identity, or of a model that is not there.
    """
    handed = read_handed(directory, public_key)
    policy, audit = policy_of(registry.standing, registry.shelf), handed.audit
    if handed.key is None and not policy.findings.accept_unsigned:
        raise InputError(
            "The policy takes no unsigned findings: give the public key of whoever signed them with "
            "--public-key."
        )
    if handed.key is not None and policy.auditor_of(handed.key) is None:
        raise InputError(
            "The policy names no auditor with this key: findings count only when an auditor of the policy "
            "signed them."
        )
    if audit.model.identity == "declared" and not policy.findings.accept_declared:
        raise InputError(
            "These findings are of a model whose identity is only declared: audit the files themselves. The "
            "policy takes no others."
        )
    _require_known(registry, audit.model.digest, audit.model.files)

    def build(standing: Standing, date: str) -> tuple[Kind, Body]:
        return "findings", FindingsTaken(
            model=audit.model.digest,
            findings=registry.shelf.put(handed.content),
            report=handed.report,
            date=_earlier(handed.date, date),
            key=handed.key,
            signature=handed.signature,
        )

    registry.commit(by, build)
    return audit.model.digest, hashlib.sha256(handed.content).hexdigest()


def _earlier(said: str | None, date: str) -> str:
    """Take the earlier of two dates; one that is none counts for nothing."""
    try:
        return min(said or date, date, key=moment)
    except InputError:
        return date


def _require_known(registry: Registry, digest: str, files: Mapping[str, str]) -> None:
    models = registry.standing.models
    if digest in models:
        return
    near = [one for one in models.values() if set(one.files.items()) & set(files.items())]
    if near:
        first = min(set(near[0].files.items()) ^ set(files.items()))
        raise InputError(
            "These findings are of other files than model {model}: {file} differs, or was not read by the "
            "audit. Register exactly the files that are audited.",
            model=near[0].digest[:12],
            file=clean_text(first[0])[:80],
        )
    raise InputError("No model {model} is registered: register it first.", model=clean_text(digest)[:12])
