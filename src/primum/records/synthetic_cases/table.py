"""Emergency admissions as rows of a table: vitals, laboratory values, codes, and one sensitive answer."""

import json
from typing import NamedTuple

import numpy as np

from primum.records.cases import Cases
from primum.records.histories import FloatArray
from primum.records.synthetic_cases.people import ORDINARY, CaseSettings, Visits, draw_cases

TABLE_CLASSES = ("stable", "deteriorates")
_MARK = 0x746162


class _Number(NamedTuple):
    """A measured value: usual mean, its spread, shift in the worst illness, bounds, share missing."""

    name: str
    usual: float
    spread: float
    shift: float
    low: float
    high: float
    missing: float = 0.0
    decimals: int = 0


_NUMBERS = (
    _Number("heart_rate", 82, 12, 26, 30, 220),
    _Number("systolic_pressure", 132, 16, -28, 50, 260),
    _Number("diastolic_pressure", 76, 10, -14, 20, 160),
    _Number("respiratory_rate", 17, 2.5, 8, 6, 60),
    _Number("temperature", 36.9, 0.5, 0.9, 32, 42, decimals=1),
    _Number("oxygen_saturation", 97, 1.5, -6, 60, 100),
    _Number("weight", 76, 15, 0, 30, 220, 0.1, 1),
    _Number("height", 170, 9, 0, 130, 215, 0.2),
    _Number("haemoglobin", 13.4, 1.5, -1.2, 4, 21, 0.05, 1),
    _Number("white_cells", 8.2, 2.2, 5.5, 0.5, 60, 0.05, 1),
    _Number("platelets", 250, 60, -40, 10, 900, 0.05),
    _Number("sodium", 139, 3, -3, 110, 170, 0.05),
    _Number("potassium", 4.2, 0.4, 0.4, 2, 8, 0.05, 1),
    _Number("creatinine", 86, 22, 60, 20, 900, 0.05),
    _Number("c_reactive_protein", 22, 15, 95, 0, 500, 0.1),
    _Number("lactate", 1.4, 0.5, 2.2, 0.2, 20, 0.3, 1),
)
_CATEGORIES = {
    "sex": ("M", "F"),
    "arrival": ("walk_in", "ambulance", "transfer"),
    "complaint": ("abdominal_pain", "chest_pain", "dyspnoea", "fall", "fever", "weakness"),
    "chronic_code": ("E11", "I10", "I50", "J44", "N18", "none"),
}
_FLAGS = ("diabetes", "smoker", "anticoagulant", "substance_use")
# More common among the severely ill, so that the answer can be guessed in part.
_FLAG_SHARES, _FLAG_SHIFTS = np.array([0.18, 0.22, 0.12, 0.08]), np.array([0.1, 0.06, 0.05, 0.12])


def synthetic_table(patients: int, *, seed: int, settings: CaseSettings = ORDINARY) -> Cases:
    """Draw emergency admissions, float64, shape (n, 38), NaN where missing, as :func:`table_schema` says.

    See :func:`draw_cases`.
    """
    return draw_cases(patients, seed=seed, mark=_MARK, draw=lambda v, rng: _rows(v, rng, settings))


def _rows(visits: Visits, rng: np.random.Generator, settings: CaseSettings) -> FloatArray:
    """Usual values and chronic conditions are the patient's own."""
    mine, count = visits.patient, len(visits.patient)
    ill = 0.6 * visits.severity / settings.difficulty
    usual, spread, shift, low, high, missing = np.array([one[1:7] for one in _NUMBERS]).T
    own = rng.standard_normal((visits.patients, len(_NUMBERS)))[mine]
    values = usual + spread * (0.8 * own + 0.6 * rng.standard_normal(own.shape)) + shift * ill[:, None]
    values = values.clip(low, high)
    for place, one in enumerate(_NUMBERS):
        values[:, place] = values[:, place].round(one.decimals)
    values[rng.random(values.shape) < missing] = np.nan
    flags = rng.random((visits.patients, len(_FLAGS)))[mine] < _FLAG_SHARES + _FLAG_SHIFTS * ill[:, None]
    categories = {
        "sex": visits.female,
        "arrival": np.floor(2 * rng.random(count) + 0.6 * ill).clip(0, 2),
        "complaint": rng.integers(6, size=count),
        "chronic_code": rng.integers(6, size=visits.patients)[mine],
    }
    one_hot = [np.eye(len(_CATEGORIES[name]))[np.asarray(one, int)] for name, one in categories.items()]
    return np.column_stack([visits.age, values, *one_hot, flags]).astype(np.float64)


def table_schema() -> str:
    """Return the ``schema.toml`` of the table: 25 features, of which substance_use is sensitive."""
    lines = ["[age]", 'kind = "number"', "minimum = 18", "maximum = 130"]
    for one in _NUMBERS:
        lines += [f"[{one.name}]", 'kind = "number"', f"minimum = {one.low}", f"maximum = {one.high}"]
        lines += ["missing = true"] * (one.missing > 0)
    for name, values in _CATEGORIES.items():
        lines += [f"[{name}]", 'kind = "category"', f"values = {json.dumps(values)}"]
    for name in _FLAGS:
        lines += [f"[{name}]", 'kind = "boolean"'] + ["sensitive = true"] * (name == "substance_use")
    return "\n".join(lines) + "\n"
