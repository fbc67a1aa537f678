"""The pictures of the documentation: the reports of a demonstration, as a browser shows them.

    python -m studies.pictures primum-demo

takes the folder that ``primum demo`` left and writes pictures to ``docs/images``, each in English and French.
Of a model of records: what a reader of either report sees first, ``report-en.png``, ``protected-en.png``.
Of a classifier: what the leaky model's report says beyond privacy, with some of its plots,
``robustness-en.png``, ``data-en.png``, ``equity-en.png``, ``explanations-en.png``. Needs Chromium. The
patients are invented: no picture of real ones belongs in the documentation.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageChops

from primum.evidence.documents import read_audit
from primum.report.beyond import Part, beyond, is_beyond
from primum.report.html import render
from primum.report.language import Code, Language

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
FIRST_SIGHT, TALL = 1250, 6000
WIDTH, MARGIN, COLOURS = 1000, 20, 64
# Of ten plots by group, and others that need more words than a page of documentation has.
LEFT_OUT = ("equity_calibration_", "equity_decision_", "robustness_patch", "robustness_certified")
SHOWN = ("equity_calibration_sex", "robustness_patch_places")
LANGUAGES: tuple[Code, ...] = ("en", "fr")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    parser = argparse.ArgumentParser(description="Picture the reports of a demonstration.")
    parser.add_argument("demo", type=Path, help="folder that primum demo left")
    parser.add_argument("--out", type=Path, default=IMAGES)
    given = parser.parse_args()
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit("No Chromium here: install chromium.")
    given.out.mkdir(parents=True, exist_ok=True)
    for model, name in (("leaky", "report"), ("protected", "protected")):
        audit, run = read_audit(given.demo / model)
        of_classifier = any(map(is_beyond, audit.findings))
        if of_classifier and model == "protected":
            continue
        for code in LANGUAGES:
            language = Language(code)
            page = render(audit, run, language=language)
            if not of_classifier:
                take(browser, page, given.out / f"{name}-{code}.png", height=FIRST_SIGHT)
                continue
            for part in beyond(audit, language=language):
                picture = given.out / f"{part.family}-{code}.png"
                take(browser, alone(page, part), picture, height=TALL)
                trim(picture)


def alone(page: str, part: Part) -> str:
    """Hide all of a report but one part, and of that what is opened by a click."""
    hidden = [f"main > :not(#{part.family})", "body > :not(main)", "details"]
    for place, plot in enumerate(part.plots, start=1):
        if plot.name.startswith(LEFT_OUT) and plot.name not in SHOWN:
            hidden.append(f"#{part.family} > figure:nth-of-type({place})")
    return page.replace(
        "</head>", f"<style>{', '.join(hidden)} {{ display: none !important }}</style></head>", 1
    )


def trim(picture: Path) -> None:
    """Cut what is empty below, and keep few colours: a page of text and lines needs no more."""
    with Image.open(picture) as opened:
        whole = opened.convert("RGB")
    drawn = ImageChops.difference(whole, Image.new("RGB", whole.size, "white")).getbbox()
    assert drawn is not None, "an empty page"
    cut = whole.crop((0, 0, whole.width, min(whole.height, drawn[3] + MARGIN)))
    cut.quantize(COLOURS).save(picture, optimize=True)


def take(browser: str, page: str, picture: Path, *, height: int) -> None:
    """Show `page` in a browser of its own, without network use, and keep its first `height` pixels."""
    with TemporaryDirectory() as private:
        source = Path(private, "report.html")
        source.write_text(page, encoding="utf-8")
        subprocess.run(
            [
                browser,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--disable-background-networking",
                f"--user-data-dir={private}/profile",
                f"--window-size={WIDTH},{height}",
                f"--screenshot={picture}",
                source.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


if __name__ == "__main__":
    main()
