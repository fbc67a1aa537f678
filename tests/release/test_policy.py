"""``release.toml`` and the release card: read as they are meant, refused by file, table and key."""

import random
from pathlib import Path

import pytest
from tests.release.world import PEOPLE, card_text, policy_text, public

from primum.errors import InputError
from primum.release.card import read_card
from primum.release.policy_checks import read_policy

ROOT = Path(__file__).resolve().parents[2]
MINOR = """
[minor_change]
plan = "p"
may_change = ["model.onnx"]
largest_loss = { "performance.auc" = 0.02 }
quorum = 1
"""


def test_a_policy_is_read_with_its_defaults() -> None:
    policy = read_policy(policy_text(MINOR))
    assert {one.name: one.role for one in policy.person} == PEOPLE
    assert policy.approval.phases == ("approved",)
    assert not policy.findings.accept_unsigned
    assert not policy.findings.accept_declared
    assert policy.holder(public("ada")) == policy.person[0]
    assert policy.holder(public("house")) is None
    assert policy.minor_change is not None
    assert policy.minor_change.largest_loss == {"performance.auc": 0.02}
    assert policy.canary.watch().false_rollback == 0.05


def test_the_example_needs_only_its_persons() -> None:
    text = (ROOT / "examples" / "release.toml").read_bytes()
    policy = read_policy(
        text + policy_text().split(b"[approval]")[1].partition(b"\n\n")[2].split(b"[[require]]")[0]
    )
    assert [one.test for one in policy.require if one.certified] == [
        "performance.auc",
        "performance.sensitivity",
    ]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("quorum = 2", ("quorum = 0", "approval: quorum")),
        ("quorum = 2", ("quorum = 4", "approval: quorum")),
        ("quorum = 2", ('quorum = "2"', "approval: quorum must be a whole number")),
        ("quorum = 2", ("quorum = true", "approval: quorum must be a whole number")),
        ("quorum = 2", ("", "approval: the key quorum is missing")),
        ("quorum = 2", ("quorum = 2\nqourum = 2", "approval: the key qourum is unknown")),
        ("quorum = 2", ('quorum = 2\nrequired_roles = ["operator"]', "approval: required_roles")),
        ("quorum = 2", ('quorum = 2\nphases = ["live"]', "approval: phases")),
        ("quorum = 2", ('quorum = 2\nphases = ["gone"]', "approval: phases[0] must be one of")),
        ('"engineering"]', ('"engineering", "nobody"]', "approval: roles")),
        ('"engineering"]', ('"engineering", "operator"]', "operation: roles")),
        ('role = "operator"', ('role = "data_steward"', "operation: roles")),
        ('name = "ben"', ('name = "ada"', "person: name is there twice")),
        ('name = "ben"', ('name = "Dr Ben"', "person: name must be letters")),
        (public("ben"), (public("ada"), "person: key is there twice")),
        (public("ben"), (public("house"), "auditor: key is there twice")),
        (public("ben"), (public("ben").upper(), "person: key is no Ed25519")),
        (public("ben"), ("00", "person: key is no Ed25519")),
        ('bound = "low"', ('bound = "high"', "require[1]: bound")),
        ('bound = "low"', ('bound = "value"', "require[1]: bound must be one of low, high")),
        ("above = 0.8", ("below = 0.8", "require[1]: bound")),
        ("above = 0.8", ("above = 0.8\nbelow = 0.9", "require[1]: bound")),
        ("above = 0.8", ("above = nan", "require[1]: above must be a number")),
        ("above = 0.8", ("value = 0.8", "require[1]: the key value is unknown")),
        ('bound = "low"\nabove = 0.8', ("", "require[1]: verdict")),
        ('["none_found"]', ('["nothing"]', "verdict[0] must be one of leak")),
        ('["none_found"]', ('"none_found"', "require[0]: verdict must be a list")),
        ('test = "performance.auc"', ('test = "*"', "require[1]: test")),
        ('test = "performance.auc"', ('test = "a*b"', "require[1]: test")),
        ('name = "A ward"', ('name = "A ward"\n[canary]\nlargest_share = 0', "canary: largest_share")),
        ('name = "A ward"', ('name = "A ward"\n[canary]\nfalse_rollback = 2', "false_rollback")),
        ('name = "A ward"', ('name = "A ward"\n[test_sets]\nseals = 0', "test_sets: seals")),
        ('name = "A ward"', ('name = "A ward"\n[findings]\nmax_age_days = 0', "findings: max_age_days")),
        ("largest_loss = {", ("largest_loss = {} #", "minor_change: largest_loss")),
        ('may_change = ["model.onnx"]', ("may_change = []", "minor_change: may_change")),
        ("quorum = 1", ("quorum = 9", "minor_change: quorum")),
        ("quorum = 1", ('quorum = 1\ndeclared = ["x"]', "minor_change: declared")),
        ("name", ("[", "is not TOML")),
    ],
)
def test_what_is_wrong_is_named(broken: str, said: tuple[str, str]) -> None:
    text = policy_text(MINOR).decode()
    assert broken in text
    with pytest.raises(InputError) as refused:
        read_policy(text.replace(broken, said[0], 1).encode(), file="ward.toml")
    assert said[1] in str(refused.value)
    if said[1] != "false_rollback":
        assert str(refused.value).startswith("ward.toml")


@pytest.mark.parametrize("seed", range(4))
def test_damaged_policies_and_cards_end_in_a_sentence(seed: int) -> None:
    chance = random.Random(seed)
    for text, read in ((policy_text(MINOR), read_policy), (card_text(), None)):
        for _ in range(150):
            content = bytearray(text)
            for _ in range(chance.randint(1, 4)):
                place = chance.randrange(len(content))
                content[place : place + chance.randint(0, 6)] = chance.choice(
                    [
                        b"",
                        b"\x00",
                        b"\xff",
                        b'"',
                        b"[[",
                        b"1e999",
                        b"9" * 40,
                        "\u202e".encode(),
                        b"true",
                        b"{}",
                    ]
                )
            try:
                read(bytes(content)) if read else read_card(bytes(content), file="card.json")
            except InputError as error:
                assert "\x00" not in str(error)
                assert "\u202e" not in str(error)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"name": "two words"}, "name"),
        ({"version": ""}, "version"),
        ({"intended_use": " "}, "intended_use"),
        ({"authors": []}, "authors"),
        ({"licence": ""}, "licence"),
        ({"receipt": "../receipt.json"}, "receipt"),
        ({"data": ["x"]}, "data"),
        ({"parent": "x"}, "parent"),
        ({"change": "minor"}, "change"),
        ({"change": "minor", "plan": "p"}, "change"),
        ({"factory": "net:make"}, "factory"),
        ({"surprise": 1}, "surprise"),
        ({"authors": "mia"}, "authors"),
    ],
)
def test_cards_that_cannot_be_used(given: dict[str, object], key: str) -> None:
    with pytest.raises(InputError, match=key):
        read_card(card_text(**given), file="card.json")


def test_a_card_is_toml_or_json() -> None:
    text = 'name = "a"\nversion = "1"\nintended_use = "x"\nauthors = ["mia"]\nlicence = "MIT"\n'
    assert read_card(text.encode(), file="card.toml").authors == ("mia",)
    assert read_card(card_text(), file="card.json").authors == ("mia",)
    with pytest.raises(InputError, match="is not TOML"):
        read_card(card_text(), file="card.toml")
