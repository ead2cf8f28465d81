"""Paths that a caller gives: what may be one, before anything is looked for under it."""

from __future__ import annotations

import os
import stat
from typing import Any

from .errors import InputError
from .plain import shown

__all__ = ["as_path", "is_special"]


def as_path(given: object, name: str) -> str:
    """A path as text, ``~`` in it resolved; it need not exist.

    Args:
        given: What the caller gave for a path.
        name: What to call it in the message.

    Raises:
        InputError: It is no text and no os.PathLike of one, is empty, or holds what no file's
            name can.
    """
    path: Any = None
    if isinstance(given, (str, os.PathLike)):
        path = os.fspath(given)
    if not isinstance(path, str) or not path or "\0" in path or not _is_encodable(path):
        raise InputError(f"{name} must be the path of a file, not {shown(given)}")
    return os.path.expanduser(path)


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # half a character, which no file's name has
        return False
    return True


def is_special(path: str) -> bool:
    """Whether a path is of a device, a pipe or the like, which may have no end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
