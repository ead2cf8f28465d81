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
from contextlib import contextmanager, suppress
from errno import EACCES, EPERM, EROFS
from pathlib import Path
from threading import Condition, Thread
from time import monotonic, sleep
from typing import BinaryIO, NamedTuple

from ..errors import ConfigError, InputError
from .answers import read_row, row_of
from .values import BOM, BrokenError, Value, Values, wide_encoding

__all__ = [
    "O_BINARY",
    "AlreadyLockedError",
    "Journal",
    "Line",
    "Rows",
    "is_locked",
    "lock",
    "permitted",
    "sync_folder",
]

O_BINARY = getattr(os, "O_BINARY", 0)  # of Windows, where a line's end would become two characters
SYNC_SECONDS = 1.0
SYNC_LINES = 1000


class Line(NamedTuple):
    """A row of a journal.

    Attributes:
        id: The ``custom_id`` of its row.
        error: The class of its error; None if it holds an answer.
        text: What stands in the file; a whole line, unless its row has several or a part of one.
        number: The line at which it begins, counted from 1.
    """

    id: str
    error: str | None
    text: bytes
    number: int


class Rows:
    """The rows of a journal, whoever wrote its lines: this library, an editor, jq or pandas.

    A row is JSON of one line or of several. What is damaged at the end is left out: half a row,
    or blocks that never reached the disk.

    Args:
        file: The journal.
        name: What to call it in messages.

    Attributes:
        size: Bytes that are whole, as far as it was read.
        torn: The number of the line that is damaged at the end; 0 if none is.

    Iterating raises ConfigError if there is something else in the file than rows.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self.size = self.torn = 0

    def __iter__(self) -> Iterator[Line]:
        number = 0
        for number, text in enumerate(self._file, 1):
            row = read_row(text.removeprefix(BOM) if number == 1 else text)
            if row is not None:
                self.size += len(text)
                yield Line(*row, text, number)
            elif text.isspace():
                self.size += len(text)
            else:
                break
        else:
            return
        yield from self._of_any_form(number)

    def _of_any_form(self, number: int) -> Iterator[Line]:
        """The rows from a line on which is no row by itself."""
        self._file.seek(self.size)
        values = Values(self._file, line=number, offset=self.size)
        held: Value | None = None  # until it is known whether the rest of its line is right
        line = 0
        if values.peek() == "[" and not self.size:  # perhaps of a million rows: it is not read
            raise self._not_understood(number, _A_LIST)
        try:
            while values.peek():
                value = values.take()
                if held is not None:
                    yield self._row(held)
                held, line = value, values.line
        except BrokenError as broken:
            if held is not None and (broken.cut_short or broken.line > line):
                yield self._row(held)
            elif held is not None:
                broken.start, broken.line = held.end - len(held.text), held.line
            self._check_torn(broken)
            self.torn, self.size = broken.line, broken.start
        else:
            if held is not None:
                yield self._row(held)
            self.size = self._file.seek(0, os.SEEK_END)

    def _row(self, value: Value) -> Line:
        row = row_of(value.value) if _is_utf8(value.text) else None
        if row is None:
            raise self._not_understood(value.line, _kind_of(value.value))
        self.size = value.end
        return Line(*row, value.text + b"\n", value.line)

    def _check_torn(self, broken: BrokenError) -> None:
        """Raise ConfigError if more is damaged than a row at the end."""
        self._file.seek(0)
        if wide := wide_encoding(self._file.read(256)):
            raise self._not_understood(1, f" (it is {wide}: save it as UTF-8)")
        self._file.seek(broken.start)
        if broken.cut_short and self._file.read(1) == b"{":
            return
        self._file.seek(broken.start)
        damaged = None
        for text in self._file:
            if not text.strip(_BLANK):
                continue
            if damaged is not None and (b"\0" not in damaged or read_row(text)):
                raise self._not_understood(broken.line, ", and rows follow it")
            damaged = text
        # Without a row before it, it may be another file altogether.
        ours = damaged is None or damaged.startswith(b"{") or b"\0" in damaged
        if not (ours and (damaged or b"").isascii()) and not self.size:
            raise self._not_understood(broken.line)

    def _not_understood(self, number: int, why: str = "") -> ConfigError:
        return ConfigError(
            f"line {number} of {self._name} is no row of a batch{why}, and nothing was changed: "
            "move the file away, or mend or remove that line; its row is asked again then"
        )


_BLANK = b" \t\r\n\0"
_A_LIST = " (it is a list: write its rows one after another, with jq -c '.[]')"


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _kind_of(value: object) -> str:
    return _A_LIST if isinstance(value, list) else ""


class Journal:
    """Appends lines to a file, which it locks for this process.

    Attributes:
        path: The file.
        size: Bytes written and whole.

    Raises:
        AlreadyLockedError: Another process writes to it, perhaps by another name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | O_BINARY
        self._file = os.open(path, flags, 0o666)
        try:
            if sys.platform != "win32":  # whose locks would keep readers off
                lock(self._file)
            self.size = os.fstat(self._file).st_size
        except BaseException:
            os.close(self._file)
            raise
        self._written = self._synced = 0  # lines; each is counted by one thread only
        self._failure: OSError | None = None
        self._closed = False
        self._wake = Condition()
        self._syncer = Thread(target=self._sync_along, name="lmgateway-sync", daemon=True)
        self._syncer.start()

    def cut(self, size: int) -> None:
        """Drop everything after the first ``size`` bytes."""
        if size < self.size:
            os.ftruncate(self._file, size)
            self.size = size

    def end_line(self) -> None:
        """End the last line, if a tool has left it without an end."""
        if not self.size:
            return
        with self.path.open("rb") as file:
            file.seek(self.size - 1)
            ended = file.read(1) == b"\n"
        if not ended:
            self.append(b"\n")

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
                os.ftruncate(self._file, self.size)
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


@contextmanager
def permitted(path: Path, what: str) -> Iterator[None]:
    """Within the block, that a file may not be ``what`` is told as an InputError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (EACCES, EPERM, EROFS):
            raise
        problem = InputError(f"{path} cannot be {what}: {error.strerror}")
    else:
        return
    raise problem


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
