"""A model that came through a door: what it can do, its vocabulary, and which bytes it is."""

from dataclasses import dataclass

from primum.evidence.identity import ModelRef
from primum.models.protocols import Scorer
from primum.records.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A model ready to be asked.

    Attributes
    ----------
    ref : ModelRef
    scorer : Scorer
    tokenizer : Tokenizer
        Turns histories into the tokens that the model was trained on.
    context : int
        Tokens that it sees at once.
    parameters : int
    """

    ref: ModelRef
    scorer: Scorer
    tokenizer: Tokenizer
    context: int
    parameters: int
