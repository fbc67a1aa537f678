"""Primum tells what a clinical AI model remembers about its patients: *primum non nocere*.

>>> import primum
>>> round(primum.evidence.auc([0.9, 0.8], [0.1, 0.85]).value, 2)
0.75
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from primum import evidence
    from primum.evidence.audit import Audit
    from primum.evidence.estimate import Estimate
    from primum.evidence.finding import Finding
    from primum.models.doors import open_model
    from primum.records.meds import MedsFolder
    from primum.workflows.audit import audit
    from primum.workflows.classifier_command import audit_classifier
else:
    # Loaded on first use, so that the command line answers at once and hears Ctrl-C.
    _HOMES = {
        "Audit": "evidence.audit",
        "Estimate": "evidence.estimate",
        "Finding": "evidence.finding",
        "MedsFolder": "records.meds",
        "audit": "workflows.audit",
        "audit_classifier": "workflows.classifier_command",
        "open_model": "models.doors",
    }

    def __getattr__(name: str) -> object:
        if name == "evidence":
            return import_module("primum.evidence")
        if name in _HOMES:
            return getattr(import_module(f"primum.{_HOMES[name]}"), name)
        raise AttributeError(f"module 'primum' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return __all__


__all__ = [
    "Audit",
    "Estimate",
    "Finding",
    "MedsFolder",
    "audit",
    "audit_classifier",
    "evidence",
    "open_model",
]
