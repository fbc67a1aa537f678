"""Which sentences the code says: errors, marked sentences, ``Language.text`` and the templates."""

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

from babel.messages.extract import extract
from babel.messages.pofile import read_po

import primum

SOURCE = Path(primum.__file__).parent
CATALOGUE = SOURCE / "report/locale/fr/LC_MESSAGES/primum.po"


def spoken() -> dict[str, str]:
    """Every English sentence that a person may read, to the file that says it."""
    found: dict[str, str] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        place = str(path.relative_to(SOURCE))
        found |= dict.fromkeys(_in_python(ast.parse(path.read_text(encoding="utf-8"))), place)
    for path in sorted((SOURCE / "report/templates").glob("*.html")):
        with path.open("rb") as stream:
            keywords = {"_": None}
            options = {"encoding": "utf-8", "silent": "false"}
            for _, sentence, *_ in extract("jinja2.ext:babel_extract", stream, keywords, options=options):
                assert isinstance(sentence, str)
                if _has_words(sentence):
                    found[sentence] = path.name
    return found


def _in_python(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args or not _speaks(node.func):
            continue
        choices = (
            (node.args[0].body, node.args[0].orelse) if isinstance(node.args[0], ast.IfExp) else node.args[:1]
        )
        for first in choices:
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and _has_words(first.value):
                yield first.value


def _has_words(sentence: str) -> bool:
    return bool(re.sub(r"{\w+}", "", sentence))


def _speaks(called: ast.expr) -> bool:
    name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
    if isinstance(called, ast.Attribute) and name == "text":
        return ast.unparse(called.value) in {"self", "language", "self._language"}
    if ast.unparse(called) == "super().__init__":
        return True
    return name in {"message", "progress", "refusal"} or _is_error(name)


def _is_error(name: str) -> bool:
    short = name.rpartition(".")[2]
    return short in ("TooFewPatients", "Interrupted") or (
        short.endswith("Error") and not hasattr(builtins, short)
    )


def french() -> dict[str, tuple[str, bool]]:
    """English sentence to its French one, and whether that is only a guess."""
    with CATALOGUE.open("rb") as stream:
        catalogue = read_po(stream, locale="fr", abort_invalid=True)
    return {str(m.id): (str(m.string), m.fuzzy) for m in catalogue if m.id} | {
        f"obsolete: {key}": ("", True) for key in catalogue.obsolete
    }
