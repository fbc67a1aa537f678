"""No axe-core violation on any page: both languages, on screen (light and dark) and in print."""

import html
import json
import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest
from tests.report import beyond_samples, samples, site_samples, suite_samples

from primum.report.html import render
from primum.report.language import Code, Language
from primum.report.site_report import render_sites

ROOT = Path(__file__).parents[2]
CODES: tuple[Code, ...] = ("en", "fr")
SAMPLES = {**suite_samples.ALL, **beyond_samples.ALL}
# Each page runs axe on itself; the outer one gathers what they found.
_INSIDE = """<script src="axe.min.js"></script><script>
document.querySelectorAll("details").forEach(one => { one.open = true; });
window.found = axe.run(document, {resultTypes: ["violations"]});
</script></body>"""
_OUTSIDE = """<script>
addEventListener("load", async () => {
  const told = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const result = await frame.contentWindow.found;
    const against = result.violations.map(one => one.id + " " + one.nodes[0].html);
    told[frame.title] = [result.passes.length, against];
  }
  document.body.textContent = "found:" + encodeURIComponent(JSON.stringify(told)) + ":found";
});
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    install = [str(ROOT / ".ci" / "debian"), "chromium"]
    # Its installation may be under way (tests/conftest.py): a browser that is half there does not run.
    subprocess.run(["flock", install[0], "true"], check=False)
    if not shutil.which("chromium"):
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"there is no Chromium: {done.stderr.strip()}")
    return "chromium"


@pytest.fixture(scope="module")
def axe() -> Path:
    spec = find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("axe-playwright-python, the package that holds axe-core, is not installed")
    return Path(spec.origin).with_name("axe.min.js")


@cache
def rendered(name: str, code: Code) -> str:
    return render(SAMPLES[name](), samples.RUN, language=Language(code))


def page(name: str, code: Code, *, media: str = "screen") -> str:
    """Let axe into a page of samples, and let the rules for print hold on the screen."""
    return armed(rendered(name, code), media=media)


def armed(text: str, *, media: str = "screen") -> str:
    """Let axe into the text of a page."""
    policy = next(line for line in text.splitlines() if "Content-Security-Policy" in line)
    assert "@media print {" in text
    text = text.replace(policy, "").replace("</body>", _INSIDE)
    return text.replace("@media print {", "@media all {") if media == "print" else text


def open_page(browser: str, place: Path, *more: str) -> str:
    """Open a page without network in a browser of its own."""
    fixed = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
    profile = ("--allow-file-access-from-files", f"--user-data-dir={place.parent}/profile")
    command = [browser, *fixed, *profile, *more, place.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=400).stdout


def violations(
    pages: dict[str, str], browser: str, axe: Path, folder: Path, *, dark: bool = False
) -> dict[str, list[str]]:
    """Show the pages in one browser, without network, and return what axe has against each."""
    shutil.copy(axe, folder / "axe.min.js")
    frames = "".join(
        f'<iframe title="{name}" width="1000" height="900" srcdoc="{html.escape(text)}"></iframe>'
        for name, text in pages.items()
    )
    outer = folder / "outer.html"
    outer.write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{frames}{_OUTSIDE}', encoding="utf-8")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    shown = open_page(browser, outer, scheme, "--virtual-time-budget=600000", "--dump-dom")
    told = json.loads(unquote(shown.split("found:")[1].split(":found")[0]))
    assert told.keys() == pages.keys()
    assert min(passes for passes, _ in told.values()) > 15
    return {name: against for name, (_, against) in told.items() if against}


def test_axe_finds_nothing_but_a_planted_fault(browser: str, axe: Path, tmp_path: Path) -> None:
    # Both languages share one template: each kind of page in one of them, and one page in both.
    kinds: tuple[tuple[str, Code], ...] = (
        *(("leaking suite", code) for code in CODES),
        *(("clean suite", "en"), ("hostile", "en"), ("leaking classifier", "fr"), ("harmful", "fr")),
    )
    pages = {f"{name} {code}": page(name, code) for name, code in kinds}
    pages |= {f"{name} print": page(name, "fr", media="print") for name in ("clean suite", "hostile")}
    fault = page("inconclusive", "en").replace("--muted: #55616d", "--muted: #c5c5c5")
    pages["a fault"] = fault.replace('<html lang="en">', "<html>")
    found = violations(pages, browser, axe, tmp_path)
    assert {one.split()[0] for one in found.pop("a fault", [])} >= {"color-contrast", "html-has-lang"}
    assert found == {}


def test_axe_finds_nothing_on_pages_of_sites(browser: str, axe: Path, tmp_path: Path) -> None:
    texts = {
        f"{name} {code}": render_sites(make(), language=Language(code))
        for name, make in site_samples.ALL.items()
        for code in CODES
    }
    pages = {name: armed(text) for name, text in texts.items()}
    pages["print"] = armed(texts["fifteen fr"], media="print")
    assert violations(pages, browser, axe, tmp_path) == {}


def test_axe_finds_nothing_in_the_dark(browser: str, axe: Path, tmp_path: Path) -> None:
    assert violations({"dark": page("confounded", "fr")}, browser, axe, tmp_path, dark=True) == {}


@pytest.mark.parametrize("code", CODES)
def test_the_summary_fits_one_printed_page(code: Code, browser: str, tmp_path: Path) -> None:
    text = render(samples.leaking(), {**samples.RUN, "signer": "ab" * 32}, language=Language(code))
    head, _, rest = text.partition('<section id="answer"')
    (tmp_path / "page.html").write_text(head + "</main>" + rest[rest.index("</body>") :], encoding="utf-8")
    printed = tmp_path / "page.pdf"
    open_page(browser, tmp_path / "page.html", f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    assert len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes())) == 1
