from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import pytest
from scipy import stats
from tests import tiny
from tests.audits.test_trajectory import subjects_of

from primum.audits.privacy.perturbation import NAMES, perturbation
from primum.audits.privacy.subjects import Subjects
from primum.evidence.measured import Measured
from primum.evidence.ranking import auc, auc_p_value
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.causal import CausalModel
from primum.records.histories import FloatArray, InMemory
from primum.records.profile import TokenProfile, vocabulary_of
from primum.records.ragged import offsets_of
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import Kind, TokenBatch, join_tokens

SITES = tuple(f"SITE//{letter}" for letter in "ABCDEFGHIJKL")
CODES = tuple(f"DX//{number}" for number in range(20))
PROFILE = TokenProfile(value_tokens=("Q1",))
TOKENIZER = Tokenizer(vocabulary_of(("GENDER//F", "GENDER//M", *SITES, *CODES), PROFILE), PROFILE)
NAMES_OF = TOKENIZER.vocabulary.tokens
AGES, GAPS = TOKENIZER.profile.age_tokens, TOKENIZER.profile.gap_tokens


def batch(*patients: Sequence[str]) -> TokenBatch:
    ids = TOKENIZER.vocabulary.encode(tuple(name for patient in patients for name in patient))
    offsets = offsets_of(np.array([len(patient) for patient in patients]))
    subjects = np.arange(len(patients)) * 5 + 3
    return TokenBatch(
        subjects, offsets, ids, TOKENIZER.kinds[ids], np.full(len(ids), -1), len(TOKENIZER.vocabulary)
    )


def people(count: int, *, seed: int = 0, events: int = 4) -> TokenBatch:
    """Draw patients of any age, sex, site and dates; sites A, B, C… get rarer."""
    rng = np.random.default_rng(seed)
    rarer = 0.8 ** np.arange(len(SITES))
    patients = []
    for _ in range(count):
        names = ["BEGIN", rng.choice(["GENDER//F", "GENDER//M"]), rng.choice(SITES, p=rarer / rarer.sum())]
        names.append(rng.choice(AGES))
        for _ in range(events):
            names += [rng.choice(GAPS), rng.choice(CODES)]
        patients.append([*map(str, names), "END"])
    return batch(*patients)


def only(subjects: Subjects, row: int) -> Subjects:
    keep = np.array([row])
    return replace(
        subjects,
        rows=subjects.rows[keep],
        tokens=subjects.tokens.select(keep),
        is_member=subjects.is_member[keep],
        table=subjects.table.select(keep),
    )


def named(tokens: TokenBatch, row: int) -> list[str]:
    return [NAMES_OF[token] for token in tokens.tokens_of(row)]


@dataclass
class LeansOn:
    """Finds everything likelier when, for patients it knows, the tokens that begin so are their very own."""

    tokens: TokenBatch
    known: Sequence[int]
    prefix: str

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        own = {int(self.tokens.subject_ids[row]): self._said(named(self.tokens, row)) for row in self.known}
        return [
            np.full(max(len(names) - 1, 0), -1.0 if own.get(int(subject)) == self._said(names) else -3.0)
            for subject, names in (
                (tokens.subject_ids[row], named(tokens, row)) for row in range(len(tokens))
            )
        ]

    def _said(self, names: list[str]) -> list[str]:
        return [name for name in names if name.startswith(self.prefix)]


class IgnoresWho:
    """Looks at each code alone."""

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        return [
            np.where(tokens.kinds_of(row) == Kind.CLINICAL, -0.1 - tokens.tokens_of(row) % 7 / 3, -1.0)[1:]
            for row in range(len(tokens))
        ]


@dataclass
class Chaotic:
    """Answers by everything that came before, in no sensible way, the same for the same words."""

    salt: int = 0

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        return [self._one(tokens.tokens_of(row).tolist()) for row in range(len(tokens))]

    def _one(self, said: list[int]) -> FloatArray:
        states = accumulate(said, lambda state, token: hash((state, token)), initial=self.salt)
        return np.array([-(state % 10_007) / 10_007 for state in states][2:])


def scores(model: object, subjects: Subjects, *references: object) -> dict[str, FloatArray]:
    return dict(perturbation(model, references, subjects).scores)


def variants(names: list[str], identifier: str, frequent: list[str]) -> list[list[str]]:
    """Everything tried in place of the truth, written token by token."""
    tried: list[list[str]] = []
    if identifier in {"age", "dates"}:
        bands = list(AGES if identifier == "age" else GAPS)
        for step in (-4, -3, -2, -1, 1, 2, 3, 4):
            moved = [bands.index(name) + step if name in bands else None for name in names]
            if identifier == "dates":
                moved = [None if band is None else min(max(band, 0), len(bands) - 1) for band in moved]
            if all(band is None or 0 <= band < len(bands) for band in moved):
                tried.append(
                    [n if band is None else bands[band] for n, band in zip(names, moved, strict=True)]
                )
    elif identifier == "sex":
        other = {"GENDER//F": "GENDER//M", "GENDER//M": "GENDER//F"}
        tried = [[other.get(name, name) for name in names]]
    else:
        (own,) = [name for name in names if name.startswith("SITE//")]
        ranked = [site for site in frequent if site != own][:8]
        tried = [[site if name == own else name for name in names] for site in ranked]
    return [one for one in tried if one != names]


def clinical_mean(model: Chaotic, names: list[str]) -> float:
    (log_p,) = model.log_probs(batch(names))
    return float(np.mean([p for p, name in zip(log_p, names[1:], strict=True) if name.startswith("DX//")]))


@pytest.mark.parametrize("context", [8, 64])
def test_scores_equal_the_loop(context: int) -> None:
    tokens, model, reference = people(12, seed=2), Chaotic(), Chaotic(1)
    subjects = subjects_of(tokens, tokenizer=TOKENIZER, context=context)
    frequent = sorted(SITES, key=lambda site: (-subjects.holders[TOKENIZER.vocabulary.id_of[site]], site))
    found = scores(model, subjects, reference)
    for row in range(len(tokens)):
        names = named(tokens, row)[:context]
        truth = clinical_mean(model, names) - clinical_mean(reference, names)
        for identifier in NAMES:
            others = [
                clinical_mean(model, one) - clinical_mean(reference, one)
                for one in variants(names, identifier, frequent)
            ]
            assert found[f"perturbation.{identifier}"][row] == pytest.approx(truth - np.mean(others))
    ranks = [stats.norm.ppf((stats.rankdata(found[f"perturbation.{name}"]) - 0.5) / 12) for name in NAMES]
    assert found["perturbation.combined"] == pytest.approx(np.mean(ranks, axis=0))


@pytest.mark.parametrize(
    ("identifier", "prefix"), [("age", "AGE"), ("sex", "GENDER"), ("site", "SITE"), ("dates", "GAP")]
)
def test_an_identifier_that_carries_the_memory_is_found_and_no_other(identifier: str, prefix: str) -> None:
    tokens = people(80)
    members = range(0, 80, 2)
    found = scores(
        LeansOn(tokens, members, prefix), subjects_of(tokens, members=members, tokenizer=TOKENIZER)
    )
    inside = np.isin(np.arange(80), members)
    for name in NAMES:
        values = found[f"perturbation.{name}"]
        assert values[inside] == pytest.approx(2.0 if name == identifier else 0.0)
        assert not values[~inside].any()
    assert auc(found["perturbation.combined"][inside], found["perturbation.combined"][~inside]).value == 1


def test_identifiers_that_are_ignored_score_exactly_zero() -> None:
    found = scores(IgnoresWho(), subjects_of(people(30), tokenizer=TOKENIZER), IgnoresWho())
    assert all(not values.any() for values in found.values())
    assert len(found) == len(NAMES) + 1


def test_a_model_that_knows_nothing_tells_no_member_from_a_stranger() -> None:
    found = scores(Chaotic(), subjects_of(people(160, seed=6), tokenizer=TOKENIZER))
    for values in found.values():
        assert 0.05 < auc_p_value(values[:80], values[80:]) < 0.95


def test_ages_are_never_misaligned_with_samples() -> None:
    tokens = people(40, seed=3)
    # The first patients have no age at all: a list of ages that skips them would slip against the samples.
    ageless = [[name for name in named(tokens, row) if not name.startswith("AGE")] for row in range(5)]
    tokens = batch(*ageless, *(named(tokens, row) for row in range(5, 40)))
    subjects = subjects_of(tokens, tokenizer=TOKENIZER)
    found = perturbation(LeansOn(tokens, range(40), "AGE"), (), subjects)
    values = found.scores["perturbation.age"]
    assert np.isnan(values[:5]).all()
    assert values[5:] == pytest.approx(2.0)
    curve = found.curves["perturbation.age"]["perturbation_age"]
    assert curve.x == tuple(map(float, range(-4, 5)))
    for row in range(5, 40):
        (age,) = [AGES.index(name) for name in named(tokens, row) if name in AGES]
        inside = [0 <= age + step < len(AGES) for step in range(-4, 5)]
        assert np.isfinite(curve.values[row]).tolist() == inside
        assert curve.values[row, 4] == 0
    back = perturbation(
        LeansOn(tokens, range(40), "AGE"), (), replace(subjects, tokens=tokens.select(np.arange(40)[::-1]))
    )
    assert back.scores["perturbation.age"][::-1] == pytest.approx(values, nan_ok=True)


def test_members_and_held_out_are_cut_alike() -> None:
    tokens = people(20, seed=4, events=30)
    twice = subjects_of(join_tokens([tokens, tokens]), members=range(20), tokenizer=TOKENIZER, context=16)
    for values in scores(Chaotic(), twice).values():
        assert values[:20] == pytest.approx(values[20:])
    flipped = replace(twice, is_member=~twice.is_member)
    for test, values in scores(Chaotic(), flipped).items():
        assert values.tolist() == scores(Chaotic(), twice)[test].tolist()


def test_one_token_histories_and_empty_ones_are_not_asked() -> None:
    strangers = [[], ["DX//1"], ["AGE//30+"], ["BEGIN", "GENDER//F", "AGE//40+", "END"]]
    tokens = batch(*strangers, *(named(people(6), row) for row in range(6)))
    found = perturbation(Chaotic(), (), subjects_of(tokens, tokenizer=TOKENIZER))
    for values in found.scores.values():
        assert np.isnan(values).tolist() == [True] * 4 + [False] * 6
    alone = perturbation(Chaotic(), (), subjects_of(batch(*strangers), tokenizer=TOKENIZER))
    assert not alone.scores
    assert alone.refused["perturbation.combined"].code == "no_identifier"


def test_the_combined_score_is_over_the_identifiers_a_patient_has() -> None:
    tokens = people(30)
    bare = [["BEGIN", "GENDER//F", "DX//1", "DX//2"], ["BEGIN", "DX//3", "DX//4"]]
    subjects = subjects_of(batch(*bare, *(named(tokens, row) for row in range(30))), tokenizer=TOKENIZER)
    found = scores(Chaotic(), subjects)
    sexes = found["perturbation.sex"]
    rank = stats.rankdata(sexes[~np.isnan(sexes)])[0]
    assert found["perturbation.combined"][0] == pytest.approx(stats.norm.ppf((rank - 0.5) / 31))
    assert np.isnan(found["perturbation.combined"][1])


def test_what_nobody_carries_is_refused_by_name() -> None:
    sexless = [[n for n in named(people(9), row) if not n.startswith("GENDER")] for row in range(9)]
    found = perturbation(Chaotic(), (), subjects_of(batch(*sexless), tokenizer=TOKENIZER))
    assert found.refused.keys() == {"perturbation.sex"}
    assert found.refused["perturbation.sex"].parameters == {"identifier": "sex"}
    assert found.curves.keys() == {f"perturbation.{name}" for name in NAMES if name != "sex"}


def test_a_model_that_cannot_score_is_refused() -> None:
    found = perturbation(object(), (), subjects_of(people(3), tokenizer=TOKENIZER))
    assert found.refused.keys() == {"perturbation.combined", *(f"perturbation.{name}" for name in NAMES)}
    assert {message.parameters["protocol"] for message in found.refused.values()} == {"Scorer"}


def test_a_vocabulary_without_identifiers_breaks_nothing() -> None:
    tokens = tiny.random_batch([5, 1, 0], vocabulary=6)
    plain = Tokenizer(vocabulary_of(CODES[:6], tiny.BARE), tiny.BARE)
    found = perturbation(Chaotic(), (), subjects_of(tokens, tokenizer=plain))
    assert not found.scores
    assert len(found.refused) == len(NAMES) + 1


@pytest.fixture(scope="module")
def trained() -> tuple[CausalModel, Subjects, Measured]:
    splits = tiny.cohort(seed=2, train=32, held_out=32)
    tokenizer = tiny.tokenizer_of(InMemory((splits["train"], splits["held_out"])))
    train, held_out = (tokenizer.encode(splits[name]) for name in ("train", "held_out"))
    recipe = SmallCausalRecipe(
        LoopSettings(epochs=20, batch=8, learning_rate=1e-2), width=32, layers=1, heads=2, context=64
    )
    tokens = join_tokens([train, held_out])
    subjects = subjects_of(tokens, members=range(32), tokenizer=tokenizer, context=64)
    model = recipe.fit(train, seed=1)
    return model, subjects, perturbation(model, (), subjects)


def test_a_trained_model_misses_the_identifiers_of_its_own_patients(
    trained: tuple[CausalModel, Subjects, Measured],
) -> None:
    _, subjects, found = trained
    values, inside = found.scores["perturbation.combined"], subjects.is_member
    assert np.isfinite(values).all()
    assert auc(values[inside], values[~inside]).low > 0.5


def test_padding_is_never_kept(trained: tuple[CausalModel, Subjects, Measured]) -> None:
    model, subjects, found = trained
    dated = np.isfinite(found.scores["perturbation.dates"])
    shortest = np.flatnonzero(dated)[np.argmin(subjects.tokens.lengths[dated])]
    for test, values in perturbation(model, (), only(subjects, int(shortest))).scores.items():
        if test != "perturbation.combined":
            assert values[0] == pytest.approx(found.scores[test][shortest], abs=1e-5)
