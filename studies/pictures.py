"""The pictures of the documentation: the report of a demonstration, as a browser shows it.

    python -m studies.pictures primum-demo

takes the folder that ``primum demo`` left, renders the reports of the leaky and of the protected model in
both languages and writes ``docs/images/report-en.png``, ``report-fr.png``, ``protected-en.png`` and
``protected-fr.png``. Needs Chromium. The patients are invented: no picture of real ones belongs in the
documentation.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from primum.report.files import read_audit
from primum.report.html import render
from primum.report.language import Code, Language

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
SIZE = (1000, 1250)
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
        for code in LANGUAGES:
            picture = given.out / f"{name}-{code}.png"
            take(browser, render(audit, run, language=Language(code)), picture)
            print(picture)


def take(browser: str, page: str, picture: Path) -> None:
    """Show `page` in a browser of its own, without network use, and keep what a reader sees first."""
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
                f"--window-size={SIZE[0]},{SIZE[1]}",
                f"--screenshot={picture}",
                source.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


if __name__ == "__main__":
    main()
