"""Findings as they come from an audit: read, checked against their signature, and taken apart for keeping."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from primum.errors import InputError, clean_text
from primum.evidence.audit import FINDINGS, REPORT, Audit
from primum.evidence.documents import read_as, read_audit
from primum.evidence.identity import manifest_digest
from primum.evidence.signature import SIGNATURE, Signature

# As primum.evidence.signature.signed_bytes writes them, from a digest of the report instead of the report.
_CONTEXT = b"primum audit 1\n"


@dataclass(frozen=True)
class Handed:
    """Findings that were handed in.

    Attributes
    ----------
    content : bytes
        ``findings.json`` as it was signed.
    audit : Audit
    report : str
        sha256 of the report.
    date : str or None
        When the run ended, where ``run.json`` says so.
    key, signature : str or None
        In hexadecimal; None: nobody signed.
    """

    content: bytes
    audit: Audit
    report: str
    date: str | None
    key: str | None
    signature: str | None


def read_handed(directory: Path, public_key: Ed25519PublicKey | None) -> Handed:
    """Read the folder of an audit; with a key its signature must hold, without one it counts as unsigned.

    Raises
    ------
    InputError
        A file is missing or altered, the signature is of another key or does not hold, or the digest of the
        model is not that of its manifest.
    """
    content = _read(directory / FINDINGS)
    audit, run = read_audit(directory)
    if content != _read(directory / FINDINGS):
        raise InputError("{file} changes while it is read: wait until the audit has ended.", file=FINDINGS)
    date = run.get("date")
    if audit.model.identity == "computed" and manifest_digest(audit.model.files) != audit.model.digest:
        raise InputError(
            "{file}: the digest of the model is not that of its files: write the audit again.", file=FINDINGS
        )
    foreign = next((one.test for one in audit.findings if one.model != audit.model.digest), None)
    if foreign is not None:
        raise InputError(
            "{file}: {test} is about another model than the audit: write the audit again.",
            file=FINDINGS,
            test=clean_text(foreign)[:80],
        )
    report = hashlib.sha256(_read(directory / REPORT)).hexdigest() if (directory / REPORT).exists() else ""
    key, signature = None, None
    if public_key is not None:
        kept = read_as(Signature, directory / SIGNATURE)
        key, signature = public_key.public_bytes_raw().hex(), kept.signature
        if not holds_signature(content, report=report, key=key, signature=signature):
            raise InputError(
                "{file} does not hold: the findings or the report were altered since, or another key signed "
                "them. Have the folder and the public key from the auditor.",
                file=SIGNATURE,
            )
    return Handed(content, audit, report, date if isinstance(date, str) else None, key, signature)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(
            "{file} cannot be read: give the folder that an audit wrote.", file=clean_text(file)
        ) from error


def holds_signature(content: bytes, *, report: str, key: str, signature: str) -> bool:
    """Tell whether a signature is of these findings and of a report of this digest."""
    try:
        signed = _CONTEXT + report.encode() + b"\n" + content
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), signed)
    except (InvalidSignature, ValueError):
        return False
    return True
