"""Signals in WFDB records: a header and the files of samples that it names, all local.

The format: https://wfdb.io/spec/.
"""

import re
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from primum.errors import RecordsError
from primum.records.case_files.index import Cell, readable

_MOST_HEADER = 1 << 20
# Bytes of a sample are one or more but for 310 and 311, which put three into four.
_FORMATS = {"8", "16", "24", "32", "61", "80", "160", "212", "310", "311"}
_PLAIN = re.compile(r"\w[\w.-]{0,254}", re.ASCII)


def read_signal(path: Path, cell: Cell) -> tuple[str, NDArray[np.float32]]:
    """Read a record in physical units.

    Returns
    -------
    tuple of str and float32, shape (leads, samples)
        ``"signal"`` and the samples.

    Raises
    ------
    RecordsError
        See :func:`signal_files`; or samples that are broken.
    """
    signal_files(path, cell)
    wfdb = _package()
    with readable(cell):
        samples = wfdb.rdrecord(str(path.with_suffix(""))).p_signal
        return "signal", np.ascontiguousarray(samples.T, np.float32)


def signal_files(path: Path, cell: Cell) -> tuple[Path, ...]:
    """Return the header and the files of samples.

    Raises
    ------
    RecordsError
        The header is broken, names a file that is not beside it, segments, a compressed format, or more
        samples than there are bytes.
    """
    wfdb = _package()
    with readable(cell):
        if path.stat().st_size > _MOST_HEADER:
            raise ValueError(path)
        header: Any = wfdb.rdheader(str(path.with_suffix("")))
        formats, named = (set(getattr(header, name, None) or ()) for name in ("fmt", "file_name"))
    if not formats or not formats <= _FORMATS:
        raise RecordsError(
            "{file}, row {row}, column {column}: {input} is a record of several segments, without signals or "
            "compressed: convert it to one plain record.",
            **cell,
        )
    beside = [path.parent / name for name in sorted(named) if _PLAIN.fullmatch(name)]
    if len(beside) < len(named) or not all(one.is_file() and not one.is_symlink() for one in beside):
        raise RecordsError(
            "{file}, row {row}, column {column}: {input} names a file of samples that is not beside it, or "
            "is a link: copy it there.",
            **cell,
        )
    with readable(cell):
        size = sum(one.stat().st_size for one in beside)
        frames = sum(header.samps_per_frame)
        skew = max((one or 0 for one in header.skew), default=0)
        if (header.sig_len or 0) * frames > 2 * size or skew > size or frames > size:
            raise ValueError(path)
    return path, *beside


def _package() -> Any:
    try:
        # What it imports warns of its own future.
        with catch_warnings():
            simplefilter("ignore")
            import wfdb
    except ImportError as error:
        raise RecordsError(
            "WFDB records need a package that is not installed: install primum[{extra}].", extra="wfdb"
        ) from error
    return wfdb
