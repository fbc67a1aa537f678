"""The registry on disk: crashes, writers at once, and hands that alter it."""

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.release.bench import digest_of
from tests.release.world import Ward, clean, finding, key_of, policy_text, public

from primum.errors import InputError, MachineError, PrimumError
from primum.evidence.canonical import canonical_bytes
from primum.release import acts
from primum.release.against_trail import compare
from primum.release.event import Registered, Stepped
from primum.release.intake import register, take_findings
from primum.release.registry import Registry
from primum.release.routing import Serving, ServingFile


def ready(root: Path, name: str = "a") -> tuple[Ward, str]:
    """A registry with a model that two members approved."""
    ward = Ward(root).begin(policy_text())
    return ward, admitted(ward, name)


def admitted(ward: Ward, name: str, *, upto: tuple[str, ...] = ()) -> str:
    folder = ward.model(name)
    digest = register(ward.registry, folder, ward.card(f"card-{name}", version=name))
    take_findings(
        ward.registry, ward.audit(f"audit-{name}", folder, clean()), key_of("house").public_key(), by="otto"
    )
    acts.decide(ward.registry, digest, by="otto")
    for who in ("ada", "ben"):
        acts.cast(ward.registry, digest, "approve", key=key_of(who))
    for action in upto:
        share = 0.2 if action == "canary" else None
        acts.step(ward.registry, digest, action, key=key_of("otto"), share=share)  # type: ignore[arg-type]
    return digest


def test_a_release_from_candidate_to_rollback_holds_for_the_next_request(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    first = admitted(ward, "a", upto=("admit", "shadow", "live"))
    second = admitted(ward, "b", upto=("admit", "shadow", "canary"))
    file = ServingFile(tmp_path / "registry" / "serving.json")
    assert file.now() == Serving(live=first, canary=second, share=0.2)
    acts.step(
        ward.registry, second, "roll_back", by="watch", reason="error_rate", statistic="0.1", patients=160
    )
    assert file.now() == Serving(live=first, rolled_back=second)
    # Another process, later.
    assert ward.again().serving() == file.now()
    last = ward.trail.entries[-1]
    assert (last.kind, last.by, last.model) == ("release.rollback", "watch", second)
    assert {name: last.details[name] for name in ("before", "after", "reason", "statistic", "patients")} == {
        "before": "canary",
        "after": "rolled_back",
        "reason": "error_rate",
        "statistic": "0.1",
        "patients": 160,
    }


def test_a_canary_goes_live_replaces_and_what_it_replaced_comes_back(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    first = admitted(ward, "a", upto=("admit", "shadow", "live"))
    second = admitted(ward, "b", upto=("admit", "shadow", "canary", "live"))
    models = ward.registry.standing.models
    assert (models[first].state, models[second].state) == ("retired", "live")
    assert ward.trail.entries[-1].details["replaces"] == first
    acts.step(ward.registry, second, "roll_back", by="ward7", reason="wrong on children")
    assert ward.registry.serving() == Serving(live=first, rolled_back=second)
    assert ward.trail.entries[-1].details["to"] == first
    # And when that one fails too, nobody is left.
    acts.step(ward.registry, first, "roll_back", by="ward7", reason="worse")
    assert ward.registry.serving() == Serving(rolled_back=first)


def test_what_was_retired_by_hand_or_lost_its_signatures_does_not_come_back(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    first = admitted(ward, "a", upto=("admit", "shadow", "live"))
    second = admitted(ward, "b", upto=("admit", "shadow", "canary", "live"))
    acts.cast(ward.registry, first, "revoke", key=key_of("ada"), comment="never again")
    assert ward.registry.standing.models[first].broken
    acts.step(ward.registry, second, "roll_back", by="ward7", reason="wrong")
    assert ward.registry.serving() == Serving(rolled_back=second)


def test_who_was_reopened_and_retired_by_hand_does_not_come_back(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    first = admitted(ward, "a", upto=("admit", "shadow", "live"))
    second = admitted(ward, "b", upto=("admit", "shadow", "canary", "live"))
    for action in ("reopen", "retire"):
        acts.step(ward.registry, first, action, key=key_of("otto"))
    acts.step(ward.registry, second, "roll_back", by="ward7", reason="wrong")
    assert ward.registry.serving() == Serving(rolled_back=second)


def test_a_model_that_was_rolled_back_may_come_again_with_new_signatures(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    first = admitted(ward, "a", upto=("admit", "shadow", "live"))
    second = admitted(ward, "b", upto=("admit", "shadow", "canary"))
    acts.step(ward.registry, second, "roll_back", by="ward7", reason="wrong")
    acts.step(ward.registry, second, "reopen", key=key_of("otto"))
    with pytest.raises(InputError, match="too few approvals"):
        acts.step(ward.registry, second, "admit", key=key_of("otto"))
    ward.time.pass_days(1)
    acts.decide(ward.registry, second, by="otto")
    for who in ("ada", "cleo"):
        acts.cast(ward.registry, second, "approve", key=key_of(who))
    for action in ("admit", "shadow"):
        acts.step(ward.registry, second, action, key=key_of("otto"))
    acts.step(ward.registry, second, "canary", key=key_of("otto"), share=0.1)
    assert ward.registry.serving() == Serving(live=first, canary=second, share=0.1)


def test_a_live_model_that_ends_takes_its_canary_along(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    first = admitted(ward, "a", upto=("admit", "shadow", "live"))
    second = admitted(ward, "b", upto=("admit", "shadow", "canary"))
    acts.step(ward.registry, first, "retire", key=key_of("otto"))
    assert ward.registry.serving() == Serving(rolled_back=second)
    assert ward.trail.entries[-1].details["ends"] == second


def test_a_revocation_ends_a_canary_and_warns_of_a_live_model(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    first = admitted(ward, "a", upto=("admit", "shadow", "live"))
    second = admitted(ward, "b", upto=("admit", "shadow", "canary"))
    acts.cast(ward.registry, second, "revoke", key=key_of("ada"))
    assert ward.registry.serving() == Serving(live=first, rolled_back=second)
    assert ward.trail.entries[-1].details["after"] == "rolled_back"
    acts.cast(ward.registry, first, "revoke", key=key_of("ben"))
    assert ward.registry.standing.models[first].broken
    assert ward.registry.serving().live == first


def test_changed_bytes_stop_every_step(tmp_path: Path) -> None:
    ward, digest = ready(tmp_path)
    file = ward.registry.artefact(digest) / "model.onnx"
    file.write_bytes(b"other weights")
    with pytest.raises(InputError, match=r"model.onnx of the registered model .* was altered"):
        acts.step(ward.registry, digest, "admit", key=key_of("otto"))
    (ward.registry.artefact(digest) / "more.json").write_text("{}")
    file.write_bytes(b"weights of a")
    with pytest.raises(InputError, match=r"more.json of the registered model"):
        acts.step(ward.registry, digest, "admit", key=key_of("otto"))


def test_the_trail_comes_first_and_its_refusal_changes_nothing(tmp_path: Path) -> None:
    ward, digest = ready(tmp_path)
    before = {one: one.read_bytes() for one in (tmp_path / "registry").rglob("*.json")}
    ward.trail.refuses = MachineError("The disk is full.")
    with pytest.raises(MachineError, match="disk is full"):
        acts.step(ward.registry, digest, "admit", key=key_of("otto"))
    assert {one: one.read_bytes() for one in (tmp_path / "registry").rglob("*.json")} == before
    assert ward.again().standing.models[digest].state == "candidate"
    with pytest.raises(InputError, match="give --trail"):
        acts.decide(Registry(tmp_path / "registry"), digest, by="otto")


CRASH = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.release.world import Ward, Remembered, Time, key_of
from primum.release import acts
from primum.release.against_trail import compare
from primum.release.registry import Registry

class Dies(Remembered):
    def append(self, entry):
        if sys.argv[4] == "after":
            Path(sys.argv[5]).write_text(str(entry.details["event"]))
        os._exit(9)

registry = Registry(Path(sys.argv[2]), Dies(), clock=Time())
acts.step(registry, sys.argv[3], "admit", key=key_of("otto"))
"""
ROOT = str(Path(__file__).resolve().parents[2])


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_the_trail_it_is_carried_through(tmp_path: Path, when: str) -> None:
    ward, digest = ready(tmp_path)
    said = tmp_path / "trail.txt"
    arguments = [ROOT, str(tmp_path / "registry"), digest, when, str(said)]
    killed = subprocess.run([sys.executable, "-c", CRASH, *arguments], check=False)
    assert killed.returncode == 9
    reader = Registry(tmp_path / "registry")
    assert reader.standing.models[digest].state == "candidate"
    assert reader.serving() == Serving()
    registry = ward.again()
    registry.repair()
    assert registry.standing.models[digest].state == "approved"
    assert not (tmp_path / "registry" / "pending.json").exists()
    last = ward.trail.entries[-1]
    assert (last.kind, last.details["after"]) == ("release.state", "approved")
    if when == "after":
        # The trail has it twice, under one digest: it happened once.
        assert said.read_text() == last.details["event"]


def test_a_crash_between_history_and_file_is_mended_by_the_next_writer(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    live = admitted(ward, "a", upto=("admit", "shadow"))
    old = (tmp_path / "registry" / "serving.json").read_bytes()
    acts.step(ward.registry, live, "live", key=key_of("otto"))
    last = ward.registry.history()[-1].event
    (tmp_path / "registry" / "serving.json").write_bytes(old)
    (tmp_path / "registry" / "pending.json").write_bytes(canonical_bytes(last))
    entries = len(ward.trail.entries)
    assert ward.again().serving().live == live
    ward.again().repair()
    assert Serving.read(tmp_path / "registry" / "serving.json").live == live
    assert len(ward.trail.entries) == entries


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.release.world import Remembered, Time
from primum.release import acts
from primum.release.against_trail import compare
from primum.release.registry import Registry

registry = Registry(Path(sys.argv[2]), Remembered(), clock=Time())
for _ in range(4):
    acts.decide(registry, sys.argv[3], by=sys.argv[4])
"""


def test_writers_at_once_wait_for_each_other(tmp_path: Path) -> None:
    ward, digest = ready(tmp_path)
    before = len(ward.registry.history())
    arguments = [ROOT, str(tmp_path / "registry"), digest]
    running = [subprocess.Popen([sys.executable, "-c", WRITER, *arguments, f"w{n}"]) for n in range(3)]
    assert [one.wait() for one in running] == [0, 0, 0]
    events = [one.event for one in ward.registry.history()]
    assert len(events) == before + 12
    assert sorted(one.by for one in events[before:]) == ["w0"] * 4 + ["w1"] * 4 + ["w2"] * 4


def test_a_copy_reads_as_the_original(tmp_path: Path) -> None:
    ward, _ = ready(tmp_path)
    shutil.copytree(tmp_path / "registry", tmp_path / "copy")
    (tmp_path / "copy" / "lock.sqlite").unlink()
    assert Registry(tmp_path / "copy").standing == ward.registry.standing


def test_every_altered_file_is_named(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    admitted(ward, "a", upto=("admit", "shadow", "live"))
    root = tmp_path / "registry"
    chance = random.Random(0)
    # What a decision rests on is read when a registry is opened; reports of audits are not kept.
    files = [
        *sorted((root / "history").iterdir()),
        *sorted((root / "documents").iterdir()),
        root / "serving.json",
    ]
    for file in files:
        content = bytearray(whole := file.read_bytes())
        place = chance.randrange(len(content))
        content[place] ^= 1 << chance.randrange(7)
        file.write_bytes(content)
        with pytest.raises(InputError) as refused:
            Registry(root).serving()
        assert file.name[:12] in str(refused.value), (file, str(refused.value))
        file.write_bytes(whole)
    assert Registry(root).serving().live is not None


def test_events_cannot_be_taken_out_of_the_middle(tmp_path: Path) -> None:
    ward, _ = ready(tmp_path)
    del ward
    (tmp_path / "registry" / "history" / "00000003.json").unlink()
    with pytest.raises(InputError, match=r"00000004.json follows an event that is missing"):
        Registry(tmp_path / "registry")


@pytest.mark.parametrize("action", ["admit", "shadow", "live"])
def test_a_release_forged_into_the_history_cannot_be_opened(tmp_path: Path, action: str) -> None:
    """Somebody with the disk, and even the operator's key, but not the committee's."""
    ward = Ward(tmp_path).begin(policy_text())
    digest = register(ward.registry, ward.model("a"), ward.card())
    last = ward.registry.history()[-1]
    forged = replace(
        last.event,
        number=last.event.number + 1,
        previous=last.event.digest,
        kind="step",
        body=Stepped(digest, action),  # type: ignore[arg-type]
    )
    file = tmp_path / "registry" / "history" / f"{forged.number:08d}.json"
    file.write_bytes(canonical_bytes({"event": forged, "position": last.position}))
    with pytest.raises(InputError, match=rf"history/{file.name} holds what could not happen"):
        Registry(tmp_path / "registry")


def test_a_model_cannot_be_given_other_files_by_its_digest(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    register(ward.registry, ward.model("a"), ward.card())
    last = ward.registry.history()[-1]
    assert isinstance(last.event.body, Registered)
    other = {**last.event.body.files, "model.onnx": "0" * 64}
    forged = replace(last.event, body=replace(last.event.body, files=other))
    file = tmp_path / "registry" / "history" / f"{forged.number:08d}.json"
    file.write_bytes(canonical_bytes({"event": forged, "position": last.position}))
    with pytest.raises(InputError, match="gives a model other files"):
        Registry(tmp_path / "registry")


@pytest.mark.parametrize("seed", range(3))
def test_damaged_histories_end_in_a_sentence(tmp_path: Path, seed: int) -> None:
    ready(tmp_path)
    chance, root = random.Random(seed), tmp_path / "registry"
    files = sorted((root / "history").iterdir())
    for _ in range(60):
        file = chance.choice(files)
        whole = file.read_bytes()
        document = json.loads(whole)
        _spoil(document, chance)
        file.write_bytes(
            json.dumps(document).encode() if chance.random() < 0.8 else whole[: chance.randrange(400)]
        )
        try:
            Registry(root)
        except PrimumError as error:
            assert error.exit_status == 2
        file.write_bytes(whole)


def _spoil(document: dict[str, object], chance: random.Random) -> None:
    """Change one value somewhere in a document."""
    place: object = document
    while isinstance(place, dict) and place:
        key = chance.choice(sorted(place))
        if not isinstance(place[key], dict) or chance.random() < 0.2:
            place[key] = chance.choice(
                [None, 1, -1, 1e300, "", "x" * 64, "0" * 64, [], {}, [None], True, "\ud800"]
            )
            return
        place = place[key]


def test_the_trail_shows_what_was_cut_off_and_forgives_what_it_has_twice(tmp_path: Path) -> None:
    ward, _ = ready(tmp_path)
    history = ward.registry.history()
    written = [(0, number, str(one.details["event"])) for number, one in enumerate(ward.trail.entries)]
    assert compare(history, written).agrees
    # Carried through after a crash, an event is there twice; the registry knows the second place.
    assert compare(history, [*written, (0, len(written), written[-1][2])]).agrees
    assert compare(history[:-2], written).lost == (len(written) - 2, len(written) - 1)
    assert compare(history, written[:-1]).missing == (history[-1].event.number,)
    swapped = [*written[:-2], (0, len(written) - 2, written[-1][2]), (0, len(written) - 1, written[-2][2])]
    assert compare(history, swapped).missing == (history[-2].event.number, history[-1].event.number)


def test_models_are_found_by_digest_or_name(tmp_path: Path) -> None:
    ward, digest = ready(tmp_path)
    assert ward.registry.find(digest[:6]).digest == digest
    assert ward.registry.find("chest:a").digest == digest
    for said in (digest[:5], "chest:b", "", "zzzzzz"):
        with pytest.raises(InputError, match="names 0 models"):
            ward.registry.find(said)
    admitted(ward, "b")
    register(ward.registry, tmp_path / "b", ward.card("card-c", version="a"))
    with pytest.raises(InputError, match="names 2 models"):
        ward.registry.find("chest:a")


def test_another_policy_needs_the_quorum_of_the_one_in_force(tmp_path: Path) -> None:
    ward, digest = ready(tmp_path)
    lax = policy_text().replace(b"quorum = 2", b"quorum = 1")
    with pytest.raises(InputError, match="knows nobody with this key"):
        acts.adopt(ward.registry, lax, key=key_of("stranger"))
    with pytest.raises(InputError, match="does not approve"):
        acts.adopt(ward.registry, lax, key=key_of("otto"))
    assert not acts.adopt(ward.registry, lax, key=key_of("ada"))
    assert not acts.adopt(ward.registry, lax, key=key_of("ada"), comment="please")
    assert acts.adopt(ward.registry, lax, key=key_of("cleo"))
    with pytest.raises(InputError, match="too few approvals"):
        acts.step(ward.registry, digest, "admit", key=key_of("otto"))
    acts.decide(ward.registry, digest, by="otto")
    acts.cast(ward.registry, digest, "approve", key=key_of("ben"))
    assert acts.step(ward.registry, digest, "admit", key=key_of("otto")).models[digest].state == "approved"
    # Back to the first: the old signatures for the lax one do not serve again.
    ward.time.pass_days(1)
    assert acts.adopt(ward.registry, policy_text(), key=key_of("ben"))
    assert not acts.adopt(ward.registry, lax, key=key_of("ben"), comment="again")


def test_the_author_cannot_approve_nor_who_registered_with_a_key(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    folder = ward.model("a")
    digest = register(ward.registry, folder, ward.card(authors=["Ada"]), key=key_of("ben"))
    take_findings(
        ward.registry, ward.audit("audit", folder, clean()), key_of("house").public_key(), by="otto"
    )
    acts.decide(ward.registry, digest, by="otto")
    for who in ("ada", "ben"):
        with pytest.raises(InputError, match=f"{who} is an author"):
            acts.cast(ward.registry, digest, "approve", key=key_of(who))
    # Another card does not make an author a stranger.
    register(ward.registry, folder, ward.card("card2", authors=["mia"]))
    with pytest.raises(InputError, match="ada is an author"):
        acts.decide(ward.registry, digest, by="otto")
        acts.cast(ward.registry, digest, "approve", key=key_of("ada"))
    acts.cast(ward.registry, digest, "reject", key=key_of("ada"), comment="my own model, and still no")


def test_an_approval_needs_a_decision_that_passes(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    folder = ward.model("a")
    digest = register(ward.registry, folder, ward.card())
    with pytest.raises(InputError, match="There is no decision"):
        acts.cast(ward.registry, digest, "approve", key=key_of("ada"))
    acts.decide(ward.registry, digest, by="otto")
    with pytest.raises(InputError, match="a decision that fails"):
        acts.cast(ward.registry, digest, "approve", key=key_of("ada"))
    leak = [finding("membership.combined.auc", "leak"), clean()[1]]
    take_findings(ward.registry, ward.audit("audit", folder, leak), key_of("house").public_key(), by="otto")
    with pytest.raises(InputError, match="There is no decision"):
        acts.cast(ward.registry, digest, "approve", key=key_of("ada"))


def test_a_canary_stays_as_long_and_as_small_as_the_policy_says(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text("[canary]\nfewest_days = 7\nlargest_share = 0.3\n"))
    admitted(ward, "a", upto=("admit", "shadow", "live"))
    second = admitted(ward, "b", upto=("admit", "shadow"))
    for share in (0.31, 0.0, -0.1, None):
        with pytest.raises(InputError, match="share of a canary"):
            acts.step(ward.registry, second, "canary", key=key_of("otto"), share=share)
    acts.step(ward.registry, second, "canary", key=key_of("otto"), share=0.1)
    ward.time.pass_days(4)
    acts.step(ward.registry, second, "canary", key=key_of("otto"), share=0.3)
    with pytest.raises(InputError, match="7 days as a canary"):
        acts.step(ward.registry, second, "live", key=key_of("otto"))
    ward.time.pass_days(3)
    assert acts.step(ward.registry, second, "live", key=key_of("otto")).serving() == Serving(live=second)


def test_one_shadow_and_one_canary_at_a_time(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    admitted(ward, "a", upto=("admit", "shadow", "live"))
    admitted(ward, "b", upto=("admit", "shadow"))
    third = admitted(ward, "c", upto=("admit",))
    with pytest.raises(InputError, match="is shadow already"):
        acts.step(ward.registry, third, "shadow", key=key_of("otto"))


def test_where_the_trail_refuses_no_registry_is_left(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    ward.trail.refuses = MachineError("The disk is full.")
    with pytest.raises(MachineError):
        ward.begin(policy_text())
    assert not (tmp_path / "registry").exists()
    ward.trail.refuses = None
    assert ward.begin(policy_text()).registry.serving() == Serving()


READER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from primum.release.registry import Registry

registry = Registry(Path(sys.argv[2]))
print("reading", flush=True)
while len(registry.history()) < int(sys.argv[3]):
    registry.serving()
    Registry(Path(sys.argv[2])).serving()
"""


def test_who_reads_while_others_write_is_never_told_that_it_was_altered(tmp_path: Path) -> None:
    ward = Ward(tmp_path).begin(policy_text())
    admitted(ward, "a", upto=("admit", "shadow", "live"))
    second = admitted(ward, "b", upto=("admit", "shadow"))
    last = len(ward.registry.history()) + 24
    arguments = [ROOT, str(tmp_path / "registry"), str(last)]
    with subprocess.Popen([sys.executable, "-c", READER, *arguments], stdout=subprocess.PIPE) as reading:
        assert reading.stdout is not None
        reading.stdout.readline()
        for turn in range(24):
            share = 0.1 + 0.01 * turn
            acts.step(ward.registry, second, "canary", key=key_of("otto"), share=share)
        assert reading.wait() == 0


def test_a_registry_is_made_in_a_new_folder_only(tmp_path: Path) -> None:
    Ward(tmp_path).begin(policy_text())
    with pytest.raises(InputError, match="not empty"):
        Ward(tmp_path).begin(policy_text())
    with pytest.raises(InputError, match="is no registry"):
        Registry(tmp_path)
    assert digest_of("a") != public("a")
