"""Seeded synthetic cases of every kind: invented patients for demonstrations, tests and studies."""

from collections.abc import Callable, Mapping

from primum.records.cases import Cases
from primum.records.synthetic_cases.bags import BAG_CLASSES, BagSettings, synthetic_bags
from primum.records.synthetic_cases.images import IMAGE_CLASSES, ImageSettings, synthetic_images
from primum.records.synthetic_cases.people import CaseSettings, draw_cases, split_patients
from primum.records.synthetic_cases.sequences import SEQUENCE_CLASSES, SequenceSettings, synthetic_sequences
from primum.records.synthetic_cases.signals import LEADS, SIGNAL_CLASSES, synthetic_ecgs
from primum.records.synthetic_cases.table import TABLE_CLASSES, synthetic_table, table_schema
from primum.records.synthetic_cases.volumes import VOLUME_CLASSES, synthetic_volumes

# By kind: what draws its cases, called as (patients, seed=...), and the names of its classes.
SYNTHETIC_CASES: Mapping[str, tuple[Callable[..., Cases], tuple[str, str]]] = {
    "image": (synthetic_images, IMAGE_CLASSES),
    "volume": (synthetic_volumes, VOLUME_CLASSES),
    "signal": (synthetic_ecgs, SIGNAL_CLASSES),
    "table": (synthetic_table, TABLE_CLASSES),
    "bag": (synthetic_bags, BAG_CLASSES),
    "sequence": (synthetic_sequences, SEQUENCE_CLASSES),
}

__all__ = [
    "LEADS",
    "SYNTHETIC_CASES",
    "BagSettings",
    "CaseSettings",
    "ImageSettings",
    "SequenceSettings",
    "draw_cases",
    "split_patients",
    "synthetic_bags",
    "synthetic_ecgs",
    "synthetic_images",
    "synthetic_sequences",
    "synthetic_table",
    "synthetic_volumes",
    "table_schema",
]
