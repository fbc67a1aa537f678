"""An audit of a classifier of images, on invented patients: trained too long, and asked what it remembers."""

from pathlib import Path
from tempfile import TemporaryDirectory

from primum.evidence.audit import Audit
from primum.fit.classifier_recipe import leaky_classifier, save_classifier
from primum.models.classifier_doors import open_classifier
from primum.records.case_folder import open_cases
from primum.records.case_writer import write_cases
from primum.records.synthetic_cases import SYNTHETIC_CASES, ImageSettings, split_patients, synthetic_images
from primum.workflows.classifier_audit import run_classifier_audit
from primum.workflows.classifier_command import classifier_plan


def main() -> Audit:
    """Write cases and a model as the folders that ``primum audit`` takes, and audit them."""
    cases = synthetic_images(150, seed=0, settings=ImageSettings(difficulty=2))
    splits = split_patients(cases, {"train": 60, "held_out": 90})
    with TemporaryDirectory() as name:
        folder, classes = Path(name), SYNTHETIC_CASES["image"][1]
        write_cases(folder / "cases", splits, classes)
        factory = save_classifier(folder / "model", leaky_classifier("image").fit(splits["train"], seed=0))
        plan = classifier_plan(
            open_classifier(folder / "model", factory=factory),
            records=open_cases(folder / "cases"),
            only=("data.overlap", "membership", "inversion"),
            sampled=40,
        )
        return run_classifier_audit(plan).audit


if __name__ == "__main__":
    for finding in main().findings:
        print(finding.test, finding.verdict, *finding.estimates[:1])
