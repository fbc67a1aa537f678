from dataclasses import dataclass

import numpy as np
import pytest
from tests import tiny

from primum.audits.privacy.membership import MIN_K_SHARE, membership_scores
from primum.models.causal import CausalModel
from primum.models.protocols import DistributionScorer, Scorer
from primum.records.histories import FloatArray
from primum.records.tokens import Kind, TokenBatch

VOCABULARY = 20
LENGTHS = [9, 2, 40, 16, 1, 0, 7]
UNSCORED = [4, 5]


@dataclass(frozen=True)
class OnlyLikelihood:
    """A scorer that does not know the distribution."""

    model: CausalModel

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        return self.model.log_probs(tokens)


@pytest.fixture(scope="module")
def model() -> CausalModel:
    return tiny.build(vocabulary=VOCABULARY)


def mixed(seed: int = 0) -> TokenBatch:
    """Histories in which about half of the tokens are clinical, but a patient's second always."""
    tokens = tiny.random_batch(LENGTHS, vocabulary=VOCABULARY, seed=seed)
    kinds = np.random.default_rng(seed).choice(list(Kind), len(tokens.token_ids)).astype(np.uint8)
    kinds[::2] = Kind.CLINICAL
    kinds[tokens.offsets[:-1][tokens.lengths > 1] + 1] = Kind.CLINICAL
    ids, index = tokens.token_ids, tokens.event_index
    return TokenBatch(tokens.subject_ids, tokens.offsets, ids, kinds, index, VOCABULARY)


def naive(model: CausalModel, tokens: TokenBatch, patient: int) -> dict[str, float]:
    """One patient, one token at a time."""
    kept, standard = [], []
    (scores,) = model.token_scores(tokens.select(np.array([patient])))
    for place, kind in enumerate(tokens.kinds_of(patient)):
        if place > 0 and kind == Kind.CLINICAL:
            log_p = scores.log_probs[place - 1]
            kept.append(log_p)
            standard.append((log_p - scores.means[place - 1]) / scores.deviations[place - 1])
    least = max(1, int(np.ceil(0.2 * len(kept))))
    return {
        "loss": sum(kept) / len(kept),
        "min_k": sum(sorted(kept)[:least]) / least,
        "min_k_pp": sum(sorted(standard)[:least]) / least,
    }


def test_scores_equal_the_loop(model: CausalModel) -> None:
    tokens = mixed()
    scores = membership_scores(model, tokens)
    assert set(scores) == {"loss", "min_k", "min_k_pp"}
    assert MIN_K_SHARE == 0.2
    for patient in set(range(len(LENGTHS))) - set(UNSCORED):
        for name, expected in naive(model, tokens, patient).items():
            assert scores[name][patient] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", [Kind.VALUE, Kind.GAP, Kind.STATIC, Kind.SPECIAL])
def test_only_clinical_tokens_count(kind: Kind) -> None:
    """A model that finds every other kind of token certain, or impossible, scores patients the same."""

    @dataclass(frozen=True)
    class Fixed:
        certain: float

        def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
            rows = [tokens.kinds_of(patient)[1:] for patient in range(len(tokens))]
            return [np.where(row == Kind.CLINICAL, -2.0, self.certain) for row in rows]

    tokens = mixed()
    kinds = np.where(tokens.kinds == Kind.CLINICAL, Kind.CLINICAL, kind).astype(np.uint8)
    ids, index = tokens.token_ids, tokens.event_index
    tokens = TokenBatch(tokens.subject_ids, tokens.offsets, ids, kinds, index, VOCABULARY)
    assert (tokens.kinds == kind).any()
    for certain in (0.0, -50.0):
        scores = membership_scores(Fixed(certain), tokens)
        known = np.isfinite(scores["loss"])
        assert (scores["loss"][known] == -2).all()
        assert (scores["min_k"][known] == -2).all()


def test_nothing_to_predict_gives_no_score(model: CausalModel) -> None:
    tokens = mixed()
    no_clinical = tokens.kinds.copy()
    start = tokens.offsets[2]
    no_clinical[start + 1 : tokens.offsets[3]] = Kind.GAP
    no_clinical[start] = Kind.CLINICAL  # the first token is predicted by nobody
    ids, index = tokens.token_ids, tokens.event_index
    tokens = TokenBatch(tokens.subject_ids, tokens.offsets, ids, no_clinical, index, VOCABULARY)
    for values in membership_scores(model, tokens, references=[model]).values():
        assert np.flatnonzero(np.isnan(values)).tolist() == sorted([2, *UNSCORED])


def test_references_are_averaged(model: CausalModel) -> None:
    tokens = mixed()
    others = [tiny.build(vocabulary=VOCABULARY, seed=seed) for seed in (8, 9)]
    own, first, second = (membership_scores(one, tokens)["loss"] for one in (model, *others))
    ratio = membership_scores(model, tokens, references=others)["ratio"]
    np.testing.assert_allclose(ratio, own - (first + second) / 2, atol=1e-9)
    itself = membership_scores(model, tokens, references=[model])["ratio"]
    np.testing.assert_allclose(itself[np.isfinite(itself)], 0, atol=1e-9)


def test_a_model_without_distribution_has_no_min_k_pp(model: CausalModel) -> None:
    plain, tokens = OnlyLikelihood(model), mixed()
    assert isinstance(plain, Scorer)
    assert not isinstance(plain, DistributionScorer)
    scores, full = membership_scores(plain, tokens), membership_scores(model, tokens)
    assert set(scores) == {"loss", "min_k"}
    for name in scores:
        np.testing.assert_allclose(scores[name], full[name], atol=1e-9)


def test_scores_do_not_depend_on_the_company(model: CausalModel) -> None:
    tokens = mixed()
    together = membership_scores(model, tokens)
    order = np.array([6, 2, 0])
    apart = membership_scores(model, tokens.select(order))
    for name in together:
        np.testing.assert_allclose(apart[name], together[name][order], atol=1e-5)
