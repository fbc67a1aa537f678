"""``make wheelhouse``: what it holds installs without a network, by hash, and works without torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "tests" / "report" / "fixtures" / "1.0"
# No index, no settings of this machine: what is not in the folder cannot be had.
OFFLINE = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))},
    "PIP_NO_INDEX": "1",
    "PIP_CONFIG_FILE": os.devnull,
}


def run(*command: object, at: Path) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=at, env=OFFLINE, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made as a user makes it: from the index that this machine installs from."""
    folder = tmp_path_factory.mktemp("made") / "wheelhouse"
    command = ["make", "wheelhouse", f"VENV={sys.prefix}", f"WHEELHOUSE={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_machine_without_a_network(wheelhouse: Path, tmp_path: Path) -> None:
    locked = (wheelhouse / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert len(locked) == len(list(wheelhouse.glob("*.whl"))) > 20
    assert not any(line.startswith(("torch", "mkdocs", "pytest")) for line in locked)

    def install(requirements: Path) -> subprocess.CompletedProcess[str]:
        given = ("--no-index", "--find-links", wheelhouse, "--require-hashes", "-r", requirements)
        return run(pip, "install", "--no-compile", *given, at=tmp_path)

    assert run(sys.executable, "-m", "venv", tmp_path / "fresh", at=tmp_path).returncode == 0
    pip, primum = (tmp_path / "fresh" / "bin" / name for name in ("pip", "primum"))
    (ours,) = [line for line in locked if line.startswith("primum==")]
    (tmp_path / "altered.txt").write_text(f"{ours[:-64]}{'0' * 64}\n", encoding="utf-8")
    assert "DO NOT MATCH THE HASHES" in install(tmp_path / "altered.txt").stderr
    assert not primum.exists()

    done = install(wheelhouse / "requirements.txt")
    assert done.returncode == 0, done.stderr
    for word in ("--help", "audit --help", f"report recompute {KEPT} --lang en"):
        done = run(primum, *word.split(), at=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), word
    page = tmp_path / "page.html"
    done = run(primum, "report", "show", KEPT, "--lang", "fr", "--html", page, at=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "▲ Fuite" in done.stdout
    assert '<html lang="fr"' in page.read_text(encoding="utf-8")
    done = run(tmp_path / "fresh" / "bin" / "python", "-c", "import torch", at=tmp_path)
    assert "No module named 'torch'" in done.stderr
