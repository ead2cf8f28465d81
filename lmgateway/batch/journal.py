"""The journal: a file of whole lines that only grows, and the lock that lets one process write.

A line is written by one ``write`` as soon as it is known, so that a killed process (``kill -9``)
loses none that it wrote. For the death of the machine, ``fsync`` follows within a second or 1,000
lines.
The lock is the system's: it is free again when its process has ended, however it ended.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Condition, Thread
from time import monotonic, sleep
from typing import BinaryIO, NamedTuple

from ..errors import ConfigError
from .answers import read_row

__all__ = [
    "O_BINARY",
    "AlreadyLockedError",
    "Journal",
    "is_locked",
    "lock",
    "read_journal",
    "sync_folder",
]

O_BINARY = getattr(os, "O_BINARY", 0)  # of Windows, where a line's end would become two characters
SYNC_SECONDS = 1.0
SYNC_LINES = 1000


class _Line(NamedTuple):
    """A whole line of a journal.

    Attributes:
        id: The ``custom_id`` of its row.
        error: The class of its error; None if it holds an answer.
        text: The line itself.
        number: Counted from 1.
        end: The offset at which it ends.
    """

    id: str
    error: str | None
    text: bytes
    number: int
    end: int


def read_journal(file: BinaryIO, name: str) -> Iterator[_Line]:
    """The whole lines of a journal.

    What is damaged at the end is left out: half a line, or blocks that never reached the disk.

    Raises:
        ConfigError: A damaged line has good ones after it.
    """
    end = bad = 0
    for number, text in enumerate(file, 1):
        end += len(text)
        row = read_row(text)
        if row is None:
            bad = bad or number
        elif bad:
            raise ConfigError(
                f"line {bad} of {name} is no row of a batch, and rows follow it: move the file "
                "away, or remove that line, so that its row is asked again"
            )
        else:
            yield _Line(*row, text, number, end)


class Journal:
    """Appends lines to a file, from which a damaged end must have been cut before.

    Attributes:
        path: The file.
        size: Bytes written and whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | O_BINARY
        self._file = os.open(path, flags, 0o666)
        self.size = os.fstat(self._file).st_size
        self._written = self._synced = 0  # lines; each is counted by one thread only
        self._failure: OSError | None = None
        self._closed = False
        self._wake = Condition()
        self._syncer = Thread(target=self._sync_along, name="lmgateway-sync", daemon=True)
        self._syncer.start()

    def cut(self, size: int) -> None:
        """Drop everything after the first ``size`` bytes."""
        if size < self.size:
            os.truncate(self.path, size)
            self.size = size

    def append(self, text: bytes) -> None:
        """Write a line; afterwards it survives the death of this process.

        Raises OSError if the line cannot be written, or if earlier lines could not be synced.
        Half a line is never left behind.
        """
        if self._failure is not None:
            raise self._failure
        rest = memoryview(text)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except BaseException:
            with suppress(OSError):
                os.truncate(self.path, self.size)
            raise
        self.size += len(text)
        self._written += 1
        if self._unsynced() in (1, SYNC_LINES):
            with self._wake:
                self._wake.notify()

    def close(self) -> None:
        """Sync and close; raises OSError if what was written may not be on the disk."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._syncer.join()
        try:
            os.fsync(self._file)
        finally:
            os.close(self._file)
        if self._failure is not None:
            raise self._failure

    def _sync_along(self) -> None:
        """Sync when there is something to sync, at most a second after it was written."""
        while not self._closed:
            with self._wake:
                self._wake.wait_for(lambda: self._unsynced() or self._closed)
                self._wake.wait_for(
                    lambda: self._unsynced() >= SYNC_LINES or self._closed, SYNC_SECONDS
                )
            written = self._written
            try:
                os.fsync(self._file)
            except OSError as error:
                self._failure = error
                return
            self._synced = written

    def _unsynced(self) -> int:
        return self._written - self._synced


def sync_folder(path: Path) -> None:
    """Sync the names of the files in a folder, where the system can."""
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


# -- the lock ----------------------------------------------------------------------------------

LOCK_SECONDS = 0.1  # who only looks whether a file is locked holds the lock for microseconds


class AlreadyLockedError(Exception):
    """Another process holds the lock."""


if sys.platform == "win32":
    import msvcrt

    _PLACE = 1 << 30  # beyond the content, which would otherwise be locked against reading

    def _act(file: int, mode: int) -> bool:
        os.lseek(file, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(file, mode, 1)
        except OSError:
            return False
        return True

    def _acquire(file: int) -> bool:
        return _act(file, msvcrt.LK_NBLCK)

    def is_locked(file: int) -> bool:
        """Whether another process has locked a file."""
        return not (_act(file, msvcrt.LK_NBLCK) and _act(file, msvcrt.LK_UNLCK))

else:
    try:
        import fcntl
    except ImportError:  # WebAssembly's systems have no such locks
        fcntl = None  # type: ignore[assignment]

    def _act(file: int, mode: int) -> bool:
        try:
            fcntl.flock(file, mode)
        except OSError:
            return False
        return True

    def _acquire(file: int) -> bool:
        if fcntl is None:
            warnings.warn(
                "this system locks no files: see to it that one process alone writes an output",
                RuntimeWarning,
                stacklevel=2,
            )
            return True
        return _act(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def is_locked(file: int) -> bool:
        """Whether another process has locked a file; any number may look at a time."""
        if fcntl is None:
            return False
        return not (_act(file, fcntl.LOCK_SH | fcntl.LOCK_NB) and _act(file, fcntl.LOCK_UN))


def lock(file: int) -> None:
    """Lock an open file for this process; raises AlreadyLockedError if another one keeps it."""
    end = monotonic() + LOCK_SECONDS
    while not _acquire(file):
        if monotonic() >= end:
            raise AlreadyLockedError
        sleep(0.005)
