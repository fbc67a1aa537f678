"""Equity on real people and on the project's synthetic images.

Adult (Becker & Kohavi 1996; United States census of 1994; `tabular-adult` in the folder that
`PRIMUM_REAL_DATA` names): who earns more than 50,000 dollars, from nine columns without sex and race;
gradient boosting and logistic regression, trained on the one file and judged on the other. Groups by sex, age
band and race. Class of work, education, occupation and hours are taken for neutral in the proxy test.

Synthetic images (`primum.records.synthetic_cases`, 28 by 28, 4,000 patients of whom half are held out): a
small neural network on pixels, once with the labels as they are and once trained where 35 in 100 of
the ill women had been labelled healthy, as under-diagnosis does; held-out labels are right.
"""

import importlib
import os
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from primum.audits.equity.observe import observe_equity
from primum.evidence.equity import RULES, equity_claims
from primum.evidence.finding import Finding
from primum.evidence.observed import Observed
from primum.evidence.verdicts import judge
from primum.records.synthetic_cases.images import IMAGE_CLASSES, ImageSettings, synthetic_images
from primum.records.synthetic_cases.people import split_patients
from studies.equity_power import FRAME
from studies.tables import Table, write_page

ADULT = Path(os.environ.get("PRIMUM_REAL_DATA", "../shared/data")) / "tabular-adult"
COLUMNS = (
    "age", "workclass", "weight", "education", "education_years", "marital", "occupation", "relationship",
    "race", "sex", "gain", "loss", "hours", "country", "income",
)  # fmt: skip
NUMBERS = ("age", "education_years", "gain", "loss", "hours")
NEUTRAL = ("workclass", "education_years", "occupation", "hours")
TOLD = ("workclass", "education_years", "marital", "occupation", "gain", "loss", "hours", "country", "age")


def adult() -> dict[str, Observed]:
    """Train on one file, ask about the other."""
    both = [
        pl.read_csv(ADULT / name, has_header=False, new_columns=COLUMNS, comment_prefix="|")
        for name in ("adult.data", "adult.test")
    ]
    rows = [one.drop_nulls().with_columns(pl.col(pl.String).str.strip_chars(" .")) for one in both]
    whole = pl.concat(rows).with_columns(pl.col(*NUMBERS).cast(pl.Float64))
    codes = {
        name: np.unique(whole[name].to_numpy(), return_inverse=True)[1]
        if name not in NUMBERS
        else whole[name]
        for name in TOLD
    }
    inputs, first = np.stack([np.asarray(codes[name], float) for name in TOLD], axis=1), len(rows[0])
    rich = (whole["income"] == ">50K").to_numpy().astype(np.int64)
    test = whole[first:]
    attributes: dict[str, NDArray[np.generic]] = {
        "sex": np.where(test["sex"].to_numpy() == "Female", "F", "M"),
        "age": test["age"].to_numpy().astype(float),
        "ethnicity": test["race"].to_numpy().astype(str),
    }
    models = {
        "gradient boosting": HistGradientBoostingClassifier(random_state=0),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
    }
    neutral = inputs[first:, [TOLD.index(name) for name in NEUTRAL]]
    return {
        f"Adult, {name}": observe_equity(
            model.fit(inputs[:first], rich[:first]).predict_proba(inputs[first:]),
            rich[first:],
            np.arange(len(test)),
            attributes,
            classes=("up to 50,000", "more"),
            neutral=neutral,
        )
        for name, model in models.items()
    }


def images() -> dict[str, Observed]:
    """Train with right labels, and with women under-diagnosed."""
    cases = synthetic_images(4_000, seed=41, settings=ImageSettings())
    halves = split_patients(cases, {"train": 2_000, "held_out": 2_000})
    train, held_out = halves["train"], halves["held_out"]
    ill_women = (train.attributes["sex"] == "F") & (train.labels == 1)
    missed = ill_women & (np.random.default_rng(0).random(len(train)) < 0.35)
    found = {}
    for name, labels in (
        ("labels as they are", train.labels),
        ("women under-diagnosed", np.where(missed, 0, train.labels)),
    ):
        model = make_pipeline(
            StandardScaler(), MLPClassifier((64,), alpha=1, early_stopping=True, random_state=0)
        )
        model.fit(_pixels(train.inputs), labels)
        found[f"Images, {name}"] = observe_equity(
            model.predict_proba(_pixels(held_out.inputs)),
            held_out.labels,
            held_out.subject_ids,
            held_out.attributes,
            classes=IMAGE_CLASSES,
        )
    return found


def _pixels(inputs: object) -> NDArray[np.float64]:
    whole = np.asarray(inputs, np.float64)
    return whole.reshape(len(whole), -1)


def told(seen: dict[str, Observed]) -> tuple[Table, Table]:
    """Tabulate the findings about everyone, and those about groups that are served worse."""
    columns = "Verdict", "Group", "Gap (95 %)", "In the group", "Everyone else", "Among people alike"
    table = Table("Model", "Test", *columns)
    groups = Table("Model", *columns, "Read from the score (AUC)", "From neutral inputs")
    for name, one in seen.items():
        claims, described = equity_claims(one, FRAME)
        by_test = {finding.test: finding for finding in (*judge(claims), *described)}
        for test in (test for test in RULES if RULES[test].claims):
            table.add(name, f"`{test}`", *_row(by_test[test]))
        for test, finding in by_test.items():
            if test.startswith("equity.sensitivity@") and finding.harmful:
                read = {e.name: e.value for e in by_test[test.replace("sensitivity", "proxy")].estimates}
                aucs = (f"{read[key]:.2f}" if key in read else "" for key in ("proxy_score", "proxy_neutral"))
                groups.add(name, *_row(finding), *aucs)
    return table, groups


def _row(finding: Finding) -> tuple[str, ...]:
    if not finding.estimates:
        return finding.verdict, "", "", "", "", ""
    plain = [one for one in finding.estimates if not one.name.endswith(("corrected", "standardised"))]
    alike = [one for one in finding.estimates if one.name.endswith("standardised")]
    cells = [f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for one in (plain[0], *alike)]
    rates = [f"{one.value:.3f}" for one in plain[1:3]]
    group = str(finding.settings["worst_group"])
    return finding.verdict, group, cells[0], *rates, cells[1] if alike else ""


def main() -> None:
    """Run, print and write the tables."""
    write_page("equity_examples", __doc__, *told({**adult(), **images()}))


if __name__ == "__main__":
    importlib.import_module("studies.equity_examples").main()
