"""One damaged input through its reader: refused with a sentence, or accepted; anything else is a failure."""

import gc
import resource
import shutil
import signal
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from types import FrameType
from unittest import mock

from tests.fuzz.corpus import SECRET, Files, put
from tests.fuzz.mutations import mutate
from tests.fuzz.readers import READERS, Reader

from primum.errors import PrimumError, clean_text
from primum.report.language import Language

SECONDS, MEBIBYTES = 10, 768
_LANGUAGES = Language("en"), Language("fr")


class Failure(Exception):
    """A case that ended neither way; names the reader and the seed that make it again."""


class _Hang(BaseException):
    """The time of a case is over."""


def schedule(count: int) -> list[tuple[Reader, int]]:
    """Give each reader its share of `count` cases; a longer schedule holds the shorter one."""
    turns = [reader for reader in READERS for _ in range(reader.share)]
    Random(0).shuffle(turns)
    return [(turns[number % len(turns)], number // len(turns)) for number in range(count)]


def outcome(reader: Reader, seed: int, root: Path) -> str:
    """Damage one file of one valid input, read it, and say what came of it.

    Returns
    -------
    str
        ``"refused"`` or ``"accepted"``.

    Raises
    ------
    Failure
        A traceback, a hang, much memory, or something left behind.
    """
    rng = Random(f"{reader.name} {seed}")
    damaged = dict(rng.choice(pristine(reader)))
    name = rng.choice([one for one in damaged if one not in reader.kept])
    damaged[name] = mutate(name, damaged[name], rng)
    return read(reader, damaged, root, case=f"({reader.name!r}, seed {seed}): {name}")


def read(reader: Reader, files: Files, root: Path, *, case: str) -> str:
    """Put files in a folder of their own and read them; see :func:`outcome`."""
    given, private = root / "given", root / "private"
    for folder in (given, private):
        folder.mkdir()
    try:
        put(given, files)
        before, peak = _listing(given), _peak()
        with mock.patch.object(tempfile, "tempdir", str(private)):
            result = _read(reader, given, case)
        if _listing(private):
            gc.collect()
        if left := [*_listing(private), *(_listing(given) ^ before)]:
            raise Failure(f"{case} left {sorted(left)[:3]} behind")
        if _peak() - peak > MEBIBYTES << 10:
            raise Failure(f"{case} took {(_peak() - peak) >> 10} MiB")
        return result
    finally:
        for folder in (given, private):
            shutil.rmtree(folder)


def _read(reader: Reader, given: Path, case: str) -> str:
    try:
        with _limited():
            reader.read(given)
    except PrimumError as error:
        said = [clean_text(language.error(error)) for language in _LANGUAGES]
        if error.exit_status not in (2, 4) or str(SECRET) in str(error) or not all(map(str.encode, said)):
            raise Failure(f"{case} was refused badly: {error}") from error
        return "refused"
    except _Hang as error:
        raise Failure(f"{case} took more than {SECONDS} s\n{traceback.format_exc(limit=-4)}") from error
    except BaseException as error:  # panics of native code are no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        raise Failure(f"{case} raised\n{traceback.format_exc(limit=-5)}") from error
    return "accepted"


@contextmanager
def _limited() -> Iterator[None]:
    def over(number: int, frame: FrameType | None) -> None:
        raise _Hang

    # Of the processor, for others may be at work on the machine; of the clock, for who waits for ever.
    limits = (
        (signal.ITIMER_PROF, signal.SIGPROF, SECONDS),
        (signal.ITIMER_REAL, signal.SIGALRM, 6 * SECONDS),
    )
    before = [signal.signal(number, over) for _, number, _ in limits]
    for timer, _, seconds in limits:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, _, _ in limits:
            signal.setitimer(timer, 0)
        for (_, number, _), handler in zip(limits, before, strict=True):
            signal.signal(number, handler)


@cache
def pristine(reader: Reader) -> tuple[Files, ...]:
    """Return the inputs of a reader before any damage."""
    return reader.seeds()


def _listing(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
