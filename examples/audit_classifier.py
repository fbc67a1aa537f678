"""An audit of a classifier of images, on invented patients: trained too long, and asked what it remembers."""

from pathlib import Path
from tempfile import TemporaryDirectory

import primum
from primum.evidence.audit import Audit
from primum.fit.classifier_recipe import leaky_classifier, save_classifier
from primum.records.case_writer import write_cases
from primum.records.synthetic_cases import SYNTHETIC_CASES, ImageSettings, split_patients, synthetic_images


def main() -> Audit:
    """Write cases and a model as the folders that ``primum audit`` takes, and audit them."""
    cases = synthetic_images(150, seed=0, settings=ImageSettings(difficulty=2))
    splits = split_patients(cases, {"train": 60, "held_out": 90})
    with TemporaryDirectory() as name:
        folder, classes = Path(name), SYNTHETIC_CASES["image"][1]
        write_cases(folder / "cases", splits, classes)
        factory = save_classifier(folder / "model", leaky_classifier("image").fit(splits["train"], seed=0))
        return primum.audit_classifier(
            folder / "model",
            folder / "cases",
            factory=factory,
            tests=("data", "membership", "inversion", "equity"),
            sampled=40,
        )


if __name__ == "__main__":
    for finding in main().findings:
        print(finding.test, finding.verdict, *finding.estimates[:1])
