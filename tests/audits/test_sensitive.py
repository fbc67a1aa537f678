from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tests import tiny

from primum.audits.privacy.sensitive import (
    SAMPLES,
    TEMPERATURE,
    emissions,
    exposures,
    sampled_sensitive,
    scrubbed,
    sensitive,
)
from primum.audits.privacy.subjects import BoolArray, Subjects
from primum.evidence.estimate import Estimate
from primum.evidence.guesses import (
    auroc_difference,
    auroc_difference_p_value,
    auroc_of,
)
from primum.evidence.measured import Guesses
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.causal import CausalModel
from primum.models.protocols import Generator, MassScorer, Sampling
from primum.records.attributes import PatientTable
from primum.records.families import families_of
from primum.records.histories import FloatArray
from primum.records.profile import TokenProfile
from primum.records.ragged import offsets_of
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import Kind, TokenBatch, join_tokens
from primum.records.vocabulary import Vocabulary

HIV, CANCER = "ICD10CM//B20", "ICD10CM//C50"
LABS = tuple(f"LAB//{number}" for number in range(20))
PROFILE = TokenProfile(
    age_tokens=("AGE//0+",),
    age_edges_years=(0.0,),
    gap_tokens=("GAP//1+",),
    gap_edges_days=(1.0,),
    value_tokens=("Q1",),
)
TOKENIZER = Tokenizer(
    Vocabulary((*PROFILE.special_tokens(), "SEX//F", "SEX//M", HIV, "ICD10CM//B21", CANCER, *LABS)), PROFILE
)
ID, SIZE = TOKENIZER.vocabulary.id_of, len(TOKENIZER.vocabulary)
ALL = families_of(TOKENIZER.vocabulary.tokens)
FAMILIES = {name: ALL[name] for name in ("hiv", "cancer", "violence")}


def batch(*histories: Sequence[str], first_subject: int = 0) -> TokenBatch:
    ids = np.array([ID[token] for history in histories for token in history], np.int64)
    offsets = offsets_of(np.array([len(history) for history in histories], np.int64))
    subjects = np.arange(first_subject, first_subject + len(histories))
    return TokenBatch(subjects, offsets, ids, TOKENIZER.kinds[ids], np.full(len(ids), -1), SIZE)


def holders(tokens: TokenBatch) -> dict[str, BoolArray]:
    """Who has each family."""
    rows = [tokens.tokens_of(row) for row in range(len(tokens))]
    return {name: np.array([family[row].any() for row in rows]) for name, family in FAMILIES.items()}


def subjects_of(tokens: TokenBatch, *, members: Collection[int] = (), context: int = 64) -> Subjects:
    count, nothing = len(tokens), np.zeros(len(tokens))
    sex = np.where([ID["SEX//F"] in tokens.tokens_of(row) for row in range(count)], "F", "M")
    rest = np.full(count, "?"), np.zeros(count, np.int64), nothing, nothing, nothing, holders(tokens)
    table = PatientTable(tokens.subject_ids, sex, nothing, *rest)
    return Subjects(
        rows=np.arange(count) * 3 + 7,
        tokens=tokens,
        is_member=np.isin(np.arange(count), list(members)),
        table=table,
        tokenizer=TOKENIZER,
        families=FAMILIES,
        holders=np.ones(SIZE, np.int64),
        audited=count,
        context=context,
        seed=4,
        times=np.full(len(tokens.token_ids), np.datetime64("NaT"), "datetime64[us]"),
    )


def cohort(count: int, *, seed: int, cue: bool = False) -> TokenBatch:
    """Patients of random events; three in ten have HIV, a fifth cancer; `cue`: they have LAB//0."""
    rng = np.random.default_rng(seed)
    histories = []
    for _ in range(count):
        events = [[str(lab)] for lab in rng.choice(LABS[1:], rng.integers(3, 12))]
        has = rng.random(2) < (0.3, 0.2)
        events += [[code] for code, held in zip((HIV, CANCER), has, strict=True) if held]
        events += [[LABS[0], "Q1"]] * int(cue and rng.random() < (0.9 if has.any() else 0.1))
        rng.shuffle(events)
        rows = [token for event in events for token in [*["GAP//1+"] * rng.integers(2), *event]]
        histories.append(["BEGIN", f"SEX//{'FM'[rng.integers(2)]}", "AGE//0+", *rows, "END"])
    return batch(*histories, first_subject=1000 * seed)


@dataclass
class Fixed:
    """Gives one log mass for each family, whatever it is shown; keeps what that was."""

    log_p: tuple[float, ...]
    shown: list[TokenBatch] = field(default_factory=list)

    def log_masses(self, tokens: TokenBatch, groups: BoolArray) -> list[FloatArray]:
        self.shown.append(tokens)
        return [np.tile(self.log_p, (length, 1)) for length in tokens.lengths]


@dataclass
class Oracle:
    """Knows the families of those it learnt by heart; guesses those of others at random."""

    tokens: TokenBatch
    learnt: Collection[int]
    seed: int = 0

    def log_masses(self, tokens: TokenBatch, groups: BoolArray) -> list[FloatArray]:
        truth = np.stack(list(holders(self.tokens).values()), axis=1)
        known = {int(s): truth[row] for row, s in enumerate(self.tokens.subject_ids) if int(s) in self.learnt}
        rng = np.random.default_rng(self.seed)
        masses = []
        for subject, length in zip(tokens.subject_ids.tolist(), tokens.lengths, strict=True):
            chance = rng.random(len(groups)) * 0.1
            sure = 0.3 * known[subject] if subject in known else 0
            masses.append(np.tile(np.log(chance + sure), (length, 1)))
        return masses


@dataclass
class Doctor:
    """Remembers nobody, and thinks of HIV and cancer wherever it reads LAB//0."""

    def log_masses(self, tokens: TokenBatch, groups: BoolArray) -> list[FloatArray]:
        rng, cued = np.random.default_rng(1), ID[LABS[0]]
        guesses = [0.1 * (cued in tokens.tokens_of(row)) + 0.05 * rng.random() for row in range(len(tokens))]
        return [
            np.full((length, len(groups)), np.log(guess))
            for guess, length in zip(guesses, tokens.lengths, strict=True)
        ]


@dataclass
class Speaker:
    """Says to patient `row` in sample `s` what `said[row][s]` holds, and stops where it is told to."""

    said: Sequence[Sequence[Sequence[str]]]
    shown: list[TokenBatch] = field(default_factory=list)
    seed: int = 0

    def continue_from(
        self, prompts: TokenBatch, *, samples: int, max_tokens: int, sampling: Sampling, seed: int
    ) -> Iterator[TokenBatch]:
        assert (samples, sampling.temperature) == (SAMPLES, TEMPERATURE)
        self.shown.append(prompts)
        self.seed = seed
        for sample in range(samples):
            rows: list[list[str]] = []
            for patient in self.said:
                kept: list[str] = []
                for token in patient[sample][:max_tokens]:
                    if ID[token] in sampling.stop:
                        break
                    kept.append(token)
                rows.append(kept)
            said = batch(*rows)
            blind = np.full(len(said.kinds), Kind.CLINICAL, np.uint8)
            yield replace(said, subject_ids=prompts.subject_ids, kinds=blind)


def repeated(*said: Sequence[str]) -> Speaker:
    """Say the same in every sample, one row a patient."""
    return Speaker([[row] * SAMPLES for row in said])


def shares_of(model: object, subjects: Subjects) -> FloatArray:
    return sampled_sensitive(model, (), subjects).guesses["sensitive.sampled"].scores


def judged(guesses: Guesses, is_member: BoolArray) -> tuple[Estimate, float]:
    sides = [part[side] for side in (is_member, ~is_member) for part in (guesses.scores, guesses.labels)]
    return auroc_difference(*sides), auroc_difference_p_value(*sides)


def inferred(model: MassScorer, tokens: TokenBatch, members: Collection[int]) -> tuple[Estimate, float]:
    subjects = subjects_of(tokens, members=members)
    measured = sensitive(emissions(model, tokens, FAMILIES), subjects.table)
    return judged(measured.guesses["sensitive.inferred"], subjects.is_member)


def test_every_sensitive_code_leaves_with_its_value() -> None:
    history = ["BEGIN", "SEX//F", HIV, "Q1", "GAP//1+", LABS[3], "Q1", CANCER, "END"]
    left = scrubbed(batch(history, [HIV], []), FAMILIES)
    kept = ["BEGIN", "SEX//F", "GAP//1+", LABS[3], "Q1", "END"]
    assert left.tokens_of(0).tolist() == [ID[token] for token in kept]
    assert left.lengths.tolist() == [6, 0, 0]


def test_emission_is_the_chance_that_a_family_is_written_at_least_once() -> None:
    """Against a loop over single prompts, one forward pass each."""
    model = tiny.build(vocabulary=SIZE, context=64)
    histories = [
        ["BEGIN", "SEX//F", "AGE//0+", LABS[1], "Q1", HIV, "GAP//1+", LABS[2], LABS[3], "END"],
        ["BEGIN", "SEX//F", "AGE//0+", "END"],
        ["BEGIN", CANCER],
        [LABS[4]],
        [LABS[1], "UNKNOWN", "GAP//1+", "END"],
    ]
    # After how many tokens of the scrubbed history an event could follow.
    asked = [[3, 5, 6, 7, 8], [3], [1], [1], [1, 3]]
    left = scrubbed(batch(*histories), FAMILIES)
    found = emissions(model, batch(*histories), FAMILIES)
    for row, lengths in enumerate(asked):
        for column, family in enumerate(FAMILIES.values()):
            never = 1.0
            for length in lengths:
                prompt = [TOKENIZER.vocabulary.tokens[token] for token in left.tokens_of(row)[:length]]
                never *= 1 - np.exp(next_token_log_p(model, prompt))[family].sum()
            expected = np.log(-np.log(never)) if never < 1 else np.log(1e-300)
            assert found[row, column] == pytest.approx(expected, abs=1e-4)


def next_token_log_p(model: CausalModel, prompt: list[str]) -> FloatArray:
    """Log p of each token of the vocabulary as the next one."""
    copies = join_tokens([batch([*prompt, token]) for token in TOKENIZER.vocabulary.tokens])
    return np.array([scores[-1] for scores in model.log_probs(copies)])


def test_an_emission_is_never_nan_and_does_not_saturate() -> None:
    tokens = batch([], ["BEGIN"], ["END"], ["BEGIN", *LABS[:5]], ["BEGIN", *LABS[:6]])
    found = emissions(Fixed((0.0, np.log(0.9999), -np.inf)), tokens, FAMILIES)
    assert np.isfinite(found).all()
    assert found[3, 0] < found[4, 0]
    assert found[3, 1] < found[4, 1]
    assert (found[:, 2] == found[0, 2]).all()
    assert (found[0] == found[0, 2]).all()


def test_prompt_is_not_counted_as_output() -> None:
    with_it, without_it = ["BEGIN", LABS[1], HIV, LABS[2], "END"], ["BEGIN", LABS[1], LABS[2], "END"]
    tokens = batch(with_it, without_it)
    model = Fixed((-2.0, -2.0, -2.0))
    found = emissions(model, tokens, FAMILIES)
    assert (found[0] == found[1]).all()
    speaker = repeated([], [])
    assert (shares_of(speaker, subjects_of(tokens)) == 0).all()
    for shown in (*model.shown, *speaker.shown):
        assert not FAMILIES["hiv"][shown.token_ids].any()
        assert shown.tokens_of(0).tolist() == shown.tokens_of(1).tolist() == [ID[t] for t in without_it[:3]]


def test_padding_is_never_kept() -> None:
    tokens = batch(["BEGIN", LABS[1], "END"], ["BEGIN", LABS[1], "END"], ["BEGIN", LABS[1], "END"])
    said = repeated([LABS[2], "PAD", HIV], [LABS[2], "END", HIV], [HIV, "PAD"])
    assert shares_of(said, subjects_of(tokens))[:, 0].tolist() == [0, 0, 1]


def test_short_samples_are_not_dropped_from_the_numerator_only() -> None:
    tokens = batch(["BEGIN", LABS[1]], ["BEGIN", LABS[2]])
    silent: list[list[str]] = [[]] * 5
    said = Speaker([[[HIV, HIV, CANCER]] * 3 + silent, silent + [[LABS[1], "ICD10CM//B21"]] * 3])
    assert shares_of(said, subjects_of(tokens)).tolist() == [[3 / 8, 3 / 8, 0], [3 / 8, 0, 0]]


def test_auroc_is_not_from_hard_labels() -> None:
    """What is handed on has as many levels as there are samples, and the truth is apart from it."""
    tokens = batch(*[["BEGIN", LABS[1], *[HIV] * (row % 2)] for row in range(SAMPLES + 1)])
    said = Speaker([[[HIV]] * row + [[]] * (SAMPLES - row) for row in range(SAMPLES + 1)])
    guesses = sampled_sensitive(said, (), subjects_of(tokens)).guesses["sensitive.sampled"]
    assert guesses.scores[:, 0].tolist() == (np.arange(SAMPLES + 1) / SAMPLES).tolist()
    assert guesses.labels[:, 0].tolist() == [False, True] * 4 + [False]


def test_members_are_not_cut_otherwise_than_held_out_patients() -> None:
    """Who is called a member changes no number."""
    tokens = cohort(20, seed=1)
    model = tiny.build(vocabulary=SIZE, context=24)
    one, other = (
        sampled_sensitive(model, (), subjects_of(tokens, members=members, context=24))
        for members in (range(10), range(10, 20))
    )
    assert (one.guesses["sensitive.sampled"].scores == other.guesses["sensitive.sampled"].scores).all()
    assert (one.scores["sensitive.exposed"] == other.scores["sensitive.exposed"]).all()


def test_numbers_belong_to_the_patients_they_are_given_for() -> None:
    """The published code took ids before it filtered the split."""
    tokens, order = cohort(12, seed=2), np.random.default_rng(0).permutation(12)
    model = tiny.build(vocabulary=SIZE, context=64)
    straight, shuffled = (emissions(model, one, FAMILIES) for one in (tokens, tokens.select(order)))
    np.testing.assert_allclose(shuffled, straight[order], atol=1e-5)
    subjects = subjects_of(tokens)
    assert sampled_sensitive(model, (), subjects).rows.tolist() == subjects.rows.tolist()
    assert sensitive(straight, subjects.table).rows.tolist() == list(range(12))


@pytest.mark.parametrize("history", [[LABS[1]], [HIV], ["BEGIN"], []])
def test_a_one_token_history_is_asked_like_any_other(history: list[str]) -> None:
    tokens = batch(history, ["BEGIN", LABS[1], HIV, "END"])
    model = tiny.build(vocabulary=SIZE, context=16)
    assert np.isfinite(emissions(model, tokens, FAMILIES)).all()
    shares = shares_of(model, subjects_of(tokens, context=16))
    assert ((shares >= 0) & (shares <= 1)).all()


def test_the_prompt_is_the_header_and_the_last_events_that_fit() -> None:
    header = ["BEGIN", "SEX//F", "AGE//0+"]
    tokens = batch([*header, *LABS[:12], HIV, "END"], [*header, LABS[5], CANCER, "END"], [*header, "END"])
    speaker = repeated([], [], [])
    measured = sampled_sensitive(speaker, (), subjects_of(tokens, context=16))
    assert measured.settings["max_tokens"] == 8
    assert speaker.seed == 4
    shown = speaker.shown[0]
    wanted = [[*header, *LABS[7:12]], [*header, LABS[5]], header]
    assert [shown.tokens_of(row).tolist() for row in range(3)] == [[ID[t] for t in row] for row in wanted]


def test_who_is_exposed_agrees_with_the_loop() -> None:
    rng = np.random.default_rng(3)
    labels = rng.random((400, 3)) < 0.1
    shares = np.where(rng.random((400, 3)) < (0.005, 0.02, 0.0), rng.integers(4, 9, (400, 3)), 0) / 8
    shares[labels & (rng.random((400, 3)) < 0.5)] = 0.5
    expected = np.zeros(400)
    for family in range(3):
        strangers = [row for row in range(400) if not labels[row, family]]
        false_alarms = sum(shares[row, family] >= 0.5 for row in strangers) / len(strangers)
        for row in range(400):
            if labels[row, family] and shares[row, family] >= 0.5 and false_alarms <= 0.01:
                expected[row] = 1
    assert 0 < expected.sum() < (labels & (shares >= 0.5)).any(axis=1).sum()
    assert (exposures(shares, labels) == expected).all()


def test_a_model_that_learnt_its_patients_by_heart_is_found() -> None:
    tokens = join_tokens([cohort(150, seed=1), cohort(150, seed=2)])
    oracle = Oracle(tokens, tokens.subject_ids[:150].tolist())
    assert isinstance(oracle, MassScorer)
    estimate, p_value = inferred(oracle, tokens, range(150))
    assert estimate.low > 0.2
    assert p_value < 1e-4


def test_a_model_that_knows_nobody_leans_to_neither_side() -> None:
    """Fresh patients each time: lengths of the same few hundred people would lean alike in every run."""
    runs = []
    for seed in range(40):
        tokens = join_tokens([cohort(100, seed=2 * seed + 10), cohort(100, seed=2 * seed + 11)])
        runs.append(inferred(Oracle(tokens, (), seed=seed), tokens, range(100)))
    differences = np.array([estimate.value for estimate, _ in runs])
    assert abs(differences.mean()) < 3 * differences.std() / 40**0.5 < 0.05
    # The 99.9 % point of a binomial with 40 runs at 5 %.
    assert sum(p_value < 0.05 for _, p_value in runs) <= 7


def test_generalisation_is_not_a_leak() -> None:
    tokens = join_tokens([cohort(300, seed=1, cue=True), cohort(300, seed=2, cue=True)])
    told, truth = emissions(Doctor(), tokens, FAMILIES)[:, 0], holders(tokens)["hiv"]
    assert auroc_of(told[:300], truth[:300]) > 0.75
    assert auroc_of(told[300:], truth[300:]) > 0.75
    estimate, p_value = inferred(Doctor(), tokens, range(300))
    assert estimate.low < 0 < estimate.high
    assert p_value > 0.05


def test_an_exposed_patient_is_found_and_a_common_guess_exposes_nobody() -> None:
    tokens = cohort(100, seed=5)
    truth = holders(tokens)
    knows = repeated(*[[HIV] if has else [CANCER] for has in truth["hiv"]])
    exposed = sampled_sensitive(knows, (), subjects_of(tokens)).scores["sensitive.exposed"]
    assert (exposed == truth["hiv"]).all()
    assert (truth["cancer"] & ~truth["hiv"]).any()


def test_a_model_that_cannot_answer_is_refused() -> None:
    subjects = subjects_of(cohort(4, seed=1))
    assert not isinstance(Doctor(), Generator)
    measured = sampled_sensitive(Doctor(), (), subjects)
    assert {test: said.parameters["protocol"] for test, said in measured.refused.items()} == {
        "sensitive.sampled": "Generator",
        "sensitive.exposed": "Generator",
    }
    refused = sensitive(None, subjects.table).refused["sensitive.inferred"]
    assert refused.parameters == {"protocol": "MassScorer"}
    assert not measured.scores and not measured.guesses


def test_a_trained_model_tells_more_of_its_patients() -> None:
    """Codes are random, so that only memory can tell who has HIV."""
    tokens = join_tokens([cohort(80, seed=1), cohort(80, seed=2)])
    recipe = SmallCausalRecipe(
        LoopSettings(epochs=50, batch=10, learning_rate=1e-2), width=32, layers=1, heads=2, context=64
    )
    model = recipe.fit(tokens.select(np.arange(80)), seed=1)
    estimate, p_value = inferred(model, tokens, range(80))
    assert estimate.value > 0.2
    assert p_value < 0.01
    fresh = join_tokens([cohort(80, seed=3), cohort(80, seed=4)])
    assert inferred(model, fresh, range(80))[1] > 0.05
