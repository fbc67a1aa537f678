"""Tables that studies print and keep under ``docs/studies``, with the command and machine behind them."""

import os
import platform
from pathlib import Path

PAGES = Path("docs/studies")


class Table:
    """A Markdown table."""

    def __init__(self, *headings: str) -> None:
        self.headings = headings
        self.rows: list[tuple[str, ...]] = []

    def add(self, *cells: object) -> None:
        """Add a row; numbers are rounded to three places, truth is said as yes or no."""
        self.rows.append(tuple(_cell(cell) for cell in cells))

    def __str__(self) -> str:
        rules = tuple("---" for _ in self.headings)
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.headings, rules, *self.rows))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def write_page(name: str, about: str | None, *tables: Table, notes: str = "") -> None:
    """Print and write ``docs/studies/<name>.md``."""
    title, _, rest = (about or "").strip().partition("\n")
    made = f"Made by `python -m studies.{name}` on {platform.machine()}, {os.cpu_count()} processors."
    body = "\n\n".join(str(table) for table in tables)
    page = f"# {title}\n\n{rest.strip()}\n\n{made}\n\n{body}\n\n{notes}".rstrip() + "\n"
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / f"{name}.md").write_text(page, encoding="utf-8")
    print(page)
