from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tests import tiny
from tests.audits.test_sensitive import (
    CANCER,
    FAMILIES,
    HIV,
    ID,
    LABS,
    SIZE,
    batch,
    cohort,
    holders,
    judged,
    subjects_of,
)

from primum.audits.privacy.embedding import (
    FEWEST,
    MOST_DIMENSIONS,
    attribute,
    embeddings,
    linkage,
    nearest_rows,
    probe,
)
from primum.evidence.guesses import (
    auroc_of,
)
from primum.evidence.ranking import auc, auc_p_value
from primum.evidence.shares import (
    share_difference,
)
from primum.models.protocols import Embedder
from primum.records.histories import FloatArray
from primum.records.tokens import TokenBatch, join_tokens

WIDTH = 32


def drawn(*seed: int, width: int = WIDTH) -> FloatArray:
    """The same random vector for the same numbers."""
    return np.random.default_rng(list(seed)).standard_normal(width)


@dataclass
class Maker:
    """Embeds each history as `make` says, from its subject and its tokens."""

    make: Callable[[int, list[int]], FloatArray]
    shown: list[TokenBatch] = field(default_factory=list)

    def embed(self, tokens: TokenBatch) -> FloatArray:
        self.shown.append(tokens)
        return np.array(
            [
                self.make(int(subject), tokens.tokens_of(row).tolist())
                for row, subject in enumerate(tokens.subject_ids)
            ]
        )


def content(subject: int, ids: list[int]) -> FloatArray:
    """What is in a history, whoever's it is."""
    return np.bincount(ids, minlength=SIZE).astype(np.float64)


def planted(learnt: Collection[int]) -> Maker:
    """Knows those it learnt, from any part of their history; of others it gives noise."""
    return Maker(lambda subject, ids: drawn(subject) if subject in learnt else drawn(1, *ids, subject))


def two_sides(count: int) -> TokenBatch:
    return join_tokens([cohort(count, seed=1), cohort(count, seed=2)])


def chronic(count: int, *, seed: int) -> TokenBatch:
    """Patients who have the same few codes again and again: their halves are alike."""
    rng = np.random.default_rng(seed)
    own = [rng.choice(LABS, 4, replace=False) for _ in range(count)]
    return batch(
        *[["BEGIN", "SEX//F", *rng.choice(codes, 14).tolist(), "END"] for codes in own],
        first_subject=1000 * seed,
    )


def linked(model: object, tokens: TokenBatch, *, context: int = 64) -> FloatArray:
    return linkage(model, (), subjects_of(tokens, context=context)).scores["embedding.linkage"]


def test_wide_vectors_are_projected_alike_in_every_shard() -> None:
    tokens, width = cohort(10, seed=1), 3 * MOST_DIMENSIONS
    model = Maker(lambda subject, ids: drawn(subject, width=width))
    together = embeddings(model, tokens)
    apart = [embeddings(model, tokens.select(rows)) for rows in np.split(np.arange(10), 2)]
    assert together.shape == (10, MOST_DIMENSIONS)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.vstack(apart), together, rtol=1e-5)
    whole = model.embed(tokens)
    ratio = np.linalg.norm(together[0] - together[1:], axis=1) / np.linalg.norm(whole[0] - whole[1:], axis=1)
    assert (np.abs(ratio - 1) < 0.2).all()
    assert (embeddings(Maker(content), tokens) == Maker(content).embed(tokens)).all()


def test_a_membership_direction_is_found_and_content_is_not() -> None:
    tokens, is_member = two_sides(200), np.arange(400) < 200
    shift = drawn(0)
    leaky = Maker(lambda subject, ids: drawn(subject) + 0.5 * shift * (subject < 2000))
    found, blind = (
        probe(embeddings(model, tokens), is_member, seed=1).scores["embedding.probe"]
        for model in (leaky, Maker(content))
    )
    scored = np.isfinite(found)
    assert auc(found[scored & is_member], found[scored & ~is_member]).low > 0.8
    estimate = auc(blind[scored & is_member], blind[scored & ~is_member])
    assert estimate.low < 0.5 < estimate.high


def test_probing_noise_alarms_as_often_as_it_says() -> None:
    """More dimensions than a probe can bear; cross-fitted scores alarm in every eighth run."""
    rng, is_member = np.random.default_rng(0), np.arange(160) < 80
    runs = []
    for seed in range(150):
        vectors = rng.standard_normal((160, 30)).astype(np.float32)
        scores = probe(vectors, is_member, seed=seed).scores["embedding.probe"]
        known = np.isfinite(scores)
        sides = scores[known & is_member], scores[known & ~is_member]
        runs.append((auc(*sides).value, auc_p_value(*sides)))
    differences, p_values = np.array(runs).T
    assert abs(differences.mean() - 0.5) < 3 * differences.std() / 150**0.5
    # The 99 % point of a binomial with 150 runs at 5 %.
    assert (p_values < 0.05).sum() <= 14


def test_no_two_patients_probe_each_other() -> None:
    """Move one after the other: it changes those who come later, and of its own fold but the scale."""
    is_member = np.arange(40) < 20
    vectors = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)

    def scored(moved: int | None) -> FloatArray:
        changed = vectors.copy()
        if moved is not None:
            changed[moved] += 5
        return probe(changed, is_member, seed=0).scores["embedding.probe"]

    plain = scored(None)
    known = np.flatnonzero(~np.isnan(plain))
    assert (is_member[known].sum(), (~is_member[known]).sum()) == (16, 16)
    moved = np.array([scored(row) for row in range(40)])[:, known]
    changes = np.abs(moved - plain[known]) > 1e-9
    mutual = changes[known] & changes[known].T
    assert (mutual.sum(axis=1) == 8).all()
    assert changes[known].sum() == 8 * (8 + 16 + 24 + 32)
    for place, row in enumerate(known):
        alike = plain[known][mutual[place]]
        assert (alike.mean(), alike.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1))
        fold = np.flatnonzero(mutual[place] & (known != row))
        assert np.corrcoef(moved[row][fold], plain[known][fold])[0, 1] > 1 - 1e-9


def test_only_patients_without_tokens_are_not_probed() -> None:
    empty = batch([])
    tokens = join_tokens([empty, cohort(20, seed=1), empty, batch([LABS[1]]), cohort(20, seed=2)])
    model = tiny.build(vocabulary=SIZE, context=16)
    for is_member in (np.arange(43) < 21, np.arange(43) >= 21):
        scores = probe(embeddings(model, tokens), is_member, seed=0).scores["embedding.probe"]
        assert np.isnan(scores[[0, 21]]).all()
        assert np.isnan(scores).sum() == 2 + 9
    few = probe(embeddings(model, tokens), np.arange(43) < 5, seed=0).scores["embedding.probe"]
    assert np.isnan(few).all()


def test_the_nearest_agrees_with_mahalanobis_cosines() -> None:
    rng = np.random.default_rng(2)
    pool = rng.standard_normal((40, 6)) @ rng.standard_normal((6, 6)) + 5
    queries = 0.7 * pool + 0.8 * rng.standard_normal((40, 6)) - 30
    own, other = (part.astype(np.float32).astype(np.float64) for part in (queries, pool))
    own, other = own - own.mean(axis=0), other - other.mean(axis=0)
    covariance = (own.T @ own + other.T @ other) / 80
    inverse = np.linalg.inv(covariance + 0.1 * np.trace(covariance) / 6 * np.eye(6))
    inner = own @ inverse @ other.T
    lengths = np.sqrt(np.einsum("ij,jk,ik->i", other, inverse, other))
    expected = (inner / lengths).argmax(axis=1)
    found = nearest_rows(queries.astype(np.float32), pool.astype(np.float32))
    assert (found == expected).all()
    assert 0.1 < (found == np.arange(40)).mean() < 1
    plain = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ pool.T
    assert (plain.argmax(axis=1) != expected).any()


def test_planted_vectors_are_linked() -> None:
    members, others = chronic(60, seed=1), chronic(60, seed=2)
    found = linked(planted(members.subject_ids.tolist()), join_tokens([members, others]))
    assert found[:60].mean() > 0.9
    assert found[60:].mean() < 0.1
    assert share_difference(found[:60], found[60:]).low > 0.5


def test_content_links_everyone_alike() -> None:
    found = linked(Maker(content), join_tokens([chronic(100, seed=1), chronic(100, seed=2)]))
    assert min(found[:100].mean(), found[100:].mean()) > 10 / 200
    estimate = share_difference(found[:100], found[100:])
    assert estimate.low < 0 < estimate.high


def test_halves_share_no_event_and_only_the_first_says_who_it_is() -> None:
    header = ["BEGIN", "SEX//F", "AGE//0+"]
    gaps = [token for lab in LABS[:7] for token in ("GAP//1+", lab, "Q1")]
    tokens = batch([*header, *LABS[:11], "END"], [*header, *gaps, *LABS[7:10], "END"], [*LABS[:9], "END"])
    model = Maker(lambda subject, ids: drawn(subject, len(ids)))
    assert np.isnan(linked(model, tokens)).tolist() == [False, False, True]
    second, first = sorted(model.shown, key=lambda shown: ID["BEGIN"] in shown.token_ids)
    encoded = tokens.token_ids.tolist()
    assert first.tokens_of(0).tolist() + second.tokens_of(0).tolist() == encoded[:14]
    assert first.tokens_of(1).tolist() == [ID[token] for token in [*header, *gaps[:15]]]
    assert second.tokens_of(1).tolist() == [ID[token] for token in [*gaps[15:], *LABS[7:10]]]


def test_halves_fit_the_context_and_keep_the_header() -> None:
    header = ["BEGIN", "SEX//F"]
    model = Maker(lambda subject, ids: drawn(subject, len(ids)))
    linked(model, batch([*header, *LABS, "END"]), context=8)
    second, first = sorted(model.shown, key=lambda shown: ID["BEGIN"] in shown.token_ids)
    assert first.tokens_of(0).tolist() == [ID[token] for token in [*header, *LABS[4:10]]]
    assert second.tokens_of(0).tolist() == [ID[token] for token in LABS[12:]]


def test_who_is_a_member_changes_no_link_and_no_guess() -> None:
    """Nobody is cut or left out by side."""
    tokens, model = cohort(30, seed=3), tiny.build(vocabulary=SIZE, context=64)
    one, other = (subjects_of(tokens, members=members) for members in (range(15), range(15, 30)))
    links = [linkage(model, (), side).scores["embedding.linkage"] for side in (one, other)]
    np.testing.assert_array_equal(links[0], links[1])
    assert np.isnan(links[0]).sum() == (one.anatomy.counts < FEWEST).sum() > 0
    guesses = [attribute(model, (), side).guesses["embedding.attribute"].scores for side in (one, other)]
    np.testing.assert_array_equal(guesses[0], guesses[1])


def test_chance_is_one_in_the_whole_pool() -> None:
    tokens = join_tokens([chronic(30, seed=1), chronic(10, seed=2), cohort(3, seed=3)])
    measured = linkage(Maker(content), (), subjects_of(tokens))
    pool = int((~np.isnan(measured.scores["embedding.linkage"])).sum())
    assert measured.settings["chance"] == 1 / pool
    nobody = linkage(Maker(content), (), subjects_of(batch(["BEGIN"], [])))
    assert np.isnan(nobody.scores["embedding.linkage"]).all()


def test_what_is_remembered_of_a_removed_diagnosis_is_found() -> None:
    tokens = two_sides(150)
    truth = dict(zip(tokens.subject_ids.tolist(), holders(tokens)["hiv"].tolist(), strict=True))
    direction = drawn(7)
    leaky = Maker(lambda subject, ids: drawn(subject) + direction * (subject < 2000 and bool(truth[subject])))
    subjects = subjects_of(tokens, members=range(150))
    guesses = attribute(leaky, (), subjects).guesses["embedding.attribute"]
    only = replace(guesses, scores=guesses.scores[:, :1], labels=guesses.labels[:, :1])
    estimate, p_value = judged(only, subjects.is_member)
    assert estimate.low > 0.1
    assert p_value < 1e-3
    assert not any(FAMILIES[name][leaky.shown[0].token_ids].any() for name in FAMILIES)


def test_what_content_and_sex_tell_is_no_leak() -> None:
    tokens = join_tokens([cohort(200, seed=1, cue=True), cohort(200, seed=2, cue=True)])
    subjects = subjects_of(tokens, members=range(200))
    women = {**subjects.table.families, "hiv": subjects.table.sex == "F"}
    subjects = replace(subjects, table=replace(subjects.table, families=women))
    guesses = attribute(Maker(content), (), subjects).guesses["embedding.attribute"]
    assert auroc_of(guesses.scores[:, 0], guesses.labels[:, 0]) > 0.95
    assert auroc_of(guesses.scores[:, 1], guesses.labels[:, 1]) > 0.6
    estimate, p_value = judged(guesses, subjects.is_member)
    assert estimate.low < 0 < estimate.high
    assert p_value > 0.05


def test_known_attributes_are_age_sex_and_site() -> None:
    """A model that tells nothing leaves the probe with these three."""
    rng, tokens = np.random.default_rng(0), cohort(120, seed=1)
    subjects = subjects_of(tokens)
    age = np.where(rng.random(120) < 0.1, np.nan, rng.uniform(20, 90, 120))
    site = rng.choice(["A", "B", "?"], 120)
    sex = subjects.table.sex
    facts = {"hiv": sex == "F", "cancer": np.nan_to_num(age) > 60, "violence": site == "B"}
    table = replace(subjects.table, age=age, site=site, families=facts)
    silent = Maker(lambda subject, ids: np.zeros(4))
    measured = attribute(silent, (), replace(subjects, table=table)).guesses
    # What is known, in the order age, sex, site; columns are sex, age, site.
    for name, known in (("", 3), (".known_0", 0), (".known_1", 1), (".known_2", 2)):
        guesses = measured[f"embedding.attribute{name}"]
        told = [auroc_of(guesses.scores[:, column], guesses.labels[:, column]) > 0.9 for column in (1, 0, 2)]
        assert told == [place < known for place in range(3)]
        assert guesses.blind is not None
        told = [auroc_of(guesses.blind[:, column], guesses.labels[:, column]) > 0.85 for column in (1, 0, 2)]
        assert told == [place < known for place in range(3)]


def test_a_family_of_one_patient_is_not_guessed() -> None:
    tokens = join_tokens([batch(["BEGIN", HIV]), chronic(20, seed=1), batch([], [LABS[1]], [CANCER, CANCER])])
    model = tiny.build(vocabulary=SIZE, context=16)
    measured = attribute(model, (), subjects_of(tokens, context=16))
    assert (measured.guesses["embedding.attribute"].scores == 0).all()


@pytest.mark.parametrize("test", [attribute, linkage])
def test_a_model_that_cannot_embed_is_refused(test: Callable[..., object]) -> None:
    subjects = subjects_of(cohort(4, seed=1))
    model = tiny.build(vocabulary=SIZE)
    assert isinstance(model, Embedder)
    for refused in (test(object(), (model,), subjects), probe(None, subjects.is_member, seed=0)):
        said = list(refused.refused.values())  # type: ignore[attr-defined]
        assert said and all(reason.parameters == {"protocol": "Embedder"} for reason in said)
