"""A model that came through a door: what it can do, its vocabulary, and which bytes it is."""

from dataclasses import dataclass

from primum.evidence.identity import ModelRef
from primum.models.classifier_card import Card
from primum.models.predictors import Predictor
from primum.records.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A model ready to be asked.

    Attributes
    ----------
    ref : ModelRef
    scorer : object
        What whole histories are put to; its protocols say what it can answer.
    tokenizer : Tokenizer
        Turns histories into the tokens that the model was trained on.
    context : int
        Tokens that it sees at once.
    parameters : int
    guessed : tuple of str
        What the model's files do not say and was guessed, in lines of ``key = value``: see
        :func:`primum.records.profile_guess.guess_profile`. Empty when all was declared.
    anew : object or None
        What answers about other histories than whole ones; None: the scorer. Of a recorded model it knows
        little.
    """

    ref: ModelRef
    scorer: object
    tokenizer: Tokenizer
    context: int
    parameters: int
    guessed: tuple[str, ...] = ()
    anew: object | None = None

    @property
    def answering(self) -> object:
        """What new prompts are put to."""
        return self.scorer if self.anew is None else self.anew


@dataclass(frozen=True, eq=False)
class OpenedClassifier:
    """A classifier ready to be asked.

    Attributes
    ----------
    ref : ModelRef
    predictor : Predictor
        Its further protocols say what else it can answer.
    parameters : int
        0 where nobody can count them.
    structure : object or None
        What the model is made of, where a test can read it: a scikit-learn estimator or pipeline.
    card : Card or None
        How inputs are prepared for the structure.
    answers_anew : bool
        Whether it can be asked about cases that nobody recorded.
    """

    ref: ModelRef
    predictor: Predictor
    parameters: int
    structure: object | None = None
    card: Card | None = None
    answers_anew: bool = True
