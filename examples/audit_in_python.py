"""An audit from Python, on patients who do not exist: takes seconds, asks for no file."""

from pathlib import Path
from tempfile import TemporaryDirectory

import primum
from primum.fit.causal_recipe import SmallCausalRecipe
from primum.fit.loop import LoopSettings
from primum.models.hf_folder import save_folder
from primum.records.histories import InMemory
from primum.records.profile import learn_profile, vocabulary_of
from primum.records.synthetic import SyntheticSettings, catalogue_codes, synthetic_cohort
from primum.records.tokenizer import Tokenizer


def main() -> primum.Audit:
    """Train a model that remembers its 40 patients, and ask what it remembers."""
    settings = SyntheticSettings(sizes={"train": 40, "held_out": 60}, canary_pairs=0)
    cohort = synthetic_cohort(settings, seed=0)
    members, held_out = (InMemory((cohort.splits[name],)) for name in ("train", "held_out"))
    profile = learn_profile(members)
    tokenizer = Tokenizer(vocabulary_of(catalogue_codes(settings), profile), profile)
    train = tokenizer.encode(cohort.splits["train"])
    model = SmallCausalRecipe(LoopSettings(epochs=30), width=32, layers=1).fit(train, seed=0)
    with TemporaryDirectory() as folder:
        save_folder(Path(folder), model, tokenizer)
        return primum.audit(folder, members, held_out, seed=0)


if __name__ == "__main__":
    for finding in main().findings:
        print(finding.test, finding.verdict, *finding.estimates[:1])
