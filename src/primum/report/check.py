"""``primum report check``: whether an audit is still what was signed."""

from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from primum.errors import InputError, clean_text
from primum.evidence.audit import FINDINGS, REPORT
from primum.evidence.documents import read_as
from primum.evidence.identity import file_digest
from primum.evidence.signature import SIGNATURE, Signature, signed_bytes
from primum.report.language import message

VALID, ALTERED, UNSIGNED = 0, 1, 3


@dataclass(frozen=True)
class Checked:
    """The answer of a check.

    Attributes
    ----------
    status : int
        0 valid, 1 altered, 3 unsigned or no key given.
    sentence : str
        Template of what to say, with the field ``files``.
    files : tuple of str
        What was altered.
    """

    status: int
    sentence: str
    files: tuple[str, ...] = ()


def check(directory: Path, public_key: Ed25519PublicKey | None) -> Checked:
    """Verify the signature of the audit in `directory`; every byte of both files counts.

    Raises
    ------
    InputError
        A file cannot be read, or ``findings.sig`` is no signature.
    """
    try:
        signed = signed_bytes(directory)
        digests = {name: file_digest(directory / name) for name in (FINDINGS, REPORT)}
    except OSError as error:
        raise InputError(
            "{file} cannot be read: give the folder that an audit wrote.", file=clean_text(error.filename)
        ) from error
    if not (directory / SIGNATURE).exists():
        return Checked(UNSIGNED, message("There is no signature: nothing shows who wrote this audit."))
    if public_key is None:
        return Checked(UNSIGNED, message("Not checked: give the public key of the signer with --public-key."))
    kept = read_as(Signature, directory / SIGNATURE)
    try:
        public_key.verify(bytes.fromhex(kept.signature), signed)
    except (InvalidSignature, ValueError):
        recorded = {FINDINGS: kept.findings, REPORT: kept.report}
        altered = tuple(name for name, digest in digests.items() if digest != recorded[name])
        if altered:
            return Checked(ALTERED, message("Altered since it was signed: {files}."), altered)
        sentence = message("The signature itself was altered: {files}.")
        if kept.public_key != public_key.public_bytes_raw().hex():
            sentence = message("Signed with another key than the one given: {files}.")
        return Checked(ALTERED, sentence, (SIGNATURE,))
    return Checked(VALID, message("Valid: {files} are what the holder of this key signed."), tuple(digests))
