"""Locks on open files, which the system drops when their process ends, however it ends."""

from __future__ import annotations

import os
import sys

__all__ = ["AlreadyLockedError", "lock"]


class AlreadyLockedError(Exception):
    """Another process holds the lock."""


if sys.platform == "win32":
    import msvcrt

    _PLACE = 1 << 30  # beyond the content, which would otherwise be locked against reading

    def lock(file: int) -> None:
        """Lock an open file for this process, or raise AlreadyLockedError at once."""
        os.lseek(file, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            raise AlreadyLockedError from None

else:
    import fcntl

    def lock(file: int) -> None:
        """Lock an open file for this process, or raise AlreadyLockedError at once."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyLockedError from None
