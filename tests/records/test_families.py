import tomllib
from importlib.resources import files

import pytest

from primum.records.families import families_of, is_demographic


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("DIAGNOSIS//ICD9CM//042", {"hiv"}),
        ("DIAGNOSIS//ICD9CM//0429", {"hiv"}),
        ("DIAGNOSIS//ICD10//B20", {"hiv"}),
        ("DIAGNOSIS//ICD//10//B20", {"hiv"}),
        ("DIAGNOSIS//ICD//9//V08", {"hiv"}),
        ("DIAGNOSIS//CIM10//B24", {"hiv"}),
        ("ICD10CM/F10.2", {"substance_use"}),
        ("ICD10CM:F17.2", set()),
        ("DIAGNOSIS//ICD10CM//f32.9", {"mental_health"}),
        ("DIAGNOSIS//ICD9CM//3051", set()),
        ("DIAGNOSIS//ICD9CM//30500", {"substance_use"}),
        ("DIAGNOSIS//ICD9CM//07054", {"hepatitis_viral"}),
        ("DIAGNOSIS//ICD10CM//A53.9", {"sexual_health"}),
        ("DIAGNOSIS//ICD10CM//O04.8", {"pregnancy_loss_or_termination"}),
        ("DIAGNOSIS//ICD9CM//1749", {"cancer"}),
        ("DIAGNOSIS//ICD9CM//2113", set()),
        ("DIAGNOSIS//ICD10CM//C50.9//PRIMARY", {"cancer"}),
        ("DIAGNOSIS//ICD10CM//D12.6", set()),
        ("DIAGNOSIS//ICD9CM//99581", {"violence"}),
        ("DIAGNOSIS//ICD9CM//99591", set()),
        ("DIAGNOSIS//ICD10CM//E11.9", set()),
        # The same digits in another system say something else.
        ("PROCEDURE//ICD9CM//0421", set()),
        ("PROCEDURE//ICD9PCS//042", set()),
        ("PROCEDURE//ICD9PCS//69.51", {"pregnancy_loss_or_termination"}),
        ("PROCEDURE//ICD10PCS//10A07Z6", {"pregnancy_loss_or_termination"}),
        ("LAB//042", set()),
        ("MEDICATION//ATC//B20", set()),
        ("ICD10CM", set()),
        ("", set()),
    ],
)
def test_families_of_a_code(code: str, expected: set[str]) -> None:
    assert {name for name, found in families_of((code,)).items() if found[0]} == expected


def test_every_family_has_both_editions_and_its_entries_are_codes() -> None:
    content = tomllib.loads(files("primum.records").joinpath("sensitive_families.toml").read_text("utf-8"))
    for systems in content.values():
        assert {"ICD9CM", "ICD10"} <= set(systems)
        for entries in systems.values():
            for entry in entries:
                low, _, high = entry.partition("-")
                assert low.isalnum()
                assert low == low.upper()
                assert not high or (len(low) == len(high) and low < high)


def test_shape_over_a_dictionary() -> None:
    found = families_of(("A", "DIAGNOSIS//ICD10//B20", "B"))
    assert found["hiv"].tolist() == [False, True, False]
    assert all(len(mask) == 0 for mask in families_of(()).values())


def test_demographic_codes_say_who_not_what() -> None:
    assert all(is_demographic(code) for code in ("GENDER//F", "Gender/F", "SITE//A", "RACE//x", "MEDS_BIRTH"))
    assert not any(is_demographic(code) for code in ("MEDS_DEATH", "SITEMAP", "LAB//SEX//1", "SEXUAL//x"))
