"""The trail as its writers see it: append and wait, while one thread makes many appends durable at once."""

import os
import queue
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from primum.errors import InputError, PrimumError
from primum.trail.chain import Chain, now, size_of, tree_of
from primum.trail.entry import Entry, Position, Recorder, Value
from primum.trail.heads import Head, SignedHead, head_line, public_hex, read_head, sign_head
from primum.trail.store import HEADS, Store, position_of
from primum.trail.witness import Witness

_BATCH = 1024
_Answer = TypeVar("_Answer")
_Waiting = tuple[Entry, "Future[Position]"]


class Trail:
    """One shard of a trail, open for appending; several processes may have it open.

    Every append is durable when it returns: all that wait meanwhile are committed together. With a key, heads
    are signed on a timer and when it is closed, and offered to the witnesses.

    Parameters
    ----------
    url : str
        See :class:`primum.trail.store.Store`.
    shard : int
    key : Ed25519PrivateKey or None
        Signs heads; without it this process signs none.
    witnesses : sequence of Witness
    head_every : float
        Seconds between heads while records arrive.

    Raises
    ------
    InputError
        There is no trail, or the database loses what it acknowledged.
    """

    def __init__(
        self,
        url: str,
        *,
        shard: int = 0,
        key: Ed25519PrivateKey | None = None,
        witnesses: Sequence[Witness] = (),
        head_every: float = 60.0,
    ) -> None:
        if not 0 <= shard < 1 << 20:
            raise InputError("Shards are numbered from 0 to 1048575: {shard} is none.", shard=shard)
        self.store = Store(url, pooled=True)
        try:
            facts = self.store.facts()
            self.name = facts["trail"]
            self._require_durable()
            self._chain = Chain(self.name, shard)
            self._begin(facts["key"])
        except PrimumError:
            self.store.close()
            raise
        self.shard = shard
        self.problems: list[PrimumError] = []
        self._key, self._witnesses = key, tuple(witnesses)
        self._offered: SignedHead | None = None
        # Who writes at the end of the chain; and who may still hand over.
        self._lock, self._open = threading.Lock(), threading.Lock()
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._process = os.getpid()
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        if key is not None:
            self._threads.append(threading.Thread(target=self._heads, args=(head_every,), daemon=True))
        for one in self._threads:
            one.start()

    @classmethod
    def create(cls, url: str, *, key: Ed25519PrivateKey, writer: str | None = None) -> None:
        """Make a trail whose first record names it and the key of its heads.

        Parameters
        ----------
        url : str
        key : Ed25519PrivateKey
        writer : str or None
            On PostgreSQL the role that may read and add, and nothing else; it must not own the tables.

        Raises
        ------
        InputError
            There is one already.
        """
        name, store = secrets.token_hex(16), Store(url)
        try:
            store.create({"trail": name, "schema": "1", "key": public_hex(key)}, writer=writer)
            with store.writing() as connection:
                Chain(name, 0).write(connection, [_created(name, 0, public_hex(key))])
        finally:
            store.close()

    def submit(self, entry: Entry) -> "Future[Position]":
        """Hand over an entry; the future ends when it is durable, or with what refused it.

        A future that is cancelled in time leaves no record.
        """
        if self._process != os.getpid():
            raise RuntimeError("a trail is opened in the process that appends to it")
        waiting: Future[Position] = Future()
        with self._open:
            if self._closed.is_set():
                raise RuntimeError("the trail is closed")
            self._waiting.put((entry, waiting))
        return waiting

    def append(self, entry: Entry) -> Position:
        """Write one entry and return when it is durable.

        Raises
        ------
        MachineError
            The database refused; nothing was half-written.
        """
        return self.submit(entry).result()

    def sign_head(self) -> SignedHead | None:
        """Sign what is durable now and offer it to the witnesses; None without a key or a record.

        Raises
        ------
        MachineError
            A witness cannot be reached; the head is kept all the same.
        InputError
            A witness refuses: what it saw before is not part of this trail.
        """
        if self._key is None:
            return None
        signed = self._signed(self._key)
        refused: list[PrimumError] = []
        if signed is None or signed == self._offered:
            return signed
        for one in self._witnesses:
            try:
                one.offer(signed, self._consistency)
            except PrimumError as error:
                refused.append(error)
        if refused:
            raise refused[0]
        self._offered = signed
        return signed

    def close(self) -> None:
        """Wait for all appends, sign the last head and let go of the database."""
        # In a fork, connections and threads are still those of the process that opened them.
        if self._process != os.getpid():
            return
        with self._open:
            if self._closed.is_set():
                return
            self._closed.set()
            self._waiting.put(None)
        for one in self._threads:
            one.join()
        try:
            self.sign_head()
        finally:
            self.store.close()

    def __enter__(self) -> "Trail":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, key: str) -> None:
        """Begin a shard: its first record and one of shard 0 say so, together or not at all.

        Else a shard that is taken away whole, with its heads, would leave nothing behind.
        """
        if not self._chain.shard:
            return
        with self.store.reading() as connection:
            if size_of(connection, self._chain.shard):
                return
        # Nobody writes to a shard before it is begun: the lock of the first one is enough.
        with self.store.writing() as connection:
            first = Chain(self.name, 0)
            for chain in (first, self._chain):
                chain.catch_up(connection)
            if not self._chain.size:
                for chain in (first, self._chain):
                    chain.write(connection, [_created(self.name, self._chain.shard, key)])

    def _require_durable(self) -> None:
        if self.store.kind != "postgresql":
            return
        with self.store.reading() as connection:
            off = [
                name
                for name in ("fsync", "synchronous_commit", "full_page_writes")
                if connection.exec_driver_sql(f"SHOW {name}").scalar() == "off"
            ]
        if off:
            raise InputError(
                "PostgreSQL runs with {settings} off and would lose records that it acknowledged: switch it "
                "on.",
                settings=", ".join(off),
            )

    def _serve(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = [first], False
            while len(batch) < _BATCH and not self._waiting.empty():
                more = self._waiting.get()
                if more is None:
                    last = True
                    break
                batch.append(more)
            self._write(batch)
            if last:
                return

    def _write(self, waiting_for: list[_Waiting]) -> None:
        # Who gave up before it was begun has nothing written; from here on nobody can give up any more.
        batch = [one for one in waiting_for if one[1].set_running_or_notify_cancel()]
        if not batch:
            return
        try:
            with self._lock, self.store.writing(self.shard) as connection:
                self._chain.catch_up(connection)
                positions = self._chain.write(connection, [entry for entry, _ in batch])
        except BaseException as error:
            # Whether it was kept is not known any more: read the end again before the next.
            self._chain = Chain(self.name, self.shard)
            for _, waiting in batch:
                waiting.set_exception(error)
            return
        for (_, waiting), position in zip(batch, positions, strict=True):
            waiting.set_result(position)

    def _heads(self, every: float) -> None:
        while not self._closed.wait(every):
            try:
                self.sign_head()
            except PrimumError as error:
                self.problems.append(error)

    def _signed(self, key: Ed25519PrivateKey) -> SignedHead | None:
        """Sign a head of what is kept, or give the one that has this size already."""
        with self._lock, self.store.writing(self.shard) as connection:
            self._chain.catch_up(connection)
            size, root = self._chain.size, self._chain.root()
            if not size:
                return None
            where = HEADS.c.position == position_of(self.shard, size)
            kept = connection.execute(HEADS.select().where(where)).one_or_none()
            if kept is not None:
                return read_head(kept.body)
            head = Head(self.name, self.shard, size, root.hex(), now(), public_hex(key))
            signed = sign_head(head, key)
            row = {"position": position_of(self.shard, size), "body": head_line(signed)}
            connection.execute(HEADS.insert(), row)
            return signed

    def _consistency(self, earlier: int, later: int) -> list[bytes]:
        with self.store.reading() as connection:
            return tree_of(connection, self.shard).consistency(earlier, later)


def attended(
    trail: Recorder,
    intent: Entry,
    run: Callable[[], _Answer],
    outcome: Callable[[_Answer], Entry],
) -> _Answer:
    """Run something so that neither its start nor its end can be missing in silence.

    The intent is durable before `run` begins, and the outcome before the answer is given. When `run` fails,
    the outcome says so; when the process dies in between, the intent stays without an outcome and is counted.

    Parameters
    ----------
    trail : Recorder
    intent : Entry
        A ``prediction.intent``.
    run : callable
    outcome : callable
        Makes the ``prediction.outcome`` of the answer; what it refers to is filled in.
    """
    begun = trail.append(intent)
    try:
        answer = run()
    except BaseException:
        failed = {"status": "failed"}
        trail.append(_ending(Entry("prediction.outcome", intent.by, details=failed), intent, begun))
        raise
    trail.append(_ending(outcome(answer), intent, begun))
    return answer


def _created(trail: str, shard: int, key: str) -> Entry:
    details: dict[str, Value] = {"trail": trail, "shard": shard, "key": key, "version": "1"}
    return Entry("trail.created", "primum", details=details)


def _ending(entry: Entry, intent: Entry, begun: Position) -> Entry:
    return Entry(
        entry.kind,
        entry.by,
        patient=entry.patient or intent.patient,
        model=entry.model or intent.model,
        on_behalf_of=entry.on_behalf_of or intent.on_behalf_of,
        refers_to=begun.number,
        details=entry.details,
    )
