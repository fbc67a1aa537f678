"""Tables in a ``.tar.gz`` that may be hostile, unpacked into a private folder."""

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from primum.errors import RecordsError

_MOST_ENTRIES, _MOST_READ = 10_000, 1 << 24
# Tables of text shrink tenfold, seldom thirtyfold; a bomb a thousandfold.
_MOST_BYTES_A_BYTE, _SMALLEST_CAP = 100, 1 << 24


class _Bounded(gzip.GzipFile):
    """Refuses to put more into memory at once than a header or a block of a file can need."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MOST_READ:
            raise EOFError
        return super().read(size)


def unpack(archive: Path, into: Path, *, tables: Collection[str]) -> None:
    """Write the files of these tables into a folder, under their own names without folders.

    Parameters
    ----------
    archive : Path
    into : Path
        An empty folder that only its owner can read.
    tables : collection of str
        Names in lower case, without ending. Other members are checked and left out.

    Raises
    ------
    RecordsError
        A link, a device, a path out of the archive, a table in two members, too many members, more bytes
        declared than 100 times the archive holds (16 MiB are always allowed), or an archive that is broken.
    """
    most = max(_SMALLEST_CAP, archive.stat().st_size * _MOST_BYTES_A_BYTE)
    declared = 0
    try:
        with _Bounded(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as opened:
            for number, member in enumerate(opened):
                declared += member.size
                path = PurePosixPath(member.name.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
                    raise RecordsError(
                        "{path}, entry {entry}, is a link, a device or a path out of the archive: pack plain "
                        "files only.",
                        path=str(archive),
                        entry=number,
                    )
                if number >= _MOST_ENTRIES or declared > most:
                    raise RecordsError(
                        "{path} declares more than {entries} entries or {bytes} bytes: unpack it yourself if "
                        "you trust it, and give the folder.",
                        path=str(archive),
                        entries=_MOST_ENTRIES,
                        bytes=most,
                    )
                if member.isfile() and path.name.lower().partition(".")[0] in tables:
                    _write(opened, member, into / path.name.lower(), archive)
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, ValueError) as error:
        raise RecordsError("{path} is truncated or no .tar.gz: copy it again.", path=str(archive)) from error


def _write(opened: tarfile.TarFile, member: tarfile.TarInfo, target: Path, archive: Path) -> None:
    if target.exists():
        raise RecordsError(
            "{path} holds the table {table} twice: keep one file of it.",
            path=str(archive),
            table=target.name.partition(".")[0],
        )
    content = opened.extractfile(member)
    assert content is not None
    with content, target.open("wb") as written:
        shutil.copyfileobj(content, written)
