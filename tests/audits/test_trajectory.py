from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from tests import tiny
from tests.audits.test_transport import TOKENIZER, batch

from primum.audits.privacy.subjects import Subjects
from primum.audits.privacy.trajectory import (
    EVENTS,
    FEWEST,
    KNOWN,
    SAMPLES,
    TEMPERATURE,
    VERBATIM,
    recovered,
    trajectory,
)
from primum.audits.privacy.transport import code_distances, code_embeddings, trajectories, transport_distances
from primum.evidence.measured import Measured
from primum.evidence.ranking import auc
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.protocols import Generator, Sampling
from primum.records.attributes import PatientTable
from primum.records.histories import FloatArray, InMemory
from primum.records.ragged import IntArray, offsets_of
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import Kind, TokenBatch, join_tokens

GENERATED = {"trajectory.codes", "trajectory.verbatim", "trajectory.distance"}
ALL = {*GENERATED, "trajectory.likelihood"}
FIRST_CODE = TOKENIZER.vocabulary.id_of["LAB//0"]
SIZE = len(TOKENIZER.vocabulary)
PAIRS = 1 << 20


def record(events: int, rng: np.random.Generator, *, among: tuple[int, int] = (0, 40)) -> list[str]:
    """A history of that many events, half of them after a gap, some with a number, from some of the codes."""
    tokens = ["BEGIN", "SEX//F", "AGE//0+"]
    for _ in range(events):
        tokens += [f"GAP//{rng.choice([0, 1, 2, 4])}+"] * rng.integers(2)
        tokens += [str(rng.integers(*among)), *["Q1"] * rng.integers(2)]
    return [*tokens, "END"]


def subjects_of(
    tokens: TokenBatch,
    *,
    members: Collection[int] = (),
    tokenizer: Tokenizer = TOKENIZER,
    context: int = 256,
) -> Subjects:
    count, nothing = len(tokens), np.zeros(len(tokens))
    names = np.full(count, "?")
    pairs = np.unique(np.repeat(np.arange(count), tokens.lengths) * PAIRS + tokens.token_ids)
    return Subjects(
        np.arange(count) * 3 + 7,
        tokens,
        np.isin(np.arange(count), list(members)),
        PatientTable(
            tokens.subject_ids,
            names,
            nothing,
            names,
            np.zeros(count, np.int64),
            nothing,
            nothing,
            nothing,
            {},
        ),
        tokenizer,
        {},
        np.bincount(pairs % (PAIRS), minlength=tokens.vocabulary_size),
        count,
        context,
        seed=4,
        times=np.full(len(tokens.token_ids), np.datetime64("NaT"), "datetime64[us]"),
    )


def cohort(lengths: Sequence[int], *, seed: int = 0) -> TokenBatch:
    rng = np.random.default_rng(seed)
    return batch(*[record(events, rng) for events in lengths])


def batch_of(prompts: TokenBatch, rows: list[IntArray]) -> TokenBatch:
    """Continuations as a generator gives them: without kinds."""
    ids = np.concatenate([np.empty(0, np.int64), *rows])
    offsets = offsets_of(np.array([len(row) for row in rows], np.int64))
    blind = np.full(len(ids), Kind.CLINICAL, np.uint8)
    return TokenBatch(
        prompts.subject_ids, offsets, ids, blind, np.full(len(ids), -1), prompts.vocabulary_size
    )


@dataclass
class Parrot:
    """Has learnt some patients by heart, is 90 % sure of each of their tokens, and says anything of others.

    The first `silent` samples are empty; `noise` comes before and after what it says.
    """

    tokens: TokenBatch
    learnt: Collection[int]
    silent: int = 0
    noise: tuple[str, ...] = ()

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        known = np.isin(tokens.subject_ids, list(self.learnt))
        sure = np.where(known, np.log(0.9), -np.log(SIZE))
        return [np.full(max(length - 1, 0), p) for length, p in zip(tokens.lengths, sure, strict=True)]

    def continue_from(
        self, prompts: TokenBatch, *, samples: int, max_tokens: int, sampling: Sampling, seed: int
    ) -> Iterator[TokenBatch]:
        assert sampling == Sampling(TEMPERATURE, stop=(TOKENIZER.vocabulary.id_of["END"],))
        noise = TOKENIZER.vocabulary.encode(self.noise)
        for sample in range(samples):
            rows = [self._row(prompts, row, max_tokens, seed + sample) for row in range(len(prompts))]
            rows = [np.concatenate([noise, row, noise]) for row in rows]
            yield batch_of(prompts, [row[:0] if sample < self.silent else row for row in rows])

    def _row(self, prompts: TokenBatch, row: int, max_tokens: int, seed: int) -> IntArray:
        subject, known = int(prompts.subject_ids[row]), int(prompts.lengths[row])
        if subject in self.learnt:
            return self.tokens.tokens_of(subject)[known : known + max_tokens]
        codes = np.random.default_rng([seed, row]).integers(FIRST_CODE, SIZE, max_tokens)
        return codes.astype(np.int64)


@dataclass
class Fixed:
    """Says one thing of everybody."""

    said: IntArray

    def continue_from(
        self, prompts: TokenBatch, *, samples: int, max_tokens: int, sampling: Sampling, seed: int
    ) -> Iterator[TokenBatch]:
        for _ in range(samples):
            yield batch_of(prompts, [self.said] * len(prompts))


def assert_same(one: Measured, other: Measured) -> None:
    assert one.scores.keys() == other.scores.keys()
    for test, values in one.scores.items():
        np.testing.assert_array_equal(values, other.scores[test])


def test_what_was_learnt_by_heart_comes_back_word_for_word() -> None:
    tokens = cohort([20, 34, 40, 22] * 8)
    members = range(16)
    found = trajectory(Parrot(tokens, members), (), subjects_of(tokens, members=members))
    assert found.scores.keys() == ALL
    assert not found.refused
    assert found.settings["calibrated"] is False
    own = {test: values[:16] for test, values in found.scores.items()}
    assert own["trajectory.codes"] == pytest.approx(np.ones(16))
    assert (own["trajectory.verbatim"] == 1).all()
    assert own["trajectory.distance"] == pytest.approx(np.zeros(16))
    assert own["trajectory.likelihood"] == pytest.approx(np.full(16, np.log(0.9)))
    others = {test: values[16:] for test, values in found.scores.items()}
    assert others["trajectory.codes"].max() < 0.6
    assert not others["trajectory.verbatim"].any()
    assert others["trajectory.distance"].max() < -0.5
    assert others["trajectory.likelihood"] == pytest.approx(np.full(16, -np.log(SIZE)))


def test_a_model_that_knows_nothing_tells_no_member_from_a_stranger() -> None:
    tokens = cohort([24] * 200)
    members = range(0, 200, 2)
    found = trajectory(Parrot(tokens, ()), (), subjects_of(tokens, members=members))
    for test in ("trajectory.codes", "trajectory.distance"):
        scores = found.scores[test]
        estimate = auc(scores[::2], scores[1::2])
        assert estimate.low < 0.5 < estimate.high
        assert len(np.unique(scores)) > 100


def test_distances_are_those_of_the_whole_vocabulary() -> None:
    tokens = cohort([20, 30, 25])
    subjects, model = subjects_of(tokens), Parrot(tokens, ())
    table = code_distances(code_embeddings(tokens, seed=subjects.seed))
    start = subjects.anatomy.start[subjects.anatomy.offsets[:-1] + KNOWN]
    truth = batch_of(tokens, [tokens.tokens_of(row)[start[row] :][:60] for row in range(3)])
    sampling = Sampling(TEMPERATURE, stop=(TOKENIZER.vocabulary.id_of["END"],))
    generated = model.continue_from(
        tokens, samples=SAMPLES, max_tokens=60, sampling=sampling, seed=subjects.seed
    )
    true, *guessed = (trajectories(one, TOKENIZER, most=EVENTS) for one in (truth, *generated))
    wanted = -np.mean([transport_distances(true, one, table) for one in guessed], axis=0)
    found = trajectory(model, (), subjects).scores["trajectory.distance"]
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_padding_is_never_kept() -> None:
    tokens = cohort([20, 30])
    subjects = subjects_of(tokens)
    clean = trajectory(Parrot(tokens, {0, 1}), (), subjects)
    assert_same(clean, trajectory(Parrot(tokens, {0, 1}, noise=("PAD", "PAD", "SEX//F")), (), subjects))


def test_prompt_is_not_counted_as_output() -> None:
    """Codes of the first ten events never come again: saying them recovers nothing, and no more is scored."""
    rng = np.random.default_rng(0)
    shown = record(KNOWN, rng, among=(0, 10))[:-1]
    tokens = batch([*shown, *record(12, rng, among=(20, 40))[3:]])
    subjects = subjects_of(tokens)
    said = trajectory(Fixed(TOKENIZER.vocabulary.encode(tuple(f"LAB//{n}" for n in range(10)))), (), subjects)
    assert said.scores["trajectory.codes"].tolist() == [0]

    @dataclass
    class Certain:
        def log_probs(self, batch: TokenBatch) -> list[FloatArray]:
            places = np.arange(1, int(batch.lengths[0]))
            return [np.where(places < len(shown), 0.0, -3.0)]

    assert trajectory(Certain(), (), subjects).scores["trajectory.likelihood"].tolist() == [-3]


def test_only_clinical_tokens_are_scored() -> None:
    @dataclass
    class SureOfTheRest:
        certain: float

        def log_probs(self, batch: TokenBatch) -> list[FloatArray]:
            kinds = [batch.kinds_of(row)[1:] for row in range(len(batch))]
            return [np.where(row == Kind.CLINICAL, -2.0, self.certain) for row in kinds]

    subjects = subjects_of(cohort([30, 20]))
    for certain in (0.0, -50.0):
        scores = trajectory(SureOfTheRest(certain), (), subjects).scores["trajectory.likelihood"]
        assert scores.tolist() == [-2, -2]


def test_short_samples_stay_in_the_denominator() -> None:
    tokens = cohort([30, 16])
    half = trajectory(Parrot(tokens, {0, 1}, silent=SAMPLES // 2), (), subjects_of(tokens)).scores
    assert half["trajectory.codes"] == pytest.approx([0.5, 0.5])
    assert half["trajectory.distance"] == pytest.approx([-1, -1])
    assert half["trajectory.verbatim"][0] == 1
    silent = trajectory(Parrot(tokens, {0, 1}, silent=SAMPLES), (), subjects_of(tokens)).scores
    assert silent["trajectory.codes"].tolist() == [0, 0]
    assert silent["trajectory.distance"].tolist() == [-2, -2]
    assert silent["trajectory.verbatim"][0] == 0


def test_one_token_histories_and_short_ones_are_not_asked() -> None:
    lengths = [30, 0, FEWEST - 1, FEWEST, KNOWN + VERBATIM - 1, KNOWN + VERBATIM]
    rng = np.random.default_rng(0)
    tokens = batch(*[record(events, rng) for events in lengths], ["BEGIN"], [], ["3"])
    assert (KNOWN, FEWEST, EVENTS, VERBATIM, SAMPLES) == (10, 15, 20, 10, 8)
    subjects = subjects_of(tokens)
    asked = trajectory(Parrot(tokens, range(9)), (), subjects)
    for test in ALL:
        told = (0, 5) if test == "trajectory.verbatim" else (0, 3, 4, 5)
        assert np.flatnonzero(np.isfinite(asked.scores[test])).tolist() == list(told)
    nobody = subjects_of(tokens.select(np.array([1, 2, 6, 7, 8])))
    for values in trajectory(Parrot(tokens, ()), (Parrot(tokens, ()),), nobody).scores.values():
        assert np.isnan(values).all()


@pytest.mark.parametrize("context", [256, 64, 24])
def test_members_and_held_out_are_cut_alike(context: int) -> None:
    """Who is a member changes nothing, and whatever the context, prompts fit and begin with the header."""
    tokens = cohort([60, 15, 30, 18] * 3)
    seen: list[tuple[TokenBatch, int]] = []

    @dataclass
    class Watched(Parrot):
        def log_probs(self, batch: TokenBatch) -> list[FloatArray]:
            assert batch.lengths.max() <= context
            return super().log_probs(batch)

        def continue_from(
            self, prompts: TokenBatch, *, samples: int, max_tokens: int, sampling: Sampling, seed: int
        ) -> Iterator[TokenBatch]:
            seen.append((prompts, max_tokens))
            return super().continue_from(
                prompts, samples=samples, max_tokens=max_tokens, sampling=sampling, seed=seed
            )

    subjects = subjects_of(tokens, members=range(6), context=context)
    turned = replace(subjects, is_member=~subjects.is_member)
    model = Watched(tokens, ())
    assert_same(trajectory(model, (), subjects), trajectory(model, (), turned))
    (prompts, most), (again, _) = seen
    np.testing.assert_array_equal(prompts.token_ids, again.token_ids)
    assert prompts.lengths.max() <= context - most
    whole = subjects.anatomy.start[subjects.anatomy.offsets[:-1] + KNOWN]
    for row in range(len(prompts)):
        assert prompts.tokens_of(row)[:3].tolist() == tokens.tokens_of(row)[:3].tolist()
        last = tokens.tokens_of(row)[whole[row] - 5 : whole[row]]
        assert prompts.tokens_of(row)[-5:].tolist() == last.tolist()
    if context == 256:
        assert prompts.lengths.tolist() == whole.tolist()


def test_ages_and_samples_stay_with_their_patient() -> None:
    """Patients who cannot be asked stand between the others; the model answers by what the prompt says."""
    tokens = cohort([30, 3, 20, 0, 25, 14, 40])
    by_prompt = {bytes(tokens.tokens_of(row)[:12]): row for row in (0, 2, 4, 6)}

    @dataclass
    class ByPrompt(Parrot):
        def continue_from(
            self, prompts: TokenBatch, *, samples: int, max_tokens: int, sampling: Sampling, seed: int
        ) -> Iterator[TokenBatch]:
            rows = [by_prompt[bytes(prompts.tokens_of(row)[:12])] for row in range(len(prompts))]
            true = [tokens.tokens_of(row)[int(n) :] for row, n in zip(rows, prompts.lengths, strict=True)]
            for _ in range(samples):
                yield batch_of(prompts, true)

    found = trajectory(ByPrompt(tokens, ()), (), subjects_of(tokens))
    nan = np.nan
    np.testing.assert_array_equal(found.scores["trajectory.verbatim"], [1, nan, 1, nan, 1, nan, 1])
    np.testing.assert_allclose(found.scores["trajectory.codes"], [1, nan, 1, nan, 1, nan, 1])


def test_ids_taken_before_the_split_filter_still_name_the_same_patients() -> None:
    """Asking some of the patients gives them the rows and scores that they have among all."""
    tokens = cohort([30, 3, 20, 25, 14, 40])
    subjects = subjects_of(tokens)
    keep = np.array([5, 1, 3])
    part = replace(subjects, rows=subjects.rows[keep], tokens=tokens.select(keep))
    model = Parrot(tokens, {3})
    everyone, some = trajectory(model, (), subjects), trajectory(model, (), part)
    assert some.rows.tolist() == [22, 10, 16]
    for test in ("trajectory.verbatim", "trajectory.likelihood"):
        np.testing.assert_array_equal(some.scores[test], everyone.scores[test][keep])


def test_references_are_subtracted_where_they_can_answer() -> None:
    tokens = cohort([30] * 12)
    subjects = subjects_of(tokens, members=range(6))
    model, blank = Parrot(tokens, range(6)), Parrot(tokens, ())
    alone = trajectory(model, (), subjects)
    itself = trajectory(model, (model, model), subjects)
    for test in ("trajectory.distance", "trajectory.likelihood"):
        assert itself.scores[test] == pytest.approx(np.zeros(12))
    for test in ("trajectory.codes", "trajectory.verbatim"):
        np.testing.assert_array_equal(itself.scores[test], alone.scores[test])
    assert itself.settings["codes_beyond_reference_members"] == 0
    beside = trajectory(model, (blank,), subjects)
    assert beside.settings["calibrated"] is True
    assert float(str(beside.settings["codes_beyond_reference_members"])) > 0.5
    assert beside.settings["codes_beyond_reference_held_out"] == 0
    blanks = trajectory(blank, (), subjects).scores["trajectory.distance"]
    own = alone.scores["trajectory.distance"]
    np.testing.assert_allclose(beside.scores["trajectory.distance"], own - blanks)


def test_a_model_that_cannot_answer_is_refused_by_test() -> None:
    tokens = cohort([30])

    @dataclass
    class OnlyScores:
        def log_probs(self, batch: TokenBatch) -> list[FloatArray]:
            return Parrot(tokens, ()).log_probs(batch)

    scorer = trajectory(OnlyScores(), (), subjects_of(tokens))
    assert scorer.refused.keys() == GENERATED
    assert scorer.scores.keys() == {"trajectory.likelihood"}
    nothing = trajectory(object(), (), subjects_of(tokens))
    assert nothing.refused.keys() == ALL
    assert nothing.refused["trajectory.codes"].parameters == {"protocol": "Generator"}
    assert not nothing.scores


def test_rare_codes_count_more_and_each_as_often_as_it_was() -> None:
    weights = np.array([0.0, 1.0, 3.0])
    truth = np.array([1, 1, 2])
    assert recovered(truth, np.array([2, 0, 0]), weights=weights) == pytest.approx(0.6)
    assert recovered(truth, np.array([1, 1, 1]), weights=weights) == pytest.approx(0.4)
    assert recovered(truth, np.array([2, 1, 1]), weights=weights) == 1
    assert recovered(truth, np.empty(0, np.int64), weights=weights) == 0


def test_a_trained_model_knows_its_own_patients() -> None:
    splits = tiny.cohort(seed=2, train=24, held_out=24)
    everyone = InMemory((splits["train"], splits["held_out"]))
    tokenizer = tiny.tokenizer_of(everyone)
    train, held_out = (tokenizer.encode(splits[name]) for name in ("train", "held_out"))
    recipe = SmallCausalRecipe(
        LoopSettings(epochs=40, batch=8, learning_rate=1e-2), width=32, layers=1, heads=2, context=128
    )
    model = recipe.fit(train, seed=1)
    assert isinstance(model, Generator)
    tokens = join_tokens([train, held_out])
    subjects = subjects_of(tokens, members=range(24), tokenizer=tokenizer, context=128)
    found = trajectory(model, (recipe.build(tokens.vocabulary_size, seed=3),), subjects)
    told = np.isfinite(found.scores["trajectory.codes"])
    assert told.tolist() == (subjects.anatomy.counts >= FEWEST).tolist()
    for test in ("trajectory.codes", "trajectory.distance", "trajectory.likelihood"):
        scores = found.scores[test]
        assert scores[told & subjects.is_member].mean() > scores[told & ~subjects.is_member].mean(), test


def test_what_is_recited_whole_is_never_more_than_all_of_it() -> None:
    for rng in map(np.random.default_rng, range(200)):
        weights, truth = rng.random(30), rng.integers(0, 30, 20)
        assert recovered(truth, rng.permutation(truth), weights=weights) <= 1
