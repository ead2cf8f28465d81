"""The cache's database: one SQLite file, shared by threads, event loops and processes.

A cache must never do harm. Whatever is wrong with the file (read-only, locked, full, damaged,
written by a newer version), a lookup is a miss, a write is left out, there is one RuntimeWarning,
and nothing is deleted. An event loop never waits for a lock, and another call waits WRITE_WAIT
seconds at most: a row that cannot be written at once is left to the maintenance thread. That
thread also evicts and checkpoints, so that no fsync happens on an event loop.

An entry is *acknowledged* when ``put`` has returned True; it then survives ``kill -9`` of any
process (not a power cut: that may take the last entries, never the file).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import uniform
from threading import Event, Lock, RLock, get_ident
from time import monotonic, sleep, time
from typing import Any, TypeVar
from weakref import WeakSet

from .maintenance import Maintenance, Row
from .ownership import check_owner, make_private
from .schema import (
    APPLICATION,
    CREATE,
    GET,
    GET_ANY,
    PUT,
    SCHEMA,
    TROUBLE,
    UnusableFileError,
    code_of,
    explain,
    is_busy,
    is_sound,
    seal,
)
from .serialization import Key
from .settings import warn

__all__ = ["Store", "open_store"]

T = TypeVar("T")

IDLE = 8  # connections kept open while nobody uses them
FILES = 16  # caches that one process keeps open
WRITE_WAIT = 0.1  # seconds that a write may wait for another process, but never on an event loop
FORK_WAIT = 1.0  # seconds that a fork waits for statements, and new ones for a fork
LOCKED_LONG = 1.0  # seconds after which a lock that lets nobody read is worth a warning
TOUCH_AFTER = 3600  # seconds; a hit within this time of the last noted one is not noted
MEBIBYTE = 1024 * 1024


class _Hold:
    """The use of a connection: registered before the connection is taken, so that none is lost."""

    __slots__ = ("db", "keep")

    def __init__(self) -> None:
        self.db: sqlite3.Connection | None = None
        self.keep = False


class Store:
    """One cache file. Every method may be called from any thread and never raises.

    Connections are shared by all threads. So thousands of short threads open only as many
    connections as run at the same time.

    Args:
        file: The database; it and its folder are made when they are first needed.
        size_limit: Bytes it may take.
    """

    def __init__(self, file: Path, size_limit: int = 1024 * MEBIBYTE) -> None:
        self.file = file
        self.size_limit = size_limit
        self._lock = Lock()
        self._writing = RLock()  # threads of one process queue here, where waiting is fair
        self._making = Lock()
        self._idle: list[sqlite3.Connection] = []
        self._out: set[_Hold] = set()
        self._unusable = False
        self._complained = False
        self._reported_foreign = False
        self._checked = False
        self._locked_since: float | None = None
        self._invalid: deque[Key] = deque(maxlen=64)
        self._maintenance = Maintenance(self)
        _stores.add(self)

    def get(self, key: Key) -> bytes | None:
        """The value stored under a key; None if there is none, or if it is damaged.

        A key without a base URL finds a value only if exactly one base URL answered the request.
        """
        if self._unusable or (self._invalid and key in self._invalid):
            return None
        request, base = key
        try:
            # A larger value was not written by put, and might fill the memory.
            largest = self.size_limit // 8
            if base is not None:
                rows = self.select(GET, (request, base, largest))
            else:
                rows = self.select(GET_ANY, (request, largest))
        except TROUBLE as error:
            self.miss(error)
            return None
        if self._locked_since is not None:
            self._locked_since = None
        if len(rows) != 1:
            return None
        row, digest, used, value, *found = rows[0]
        base = found[0] if base is None else base
        if not is_sound(request, base, digest, value) or type(used) is not int:
            return None
        if (now := int(time())) - used > TOUCH_AFTER:
            self._maintenance.touch(row, now)
        return value  # type: ignore[no-any-return]  # is_sound has hashed it: it is bytes

    def miss(self, error: Exception) -> None:
        """Warn of a lookup that failed, if it is worth it."""
        # A process that begins or ends locks the file for milliseconds: no reason to warn.
        if is_busy(error):
            now = monotonic()
            if self._locked_since is None:
                self._locked_since = now
            if now - self._locked_since < LOCKED_LONG:
                return
        self.complain(error)

    def select(self, statement: str, where: tuple[bytes | int | None, ...]) -> list[Any]:
        """The rows of a statement; raises what SQLite raises."""
        # As connection() does it, without the cost of a context manager in every hit.
        hold = _Hold()
        try:
            rows = self._take(hold).execute(statement, where).fetchall()
            hold.keep = True
            return rows
        finally:
            try:
                self._give(hold)
            finally:
                self._out.discard(hold)  # Ctrl-C may have cut that short

    def put(self, key: Key, value: bytes) -> bool:
        """Store a value; True if it is written now, False if it is written later or never."""
        request, base = key
        if self._unusable or base is None or len(value) > self.size_limit // 8:
            return False
        row = (request, base, seal(request, base, value), int(time()), len(value), value)
        patience = 0.0 if self._complained or is_on_loop() else WRITE_WAIT
        if not self.write(lambda db: db.execute(PUT, row), (row,), patience):
            return False
        self.revalidate(key)
        return True

    def write(
        self, step: Callable[[sqlite3.Connection], object], rows: Sequence[Row], patience: float
    ) -> bool:
        """Run a step that writes these rows; they are postponed while another one writes.

        Returns whether it has run.
        """
        try:  # the lock is taken within, or Ctrl-C might come in between
            if not self._writing.acquire(timeout=patience):
                self._postpone(rows)
                return False
            self.insist(step, patience)
        except TROUBLE as error:
            if is_busy(error):
                self._postpone(rows)
            else:
                self.complain(error)
            return False
        finally:
            try:  # noqa: SIM105 - suppress() would be a step in which Ctrl-C may strike
                self._writing.release()
            except RuntimeError:  # another thread has it
                pass
        for row in rows:
            self._maintenance.count(row[4])
        return True

    def _postpone(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._maintenance.postpone(row)

    @property
    def unusable(self) -> bool:
        """Whether the file cannot serve as a cache."""
        return self._unusable

    def touch(self, row: int, now: int) -> None:
        """Note that a row was used, soon."""
        self._maintenance.touch(row, now)

    def is_invalid(self, key: Key) -> bool:
        """Whether this entry is not to be found: see ``invalidate``."""
        return bool(self._invalid) and key in self._invalid

    def revalidate(self, key: Key) -> None:
        """Find this entry again: it was written anew."""
        if self._invalid and key in self._invalid:
            self._invalid.remove(key)

    def invalidate(self, key: Key) -> None:
        """Do not find this entry until it is written again: the answer made of it was refused."""
        self._invalid.append(key)

    def report_foreign(self, key: Key) -> None:
        """Do not find this entry, and warn once: lmgateway never stored it."""
        self.invalidate(key)
        if not self._reported_foreign:
            self._reported_foreign = True
            warn(
                f"the cache {self.file} holds what lmgateway did not put there, which is passed "
                "over; if you do not know who did, lmgateway cache clear"
            )

    def close(self) -> None:
        """Write the postponed rows and close idle connections; the store opens again when used."""
        self._maintenance.finish()
        self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            self._close_idle()

    def __del__(self) -> None:
        self._close_idle()  # since Python 3.13 a connection that is forgotten warns

    # -- connections ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one short statement. Raises what SQLite raises."""
        hold = _Hold()
        try:
            yield self._take(hold)
            hold.keep = True
        except sqlite3.Error as error:
            hold.keep = is_busy(error)
            raise
        finally:
            try:
                self._give(hold)
            finally:
                self._out.discard(hold)  # Ctrl-C may have cut that short

    def _take(self, hold: _Hold) -> sqlite3.Connection:
        waited_long = False
        while True:
            with self._lock:
                if not _forks or waited_long:
                    self._out.add(hold)
                    if self._idle:
                        hold.db = self._idle.pop()
                        return hold.db
                    break
            fork = next(iter(_forks), None)
            waited_long = fork is not None and not fork.wait(FORK_WAIT)
        hold.db = self._connect()
        return hold.db

    def _give(self, hold: _Hold) -> None:
        db, hold.db = hold.db, None
        with self._lock:
            self._out.discard(hold)
            if db is None:
                return
            if hold.keep and len(self._idle) < IDLE and not self._unusable:
                self._idle.append(db)
                return
        db.close()

    def insist(self, step: Callable[[sqlite3.Connection], T], patience: float) -> T:
        """Run a step; try again for ``patience`` seconds while another process holds the lock.

        Raises what SQLite raises.
        """
        end = monotonic() + patience
        while True:
            try:
                with self.connection() as db:
                    return step(db)
            except sqlite3.Error as error:
                if not is_busy(error) or monotonic() >= end:
                    raise
            sleep(uniform(0.001, 0.005))  # without a connection, so that a fork need not wait

    def _connect(self) -> sqlite3.Connection:
        first = not self._checked
        if first:
            with self._making:
                make(self.file)
            check_owner(self.file)
        db = sqlite3.connect(self.file, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        if first:
            make_private(self.file)
            self._checked = True
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        # One transaction, or another process may make the file between two of these.
        db.execute("BEGIN")
        [(version,)] = db.execute("PRAGMA user_version")
        [(application,)] = db.execute("PRAGMA application_id")
        [(tables,)] = db.execute("SELECT count(*) FROM sqlite_master")
        db.execute("COMMIT")
        if not (version or application or tables):  # an empty file that somebody else made
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(CREATE)
        elif application != APPLICATION:
            raise UnusableFileError("it is a database of another program")
        elif version > SCHEMA:
            raise UnusableFileError(f"it has schema {version}, which a newer lmgateway wrote")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")  # the maintenance thread does it

    def complain(self, error: Exception) -> None:
        """Warn of the first problem with this file; stop using it if the problem will not pass."""
        transient = is_busy(error) or code_of(error) in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
        if code_of(error) == sqlite3.SQLITE_READONLY and self._checked:
            transient = True  # what is in it can still be read
        if not transient:
            self._unusable = True
            self._let_go()
        if self._complained or is_recovery(error):
            return
        self._complained = True
        name = f"the cache {self.file}" if self.file.is_absolute() else "the cache"
        warn(f"{name} is not used: {explain(error)}; nothing in it was deleted")

    def _close_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(sqlite3.Error):
                self._idle.pop().close()

    # -- forks ---------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        # No connection may cross a fork: SQLite's table of locks would come with it, and the
        # child believe it held locks that the system knows nothing of.
        end = monotonic() + FORK_WAIT
        while True:
            with self._lock:
                if not self._out or monotonic() >= end:
                    self._close_idle()
                    return
            sleep(0.001)

    def _in_child(self) -> None:
        self._lock, self._writing, self._making = Lock(), RLock(), Lock()
        self._maintenance = Maintenance(self)
        if self._out or self._idle:  # one did cross: it is never touched, and nothing is cached
            self._unusable = True
            _crossed.append(self._idle)
            self._idle, self._out = [], set()


def make(file: Path) -> None:
    """Create the cache file unless it exists; only its owner can read it. Raises OSError.

    It is written under another name and then linked to its place. So processes that start at the
    same time never find a file that is locked or half written.
    """
    if file.exists():
        return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}-{get_ident()}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    try:
        os.close(os.open(draft, flags, 0o600))
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(CREATE)
        try:
            os.link(draft, file)  # unlike a rename it never replaces what is there
        except FileExistsError:
            pass
        except (AttributeError, OSError):  # no hard links here: who opens it first fills it
            with contextlib.suppress(FileExistsError):
                os.close(os.open(file, flags, 0o600))
    finally:
        draft.unlink(missing_ok=True)


def is_on_loop() -> bool:
    """Whether the code runs on an event loop."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def is_recovery(error: Exception) -> bool:
    """Whether another process is repairing the file after a crash, which takes milliseconds."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY_RECOVERY


def close_all() -> None:
    """Close every store of this process."""
    for store in list(_stores):
        store.close()


_stores: WeakSet[Store] = WeakSet()
_opened: dict[Path, Store] = {}
_opening = Lock()
_crossed: list[list[sqlite3.Connection]] = []  # closing them would harm the parent's
_forks: list[Event] = []  # those that are under way: no statement begins before they are over


def _before_fork() -> None:
    _forks.append(Event())
    for store in list(_stores):
        store._before_fork()


def _in_parent() -> None:
    if _forks:
        _forks.pop().set()


def _in_child() -> None:
    global _opening
    _opening = Lock()
    _forks.clear()
    for store in list(_stores):
        store._in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)


def open_disabled(why: str) -> Store:
    """A Store for a process that has no folder for one: it keeps nothing, and warns once."""
    store = open_store(Path("answers"))  # a relative path, which no other store has
    store.complain(UnusableFileError(why))
    return store


def open_store(file: Path, size_limit: int = 1024 * MEBIBYTE) -> Store:
    """The one Store that this process has for a file; the last size limit given holds."""
    with _opening:
        store = _opened.get(file)
        if store is None:
            if not _opened:
                atexit.register(close_all)
            store = _opened[file] = Store(file, size_limit)
            if len(_opened) > FILES:  # who still holds it may go on using it
                _opened.pop(next(iter(_opened)))._let_go()
        store.size_limit = size_limit
        return store
