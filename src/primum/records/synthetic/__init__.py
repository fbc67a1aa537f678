"""The seeded synthetic EHR cohort: invented patients for demonstrations and studies."""

from primum.records.synthetic.cohort import Cohort, catalogue_codes, synthetic_cohort
from primum.records.synthetic.draw import synthetic_patients
from primum.records.synthetic.settings import Origin, SyntheticSettings

__all__ = [
    "Cohort",
    "Origin",
    "SyntheticSettings",
    "catalogue_codes",
    "synthetic_cohort",
    "synthetic_patients",
]
