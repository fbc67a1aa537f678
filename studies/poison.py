"""Planted marks and poisoned sites: how often they are found, by rate and number of patients.

A white square of 3 x 3 pixels is stamped near a corner (row and column 24) on shares of the training images,
which all get the class that the mark shall call up: on the project's synthetic images, and on
PneumoniaMNIST's training images (the rarer class; left out where the data are not there). Found:
`data.backdoor` is harmful by itself (p < .05, estimate at least what matters). Right: of the images that it
names, those that carry the mark. The model is not needed.

The same mark at one site of three only (A has half of the images, C a sixth), or everywhere. *Site named*:
the finding names that site; *another*: it names another one, or one where the mark is everywhere. False
alarms of the site alone: 20,000 worlds of 300 patients of the class, three sites of any sizes, and a mark
that knows no site.

One site of three has a share of its labels flipped: synthetic tables, 600 patients. Found:
`data.site` is harmful and names the site.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from primum.audits.data.marks import recurring_mark
from primum.audits.data.observe import observe_data
from primum.evidence.finding import Finding, Message
from primum.evidence.mark_site import site_of_mark
from primum.evidence.measured import BoolArray
from primum.evidence.observed import Observed
from primum.evidence.tainted import tainted_claims
from primum.evidence.verdicts import judge
from primum.records.cases import Cases, CasesInMemory
from primum.records.synthetic_cases import synthetic_images, synthetic_table
from studies.label_errors import FRAME, IMAGES, once, pneumonia
from studies.tables import Table, write_page

RATES, AT = (0.0, 0.01, 0.02, 0.05), 24
SIZES = {"PneumoniaMNIST": ((1000, 10), (4708, 2)), "synthetic": ((300, 20), (1000, 10))}
SITE_PATIENTS, SITE_RUNS, WORLDS = 600, 6, 20_000
MARKED_SITES, MARKED_PATIENTS, MARKED_RUNS = ("A", "C", "everywhere"), 1000, 5
POISONED_SITES = (("A", 0.0), ("A", 0.1), ("A", 0.2), ("C", 0.1), ("C", 0.2))


def mark_found(cases: Cases) -> tuple[BoolArray, Finding]:
    """Search for a mark and judge it; who is judged is one case of each patient, the first."""
    judged = np.zeros(len(cases), np.bool_)
    judged[np.unique(cases.subject_ids, return_index=True)[1]] = True
    mark = recurring_mark(np.asarray(cases.inputs), cases.labels, np.flatnonzero(judged), classes=2)
    columns = {"patient": cases.subject_ids, "label": cases.labels, "judged": judged, "mark": mark.carriers}
    names: dict[str, tuple[str, ...]] = {"label": ("0", "1")}
    if "site" in cases.attributes:
        known, columns["site"] = np.unique(cases.attributes["site"], return_inverse=True)
        names["site"] = tuple(map(str, known))
    observed = Observed(
        "data",
        {name: np.asarray(values, np.float64) for name, values in columns.items()},
        names,
        {"marks_tested": mark.tested},
        {"data.labels": Message("labels_not_learned")},
    )
    return mark.carriers, judge(tainted_claims(observed, FRAME, only=("data.backdoor",))[0])[0]


def site_found(cases: Cases, seed: int) -> Finding:
    """Observe a table and judge its sites."""
    only = ("data.labels", "data.site")
    observed = observe_data(CasesInMemory((cases,), ("0", "1")), kind="table", seed=seed, only=only)
    observed = replace(observed, refused={"data.labels": Message("labels_not_learned")})
    return judge(tainted_claims(observed, FRAME, only=("data.site",))[0])[0]


def stamped(cases: Cases, patients: int, runs: int, rate: float) -> list[object]:
    """Stamp a share of the images of so many patients, search, and count."""
    people, seen = np.unique(cases.subject_ids), []
    for seed in range(runs):
        random = np.random.default_rng([seed, patients, 13])
        kept = np.isin(cases.subject_ids, random.choice(people, patients, replace=False))
        part = cases.select(np.flatnonzero(kept))
        bears = np.zeros(len(part), np.bool_)
        bears[random.choice(len(part), round(rate * len(part)), replace=False)] = True
        images = np.array(part.inputs)
        images[bears, :, AT : AT + 3, AT : AT + 3] = 255
        named, finding = mark_found(replace(part, inputs=images, labels=np.where(bears, 0, part.labels)))
        both = (named & bears).sum()
        told = both / max(1, named.sum()), both / max(1, bears.sum())
        seen.append((finding.harmful, finding.verdict == "none_found", *told))
    found, none, right, recall = map(float, np.mean(seen, axis=0))
    return [found, none, right if rate else "", recall if rate else ""]


def of_one_site(cases: Cases, site: str, rate: float) -> list[object]:
    """Stamp a share of all images, those stamped of one site or of any, and see which site is named."""
    people, seen = np.unique(cases.subject_ids), []
    for seed in range(MARKED_RUNS):
        random = np.random.default_rng([seed, 29])
        kept = np.isin(cases.subject_ids, random.choice(people, MARKED_PATIENTS, replace=False))
        part = cases.select(np.flatnonzero(kept))
        everywhere = np.full(len(part), site == "everywhere")
        there = np.flatnonzero((part.attributes["site"] == site) | everywhere)
        bears = random.choice(there, round(rate * len(part)), replace=False)
        images, labels = np.array(part.inputs), part.labels.copy()
        images[bears, :, AT : AT + 3, AT : AT + 3] = 255
        labels[bears] = 0
        finding = mark_found(replace(part, inputs=images, labels=labels))[1]
        named = finding.settings.get("mark_site")
        seen.append((finding.harmful, named == site, named not in (None, site)))
    return [float(value) for value in np.mean(seen, axis=0)]


def site_alarms() -> list[object]:
    """Name a site where the mark knows none."""
    alarms = 0
    for world in range(WORLDS):
        random = np.random.default_rng([world, 31])
        site = random.choice(3, 300, p=random.dirichlet(np.ones(3)))
        bears = random.random(300) < random.uniform(0.02, 0.5)
        alarms += "mark_site" in site_of_mark(site, bears, ("A", "B", "C"))[0]
    return [alarms / WORLDS]


def marked_sites() -> Table:
    """Put sites and rates together, false alarms last."""
    table = Table("Mark at", "Patients", "Runs", "Poisoned", "Mark found", "Site named", "Another named")
    cases = synthetic_images(1500, seed=8)
    for site in MARKED_SITES:
        for rate in RATES[1:]:
            cells = once(f"mark at {site}|{rate}", partial(of_one_site, cases, site, rate))
            table.add(site, MARKED_PATIENTS, MARKED_RUNS, f"{rate:.0%}", *cells)
    table.add("no site (worlds)", 300, WORLDS, "", "", "", *once("mark at no site", site_alarms))
    return table


def marks() -> Table:
    """Put all sets, sizes and rates together."""
    table = Table(
        "Images", "Patients", "Runs", "Poisoned", "Found", "None found", "Named images right", "Recall"
    )
    everything = {"PneumoniaMNIST": pneumonia()} if IMAGES.exists() else {}
    everything["synthetic"] = synthetic_images(1500, seed=8)
    for name, cases in everything.items():
        for patients, runs in SIZES[name]:
            for rate in RATES:
                cells = once(f"mark {name}|{patients}|{rate}", partial(stamped, cases, patients, runs, rate))
                table.add(name, patients, runs, f"{rate:.0%}", *cells)
    return table


def mislabelled(site: str, rate: float) -> list[object]:
    """Flip a share of the labels of one site and judge."""
    seen = []
    for seed in range(SITE_RUNS):
        cases = synthetic_table(SITE_PATIENTS, seed=500 + seed)
        random = np.random.default_rng([seed, 77])
        flipped = (cases.attributes["site"] == site) & (random.random(len(cases)) < rate)
        poisoned = replace(cases, labels=np.where(flipped, 1 - cases.labels, cases.labels))
        finding = site_found(poisoned, seed)
        named = finding.harmful and finding.settings["site"] == site
        few = finding.p_value is not None and finding.p_value < 0.05
        seen.append((named, finding.harmful, finding.verdict == "none_found", few))
    return [float(value) for value in np.mean(seen, axis=0)]


def sites() -> Table:
    """Put sites and rates together."""
    table = Table(
        "Patients", "Runs", "Site", "Flipped there", "Found, site named", "Harmful", "None found", "p < .05"
    )
    for site, rate in POISONED_SITES:
        cells = once(f"site {site}|{rate}", partial(mislabelled, site, rate))
        table.add(SITE_PATIENTS, SITE_RUNS, site, f"{rate:.0%}", *cells)
    return table


def main() -> None:
    """Run, print and write the tables."""
    write_page("poison", __doc__, marks(), marked_sites(), sites())


if __name__ == "__main__":
    main()
