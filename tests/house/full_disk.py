"""Audits on full disks: ``unshare -rm python -m tests.house.full_disk FOLDER`` prints how they end.

The disks are tmpfs of a few pages, mounted where nobody else sees them.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

from tests import tiny
from tests.records.test_omop import TINY

from primum.cli.main import run
from primum.records.histories import InMemory
from primum.records.opened import open_records
from primum.workflows.kept import write_private

PAGE = 4096
PEOPLE = range(1, 61)


@dataclass(frozen=True)
class Outcome:
    """How one command ended on a disk of so many pages, and what lay there afterwards."""

    disk: str
    pages: int
    status: int
    sentence: str
    left: list[str]


@contextmanager
def disk(place: Path, *, pages: int) -> Iterator[None]:
    size = f"size={pages * PAGE}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def audit_on(name: str, place: Path, arguments: list[str], *, pages: int) -> Outcome:
    said, place_of_temporary = io.StringIO(), tempfile.gettempdir()
    with disk(place, pages=pages):
        if name != "out":
            tempfile.tempdir = str(place)
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            status = run(["audit", *arguments, "--only", "membership.combined", "--lang", "en"])
        tempfile.tempdir = place_of_temporary
        left = sorted(str(path.relative_to(place)) for path in place.rglob("*"))
    # A line of progress begins with a space.
    lines = [line for line in said.getvalue().splitlines() if not line.startswith("  ")]
    return Outcome(name, pages, status, "\n".join(lines), left)


def omop(folder: Path) -> Path:
    """Write sixty people with forty observations each; the other tables are empty."""
    tables = {name: text.partition("\n")[0] + "\n" for name, text in TINY.items()}
    tables["person"] = "person_id,gender_concept_id,year_of_birth\n"
    tables["person"] += "".join(f"{person},8532,{1930 + person}\n" for person in PEOPLE)
    tables["observation"] += "".join(
        f"{40 * person + row},{person},{row * person % 97},20{row % 20 + 1:02}-0{person % 9 + 1}-11\n"
        for person in PEOPLE
        for row in range(40)
    )
    tables["subject_splits"] = "subject_id,split\n"
    tables["subject_splits"] += "".join(f"{one},{'train' if one % 2 else 'held_out'}\n" for one in PEOPLE)
    folder.mkdir()
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def pages_of(folder: Path, *, below: str = "**/*") -> int:
    return sum(-(-path.stat().st_size // PAGE) for path in folder.glob(below) if path.is_file())


def outcomes(root: Path) -> Iterator[Outcome]:
    patients = tiny.cohort(train=30, held_out=30)
    train = InMemory((patients["train"],))
    model = tiny.model_folder(root / "model", tiny.tokenizer_of(train), train)
    tiny.records_folder(root / "meds", patients)
    place, whole = root / "disk", root / "whole"
    place.mkdir()

    meds = [str(model), "--records", str(root / "meds"), "--out"]
    with patch("primum.workflows.kept.write_private", wraps=write_private) as kept:
        run(["audit", *meds, str(whole), "--only", "membership.combined", "--lang", "en"])
    unfinished = 1 + sum(-(-len(one.args[1]) // PAGE) for one in kept.call_args_list)
    shareable, everything = pages_of(whole, below="*"), pages_of(whole)
    # What is finished, the report, the first confidential file, one of the last, and for comparison nothing.
    yield audit_on("out", place, [*meds, str(place / "report")], pages=1)
    for pages in (shareable // 2, shareable + 1, everything - 2, everything + 2):
        yield audit_on("out", place, [*meds, str(place / "report")], pages=unfinished + pages)

    table = omop(root / "omop")
    with tarfile.open(root / "omop.tar.gz", "w:gz") as archive:
        archive.add(table, arcname="omop")
    trained = open_records(table).split("train")
    model = tiny.model_folder(root / "omop-model", tiny.tokenizer_of(trained), trained)
    for name, step in (("omop", 3), ("omop.tar.gz", 12)):
        given = [str(model), "--records", str(root / name), "--out", str(root / f"report-{name}")]
        pages, ended = pages_of(model), 4
        while ended == 4:
            yield (outcome := audit_on(name, place, given, pages=pages))
            pages, ended = pages + step, outcome.status
    given = [str(model), "--records", str(root / "meds"), "--out", str(root / "report-model")]
    yield audit_on("model", place, given, pages=pages_of(model) // 2)
    yield Outcome("root", 0, 0, "", sorted(path.name for path in root.iterdir()))


if __name__ == "__main__":
    os.environ["PRIMUM_TRACEBACK"] = ""
    for one in outcomes(Path(sys.argv[1])):
        print(json.dumps(asdict(one)), flush=True)
