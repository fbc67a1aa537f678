"""Sequences of bases or amino acids, from a column, a text file or FASTA."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from primum.errors import RecordsError
from primum.records.case_files.index import Cell, Index, blocks_of, readable
from primum.records.cases import Inputs
from primum.records.ragged import IntArray
from primum.records.tables import Kind, read_batches

ENDINGS = (".fasta", ".fa", ".txt")
_MOST_BYTES = 1 << 28
_ALLOWED = np.zeros(256, np.bool_)
_ALLOWED[list(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ*-")] = True


def letters_of(text: bytes, cell: Cell) -> NDArray[np.uint8]:
    """Turn a sequence into its letters in upper case, ASCII; blanks and line ends are dropped.

    Raises
    ------
    RecordsError
        No letter, or something that is none (``*`` and ``-`` are allowed).
    """
    letters = np.frombuffer(b"".join(text.upper().split()), np.uint8)
    if not len(letters) or not _ALLOWED[letters].all():
        raise RecordsError(
            "{file}, row {row}, column {column}: this is no sequence: write letters of bases or amino acids.",
            **cell,
        )
    return letters


def read_sequence(path: Path, cell: Cell) -> tuple[str, NDArray[np.uint8]]:
    """Read plain text, or FASTA with one record.

    Returns
    -------
    tuple of str and uint8, shape (letters,)
        ``"sequence"`` and the letters.

    Raises
    ------
    RecordsError
        More than 256 MiB, several records, or other characters than letters.
    """
    with readable(cell), path.open("rb") as stream:
        text = stream.read(_MOST_BYTES + 1)
    if text.startswith(b">"):
        text = text.partition(b"\n")[2]
    if len(text) > _MOST_BYTES or b">" in text:
        raise RecordsError(
            "{file}, row {row}, column {column}: {input} holds several sequences or more than {most} bytes: "
            "write one a file.",
            **cell,
            most=_MOST_BYTES,
        )
    return "sequence", letters_of(text, cell)


@dataclass(frozen=True, eq=False)
class LettersSource:
    """Cases whose sequences are in the column ``sequence``."""

    index: Index
    table: Path
    kind: str = "sequence"

    def files(self) -> tuple[Path, ...]:
        """Every file that is read besides the table."""
        return ()

    def blocks(self, rows: IntArray) -> Iterator[Inputs]:
        """Yield the sequences of cases, rising, up to ``SHARD_BYTES`` at a time."""
        yield from blocks_of(self._letters(rows), bags=False)

    def _letters(self, rows: IntArray) -> Iterator[NDArray[np.uint8]]:
        for first, batch in read_batches(self.table, {"sequence": Kind.TEXT}):
            low, high = np.searchsorted(rows, (first, first + len(batch)))
            for row in rows[low:high].tolist():
                text = batch["sequence"][row - first].encode()
                yield letters_of(text, self.index.cell(row, "sequence"))
