from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tests import tiny
from tests.audits.test_perturbation import CODES, TOKENIZER, Chaotic, batch, named, only, people
from tests.audits.test_trajectory import subjects_of

from primum.audits.privacy.knowledge import LADDER, NOTHING, QUERIES, STATIC_FACTS, knowledge, secrets
from primum.audits.privacy.subjects import Subjects
from primum.evidence.ranking import auc, auc_p_value
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.records.histories import FloatArray, InMemory
from primum.records.profile import TokenProfile, vocabulary_of
from primum.records.tokenizer import Tokenizer
from primum.records.tokens import Kind, TokenBatch, join_tokens

DEPTH, COST = "knowledge.depth", "knowledge.cost"
ID = TOKENIZER.vocabulary.id_of
LADDER_X = tuple(map(float, LADDER))


def mixed(count: int, *, seed: int = 0) -> TokenBatch:
    """Patients of 2 to 30 events, some at the same time as the event before, some with a number."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in range(count):
        names = named(people(1, seed=1000 * seed + row, events=int(rng.integers(2, 31))), 0)
        names = [name for name in names if not (name.startswith("GAP") and rng.random() < 0.4)]
        valued = [[name, "Q1"] if name.startswith("DX") and rng.random() < 0.3 else [name] for name in names]
        rows.append([name for both in valued for name in both])
    return batch(*rows)


def with_families(subjects: Subjects, codes: Collection[str]) -> Subjects:
    return replace(subjects, families={"hidden": np.isin(np.arange(len(ID)), [ID[code] for code in codes])})


def naive_secret(names: list[str], rarity: Mapping[str, float], sensitive: Collection[str]) -> int | None:
    """Place of the secret in the tokens, found by walking through them."""
    best: tuple[bool, float, int] | None = None
    seen: list[str] = []
    for place, name in enumerate(names):
        if name.startswith("DX"):
            if seen and name not in seen:
                best = max(best or (False, -1.0, -1), (name in sensitive, rarity[name], place))
            seen.append(name)
    return None if best is None else best[2]


def naive_prompt(names: list[str], secret: int, known: int) -> list[str]:
    """Walk back from the secret over `known` events; its own gap token stays."""
    start = secret - names[secret - 1].startswith("GAP")
    for _ in range(known):
        earlier = [place for place in range(start) if names[place].startswith("DX")]
        if not earlier:
            break
        start = earlier[-1] - names[earlier[-1] - 1].startswith("GAP")
    header = next(place for place, name in enumerate(names) if name.startswith(("GAP", "DX")))
    header = min(header, 1) if known == NOTHING else header
    return names[:header] + names[start : secret + 1]


@pytest.mark.parametrize("sensitive", [(), ("DX//3", "DX//4", "DX//9")])
def test_scores_equal_the_loop(sensitive: tuple[str, ...]) -> None:
    tokens, model, reference = mixed(25, seed=1), Chaotic(), Chaotic(1)
    subjects = with_families(subjects_of(tokens, tokenizer=TOKENIZER), sensitive)
    found = knowledge(model, (reference,), subjects)
    curve = found.curves[DEPTH]["knowledge_depth"]
    assert curve.x == LADDER_X
    assert found.settings["calibrated"] is True
    rarity = dict(zip(TOKENIZER.vocabulary.tokens, subjects.surprisal.tolist(), strict=True))
    for row in range(25):
        names = named(tokens, row)
        secret = naive_secret(names, rarity, sensitive)
        if secret is None:
            assert np.isnan(curve.values[row]).all()
            continue
        prompts = [batch(naive_prompt(names, secret, known)) for known in LADDER]
        own, others = ([one.log_probs(p)[0][-1] for p in prompts] for one in (model, reference))
        assert curve.values[row] == pytest.approx(np.subtract(own, others))
        assert found.scores[DEPTH][row] == pytest.approx(np.mean(np.subtract(own, others)))
        assert found.scores[COST][row] == (1 - (1 - np.exp(own[-1])) ** 100 >= 0.5)


def test_a_code_that_the_patient_already_had_is_no_secret() -> None:
    rows = [
        ["BEGIN", "DX//1", "DX//2", "DX//3", "DX//2"],
        ["BEGIN", "DX//1", "DX//1", "DX//1"],
        ["BEGIN", "DX//1", "DX//3", "DX//4"],
    ]
    subjects = subjects_of(batch(*rows), tokenizer=TOKENIZER)
    chosen = secrets(subjects)
    assert chosen.patient.tolist() == [0, 2]
    # DX//2 is rarer than DX//3; of the second it is DX//4.
    assert subjects.anatomy.place[chosen.event].tolist() == [2, 3]
    sensitive = secrets(with_families(subjects, ["DX//3"]))
    assert subjects.anatomy.place[sensitive.event].tolist() == [3, 2]
    tied = secrets(subjects_of(batch(["BEGIN", "DX//1", "DX//2", "DX//3"]), tokenizer=TOKENIZER))
    assert subjects.anatomy.place[tied.event].tolist() == [3]


@dataclass
class Planted:
    """Knows secrets of some patients, when as many tokens before them as it needs are the patient's own."""

    tokens: TokenBatch
    learnt: Collection[int]
    base: float
    sure: float = 0.9
    needs: int = 5
    asked: list[int] = field(default_factory=list)

    def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
        learnt = {
            int(self.tokens.subject_ids[row]): self.tokens.tokens_of(row).tolist() for row in self.learnt
        }
        self.asked.append(len(tokens))
        found = []
        for row, length in enumerate(tokens.lengths):
            said, whole = tokens.tokens_of(row).tolist(), learnt.get(int(tokens.subject_ids[row]), [])
            p = np.full(max(int(length) - 1, 0), self.base)
            own = said[-self.needs - 1 :]
            if length > self.needs and any(whole[at : at + len(own)] == own for at in range(len(whole))):
                p[-1] = self.sure
            found.append(np.log(p))
        return found


def secrets_after_five_events(count: int, *, seed: int = 0) -> Subjects:
    """Patients with 12 common codes, 5 of their own, then a rare secret, then common codes; no gaps."""
    rng = np.random.default_rng(seed)
    profile = TokenProfile()
    common = [f"DX//{number}" for number in range(12)]
    rare = [f"DX//rare{number}" for number in range(10)]
    own = [f"DX//own{number}" for number in range(5 * count)]
    tokenizer = Tokenizer(vocabulary_of(("GENDER//F", *common, *rare, *own), profile), profile)
    rows = []
    for row in range(count):
        mine = own[5 * row : 5 * row + 5]
        names = ["BEGIN", "GENDER//F", *rng.permutation(common), *mine, rng.choice(rare)]
        rows.append(tokenizer.vocabulary.encode((*map(str, names), *common[:3])))
    lengths = np.full(count, len(rows[0]))
    ids = np.concatenate(rows)
    tokens = TokenBatch(
        np.arange(count),
        np.concatenate([[0], np.cumsum(lengths)]),
        ids,
        tokenizer.kinds[ids],
        np.full(len(ids), -1),
        len(tokenizer.vocabulary),
    )
    subjects = subjects_of(tokens, members=range(0, count, 2), tokenizer=tokenizer)
    hidden = np.isin(np.arange(len(tokenizer.vocabulary)), tokenizer.vocabulary.encode(tuple(rare)))
    return replace(subjects, families={"hidden": hidden})


def test_what_the_attacker_must_know_is_what_the_secret_hangs_on() -> None:
    subjects = secrets_after_five_events(80)
    # Bits are those of members: what held-out patients' own codes tell must not count.
    own = subjects.tokens.token_ids.reshape(80, -1)[~subjects.is_member, 14:19]
    subjects.holders[own] = 9
    model = Planted(subjects.tokens, np.flatnonzero(subjects.is_member).tolist(), base=0.02)
    found = knowledge(model, (), subjects)
    assert found.settings["k_star_1"] == 5
    # Two in a hundred is enough for 100 questions, with or without memory: nothing was taken from anyone.
    assert found.settings["k_star_100"] is None
    assert found.settings["k_star_10000"] is None
    assert found.settings["k_star_bits_100"] is None
    bits = -np.log2(1.5 / 81)
    assert found.settings["k_star_bits_1"] == pytest.approx(5 * bits)
    costs = found.curves[COST]
    assert costs.keys() == {f"extraction_cost_{queries}" for queries in QUERIES}
    curve = costs["extraction_cost_1"]
    assert curve.x == (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 50.0)
    assert curve.values[subjects.is_member].mean(0).tolist() == [0] * 6 + [1] * 4
    assert not curve.values[~subjects.is_member].any()
    assert costs["extraction_cost_100"].values.all()
    # The rungs, and of all integers only those inside the step.
    assert len(model.asked) == len(LADDER) + 2
    assert not found.scores[COST][~subjects.is_member].min() < 1
    low = knowledge(replace(model, base=0.00001), (), subjects)
    assert [low.settings[f"k_star_{queries}"] for queries in QUERIES] == [5, 5, 5]
    assert low.scores[COST].tolist() == subjects.is_member.tolist()


@pytest.mark.parametrize(("needs", "asked"), [(1, 0), (3, 2), (7, 4), (16, 9)])
def test_every_integer_of_the_step_is_tried_and_only_those(needs: int, asked: int) -> None:
    subjects = secrets_after_five_events(60)
    model = Planted(subjects.tokens, np.flatnonzero(subjects.is_member).tolist(), base=1e-9, needs=needs)
    found = knowledge(model, (), subjects)
    assert [found.settings[f"k_star_{queries}"] for queries in QUERIES] == [needs] * 3
    assert len(model.asked) == len(LADDER) + asked


@pytest.mark.parametrize("base", [0.9, 0.02, 0.001, 1e-9])
def test_base_rates_alone_never_give_a_k_star(base: float) -> None:
    subjects = secrets_after_five_events(60)
    everyone: tuple[Collection[int], ...] = ([], range(60))
    for learnt in everyone:
        found = knowledge(Planted(subjects.tokens, learnt, base), (), subjects)
        assert [found.settings[f"k_star_{queries}"] for queries in QUERIES] == [None] * 3


def test_where_nothing_leaks_a_k_star_is_rare() -> None:
    tokens = mixed(120, seed=3)
    named_at = []
    for salt in range(40):
        rng = np.random.default_rng(salt)
        subjects = subjects_of(tokens, members=rng.permutation(120)[:60].tolist(), tokenizer=TOKENIZER)
        settings = knowledge(Chaotic(salt), (), subjects).settings
        named_at.append([settings[f"k_star_{queries}"] is not None for queries in QUERIES])
    assert (np.mean(named_at, axis=0) <= 0.05).all()


def test_a_model_that_knows_nothing_tells_no_member_from_a_stranger() -> None:
    values = knowledge(Chaotic(), (), subjects_of(mixed(200, seed=5), tokenizer=TOKENIZER)).scores[DEPTH]
    assert 0.05 < auc_p_value(values[:100], values[100:]) < 0.95


def test_secrets_that_need_nothing_are_found_with_nothing() -> None:
    @dataclass
    class Knows(Planted):
        def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
            return [
                np.log(np.full(length - 1, 0.9 if int(subject) in self.learnt else 0.1))
                for subject, length in zip(tokens.subject_ids, tokens.lengths, strict=True)
            ]

    subjects = secrets_after_five_events(40)
    model = Knows(subjects.tokens, np.flatnonzero(subjects.is_member).tolist(), 0.1)
    settings = knowledge(model, (), subjects).settings
    assert (settings["k_star_1"], settings["k_star_bits_1"]) == (NOTHING, 0.0)


def test_prompt_is_not_counted_as_output() -> None:
    @dataclass
    class SureOfThePrompt:
        sure: float

        def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
            rows = [np.full(max(length - 1, 0), self.sure) for length in tokens.lengths]
            return [np.concatenate([row[:-1], [-2.0]]) if len(row) else row for row in rows]

    subjects = subjects_of(mixed(10), tokenizer=TOKENIZER)
    for sure in (0.0, -50.0):
        assert knowledge(SureOfThePrompt(sure), (), subjects).scores[DEPTH] == pytest.approx(-2.0)


@pytest.mark.parametrize("context", [4, 6, 11, 32])
def test_members_and_held_out_are_cut_alike(context: int) -> None:
    tokens = mixed(20, seed=2)
    twice = subjects_of(
        join_tokens([tokens, tokens]), members=range(20), tokenizer=TOKENIZER, context=context
    )
    found = knowledge(Chaotic(), (), twice).scores
    flipped = knowledge(Chaotic(), (), replace(twice, is_member=~twice.is_member)).scores
    for test in (DEPTH, COST):
        assert found[test][:20].tolist() == found[test][20:].tolist() == flipped[test][:20].tolist()
    chosen = secrets(twice)
    for known in LADDER:
        prompts = chosen.prompts(known)
        assert prompts.lengths.max() <= context
        for row, event in enumerate(chosen.event):
            names, kept = named(prompts, row), int(chosen.events_shown(known)[row])
            whole = named(twice.tokens, int(chosen.patient[row]))
            assert sum(name.startswith("DX") for name in names) == kept + 1
            assert names[-1] == whole[twice.anatomy.place[event]]
            assert names[0] == "BEGIN"
            # Whole events only: one more would not have fitted, or was not asked for, or never happened.
            first = int(event) - kept
            if known > kept and first > twice.anatomy.offsets[twice.anatomy.owner[event]]:
                longer = twice.anatomy.stop[first - 1] - twice.anatomy.start[first - 1]
                assert len(names) + longer > context


def test_one_token_histories_and_empty_ones_are_not_asked() -> None:
    rows = [[], ["DX//1"], ["BEGIN"], ["BEGIN", "DX//1", "END"], ["DX//1", "DX//2"]]
    found = knowledge(Chaotic(), (), subjects_of(batch(*rows), tokenizer=TOKENIZER))
    assert np.isfinite(found.scores[DEPTH]).tolist() == [False] * 4 + [True]
    assert np.isfinite(found.scores[COST]).tolist() == [False] * 4 + [True]
    # Without begin token and gap, there is nothing before the secret that a model could answer to.
    assert np.isfinite(found.curves[DEPTH]["knowledge_depth"].values[4]).tolist() == [False] * 2 + [True] * 6
    nobody = knowledge(Chaotic(), (), subjects_of(batch(*rows[:4]), tokenizer=TOKENIZER))
    assert np.isnan(nobody.scores[DEPTH]).all()
    assert nobody.settings["k_star_1"] is None


def test_the_ladder_begins_with_nothing_then_static_facts() -> None:
    row = ["BEGIN", "GENDER//F", "AGE//30+", "DX//1", "GAP//4+", "DX//2"]
    chosen = secrets(subjects_of(batch(row), tokenizer=TOKENIZER))
    assert named(chosen.prompts(NOTHING), 0) == ["BEGIN", "GAP//4+", "DX//2"]
    assert named(chosen.prompts(STATIC_FACTS), 0) == [*row[:3], "GAP//4+", "DX//2"]
    assert named(chosen.prompts(1), 0) == named(chosen.prompts(50), 0) == row


def test_the_cost_is_that_of_everything_the_ladder_asks_for() -> None:
    class NeedsThirty:
        def log_probs(self, tokens: TokenBatch) -> list[FloatArray]:
            long = [
                np.count_nonzero(tokens.kinds_of(row) == Kind.CLINICAL) > 30 for row in range(len(tokens))
            ]
            return [
                np.full(max(length - 1, 0), -0.1 if enough else -20.0)
                for length, enough in zip(tokens.lengths, long, strict=True)
            ]

    rows = [["BEGIN", *["DX//1"] * known, "DX//2"] for known in (5, 20, 29, 30, 45)]
    found = knowledge(NeedsThirty(), (), subjects_of(batch(*rows), tokenizer=TOKENIZER))
    assert found.scores[COST].tolist() == [0, 0, 0, 1, 1]


def test_patients_with_fewer_events_are_counted_in_cells_of_five() -> None:
    rows = [["BEGIN", *CODES[: events + 1]] for events in (1, 1, 3, 3, 3, 7)]
    settings = knowledge(Chaotic(), (), subjects_of(batch(*rows), tokenizer=TOKENIZER)).settings
    counts = {key: value for key, value in settings.items() if key.startswith("fewer")}
    assert counts == {
        "fewer_than_2": "< 5",
        "fewer_than_5": 5,
        "fewer_than_10": 6,
        "fewer_than_20": 6,
        "fewer_than_50": 6,
    }


def test_a_model_that_cannot_score_is_refused_and_such_a_reference_is_not_used() -> None:
    subjects = subjects_of(mixed(4), tokenizer=TOKENIZER)
    refused = knowledge(object(), (), subjects).refused
    assert {test: dict(reason.parameters) for test, reason in refused.items()} == {
        DEPTH: {"protocol": "Scorer"},
        COST: {"protocol": "Scorer"},
    }
    alone = knowledge(Chaotic(), (object(),), subjects)
    assert alone.settings["calibrated"] is False
    assert alone.scores[DEPTH].tolist() == knowledge(Chaotic(), (), subjects).scores[DEPTH].tolist()


def test_a_trained_model_knows_the_secrets_of_its_own_patients() -> None:
    splits = tiny.cohort(seed=2, train=32, held_out=32)
    tokenizer = tiny.tokenizer_of(InMemory((splits["train"], splits["held_out"])))
    train, held_out = (tokenizer.encode(splits[name]) for name in ("train", "held_out"))
    recipe = SmallCausalRecipe(
        LoopSettings(epochs=20, batch=8, learning_rate=1e-2), width=32, layers=1, heads=2, context=64
    )
    model, untrained = recipe.fit(train, seed=1), recipe.build(len(tokenizer.vocabulary), seed=3)
    tokens = join_tokens([train, held_out])
    subjects = subjects_of(tokens, members=range(32), tokenizer=tokenizer, context=64)
    found = knowledge(model, (untrained,), subjects)
    values, inside = found.scores[DEPTH], subjects.is_member
    told = np.isfinite(values)
    assert told.tolist() == np.isin(np.arange(64), secrets(subjects).patient).tolist()
    assert auc(values[inside & told], values[~inside & told]).low > 0.5
    chosen = secrets(subjects)
    shortest = chosen.patient[np.argmin(chosen.prompts(50).lengths)]
    alone = knowledge(model, (untrained,), only(subjects, int(shortest)))
    # Batch mates and the padding they bring change nothing.
    assert alone.scores[DEPTH][0] == pytest.approx(values[shortest], abs=1e-5)
    secret_tokens = tokens.offsets[chosen.patient] + subjects.anatomy.place[chosen.event]
    assert (tokens.kinds[secret_tokens] == Kind.CLINICAL).all()
