"""How sure models are of the true class of each case, and which of them trained on whom.

What attacks with shadow models read. A score is the log-odds of the true class, ``log p - log(1 - p)``: of
all answers about a case, the one that is nearest to Gaussian over models (Carlini et al. 2022).

References
----------
Carlini et al., Membership inference attacks from first principles, IEEE S&P 2022.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from primum.models.predictors import Predictor
from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

BoolArray = NDArray[np.bool_]
Source = Literal["logits", "probabilities"]
SMALLEST = float(np.finfo(np.float64).eps)
# What a probability of exactly 1 becomes; of exactly 0, its negative.
SATURATED = -float(np.log(SMALLEST))
# Scores worked on at a time.
BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class ScoreMatrix:
    """Answers of several models about the same cases.

    Attributes
    ----------
    scores : float64, shape (models, n)
        Log-odds that each model gives to the true class of each case.
    inside : bool, shape (models, n)
        Whether the model was trained on the case's patient.

    Raises
    ------
    ValueError
        The two are not of one shape.
    """

    scores: FloatArray
    inside: BoolArray

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or self.scores.shape != self.inside.shape:
            raise ValueError("scores and inside must be of one shape, (models, cases)")

    def __len__(self) -> int:
        return len(self.scores)

    def models(self, keep: BoolArray | IntArray | slice) -> "ScoreMatrix":
        """Keep some of the models."""
        return ScoreMatrix(self.scores[keep], self.inside[keep])

    def cases(self, keep: BoolArray | IntArray | slice) -> "ScoreMatrix":
        """Keep some of the cases."""
        return ScoreMatrix(self.scores[:, keep], self.inside[:, keep])

    def blocks(self) -> Iterator["ScoreMatrix"]:
        """Yield the cases in order, some at a time, so that work on them takes little memory."""
        width = max(1, BLOCK // max(1, len(self)))
        for start in range(0, self.scores.shape[1], width):
            yield self.cases(slice(start, start + width))

    def fair_to(self, inside: BoolArray) -> "ScoreMatrix":
        """Leave out models of exactly the patients that the target, of `inside`, was not trained on.

        In a study whose models come in halves and their complements, the complement of the target is one more
        model without each member and one more with each held-out patient, and what it learnt of everybody
        else is the contrary of what the target learnt: few shadows then find members where nobody is
        remembered.
        """
        return self.models((self.inside == inside).any(axis=1))

    def leave_out(self, target: int) -> tuple[FloatArray, "ScoreMatrix"]:
        """Take one model as the target; the others, but for its complement, are its shadows."""
        others = self.models(np.delete(np.arange(len(self)), target))
        return self.scores[target], others.fair_to(self.inside[target])


def log_odds(answers: FloatArray, labels: IntArray, *, source: Source) -> FloatArray:
    """Log-odds of the true class; 0: as likely as all the others together; higher: surer of the truth.

    Parameters
    ----------
    answers : float64, shape (n, classes)
        From logits nothing is lost and nothing clipped. From probabilities, p and the sum of the other
        columns are clipped from below at the precision of float64, 2.2e-16.
    labels : int64, shape (n,)
    source : {"logits", "probabilities"}

    Returns
    -------
    float64, shape (n,)

    Examples
    --------
    >>> log_odds(np.array([[0.0, 800.0], [0.0, 800.0]]), np.array([0, 1]), source="logits").tolist()
    [-800.0, 800.0]
    >>> log_odds(np.array([[0.5, 0.25, 0.25]]), np.array([0]), source="probabilities").tolist()
    [0.0]
    """
    rows = np.arange(len(labels))
    true = answers[rows, labels]
    if source == "logits":
        others = answers.astype(np.float64)
        others[rows, labels] = -np.inf
        return np.asarray(true - logsumexp(others, axis=1), np.float64)
    others = answers.astype(np.float64)
    others[rows, labels] = 0
    rest = np.maximum(others.sum(axis=1), SMALLEST)
    return np.asarray(np.log(np.maximum(true, SMALLEST)) - np.log(rest), np.float64)


def score_cases(predictor: Predictor, cases: Cases) -> tuple[FloatArray, Source]:
    """Ask a classifier for the log-odds of the true class of each case, and say what they were made from.

    Raises
    ------
    ModelError
        See :meth:`primum.models.predictors.Predictor.predict_proba`.
    """
    logits = predictor.logits(cases)
    if logits is not None:
        return log_odds(logits, cases.labels, source="logits"), "logits"
    return log_odds(predictor.predict_proba(cases), cases.labels, source="probabilities"), "probabilities"
