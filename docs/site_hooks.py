"""What the site needs beyond mkdocs: links out of docs become places, French pages say their language."""

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+((?:src|examples)/[^)]+|LICENSE)\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Write ``[text](../examples/file)`` as ``text (examples/file)``; called by mkdocs for every page."""
    return _OUTSIDE.sub(r"\1 (`\2`)", markdown)


def on_post_page(output: str, page: Any, **_: object) -> str:
    """Tell browsers and screen readers that the pages of ``fr/`` are in French."""
    french = page.file.src_uri.startswith("fr/")
    return output.replace('<html lang="en"', '<html lang="fr"', 1) if french else output
