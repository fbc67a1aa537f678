"""The report on sites that trained one model: one self-contained page, made of ``sites.json`` alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primum.errors import InputError, clean_text
from primum.report import site_figures, site_words
from primum.report.figures import Plot
from primum.report.language import Language, message
from primum.report.pages import templates
from primum.report.site_words import SITES_FILE

Told = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """A section of plots, opened by a sentence."""

    name: str
    title: str
    sentences: tuple[str, ...]
    plots: tuple[Plot, ...]


def read_sites(folder: Path) -> dict[str, Any]:
    """Read what was said of the sites.

    Raises
    ------
    InputError
        The file is not there, or is not JSON.
    """
    try:
        told: dict[str, Any] = json.loads((folder / SITES_FILE).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _refused(folder) from error
    return told


def _refused(folder: Path) -> InputError:
    return InputError(
        "{folder} holds no sites.json that can be read: give the folder of a model that sites "
        "trained together.",
        folder=str(folder),
    )


def page_of(folder: Path, *, language: Language) -> str:
    """Make the page again, in either language, from the file beside it.

    Raises
    ------
    InputError
        The file is not there, or is not as a training writes it.
    """
    told = read_sites(folder)
    try:
        return render_sites(told, language=language)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _refused(folder) from error


def render_sites(told: Told, *, language: Language) -> str:
    """Write the page.

    Parameters
    ----------
    told : mapping
        Of ``sites.json``, as :func:`json.loads` gives it.
    language : Language

    Returns
    -------
    str
        One HTML document: no script, no link to any other file, names of sites and classes cleaned and
        escaped.
    """
    sites = told["sites"]
    tone, headline = site_words.headline(told, language)
    return (
        templates()
        .get_template("sites.html")
        .render(
            _=language.text,
            language=language,
            tone=tone,
            headline=headline,
            lead=site_words.served_sentences(told, language),
            names=[clean_text(one["site"]) for one in sites],
            bad=[bool(one.get("accused")) for one in sites],
            columns=site_words.columns(told, language),
            accused=[site_words.against(one, language) for one in sites if one.get("accused")],
            nobody=site_words.nobody(sites, language),
            parts=[part for part in _parts(told, language) if part.plots],
            rounds=told["rounds"],
            image_level=told.get("unit") == "record",
            protected=any(one.get("ledger") for one in sites),
        )
    )


def _parts(told: Told, language: Language) -> list[Part]:
    sites = told["sites"]
    moved = []
    if any(one["contribution"] is not None for one in sites):
        moved.append(site_figures.contribution(sites, language=language))
    if any(one["agreement"] is not None for one in sites):
        moved.append(site_figures.agreement(sites, language=language))
    mixed: tuple[Plot, ...] = ()
    if any(share is not None for one in sites for share in one.get("class_shares", ())):
        mixed = (site_figures.classes(told, language=language),)
    far = tuple(site_words.far(sites, language))
    return [
        _fair(told, language),
        Part(
            "contribution",
            language.text("What did each site bring, and did all pull the same way?"),
            (),
            tuple(moved),
        ),
        Part("drift", language.text("How different are the sites' patients?"), far, mixed),
    ]


def _fair(told: Told, language: Language) -> Part:
    """Where two sites or more can be judged: the worst served first, then whose risks are said highest."""
    judged = [one for one in told["sites"] if "auc" in (one.get("served") or {})]
    title = language.text("Does the model serve all sites alike?")
    if len(judged) < 2:
        return Part("fairness", title, (), ())
    rows = {
        key: [(one["site"], *(one[key][part] for part in (value, "low", "high"))) for one in judged]
        for key, value in (("served", "auc"), ("calibration", "value"))
    }
    served = site_figures.intervals(
        "site-served",
        site_figures.SERVED,
        sorted(rows["served"], key=lambda row: row[1]),
        label=message("AUC: further left is worse"),
        line=told["fairness"]["auc"],
        chance=0.5,
        percent=False,
        language=language,
    )
    fits = site_figures.intervals(
        "site-calibration",
        site_figures.CALIBRATION,
        sorted(rows["calibration"], key=lambda row: -row[1]),
        label=message("risk said, less seen (right: too high)"),
        line=None,
        chance=0.0,
        percent=True,
        language=language,
    )
    few = language.text(
        "{count} of {all} sites have fewer than five patients of either kind aside, and are not judged by "
        "themselves.",
        count=len(told["sites"]) - len(judged),
        all=len(told["sites"]),
    )
    return Part("fairness", title, (few,) if len(judged) < len(told["sites"]) else (), (served, fits))
