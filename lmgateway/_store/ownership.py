"""Whether only its owner can write to a cache file: another writer could forge answers."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from .schema import UnusableFileError

__all__ = ["check_owner", "make_private"]

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO

# What SQLite reads beside a database. Of a journal that it finds, it writes the pages back.
_BESIDE = ("-wal", "-shm", "-journal")


def check_owner(file: Path) -> None:
    """Refuse a cache file that another user could have written to.

    Checked are the database, SQLite's files beside it, and their folder, where others might
    replace files. On Windows, where files have no such owners and modes, nothing is checked.

    Raises:
        UnusableFileError: It is another user's, or others may write to it.
        OSError: It is not there.
    """
    if not hasattr(os, "geteuid"):
        return
    folder = os.stat(file.parent)
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        raise UnusableFileError(
            f"anybody may put another file in its place, for the folder {file.parent} is open to "
            "all; chmod o-w it, or set LMGATEWAY_CACHE_DIR to a folder of your own"
        )
    for each in _files(file):
        with suppress(FileNotFoundError):
            _check(each)


def make_private(file: Path) -> None:
    """Let only the owner read a cache file, where the file system can do that."""
    if not hasattr(os, "geteuid"):
        return
    for each in _files(file):
        with suppress(OSError):
            mode = stat.S_IMODE(os.stat(each).st_mode)
            if mode & _OTHERS_MAY:
                os.chmod(each, mode & ~_OTHERS_MAY)


def _files(file: Path) -> list[Path]:
    return [file, *(Path(f"{file}{end}") for end in _BESIDE)]


def _check(file: Path) -> None:
    status = os.stat(file)
    if status.st_uid != os.geteuid():
        raise UnusableFileError(
            f"{file.name} belongs to another user (uid {status.st_uid}), who could have put any "
            "answer into it; set LMGATEWAY_CACHE_DIR to a folder of your own"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS_MAY_WRITE:
        raise UnusableFileError(
            f"others may write to {file.name} (mode {mode:04o}) and could have put any answer into "
            f"it; delete it, or chmod 600 {file} if you trust what is in it"
        )
