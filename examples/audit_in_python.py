"""An audit from Python, on patients who do not exist: takes seconds, asks for no file."""

from pathlib import Path
from tempfile import TemporaryDirectory

import primum
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.hf_folder import save_folder
from primum.records.profile import learn_profile, vocabulary_of
from primum.records.synthetic import catalogue_codes, synthetic_patients
from primum.records.tokenizer import Tokenizer


def main() -> primum.Audit:
    """Train a model that remembers its 40 patients, and ask what it remembers."""
    members = synthetic_patients(40, seed=1)
    held_out = synthetic_patients(60, seed=2, first_subject_id=1_000)
    profile = learn_profile(members)
    tokenizer = Tokenizer(vocabulary_of(catalogue_codes(), profile), profile)
    recipe = SmallCausalRecipe(LoopSettings(epochs=30), width=32, layers=1)
    model = recipe.fit(tokenizer.encode(members), seed=0)
    with TemporaryDirectory() as folder:
        save_folder(Path(folder), model, tokenizer)
        return primum.audit(folder, members, held_out, seed=0)


if __name__ == "__main__":
    for finding in main().findings:
        first = next(iter(finding.estimates), None)
        print(finding.test, finding.verdict, f"{first.value:.2f} [{first.low:.2f}, {first.high:.2f}]" if first else "")
