"""An audit of a scikit-learn table model: shadow models, a sensitive column, patients kept in the file."""

from pathlib import Path
from tempfile import TemporaryDirectory

import skops.io
from sklearn.impute import SimpleImputer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from primum.evidence.audit import Audit
from primum.fit.sklearn_recipe import SklearnRecipe
from primum.models.classifier_card import Card, card_text
from primum.models.classifier_doors import open_classifier
from primum.records.case_folder import open_cases
from primum.records.case_writer import write_cases
from primum.records.synthetic_cases import SYNTHETIC_CASES, split_patients, synthetic_table, table_schema
from primum.workflows.classifier_audit import run_classifier_audit
from primum.workflows.classifier_command import classifier_plan

CLASSES = SYNTHETIC_CASES["table"][1]


def recipe() -> SklearnRecipe:
    """How the model was trained; on the command line ``--recipe audit_table:recipe``."""
    nearest = KNeighborsClassifier(weights="distance")
    return SklearnRecipe(make_pipeline(SimpleImputer(), StandardScaler(), nearest), CLASSES)


def main() -> Audit:
    """Keep a model with skops, never as a pickle, and audit it with twelve shadow models."""
    splits = split_patients(synthetic_table(420, seed=0), {"train": 100, "held_out": 320})
    model = recipe().fit(splits["train"], validation=None, max_steps=None, seed=0)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_cases(folder / "cases", splits, CLASSES, schema=table_schema())
        (folder / "model").mkdir()
        skops.io.dump(model.estimator, folder / "model" / "model.skops")
        (folder / "model" / "classifier.toml").write_text(card_text(Card(CLASSES)), encoding="utf-8")
        plan = classifier_plan(
            open_classifier(folder / "model"),
            records=open_cases(folder / "cases"),
            recipe=recipe(),
            shadows=12,
        )
        return run_classifier_audit(plan).audit


if __name__ == "__main__":
    for finding in main().findings:
        print(finding.test, finding.verdict, *finding.estimates[:1])
