"""Primum tells what a clinical AI model remembers about its patients: *primum non nocere*.

>>> import primum
>>> round(primum.evidence.auc([0.9, 0.8], [0.1, 0.85]).value, 2)
0.75
"""

from primum import evidence
from primum.evidence.audit import Audit
from primum.evidence.estimate import Estimate
from primum.evidence.finding import Finding
from primum.models.doors import open_model
from primum.records.meds import MedsFolder
from primum.workflows.audit import audit

__all__ = ["Audit", "Estimate", "Finding", "MedsFolder", "audit", "evidence", "open_model"]
