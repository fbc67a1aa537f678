import re
import tomllib
from importlib.resources import files

import pytest

from primum.records.families import built_in, families_of, is_demographic


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
        ("MEDICATION//ATC//J05AR06", {"hiv"}),
        ("ATC//J05AF01", {"hiv"}),
        ("ATC//J05AF05", set()),
        ("ATC//J05AF10", {"hepatitis_viral"}),
        ("ATC//J05AP55", {"hepatitis_viral"}),
        ("ATC//J05AE30", set()),
        ("ATC//N05AX12", {"mental_health"}),
        ("ATC//N05AD08", set()),
        ("ATC//N05AB04", set()),
        ("ATC//N07BC02", {"substance_use"}),
        ("ATC//N07BA01", set()),
        ("ATC//G03XB01", {"pregnancy_loss_or_termination"}),
        ("ATC//L01BA01", set()),
        ("ATC//L01CD01", {"cancer"}),
        ("PROCEDURE//CCAM//JNJP001", {"pregnancy_loss_or_termination"}),
        ("CCAM//JNJD002-01", {"pregnancy_loss_or_termination"}),
        ("CCAM//JNMD001", set()),
        ("SNOMED//86406008", {"hiv"}),
        ("SNOMEDCT:7200002", {"substance_use"}),
        # Numbers of SNOMED stand for themselves alone.
        ("SNOMED//864060081", set()),
        ("SNOMED//8640600", set()),
        ("RXNORM//86406008", set()),
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


def check_digit_fits(number: str) -> bool:
    """Verhoeff's check (Mathematical Centre Tracts 29, 1969), which every identifier of SNOMED passes."""
    turn = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
    total = 0
    for place, digit in enumerate(map(int, reversed(number))):
        for _ in range(place % 8):
            digit = turn[digit]
        # Two symmetries of a pentagon, 0 to 4 rotations and 5 to 9 reflections, one after the other.
        rotation = total % 5 + (digit if total < 5 else -digit)
        total = rotation % 5 + 5 * ((total < 5) != (digit < 5))
    return total == 0


def test_snomed_numbers_are_well_formed_and_in_one_family() -> None:
    content = tomllib.loads(files("primum.records").joinpath("sensitive_families.toml").read_text("utf-8"))
    numbers = [number for systems in content.values() for number in systems.get("SNOMED", ())]
    assert [number for number in numbers if not check_digit_fits(number)] == []
    assert len(set(numbers)) == len(numbers) > 80
    assert not check_digit_fits("86406009")
    assert not check_digit_fits("84606008")


def test_shapes_of_atc_and_ccam() -> None:
    shapes = {"ATC": r"[A-Z]\d\d[A-Z]([A-Z](\d\d)?)?", "CCAM": r"[A-Z]{4}\d{3}"}
    for systems in built_in().values():
        for system, shape in shapes.items():
            assert all(re.fullmatch(shape, end) for entry in systems.get(system, ()) for end in entry)


def test_shape_over_a_dictionary() -> None:
    found = families_of(("A", "DIAGNOSIS//ICD10//B20", "B"))
    assert found["hiv"].tolist() == [False, True, False]
    assert all(len(mask) == 0 for mask in families_of(()).values())


def test_demographic_codes_say_who_not_what() -> None:
    assert all(is_demographic(code) for code in ("GENDER//F", "Gender/F", "SITE//A", "RACE//x", "MEDS_BIRTH"))
    assert not any(is_demographic(code) for code in ("MEDS_DEATH", "SITEMAP", "LAB//SEX//1", "SEXUAL//x"))
