"""Is a classifier surer of the patients that it was trained on? Two attacks that need its answers only.

Black-box: the attacker holds the case and its diagnosis and asks once. Over-fitted models give the true class
of their own patients a probability nearer to 1.

References
----------
Yeom et al., Privacy risk in machine learning, CSF 2018 (loss).
Song & Mittal, Systematic evaluation of privacy risks of machine learning models, USENIX Security 2021
(modified entropy).
Carlini et al., Membership inference attacks from first principles, S&P 2022 (log-odds, computed stably).
"""

import numpy as np
from scipy.special import expit, logsumexp

from primum.models.predictors import Predictor
from primum.records.cases import Cases
from primum.records.histories import FloatArray

# Without logits a probability below this cannot be told from 0.
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


def log_odds(predictor: Predictor, cases: Cases) -> FloatArray:
    """Return log(p / (1 - p)) of every class, natural, shape (n, classes); 0 = as likely as not.

    From logits, when the model gives them, so that probabilities near 0 and 1 stay apart; else from
    probabilities, none taken as below 2**-52.
    """
    logits = predictor.logits(cases)
    if logits is None:
        logits = np.log(np.maximum(predictor.predict_proba(cases), SMALLEST_PROBABILITY))
    rows, top = np.arange(len(logits)), logits.argmax(axis=1)
    others = logits.copy()
    others[rows, top] = -np.inf
    # 1 - p of the likeliest class is the sum of the others; of any other class it is at least 1/2
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    beside = np.log1p(-np.minimum(np.exp(log_p), 0.5))
    beside[rows, top] = logsumexp(others, axis=1) - logsumexp(logits, axis=1)
    return np.asarray(log_p - beside, np.float64)


def confidence_scores(predictor: Predictor, cases: Cases) -> dict[str, FloatArray]:
    """Score each case by how sure the model is of its true class; higher = more member-like.

    Parameters
    ----------
    predictor : Predictor
        Asked once; its classes are those that the labels count in.
    cases : Cases
        `n` of them.

    Returns
    -------
    dict of str to float64, shape (n,)
        ``loss``: natural log p of the true class; 0 = certain of it, below is less member-like.
        ``entropy``: minus the modified entropy, (1 - p) log p of the true class and p log(1 - p) of each
        other; 0 = certain of the true class, minus infinity would be certain of another.
    """
    odds = log_odds(predictor, cases)
    log_p, log_rest = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
    true = np.arange(odds.shape[1]) == cases.labels[:, None]
    entropy = np.where(true, expit(-odds) * log_p, expit(odds) * log_rest).sum(axis=1)
    return {"loss": log_p[true], "entropy": entropy}
