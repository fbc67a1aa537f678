from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from tests import tiny
from tests.audits.test_trajectory import SIZE, Parrot, cohort, record, subjects_of
from tests.audits.test_transport import CODES, TOKENIZER, batch

from primum.audits.privacy import extraction as module
from primum.audits.privacy.extraction import (
    KNOWN,
    LENGTH,
    QUERY_LADDER,
    extraction,
    passages,
    queries_needed,
    template_events,
)
from primum.audits.privacy.subjects import Subjects
from primum.evidence.measured import Measured
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.records.excerpts import Anatomy
from primum.records.histories import FloatArray, InMemory
from primum.records.tokens import Kind, TokenBatch, join_tokens

TEST = "extraction.passages"
SHORTEST = KNOWN + LENGTH


@dataclass
class Given:
    """Answers with log-probabilities drawn at random, the same for the same patient."""

    lowest: float = -0.7

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        return [
            np.random.default_rng(int(subject)).uniform(self.lowest, 0, max(int(length) - 1, 0))
            for subject, length in zip(tokens.subject_ids, tokens.lengths, strict=True)
        ]


@dataclass
class ByKind:
    """Probability 1 for everything, but for one kind of token after a place."""

    kind: Kind
    log_p: float
    before: int = 1 << 30

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        kinds = [tokens.kinds_of(row)[1:] for row in range(len(tokens))]
        return [
            np.where((row == self.kind) & (np.arange(len(row)) < self.before), self.log_p, 0.0)
            for row in kinds
        ]


def score(model: object, subjects: Subjects) -> FloatArray:
    return extraction(model, (), subjects).scores[TEST]


def naive_templates(tokens: TokenBatch) -> list[list[bool]]:
    """For each event in turn, walk through all other patients."""
    codes = [
        tokens.tokens_of(row)[tokens.kinds_of(row) == Kind.CLINICAL].tolist() for row in range(len(tokens))
    ]
    found = []
    for row, own in enumerate(codes):
        others = [pair for other, line in enumerate(codes) if other != row for pair in pairwise(line)]
        flags = [False] * bool(own)
        for pair in pairwise(own):
            after = [second for first, second in others if first == pair[0]]
            flags.append(pair[1] in after and after.count(pair[1]) >= 0.5 * len(after))
        found.append(flags)
    return found


def naive_log_p(tokens: TokenBatch, log_probs: list[FloatArray]) -> list[float | None]:
    """The best log-probability of any passage of each patient, token by token."""
    best: list[float | None] = []
    for row, templates in enumerate(naive_templates(tokens)):
        kinds = tokens.kinds_of(row).tolist()
        place = [index for index, kind in enumerate(kinds) if kind == Kind.CLINICAL]
        tried = []
        for first in range(KNOWN, len(place)):
            held = [event for event in range(first, len(place)) if not templates[event]][:LENGTH]
            if templates[first] or len(held) < LENGTH:
                continue
            start = place[first] - (kinds[place[first] - 1] == Kind.GAP)
            last = place[held[-1]]
            stop = last + 2 if last + 1 < len(kinds) and kinds[last + 1] == Kind.VALUE else last + 1
            tried.append(sum(float(log_probs[row][token - 1]) for token in range(start, stop)))
        best.append(max(tried) if tried else None)
    return best


def templated(seed: int) -> TokenBatch:
    """Few codes, some of which always follow each other, in histories of every length."""
    rng = np.random.default_rng(seed)
    patients = []
    for events in [*range(12, 40, 2), 3, 0]:
        tokens = record(events, rng, among=(0, 12))
        patients.append([more for name in tokens for more in ([name, "30", "31"] if name == "3" else [name])])
    return batch(*patients, ["BEGIN"], [], ["3"])


@pytest.mark.parametrize("seed", range(4))
def test_passages_equal_the_loop(seed: int) -> None:
    tokens = templated(seed)
    subjects, model = subjects_of(tokens), Given()
    flags = [flag for row in naive_templates(tokens) for flag in row]
    assert template_events(Anatomy(tokens)).tolist() == flags
    assert 0.05 < np.mean(flags) < 0.5
    best = naive_log_p(tokens, model.log_probs(tokens))
    needed = [np.nan if one is None else np.ceil(np.log(0.5) / np.log1p(-np.exp(one))) for one in best]
    curve = extraction(model, (), subjects).curves[TEST]["extraction"]
    assert curve.x == QUERY_LADDER
    for place, queries in enumerate(QUERY_LADDER):
        wanted = [np.nan if np.isnan(one) else one <= queries for one in needed]
        np.testing.assert_array_equal(curve.values[:, place], wanted)
    shown = {one.row: one.queries for one in passages(model, subjects)}
    within = {int(subjects.rows[row]): one for row, one in enumerate(needed) if one <= module.QUERIES}
    assert shown == within
    assert len(shown) > 2


def test_queries_are_the_fewest_that_suffice() -> None:
    probabilities = np.array([1.0, 0.9, 0.5, 0.4999, 0.1, 0.01, 1e-6])
    needed = queries_needed(np.log(probabilities))
    assert (1 - (1 - probabilities) ** needed >= 0.5).all()
    assert (1 - (1 - probabilities) ** (needed - 1) < 0.5).all()
    assert queries_needed(np.array([-700.0, -1e4, -np.inf])) == pytest.approx(
        [np.log(2) * np.exp(700), *[np.inf] * 2]
    )


def test_a_memorised_patient_is_found_and_a_stranger_is_not() -> None:
    tokens = cohort([20, 30, SHORTEST] * 6)
    measured = extraction(Parrot(tokens, range(9)), (), subjects_of(tokens, members=range(9)))
    assert measured.scores[TEST].tolist() == [1.0] * 9 + [0.0] * 9
    curve = measured.curves[TEST]["extraction"].values
    assert (np.diff(curve, axis=1) >= 0).all()
    np.testing.assert_array_equal(curve[:, QUERY_LADDER.index(100)], measured.scores[TEST])
    assert (curve[:9, 0] == 0).all()  # .9 to the power of a passage's tokens is below one half


def test_a_model_that_knows_nothing_tells_no_member_from_a_stranger() -> None:
    tokens = cohort([30] * 300)
    scores = score(Given(), subjects_of(tokens))
    assert 0.2 < scores.mean() < 0.8
    difference = scores[:150].mean() - scores[150:].mean()
    assert abs(difference) < 3 * np.sqrt(2 * 0.25 / 150)


def test_what_is_surely_next_is_no_memory_unless_only_one_patient_has_it() -> None:
    """Everyone's 0, 1, 2 … is a template; the same run in one record alone is not."""
    run = [str(number) for number in range(30)]
    alike = batch(*[["BEGIN", *run]] * 4)
    assert template_events(Anatomy(alike))[1:30].all()
    assert np.isnan(score(ByKind(Kind.GAP, 0.0), subjects_of(alike))).all()
    alone = batch(["BEGIN", *run], *[["BEGIN", *["31"] * 5, "33"]] * 3)
    assert not template_events(Anatomy(alone))[:30].any()
    assert score(ByKind(Kind.GAP, 0.0), subjects_of(alone))[0] == 1


def test_templates_are_what_half_of_the_others_do() -> None:
    """Of two others, one goes on with 1 and one with 2; how often the third patient does is not counted."""
    tokens = batch(["0", "1"], ["0", "2"], ["0", "1", "0", "2", "0", "2", "0", "3"])
    found = template_events(Anatomy(tokens)).tolist()
    assert found[:4] == [False] * 4
    assert found[4:] == [False, True, False, True, False, True, False, False]


def test_prompt_is_not_counted_as_output() -> None:
    """However improbable the first five events are, they are the attacker's and not the model's to say."""
    names = ["BEGIN", *[str(number) for number in range(SHORTEST)]]
    subjects = subjects_of(batch(names))
    assert score(ByKind(Kind.CLINICAL, -50.0, before=KNOWN), subjects).tolist() == [1]
    assert score(ByKind(Kind.CLINICAL, -50.0, before=KNOWN + 1), subjects).tolist() == [0]


def test_exactly_enough_queries_are_enough() -> None:
    subjects = subjects_of(batch(["BEGIN", *[str(number) for number in range(SHORTEST)]]))
    assert queries_needed(np.log([0.067])).tolist() == [10]
    model = ByKind(Kind.CLINICAL, float(np.log(0.067)), before=KNOWN + 1)
    curve = extraction(model, (), subjects).curves[TEST]["extraction"].values
    assert curve[0].tolist() == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("kind", [Kind.GAP, Kind.VALUE])
def test_every_token_of_a_passage_must_be_said(kind: Kind) -> None:
    names = [part for number in range(20) for part in ("GAP//1+", str(number), "Q1")]
    subjects = subjects_of(batch(["BEGIN", *names]))
    assert score(ByKind(kind, 0.0), subjects).tolist() == [1]
    assert score(ByKind(kind, -np.inf), subjects).tolist() == [0]


def test_padding_is_never_kept() -> None:
    tokens = cohort([SHORTEST, SHORTEST - 1])
    padded = batch(
        *[[*(TOKENIZER.vocabulary.tokens[t] for t in tokens.tokens_of(r)), *["PAD"] * 9] for r in (0, 1)]
    )
    for one in (tokens, padded):
        assert score(ByKind(Kind.SPECIAL, -np.inf), subjects_of(one))[0] == 1
        assert np.isnan(score(Given(), subjects_of(one))[1])


def test_one_token_histories_and_short_ones_have_no_passage() -> None:
    tokens = join_tokens([cohort([SHORTEST, SHORTEST - 1, 0, 3]), batch(["BEGIN"], [], ["3"])])
    assert np.isfinite(score(Given(), subjects_of(tokens))).tolist() == [True, *[False] * 6]
    nobody = subjects_of(tokens.select(np.arange(1, 7)))
    assert np.isnan(score(Given(), nobody)).all()
    assert passages(Given(), nobody) == ()


def test_members_and_held_out_are_cut_alike() -> None:
    tokens = templated(0)
    subjects = subjects_of(tokens, members=range(9))
    turned = replace(subjects, is_member=~subjects.is_member)
    np.testing.assert_array_equal(score(Given(), subjects), score(Given(), turned))


def test_a_model_that_cannot_score_is_refused() -> None:
    measured = extraction(object(), (), subjects_of(cohort([20])))
    assert measured.refused[TEST].parameters == {"protocol": "Scorer"}
    assert not measured.scores
    assert isinstance(measured, Measured)


def test_passages_are_shown_as_families_unless_asked_for_in_full() -> None:
    tokens = cohort([30, 4, 25])
    subjects = subjects_of(tokens)
    hiv = np.zeros(SIZE, np.bool_)
    hiv[TOKENIZER.vocabulary.encode(CODES[::2])] = True
    subjects = replace(subjects, families={"hiv": hiv})
    model = Parrot(tokens, {0, 2})
    shown = passages(model, subjects)
    assert sorted(one.row for one in shown) == [7, 13]
    for one in shown:
        assert set(one.families) == {"LAB", "LAB hiv"}
        assert one.codes is None
        assert "LAB//" not in repr(one)
    for one in passages(model, subjects, full=True):
        assert one.codes is not None
        row = (one.row - 7) // 3
        events = tokens.tokens_of(row)[tokens.kinds_of(row) == Kind.CLINICAL]
        true = events[one.start_event : one.start_event + len(one.families)]
        assert TOKENIZER.vocabulary.encode(one.codes).tolist() == true.tolist()
        assert one.families == tuple("LAB hiv" if hiv[code] else "LAB" for code in true)


def test_a_code_without_separator_does_not_name_itself() -> None:
    named = dict(zip(CODES, (f"I{number}" for number in range(40)), strict=True))
    tokens = TOKENIZER.vocabulary.tokens
    bare = replace(
        TOKENIZER, vocabulary=replace(TOKENIZER.vocabulary, tokens=tuple(named.get(t, t) for t in tokens))
    )
    subjects = replace(subjects_of(cohort([30])), tokenizer=bare)
    (shown,) = passages(ByKind(Kind.GAP, 0.0), subjects)
    assert set(shown.families) == {"?"}


def test_a_trained_model_says_its_own_patients() -> None:
    splits = tiny.cohort(seed=2, train=16, held_out=16)
    tokenizer = tiny.tokenizer_of(InMemory((splits["train"], splits["held_out"])))
    train, held_out = (tokenizer.encode(splits[name]) for name in ("train", "held_out"))
    recipe = SmallCausalRecipe(
        LoopSettings(epochs=60, batch=8, learning_rate=1e-2), width=48, layers=1, heads=2, context=256
    )
    model = recipe.fit(train, seed=1)
    subjects = subjects_of(join_tokens([train, held_out]), members=range(16), tokenizer=tokenizer)
    scores = score(model, subjects)
    asked = np.isfinite(scores)
    assert scores[asked & subjects.is_member].mean() > 0.5
    assert scores[asked & ~subjects.is_member].mean() == 0
