"""Locks on open files, which the system drops when their process ends, however it ends."""

from __future__ import annotations

import os
import sys
import warnings
from time import monotonic, sleep

__all__ = ["AlreadyLockedError", "is_locked", "lock"]

PATIENCE = 0.1  # seconds; who only looks whether a file is locked holds it for microseconds


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
    end = monotonic() + PATIENCE
    while not _acquire(file):
        if monotonic() >= end:
            raise AlreadyLockedError
        sleep(0.005)
