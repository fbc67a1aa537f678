"""The release card: what a model is for, who made it, from what. Its form is ``classifier.toml``'s matter."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from primum.errors import InputError, clean_text
from primum.release.toml_tables import parse_document

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FILE: Final = re.compile(r"\w[\w.+=-]{0,254}", re.ASCII)
_WORD: Final = re.compile(r"[\w.:@/+=-]{1,256}", re.ASCII)


@dataclass(frozen=True)
class ReleaseCard:
    """What the author of a release says of it.

    Attributes
    ----------
    name, version : str
        As the trail writes them: letters, digits and ``_.:@/+=-``.
    intended_use : str
        For whom, on what, to decide what.
    authors : tuple of str
        Who may not approve it.
    licence : str
    not_for : str
        Where it must not be used.
    receipt : str or None
        File of the training receipt in the model folder; None: ``receipt.json`` if it is there.
    data : tuple of str
        Digests of what trained it, beside what the receipt names.
    parent : str or None
        Digest of the model that it changes.
    change : {"whole", "minor"}
        A minor change is one that the plan of the policy foresaw.
    plan : str or None
        Name of that plan.
    factory, factory_digest : str or None
        Of weights of a torch module: ``module:name`` of what makes it, and the sha256 of that source file.
        An audit reads it as part of the model.
    """

    name: str
    version: str
    intended_use: str
    authors: tuple[str, ...]
    licence: str
    not_for: str = ""
    receipt: str | None = None
    data: tuple[str, ...] = ()
    parent: str | None = None
    change: Literal["whole", "minor"] = "whole"
    plan: str | None = None
    factory: str | None = None
    factory_digest: str | None = None


def read_card(content: bytes, *, file: str) -> ReleaseCard:
    """Read the bytes of a release card, TOML, or JSON when the name ends so.

    Raises
    ------
    InputError
        No such text, or a key that is unknown, missing or of no use; names the file and the key.
    """
    card = parse_document(ReleaseCard, content, file=file)
    for key, right in {
        "name": bool(_WORD.fullmatch(card.name)),
        "version": bool(_WORD.fullmatch(card.version)),
        "intended_use": bool(card.intended_use.strip()),
        "authors": bool(card.authors) and all(_WORD.fullmatch(one) for one in card.authors),
        "licence": bool(card.licence.strip()),
        "receipt": card.receipt is None or bool(_FILE.fullmatch(card.receipt)),
        "data": all(_DIGEST.fullmatch(one) for one in card.data),
        "parent": card.parent is None or bool(_DIGEST.fullmatch(card.parent)),
        "change": card.change == "whole" or (card.parent is not None and card.plan is not None),
        "factory": (card.factory is None) == (card.factory_digest is None),
        "factory_digest": card.factory_digest is None or bool(_DIGEST.fullmatch(card.factory_digest)),
    }.items():
        if not right:
            raise InputError(
                "{file}: {key} is empty or cannot be used: names are letters, digits and _.:@/+=-, digests "
                "64 hexadecimal digits, and a minor change names its parent and its plan.",
                file=clean_text(file),
                key=key,
            )
    return card
