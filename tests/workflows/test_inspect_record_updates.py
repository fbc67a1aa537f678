"""``primum inspect-updates`` of health records: updates of known patients name them, and hold their codes."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests import tiny

from primum.audits.updates.record_sets import RecordGallery, likelier_after, tokens_sent
from primum.cli.main import run
from primum.errors import InputError, RecordsError
from primum.evidence.audit import Audit
from primum.evidence.documents import read_audit
from primum.evidence.measured import BoolArray
from primum.evidence.shares import share_p_value
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings, fit_model, inputs_and_targets, loss_of
from primum.fit.updates import Update, write_update
from primum.models.causal import padded
from primum.models.doors import open_model
from primum.models.hf_folder import save_folder
from primum.models.opened import OpenedModel
from primum.records.meds import MedsFolder
from primum.records.tokens import Kind, TokenBatch, join_tokens
from primum.workflows.inspect_record_updates import inspect_record_updates

SIDE, EMBEDDING = 60, "model.embed_tokens.weight"
RECIPE = SmallCausalRecipe(LoopSettings(epochs=1, batch=8), width=16, layers=1, heads=2, context=64)


class World(SimpleNamespace):
    gallery: MedsFolder
    model: OpenedModel
    members: TokenBatch
    others: TokenBatch
    strangers: TokenBatch


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("updates")
    gallery = tiny.records_folder(root / "gallery", tiny.cohort(train=SIDE, held_out=SIDE))
    invented = tiny.records_folder(root / "invented", tiny.cohort(train=200, seed=9))
    tokenizer = tiny.tokenizer_of(invented.split("train"))
    save_folder(root / "model", RECIPE.build(len(tokenizer.vocabulary), seed=0), tokenizer)
    sides = [
        tokenizer.encode(next(iter(records.shards())))
        for records in (gallery.split("train"), gallery.split("held_out"), invented.split("train"))
    ]
    members, others, strangers = sides
    return World(
        gallery=gallery,
        model=open_model(root / "model"),
        members=members,
        others=others,
        strangers=strangers,
        root=root,
    )


def gradient(world: World, tokens: TokenBatch, *, noise: float = 0.0) -> Update:
    """One step over whole histories of at most the context."""
    scorer = RECIPE.build(tokens.vocabulary_size, seed=0)
    length = np.minimum(tokens.lengths, 64)
    ids = padded(tokens, np.arange(len(tokens)), np.zeros_like(length), length)
    loss = loss_of(scorer.module, *inputs_and_targets(ids, length)).mean()
    weights = dict(scorer.module.named_parameters())
    rng = np.random.default_rng(len(ids))
    sent = {
        name: one.numpy() + (noise * rng.standard_normal(one.shape)).astype(np.float32)
        for name, one in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True)
    }
    before = {name: value.detach().numpy() for name, value in weights.items()}
    return Update("site-1", 1, "gradient", len(tokens), 1, len(tokens), 1.0, before, sent)


def delta(world: World, tokens: TokenBatch) -> Update:
    """What a site sends that trains for an epoch."""
    scorer = RECIPE.build(tokens.vocabulary_size, seed=0)
    before = {name: value.detach().numpy().copy() for name, value in scorer.module.named_parameters()}
    steps = fit_model(scorer, tokens, settings=RECIPE.loop)
    after = dict(scorer.module.named_parameters())
    sent = {name: after[name].detach().numpy() - value for name, value in before.items()}
    return Update("site-1", 1, "delta", len(tokens), steps, 8, 1e-3, before, sent)


def inspected(world: World, folder: Path, updates: list[Update]) -> Audit:
    files = [folder / f"{number}.safetensors" for number in range(len(updates))]
    for file, update in zip(files, updates, strict=True):
        write_update(update, file)
    return inspect_record_updates(files, world.model, world.gallery)


def verdicts(audit: Audit) -> dict[str, str]:
    return {one.test: one.verdict for one in audit.findings}


def short(tokens: TokenBatch) -> TokenBatch:
    return tokens.select(np.flatnonzero((tokens.lengths <= 64) & (tokens.lengths > 10)))


@pytest.mark.parametrize("how", [gradient, delta])
def test_updates_of_single_patients_name_them(world: World, tmp_path: Path, how: object) -> None:
    assert callable(how)
    members = short(world.members)
    asked = [how(world, members.select(np.array([row]))) for row in range(10)]
    audit = inspected(world, tmp_path, asked)
    assert verdicts(audit)["updates.reconstruction"] == "leak"
    assert audit.exit_status == 1
    difference, _, found, others = audit.findings[0].estimates
    assert (found.value, others.value) == pytest.approx((10 / SIDE, 0))
    assert difference.value == pytest.approx(10 / SIDE)
    assert audit.patients == {"members": SIDE, "held_out": SIDE}
    text = str(audit)
    assert not any(str(one) in text for one in members.subject_ids[:10].tolist() if one > 999)
    assert "site-1" not in text


@pytest.mark.parametrize("kind", ["noise", "strangers"])
def test_noise_and_strangers_name_nobody(world: World, tmp_path: Path, kind: str) -> None:
    given = short(world.members if kind == "noise" else world.strangers)
    rows = [given.select(np.array([row])) for row in range(10)]
    audit = inspected(world, tmp_path, [gradient(world, one, noise=(kind == "noise") * 1.0) for one in rows])
    assert not any(one.harmful for one in audit.findings)
    assert [one.value for one in audit.findings[0].estimates[2:]] == [0, 0]


def test_a_site_gives_its_patients_rare_codes_away(world: World, tmp_path: Path) -> None:
    audit = inspected(world, tmp_path, [delta(world, world.members)])
    found = {one.test: one for one in audit.findings}["updates.codes"]
    assert found.verdict == "leak"
    difference, _, members, others = found.estimates
    assert members.value == 1
    assert others.value < 0.9
    assert difference.value == pytest.approx(1 - others.value)
    shares = [one.settings["share_of_error"] for one in audit.findings]
    assert shares == pytest.approx([1 / 3] * 3)


def test_patients_of_an_update_gain_more_from_it(world: World, tmp_path: Path) -> None:
    parts = [world.members.select(np.arange(at, at + 6)) for at in range(0, SIDE, 6)]
    audit = inspected(world, tmp_path, [delta(world, part) for part in parts])
    named, falsely = audit.findings[0].estimates[2:]
    assert (named.value, falsely.value) == (10 / SIDE, 0), "one of each six, and nobody else"
    membership = audit.findings[2]
    assert membership.test == "updates.membership"
    assert membership.estimates[0].low > 0.6
    assert membership.verdict == "leak"


def test_a_gradient_is_followed_downhill(world: World) -> None:
    part = short(world.members).select(np.arange(6))
    update = replace(gradient(world, part), learning_rate=0.1)
    model = RECIPE.build(part.vocabulary_size, seed=1)
    assert likelier_after(model, update, part).min() > 0


def test_patients_alike_are_not_named() -> None:
    ids = np.array([1, 2, 3, 0, 1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0])
    kinds = np.full(16, Kind.CLINICAL, np.uint8)
    tokens = TokenBatch(np.arange(4), np.arange(5) * 4, ids, kinds, np.arange(16), 10)
    gallery = RecordGallery.of(tokens, vocabulary=10)
    assert gallery.threshold == pytest.approx(1, abs=0.1)
    assert gallery.named_by(np.array([1, 2, 3])).tolist() == [], "two patients have these"
    assert gallery.named_by(np.array([4, 5, 6])).tolist() == [2]
    assert gallery.named_by(np.array([4])).tolist() == [], "too little of anybody"
    assert gallery.named_by(np.array([4, 5, 6, 7, 8])).tolist() == [], "too much of others"
    assert gallery.named_by(np.array([], np.int64)).tolist() == []
    np.testing.assert_array_equal(gallery.rare_read(np.array([1, 4, 5])), [1 / 3, 1 / 3, 2 / 3, 0])


def test_likeness_is_that_of_weighted_sets_counted_by_hand() -> None:
    rng = np.random.default_rng(0)
    tokens = tiny.random_batch([9] * 30, vocabulary=20)
    gallery = RecordGallery.of(tokens, vocabulary=20)
    sets = [set(tokens.tokens_of(row)[:-1].tolist()) for row in range(30)]
    weight = [np.log(31 / (1 + sum(token in one for one in sets))) for token in range(20)]

    def alike(one: set[int], other: set[int]) -> float:
        both, either = (float(sum(weight[token] for token in part)) for part in (one & other, one | other))
        return both / either

    pairs = [alike(a, b) for i, a in enumerate(sets) for j, b in enumerate(sets) if i != j]
    assert gallery.threshold == pytest.approx(np.quantile(pairs, 0.99))
    asked = rng.choice(20, 6, replace=False)
    asked = np.concatenate([asked, np.array(sorted(sets[7]))])
    near = [alike(one, set(asked.tolist())) * (one <= set(asked.tolist())) for one in sets]
    assert near[7] == max(near) >= gallery.threshold
    assert gallery.named_by(np.unique(asked)).tolist() == [7]


def test_tokens_under_noise_of_unknown_strength() -> None:
    rng = np.random.default_rng(1)
    rows = np.zeros((200, 16))
    rows[[3, 70]] = 1.0
    assert tokens_sent(rows).tolist() == [3, 70]
    assert tokens_sent(rows + 0.05 * rng.standard_normal(rows.shape)).tolist() == [3, 70]
    alarms = [len(tokens_sent(0.3 * rng.standard_normal((200, 16)))) > 0 for _ in range(400)]
    assert 0.02 < np.mean(alarms) < 0.09


def test_what_cannot_be_inspected(world: World, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no update"):
        inspect_record_updates([], world.model, world.gallery)
    update = gradient(world, short(world.members).select(np.array([0])))
    write_update(update, tmp_path / "0.safetensors")
    files = [tmp_path / "0.safetensors"]
    lone = tiny.records_folder(tmp_path / "lone", tiny.cohort(train=4))
    with pytest.raises(RecordsError, match="held_out"):
        inspect_record_updates(files, world.model, lone)
    larger = SmallCausalRecipe(LoopSettings(epochs=1), width=8, layers=1, heads=2)
    save_folder(
        tmp_path / "model", larger.build(update.before[EMBEDDING].shape[0], seed=0), world.model.tokenizer
    )
    with pytest.raises(InputError, match="another model"):
        inspect_record_updates(files, open_model(tmp_path / "model"), world.gallery)
    answers = OpenedModel(world.model.ref, object(), world.model.tokenizer, 64, 0)
    with pytest.raises(InputError, match="folder of one model"):
        inspect_record_updates(files, answers, world.gallery)


def test_hardly_any_stranger_is_taken_for_a_patient(world: World) -> None:
    both = join_tokens([world.members, world.others])
    gallery = RecordGallery.of(both, vocabulary=both.vocabulary_size)
    named = [len(gallery.named_by(np.unique(world.strangers.tokens_of(row)[:-1]))) for row in range(200)]
    assert sum(named) <= 2
    own = [gallery.named_by(np.unique(both.tokens_of(row)[:-1])).tolist() == [row] for row in range(120)]
    assert np.mean(own) > 0.95


def test_updates_of_strangers_hold_as_many_rare_codes_of_either_side(world: World) -> None:
    """Who is a member is drawn anew each time, and has nothing to do with the update."""
    both = join_tokens([world.members, world.others])
    gallery = RecordGallery.of(both, vocabulary=both.vocabulary_size)
    read = gallery.rare_read(np.unique(world.strangers.select(np.arange(15)).token_ids))
    read = read[np.isfinite(read)]
    assert 0.02 < read.mean() < 0.98
    rng, alarms = np.random.default_rng(0), 0
    for seed in range(200):
        first, second = np.split(rng.permutation(read), [len(read) // 2])
        alarms += share_p_value(first, second, resamples=199, seed=seed) < 0.05
    assert 2 <= alarms <= 19, "of 200, 10 expected"


def test_the_share_who_have_a_code_is_guessed(world: World, tmp_path: Path) -> None:
    """Truth is known here and not to the command: records do not say whose they are."""
    (token,) = world.model.tokenizer.vocabulary.encode(("GENDER//F",))
    has = carried(world.members, token)
    rows = [np.flatnonzero(has)[:12], np.flatnonzero(~has)[:12]]
    guesses = []
    for number, part in enumerate(rows):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_update(gradient(world, world.members.select(part)), folder / "0.safetensors")
        audit = inspect_record_updates(
            [folder / "0.safetensors"], world.model, world.gallery, asked="GENDER//F"
        )
        (*_, found) = audit.findings
        assert (found.test, found.verdict) == ("updates.property", "descriptive")
        assert found.reasons[0].code == "property_guessed"
        guesses.append(found.estimates[0].value)
    assert guesses[0] > 0.6 > 0.4 > guesses[1]
    with pytest.raises(InputError, match="some patients must have"):
        inspect_record_updates([folder / "0.safetensors"], world.model, world.gallery, asked="no such code")


def carried(tokens: TokenBatch, token: int) -> BoolArray:
    return np.array([token in tokens.tokens_of(row) for row in range(len(tokens))])


def test_what_simulated_hospitals_sent(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """North is the gallery itself: its split train trains, its split held_out does not."""
    sent, model, out = tmp_path / "sent", tmp_path / "model", tmp_path / "out"
    words = ["train", "federated", "simulate", world.gallery.path, "--tokens", world.root / "model"]
    words += [
        "--width",
        "8",
        "--rounds",
        "1",
        "--epochs",
        "1",
        "--sites",
        "2",
        "--capture",
        sent,
        "--out",
        model,
    ]
    assert run([str(one) for one in (*words, "--lang", "en")]) == 0
    given = ["inspect-updates", min(sent.iterdir()), "--model", model, "--gallery", world.gallery.path]
    given += ["--property", "GENDER//F", "--out", out, "--lang", "en"]
    assert run([str(one) for one in given]) == 1
    audit, _ = read_audit(out)
    assert verdicts(audit)["updates.codes"] == "leak"
    page = (out / "report.html").read_text()
    assert "of the rare codes of a patient of the sites are read off what was sent, and" in page
    assert "The coordinator, or whoever reads along" in page
    assert "treat what hospitals send as personal data" in page
    assert "treat the model as personal data" not in page
    assert "patients with this property was guessed, without seeing any patient" in page
    capsys.readouterr()
    assert run([str(one) for one in (*given[:-4], "--out", tmp_path / "no", "--search", "--lang", "en")]) == 2
    assert "--search is for classifiers" in " ".join(capsys.readouterr().err.split())
