"""The site of ``make docs``: every page in it, every link alive, nothing loaded from elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOADING = {"script", "img", "iframe", "source", "link", "object", "embed", "audio", "video", "track"}


class Page(HTMLParser):
    """What one built page loads, where it leads, and what it says in its own words."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.language = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "html":
            self.language = given["lang"] or ""
        if tag in LOADING:
            self.loads += [place for name in ("src", "href", "data", "srcset") if (place := given.get(name))]
        if tag == "a" and (place := given.get("href")):
            self.leads.append(place)


def build(target: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target), *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    # Strict: a dead link or anchor, and a page that the navigation leaves out, are errors.
    done = build(target)
    assert done.returncode == 0, done.stderr
    return target


def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    written = {page.relative_to(ROOT / "docs").with_suffix("") for page in (ROOT / "docs").rglob("*.md")}
    built = {page.relative_to(site).with_suffix("") for page in site.rglob("*.html")} - {Path("404")}
    assert built == written
    start = {place for place in Page(site / "index.html").leads if "#" not in place}
    assert {f"{page.as_posix()}.html" for page in written} <= start


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    # The page for "not found" is only ever given by a server, with places from its root.
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    places = [(path.parent / place, place) for path, page in pages.items() for place in page.loads]
    assert [place for target, place in places if not target.is_file()] == []
    assert all(target.resolve().is_relative_to(site) for target, _ in places)
    assert len(places) > 5 * len(pages)
    for style in site.rglob("*.css"):
        for place in re.findall(r"""url\(["']?([^)"']+)|@import""", style.read_text(encoding="utf-8")):
            assert place.startswith("data:") or (style.parent / place).is_file(), (style.name, place)


def test_links_out_of_the_documentation_are_places(site: Path) -> None:
    leads = [(path.name, place) for path in site.rglob("*.html") for place in Page(path).leads]
    assert [one for one in leads if re.search(r"(src|examples|LICENSE)(/|$)", one[1])] == []
    assert "(<code>examples/wire_server.py</code>)" in (site / "wire.html").read_text(encoding="utf-8")


def test_french_pages_say_so_and_no_table_is_broken(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert Page(path).language == ("fr" if path.parent.name == "fr" else "en"), path.name
        assert "<p>|" not in path.read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[gone](nowhere.md)", "nowhere.md"),
        ("[gone](index.md#nowhere)", "no such anchor"),
        ("[out](/etc/passwd)", "absolute"),
    ],
)
def test_a_dead_link_stops_the_build(tmp_path: Path, text: str, complaint: str) -> None:
    settings = re.sub(
        r"^nav:.*", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.DOTALL | re.M
    )
    settings = settings.replace("docs/site_hooks.py", str(ROOT / "docs" / "site_hooks.py"))
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# One\n\n{text}\n", encoding="utf-8")
    done = build(tmp_path / "site", "--config-file", str(tmp_path / "mkdocs.yml"))
    assert done.returncode == 1
    assert complaint in done.stderr
