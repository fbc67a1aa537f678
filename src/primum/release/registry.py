"""The registry on disk: a folder that can be copied and read without a server.

::

    registry/
      artefacts/<model digest>/…   the files of each model
      documents/<sha256>           cards, policies, findings, decisions, seals
      history/00000000.json …      what happened, each event naming the one before
      serving.json                 what is served now: made of the history, replaced as a whole
      pending.json                 an event that is being written; only there for a moment
      lock.sqlite                  held by whoever writes; let go of when a process dies

**Order of writing.** An event is checked, written to ``pending.json``, appended to the trail, added to the
history, and then takes effect in ``serving.json``. Each write is durable before the next begins. Whoever
writes next finishes what a crash left: an event that was pending is carried through, and appended to the
trail again, because nobody can know whether it was. It bears the same digest in its field ``event``; so what
the trail says twice happened once. When the trail refuses, the event is withdrawn and nothing has changed.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from primum.errors import InputError, MachineError, PrimumError, clean_text
from primum.evidence.canonical import canonical_bytes
from primum.evidence.documents import Misfit, decode, load_object
from primum.release.event import Body, Event, Kind, PolicyAdopted, read_event
from primum.release.folding import apply
from primum.release.routing import Serving
from primum.release.shelf import FolderShelf, keep_name, write_durably
from primum.release.standing import ModelStanding, Standing, card_of
from primum.release.statement import moment
from primum.release.trail_entry import entry_of
from primum.trail.entry import Entry, Position, Recorder

SERVING: Final = "serving.json"
_PENDING: Final = "pending.json"
_WAIT_SECONDS: Final = 60.0
Clock = Callable[[], datetime]
# Makes the event's kind and content from where things stand and what time it is.
Build = Callable[[Standing, str], tuple[Kind, Body]]


@dataclass(frozen=True)
class Kept:
    """An event of the history, and where it stands in the trail."""

    event: Event
    position: Position


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Registry:
    """Models, what was found of them, who signed, and which of them may answer.

    Parameters
    ----------
    folder : Path
    recorder : Recorder or None
        The trail; None: this registry is only read.
    clock : callable, optional

    Raises
    ------
    InputError
        There is no registry, or its history was altered; names the file.
    """

    def __init__(self, folder: Path, recorder: Recorder | None = None, *, clock: Clock = _utc_now) -> None:
        if not (folder / "history").is_dir():
            raise InputError(
                "{path} is no registry: make one with primum release init.", path=clean_text(folder)
            )
        self.folder, self._recorder, self._clock = folder, recorder, clock
        self.shelf = FolderShelf(folder / "documents")
        self._kept: list[Kept] = []
        self._standing = Standing()
        self._read_more()

    @classmethod
    def create(
        cls, folder: Path, policy: bytes, recorder: Recorder, *, by: str, clock: Clock = _utc_now
    ) -> "Registry":
        """Make a registry under a policy.

        Raises
        ------
        InputError
            The folder is not empty, or the policy cannot be used.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError("{path} is not empty: name a new folder.", path=clean_text(folder))
        try:
            for name in ("history", "documents", "artefacts"):
                (folder / name).mkdir(parents=True)
        except OSError as error:
            raise MachineError(
                "{file} cannot be written ({reason}): look at the disk and repeat the command; nothing was "
                "changed.",
                file=clean_text(folder),
                reason=error.strerror or type(error).__name__,
            ) from error
        registry = cls(folder, recorder, clock=clock)
        try:
            registry.commit(by, lambda standing, date: ("policy", PolicyAdopted(registry.shelf.put(policy))))
        except PrimumError:
            # Nothing was written in it yet that anybody could want.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return registry

    @property
    def standing(self) -> Standing:
        """Where everything stands, with what other processes added meanwhile.

        Raises
        ------
        InputError
            The history was altered; names the file.
        """
        self._read_more()
        return self._standing

    def history(self) -> tuple[Kept, ...]:
        """Return every event, in order."""
        self._read_more()
        return tuple(self._kept)

    def now(self) -> str:
        """Return the present moment as events write it."""
        return self._clock().astimezone(UTC).isoformat(timespec="seconds")

    def artefact(self, digest: str) -> Path:
        """Return the folder of a model's files."""
        return self.folder / "artefacts" / digest

    def serving(self) -> Serving:
        """Return what is served, by the history.

        Raises
        ------
        InputError
            The file that requests are routed by says something else, and nobody is writing.
        """
        file = self.folder / SERVING
        while True:
            served, events = self.standing.serving(), len(self._kept)
            # Between history and file a writer may be at work, or have died: what is pending explains it.
            if (self.folder / _PENDING).exists() or Serving.read(file) == served:
                return served
            self._read_more()
            # A writer may also have come and gone while the two were read.
            if len(self._kept) == events and not (self.folder / _PENDING).exists():
                break
        raise InputError(
            "{file} is not what the history of the registry says: it was altered, or copied in part. primum "
            "release status --repair writes it again.",
            file=SERVING,
        )

    def find(self, said: str) -> ModelStanding:
        """Find a model by the beginning of its digest, or by ``name:version`` of its card.

        Raises
        ------
        InputError
            None is so called, or several are.
        """
        models = self.standing.models.values()
        found = [one for one in models if len(said) >= 6 and one.digest.startswith(said)]
        if not found:
            found = [one for one in models if _called(card_of(one, self.shelf)) == said]
        if len(found) != 1:
            raise InputError(
                "{model} names {count} models of this registry: give six digits or more of a digest, or "
                "name:version of a card.",
                model=clean_text(said)[:80],
                count=len(found),
            )
        return found[0]

    def commit(self, by: str, build: Build) -> Standing:
        """Let one thing happen: durable in the trail, then in the history, then in effect.

        Parameters
        ----------
        by : str
            Who does it, as the trail writes names.
        build : callable
            Called while no other process writes.

        Raises
        ------
        InputError
            It may not happen; nothing was written.
        MachineError
            Disk or trail refuse; nothing was changed.
        """
        with self._alone():
            self._repair()
            before = self._standing
            date = max(
                self.now(),
                before.date,
                key=lambda one: moment(one) if one else datetime.min.replace(tzinfo=UTC),
            )
            kind, body = build(before, date)
            event = Event(before.number, before.head, kind, date, by, body)
            after = apply(before, event, self.shelf)
            entry = entry_of(event, before, after, self.shelf)
            write_durably(self.folder / _PENDING, canonical_bytes(event))
            try:
                position = self._trail().append(entry)
            except PrimumError:
                (self.folder / _PENDING).unlink(missing_ok=True)
                raise
            self._carry_through(event, after, position)
            return after

    def note(self, entry: Entry) -> Position:
        """Write to the trail what changes nothing here, an export for one."""
        return self._trail().append(entry)

    def repair(self) -> None:
        """Finish what a crash left, and write what is served again if it is not what the history says."""
        with self._alone():
            self._repair()

    def _carry_through(self, event: Event, after: Standing, position: Position) -> None:
        write_durably(self._file(event.number), canonical_bytes({"event": event, "position": position}))
        self._kept.append(Kept(event, position))
        self._standing = after
        self._serve()
        (self.folder / _PENDING).unlink(missing_ok=True)
        keep_name(self.folder)

    def _serve(self) -> None:
        file, served = self.folder / SERVING, self._standing.serving()
        if not file.exists() or file.read_bytes() != canonical_bytes(served):
            served.write(file)

    def _repair(self) -> None:
        self._read_more()
        pending = self.folder / _PENDING
        if pending.exists():
            event = read_event(load_object(pending), file=_PENDING)
            if event.number == self._standing.number:
                after = apply(self._standing, event, self.shelf)
                entry = entry_of(event, self._standing, after, self.shelf)
                self._carry_through(event, after, self._trail().append(entry))
            elif not self._kept or self._kept[-1].event.digest != event.digest:
                raise InputError(
                    "{file} is of another history: copy the registry again, whole.", file=_PENDING
                )
        if self._kept:
            self._serve()
        pending.unlink(missing_ok=True)

    def _trail(self) -> Recorder:
        if self._recorder is None:
            raise InputError("A registry is changed only where the trail can be written: give --trail.")
        return self._recorder

    def _file(self, number: int) -> Path:
        return self.folder / "history" / f"{number:08d}.json"

    def _read_more(self) -> None:
        while (file := self._file(len(self._kept))).exists():
            document = load_object(file)
            name = f"history/{file.name}"
            event = read_event(_object(document, "event", name), file=name)
            position = _position(_object(document, "position", name), name)
            if document.keys() != {"event", "position"}:
                raise _refused(name, "event, position")
            try:
                after = apply(self._standing, event, self.shelf)
            except InputError as error:
                raise InputError(
                    "{file} holds what could not happen: {problem} The history was altered; copy the "
                    "registry again from where it was whole.",
                    file=name,
                    problem=str(error),
                ) from error
            self._kept.append(Kept(event, position))
            self._standing = after
        following = self._file(len(self._kept))
        beyond = sorted(
            one.name for one in (self.folder / "history").glob("[0-9]*.json") if one.name > following.name
        )
        if beyond and following.exists():
            # Others wrote two or more meanwhile.
            self._read_more()
        elif beyond:
            raise InputError(
                "{file} follows an event that is missing: copy the registry again, whole.",
                file=f"history/{beyond[0]}",
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Write alone: others wait, and a process that dies lets go."""
        try:
            with closing(
                sqlite3.connect(self.folder / "lock.sqlite", timeout=_WAIT_SECONDS, isolation_level=None)
            ) as lock:
                lock.execute("BEGIN EXCLUSIVE")
                yield
        except sqlite3.Error as error:
            raise MachineError(
                "{path} cannot be locked: another process writes to it for long, or the disk refuses. Repeat "
                "the command.",
                path=clean_text(self.folder),
            ) from error


def _called(card: Any) -> str:
    return f"{card.name}:{card.version}"


def _object(document: dict[str, Any], key: str, file: str) -> dict[str, Any]:
    found = document.get(key)
    if not isinstance(found, dict):
        raise _refused(file, key)
    return found


def _position(document: dict[str, Any], file: str) -> Position:
    try:
        position: Position = decode(Position, document)
    except Misfit as error:
        raise _refused(file, str(error)) from error
    return position


def _refused(file: str, key: str) -> InputError:
    return InputError(
        "{file}: {key} is missing, unknown or of the wrong type. The file was altered or cut: copy the "
        "registry again, whole.",
        file=file,
        key=clean_text(key),
    )
