"""How one test is judged, what its attacker has, where it comes from."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rule:
    """How one test is judged.

    Attributes
    ----------
    measure : {"auc", "share", "guesses", "observed"}
        ``auc``: members rank above held-out patients. ``share``: mean of members minus mean of held-out
        patients, each in [0, 1]. ``guesses``: AUROC of predicted facts on members minus on held-out patients.
        ``observed``: by the module of its family, members and held-out patients not being compared.
    attacker : str
        Code of the attacker assumed.
    references : tuple of str
        Literature keys.
    primary : bool
        The one test of its family that decides between exit status 0 and 3.
    claims : bool
        False: shown beside the claims, cannot alarm.
    permuted : bool
        An AUC whose p-value is by permutation, not by the normal approximation.
    """

    measure: Literal["auc", "share", "guesses", "observed"]
    attacker: str
    references: tuple[str, ...]
    primary: bool = False
    claims: bool = True
    permuted: bool = False
