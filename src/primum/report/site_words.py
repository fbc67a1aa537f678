"""What is said of sites that trained one model, in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from primum.report import sentences
from primum.report.language import NOTHING, Language, message

Told = Mapping[str, Any]
SITES_FILE, SITES_PAGE = "sites.json", "sites.html"
PAGE = message("What is said of each site: {path}")
# Rarer than that no calibration can tell.
_LEVEL, _RAREST = 0.05, 1000
REASONS = {
    "norm": message("its updates are longer than those of others"),
    "direction": message("its updates are turned away from those of others"),
    "collusion": message("its updates are turned the way of another site's"),
    "recall": message("its updates make the model miss more"),
}


@dataclass(frozen=True)
class Cell:
    """What a table says of a site: a value, and its interval if it has one."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class Column:
    """One column: its heading, how to read it, one cell a site."""

    heading: str
    meaning: str
    cells: tuple[Cell, ...]


def headline(told: Told, language: Language) -> tuple[str, str]:
    """Say the worst first."""
    bad, count = sum(bool(one.get("accused")) for one in told["sites"]), len(told["sites"])
    if bad:
        sentence = (
            message("{bad} of {count} sites stand apart from the others: look at them")
            if bad > 1
            else message("One of {count} sites stands apart from the others: look at it")
        )
        return "harm", language.text(sentence, bad=bad, count=count)
    fair = told.get("fairness")
    if not fair or fair["p_value"] is None:
        return "quiet", language.text(
            "{count} sites trained one model; whether it serves them alike is not known", count=count
        )
    if fair["p_value"] < _LEVEL:
        return "harm", language.text("The model does not seem to serve all sites equally well")
    return "quiet", language.text("No difference between sites was shown in how well the model serves them")


_FORETOLD = message(
    "How well the model foretells events of patients who trained nothing is in the table; whether sites "
    "differ in it by more than chance was not tested."
)
_TOO_FEW = message(
    "Nobody was aside to say how well the model serves the sites, or too few were: an AUC asks for five "
    "patients with the condition and five without."
)
_UNSEEN = message(
    "The coordinator sees what sites send, and no patient: how well the model serves a site, only that site "
    "can say."
)
_ALONE = message("Fewer than two sites have enough such patients to be judged by themselves.")
_MORE = message(
    "Chance alone makes sites differ so much in how they are served with probability {p}: this is hardly "
    "chance."
)
_CHANCE = message(
    "Sites that are served alike differ so much by chance with probability {p}: this may be chance. With so "
    "few patients aside, only large differences would show."
)


def served_sentences(told: Told, language: Language) -> list[str]:
    """How well the model serves everybody, where worst, and whether that may be chance."""
    fair = told.get("fairness")
    if not fair:
        foretold = any("log_likelihood" in (one.get("served") or {}) for one in told["sites"])
        return [language.text(_FORETOLD if foretold else _TOO_FEW if "fairness" in told else _UNSEEN)]
    said = [
        language.text(
            "Of patients who trained nothing ({patients}), the model puts one with “{name}” above one "
            "without in {auc} of 100 pairs ({interval}); 50 would be guessing.",
            patients=sentences.count(fair["patients"], language=language),
            name=told["judged_class"],
            **_pairs(fair, language),
        )
    ]
    if fair["p_value"] is None:
        return [*said, language.text(_ALONE)]
    worst = {one["site"]: one for one in told["sites"]}[fair["worst"]]
    said.append(
        language.text(
            "Served worst of {count} sites that can be judged: {site}, {auc} of 100 pairs ({interval}).",
            count=fair["sites"],
            site=worst["site"],
            **_pairs(worst["served"], language),
        )
    )
    p_value = sentences.p_value(fair["p_value"], language=language)
    return [*said, language.text(_MORE if fair["p_value"] < _LEVEL else _CHANCE, p=p_value)]


def _pairs(found: Told, language: Language) -> dict[str, str]:
    low, high = 100 * found["low"], 100 * found["high"]
    return {"auc": language.number(100 * found["auc"], 0), "interval": language.interval(low, high, digits=0)}


def against(one: Told, language: Language) -> str:
    """Why a site is accused, and how rarely an honest one would be."""
    return language.text(
        "{site}: {reason}; it stood apart in {rounds} of {answered} rounds. As it was calibrated, "
        "an honest site comes this far at most once in {times} trainings.",
        site=one["site"],
        reason=language.text(REASONS.get(one["reason"], "")),
        rounds=one["rounds_apart"],
        answered=one["rounds_answered"],
        times=round(min(one["e_value"], _RAREST)),
    )


def nobody(sites: Sequence[Told], language: Language) -> str:
    """Why nobody is accused; empty where somebody is."""
    if any(one.get("accused") for one in sites):
        return ""
    if all(one.get("accused") is not None for one in sites):
        return language.text(
            "No site is accused: none stood apart from the others more often than honest sites do."
        )
    if all(one["rounds_apart"] is None for one in sites):
        return language.text(
            "Nobody can be accused here: who stands out was not seen, because there are fewer than "
            "five sites or because sites masked what they sent."
        )
    return language.text(
        "Nobody can be accused here: sites are accused only in trainings in which honest sites "
        "were seen not to be, and this is none. How often each stood apart is in the table."
    )


def columns(told: Told, language: Language) -> list[Column]:
    """Name and fill the columns; those without a figure are left out."""
    known = [
        Column(
            language.text(heading),
            language.text(meaning, name=told.get("judged_class")),
            tuple(write(one, language) for one in told["sites"]),
        )
        for heading, meaning, write in _COLUMNS
    ]
    return [one for one in known if any(cell.value != NOTHING for cell in one.cells)]


def _people(one: Told, language: Language) -> Cell:
    return Cell(sentences.count(one["patients"], language=language) if "patients" in one else NOTHING)


def _share(key: str) -> Callable[[Told, Language], Cell]:
    return lambda one, language: Cell(language.percent(one[key]))


def _measured(key: str, name: str, *, percent: bool) -> Callable[[Told, Language], Cell]:
    def written(one: Told, language: Language) -> Cell:
        if name not in (found := one.get(key) or {}):
            return Cell(NOTHING)
        interval = language.interval(found["low"], found["high"], digits=0 if percent else 2, percent=percent)
        return Cell(language.percent(found[name]) if percent else language.number(found[name]), interval)

    return written


def _apart(one: Told, language: Language) -> Cell:
    if one["rounds_apart"] is None:
        return Cell(NOTHING)
    return Cell(language.text("{n} of {all}", n=one["rounds_apart"], all=one["rounds_answered"]))


_COLUMNS: tuple[tuple[str, str, Callable[[Told, Language], Cell]], ...] = (
    (message("Patients"), message("who trained at the site."), _people),
    (message("Records"), message("the site's share of all records."), _share("share")),
    (
        message("Part of the way"),
        message("how much of the model's way came from the site; adds up to 100%."),
        _share("contribution"),
    ),
    (
        message("Agreement"),
        message("1: it pulls the way that was taken; 0: across; below 0: against it. Mean over rounds."),
        lambda one, language: Cell(language.number(one["agreement"])),
    ),
    (
        message("Served (AUC)"),
        message(
            "how often the model puts a patient with “{name}” above one without; .50 is guessing, "
            "lower is worse."
        ),
        _measured("served", "auc", percent=False),
    ),
    (
        message("Events foretold"),
        message("mean log-probability of an event of patients aside, in nats; nearer to 0 is better."),
        _measured("served", "log_likelihood", percent=False),
    ),
    (
        message("Risk said, less seen"),
        message(
            "the mean risk that the model says, less the share who have the condition; above 0 it "
            "says too much, below too little."
        ),
        _measured("calibration", "value", percent=True),
    ),
    (message("Rounds apart"), message("in how many rounds it stood apart from the others."), _apart),
)


def far(sites: Sequence[Told], language: Language) -> list[str]:
    """Whether sites hold classes in other shares than chance would deal them, and where most."""
    told = [one for one in sites if one.get("distance") is not None]
    unlike = [one for one in told if one["distance"] > one["distance_by_chance"]]
    if not told:
        return []
    if not unlike:
        return [language.text("The classes differ between sites no more than chance alone would make them.")]
    most = max(unlike, key=lambda one: one["distance"])
    return [
        language.text(
            "The classes differ between sites by more than chance; most at {site}, where {share} of "
            "the patients would have to be of another class to be like the others.",
            site=most["site"],
            share=language.percent(most["distance"]),
        )
    ]
