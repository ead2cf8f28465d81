"""The work of a cache that no call waits for: late writes, times of use, eviction, checkpoints.

A daemon thread does it; the thread starts when there is work and ends when there is none. Each
step is one short transaction, so that neither a writer nor a fork waits for long.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock, Thread
from typing import Any, Protocol, TypeAlias, TypeVar

from .._drive.futures import start
from .schema import PUT, TROUBLE

__all__ = ["Maintenance"]

T = TypeVar("T")
Row: TypeAlias = "tuple[Any, ...]"

LOCK_WAIT = 1.0  # seconds that a step waits for the lock of another process
TOUCHES = 512  # hits noted together
WRITES = 256  # writes between two rounds
VOLUME = 8 * 1024 * 1024  # bytes written between two rounds

_PAGES = """
SELECT (SELECT page_count FROM pragma_page_count),
(SELECT freelist_count FROM pragma_freelist_count), (SELECT page_size FROM pragma_page_size)
"""


class Maintained(Protocol):
    """What maintenance needs of a store."""

    size_limit: int

    def insist(self, step: Callable[[sqlite3.Connection], T], patience: float) -> T:
        """Run a step, and again while another process holds the lock."""

    def complain(self, error: Exception) -> None:
        """Warn of a problem with the file."""


class Maintenance:
    """The maintenance of one store."""

    def __init__(self, store: Maintained) -> None:
        self._store = store
        self._lock = Lock()
        self._thread: Thread | None = None
        self._postponed: deque[Row] = deque(maxlen=4096)
        self._touched: dict[int, int] = {}
        self._writes = 0
        self._volume = VOLUME  # the first write looks at what is there

    def touch(self, row: int, when: int) -> None:
        """Remember that a row was used, to write it later."""
        self._touched[row] = when
        if len(self._touched) >= TOUCHES:
            self._start()

    def postpone(self, row: Row) -> None:
        """Write this row once the lock is free."""
        self._postponed.append(row)
        self._start()

    def count(self, size: int) -> None:
        """Note a write of so many bytes."""
        self._writes += 1
        self._volume += size
        if self._writes >= WRITES or self._volume >= VOLUME:
            self._writes = self._volume = 0
            self._start()

    def finish(self) -> None:
        """Do what is left; waits LOCK_WAIT seconds a step at most."""
        thread = self._thread
        if thread is not None:
            thread.join(2 * LOCK_WAIT)
        if self._postponed or self._touched:
            self._run()

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._thread = Thread(target=self._work, name="lmgateway-cache", daemon=True)
            try:
                start(self._thread)
            except RuntimeError:  # at the interpreter's end, or out of threads: close() does it
                self._thread = None

    def _work(self) -> None:
        while True:
            self._run()
            with self._lock:  # what was postponed until here has seen a thread, and started none
                if not self._postponed:
                    self._thread = None
                    return

    def _run(self) -> None:
        try:
            while self._postponed:
                self._insist(partial(_write, self._postponed.popleft()))
            if self._touched:
                self._insist(self._note_hits)
            while self._insist(self._evict):
                pass
            self._insist(lambda db: db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall())
        except TROUBLE as error:
            self._postponed.clear()  # the others would wait as long, and as vainly
            self._store.complain(error)

    def _insist(self, step: Callable[[sqlite3.Connection], T]) -> T:
        return self._store.insist(step, LOCK_WAIT)

    def _note_hits(self, db: sqlite3.Connection) -> None:
        touched, self._touched = self._touched, {}
        with _transaction(db):
            db.executemany(
                "UPDATE entries SET used = ? WHERE id = ?",
                [(when, row) for row, when in touched.items()],
            )

    def _evict(self, db: sqlite3.Connection) -> bool:
        """Delete a batch of the rows unused longest; returns whether there may be more."""
        limit = self._store.size_limit
        [(pages, free, page_size)] = db.execute(_PAGES)
        excess = (pages - free) * page_size - limit
        if excess <= 0:
            return False
        rows, freed = [], 0
        for row, size in db.execute("SELECT id, size FROM entries ORDER BY used LIMIT 256"):
            rows.append((row,))
            freed += size if type(size) is int else 0  # damage can turn it into a text
            if freed > excess + limit // 10:  # a tenth more, or the next write begins anew
                break
        with _transaction(db):
            db.executemany("DELETE FROM entries WHERE id = ?", rows)
        return bool(rows)


def _write(row: Row, db: sqlite3.Connection) -> None:
    db.execute(PUT, row)


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    # sqlite3's own context manager begins none in autocommit mode.
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
