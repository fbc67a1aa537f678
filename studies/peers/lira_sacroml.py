"""SACRO-ML's LiRA on the splits of `studies.lira`.

Run as `python -m studies.peers.lira_sacroml` where sacroml is installed; needs nothing of primum. Its answers
are kept in `studies/peers/lira_sacroml.json`. Every mode is run with the same shadow models, which it trains
itself. With the path of a Python that has primum, times both instead: shadows trained, reports not written.
"""

import importlib
import json
import logging
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier

KEPT = Path(__file__).with_suffix(".json")
SPLITS, SHADOWS, ROUNDS = 10, 32, 5
MODES = ("online-carlini", "offline", "offline-carlini")


def half_split(number: int, cases: int) -> NDArray[np.bool_]:
    """Draw who trains the target of a number."""
    inside = np.zeros(cases, np.bool_)
    inside[np.random.default_rng([70, number]).permutation(cases)[: cases // 2]] = True
    return inside


def forest(seed: int, *, leaf: int = 1) -> Any:
    """Make the classifier that is audited."""
    return RandomForestClassifier(100, min_samples_leaf=leaf, random_state=seed)


def true_positives(scores: NDArray[np.float64], is_member: NDArray[np.bool_]) -> float:
    """Share of members above all but 1 % of the others."""
    others = np.sort(scores[~is_member])
    return float((scores[is_member] > others[-1 - len(others) // 100]).mean())


def asked(number: int, *, modes: tuple[str, ...] = MODES) -> dict[str, Any]:
    """Attack one target in every mode; its AUCs, its TPRs at 1 % and its CPU time."""
    attacks: Any = importlib.import_module("sacroml.attacks.likelihood_attack")
    targets: Any = importlib.import_module("sacroml.attacks.target")
    inputs, labels = load_breast_cancer(return_X_y=True)
    inside = half_split(number, len(labels))
    model = forest(number).fit(inputs[inside], labels[inside])
    target = targets.Target(
        model=model,
        X_train=inputs[inside],
        y_train=labels[inside],
        X_test=inputs[~inside],
        y_test=labels[~inside],
    )
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode in modes:
            for fixed in (False, True):
                attack = attacks.LIRAAttack(
                    output_dir=folder,
                    write_report=False,
                    n_shadow_models=SHADOWS,
                    mode=mode,
                    fix_variance=fixed,
                    report_individual=True,
                )
                start = time.process_time()
                attack.attack(target)
                seconds = time.process_time() - start
                found[f"{mode}, {'fixed' if fixed else 'own'} variance"] = {
                    "auc": float(attack.attack_metrics[0]["AUC"]),
                    "tpr": true_positives(
                        np.array(attack.result["member_prob"]), attack.result["member"] == 1
                    ),
                    "seconds": seconds,
                }
    return found


def timed(python: str) -> None:
    """Add CPU seconds of both, in turns so that both meet the same load: one online attack, 32 shadows."""
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    kept["seconds"] = []
    for number in range(ROUNDS):
        theirs = asked(number, modes=MODES[:1])["online-carlini, own variance"]["seconds"]
        ours = subprocess.run(
            [python, "-m", "studies.lira", "time"], check=True, capture_output=True, text=True
        )
        kept["seconds"].append({"ours": float(ours.stdout), "theirs": theirs})
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Ask on every split and write the answers."""
    splits = [asked(number) for number in range(SPLITS)]
    versions = {name: metadata.version(name) for name in ("sacroml", "scikit-learn", "numpy")}
    KEPT.write_text(json.dumps({"versions": versions, "splits": splits}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    logging.disable(logging.INFO)
    timed(sys.argv[1]) if sys.argv[1:] else main()
