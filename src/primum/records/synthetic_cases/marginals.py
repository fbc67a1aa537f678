"""What synthetic cases look like, in a table: ``python -m primum.records.synthetic_cases``."""

import numpy as np

from primum.records.cases import Cases
from primum.records.synthetic_cases.images import synthetic_images
from primum.records.synthetic_cases.people import SITES, SKIN_TYPES


def marginals_table(*, seed: int) -> str:
    """Describe 2,000 patients of the default images, as a Markdown table."""
    cases = synthetic_images(2_000, seed=seed)
    _, first, number = np.unique(cases.subject_ids, return_index=True, return_counts=True)
    known = cases.attributes
    rows = [
        ("patients", f"{len(number):,}"),
        ("cases", f"{len(cases):,}"),
        ("patients with 1, 2, 3, 4 cases", _shares([(number == k).mean() for k in range(1, 5)])),
        ("cases that are ill", f"{cases.labels.mean():.1%}"),
        ("of patients with several cases, ill at some and not at others", f"{_mixed(cases):.1%}"),
        ("age at the first case: mean (5th, 50th, 95th percentile)", _spread(known["age"][first])),
        ("ill below 45, 45 to 64, from 65 years", _shares(_ill_by_age(cases))),
        ("`sex` F, of patients", f"{(known['sex'][first] == 'F').mean():.1%}"),
        ("`site` A, B, C", _shares([(known["site"][first] == one).mean() for one in SITES])),
        ("`skin_type` I to VI", _shares([(known["skin_type"][first] == one).mean() for one in SKIN_TYPES])),
        (
            "`device`, `practitioner`: how many",
            f"{_distinct(cases, 'device')}, {_distinct(cases, 'practitioner')}",
        ),
        ("`date`", f"{known['date'].min()} to {known['date'].max()}"),
    ]
    return "\n".join(["| what | figure |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _mixed(cases: Cases) -> float:
    ill = np.bincount(cases.subject_ids, cases.labels)
    number = np.bincount(cases.subject_ids)
    return float(((ill > 0) & (ill < number))[number > 1].mean())


def _ill_by_age(cases: Cases) -> list[float]:
    band = np.digitize(cases.attributes["age"], [45, 65])
    return [float(cases.labels[band == one].mean()) for one in range(3)]


def _distinct(cases: Cases, name: str) -> int:
    return len(np.unique(cases.attributes[name]))


def _spread(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"{values.mean():.1f} ({low:.0f}, {middle:.0f}, {high:.0f})"


def _shares(values: list[float]) -> str:
    return ", ".join(f"{value:.1%}" for value in values)
