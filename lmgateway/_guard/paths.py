"""Paths that a caller gives, checked and made absolute; and the user's own folders."""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Literal

from .._base.values import shown
from ..errors import ConfigError, InputError

__all__ = ["absolute", "as_path", "is_special", "user_folder"]


def absolute(given: object, name: str = "path") -> str:
    """A user's path, made absolute; it need not exist.

    Args:
        given: What the caller gave for a path.
        name: What to call it in the message.

    Raises:
        InputError: It is no path.
        ConfigError: There is no such home folder, or the working directory is gone.
    """
    path = as_path(given, name)
    try:
        return os.path.abspath(path)
    except OSError as error:
        raise ConfigError(
            f"{path!r} is a path from the working directory, which cannot be told "
            f"({error.strerror}): give one from the root"
        ) from None


def as_path(given: object, name: str) -> str:
    """A user's path as text, with the home folder for its ``~``; it need not exist.

    A name such as ``~draft.jsonl`` stays as it is.

    Args:
        given: What the caller gave for a path.
        name: What to call it in the message.

    Raises:
        InputError: It is neither a text nor an os.PathLike of one, it is empty, or it holds a
            character that no file name can hold.
        ConfigError: There is no such home folder.
    """
    path: Any = None
    if isinstance(given, (str, os.PathLike)):
        path = os.fspath(given)
    if not isinstance(path, str) or not path or "\0" in path or not _is_encodable(path):
        raise InputError(f"{name} must be the path of a file, not {shown(given)}")
    found = os.path.expanduser(path)
    if path[0] != "~" or os.path.isabs(found):
        return found
    user = re.split(r"[/\\]", path)[0][1:]
    if not user:
        raise ConfigError(
            f"{path!r} begins with ~, and there is no home folder: set HOME to a path from the "
            "root, or write the whole path"
        )
    if len(user) + 1 < len(path):
        raise ConfigError(
            f"{path!r} begins with the home folder of {user!r}, and there is no such user: write "
            "the whole path"
        )
    return found


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # half a character, which no file's name has
        return False
    return True


def is_special(path: str) -> bool:
    """Whether a path names a device, a pipe or the like, whose content may never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def user_folder(kind: Literal["cache", "config"]) -> str:
    """The user's own folder for files of this kind; it need not exist.

    Raises ConfigError if the system knows none, for instance for a user without a home.
    """
    try:
        from platformdirs import user_cache_dir, user_config_dir

        find = user_cache_dir if kind == "cache" else user_config_dir
        folder = find("lmgateway", appauthor=False)
    except Exception:  # a RuntimeError without a home, others on systems that it does not know
        folder = ""
    if not os.path.isabs(folder):  # some versions of platformdirs leave the ~ as it is
        raise ConfigError(
            f"this user has no folder for {kind} files: set HOME, or XDG_{kind.upper()}_HOME, to "
            "a path from the root"
        )
    return folder
