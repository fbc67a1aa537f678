"""The architecture, held against the code: who imports whom, how long things are, what is public."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import primum

SOURCE = Path(primum.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
# What each folder may import besides itself, errors and the top; the relation is transitive.
DIRECTLY = {
    "evidence": set[str](),
    "records": {"evidence"},
    "models": {"records"},
    "fit": {"models"},
    "audits": {"fit"},
    "train": {"fit"},
    "report": {"evidence"},
    "trail": {"evidence"},
    "release": {"trail"},
    "workflows": {"audits", "train", "report", "release"},
    "cli": {"workflows", "report", "release"},
}
TORCH_FOLDERS = {"models", "fit", "audits", "train"}
TORCH = {"torch", "transformers", "safetensors", "opacus"}


def allowed(folder: str) -> set[str]:
    """Every folder that `folder` may import, itself included."""
    found, waiting = set[str](), [folder]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += DIRECTLY[one]
    return found


def imports(path: Path) -> Iterator[str]:
    """Dotted names imported anywhere in a file, but for those under TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def folder_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0] if path.parent != SOURCE else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_the_right_way(path: Path) -> None:
    folder = folder_of(path)
    if not folder:
        return
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("primum.")}
    assert ours - {"errors"} <= allowed(folder)
    if folder not in TORCH_FOLDERS:
        assert not {name.split(".")[0] for name in imports(path)} & TORCH


def test_every_folder_is_in_the_table() -> None:
    assert {folder_of(path) for path in FILES} - {""} == set(DIRECTLY)


def test_audits_and_train_do_not_know_each_other() -> None:
    assert "train" not in allowed("audits")
    assert "audits" not in allowed("train")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno + 1 <= 60, node.name


def test_public_names_are_sorted_and_complete() -> None:
    import primum.evidence

    for module in (primum, primum.evidence):
        names = list(module.__all__)
        assert names == sorted(names)
        assert all(getattr(module, name) is not None for name in names)
        shown = {name for name in dir(module) if not name.startswith("_")}
        folders = {path.name for path in Path(str(module.__file__)).parent.iterdir() if path.is_dir()}
        files = {path.stem for path in Path(str(module.__file__)).parent.glob("*.py")}
        assert shown - folders - files == set(names) - folders - files


def test_no_folder_is_named_like_a_public_function() -> None:
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir()}
    assert not folders & {name for name in primum.__all__ if callable(getattr(primum, name))}


@pytest.mark.parametrize("module", ["primum", "primum.evidence", "primum.report.html", "primum.cli.main"])
def test_imports_without_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_training_on_images_imports_no_language_models() -> None:
    """They take seconds and 100 MiB, in every process of every hospital."""
    program = (
        "import sys, primum.train.learners, primum.train.federated.sites; "
        "sys.exit(bool({'transformers', 'opacus'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_torch_free_files_of_fit_and_audits() -> None:
    for name in ("fit/protocol.py", "audits/privacy/membership.py", "models/protocols.py", "models/doors.py"):
        tree = ast.parse((SOURCE / name).read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        modules |= {str(node.module) for node in top if isinstance(node, ast.ImportFrom)}
        assert not {module.split(".")[0] for module in modules} & TORCH
        assert "primum.models.causal" not in modules
