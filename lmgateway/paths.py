"""Paths: what a user wrote, from the root; and the user's own folders, where there are any."""

from __future__ import annotations

import os
import re
from typing import Literal

from .errors import ConfigError

__all__ = ["absolute", "expanded", "user_folder"]


def absolute(path: str | os.PathLike[str]) -> str:
    """A user's path from the root.

    Raises ConfigError where ``~`` stands for nothing, or the working directory is gone.
    """
    try:
        return os.path.abspath(expanded(path))
    except OSError as error:
        raise ConfigError(
            f"{os.fspath(path)!r} is a path from the working directory, which cannot be told "
            f"({error.strerror}): give one from the root"
        ) from None


def expanded(path: str | os.PathLike[str]) -> str:
    """A user's path with the home folder for its ``~``.

    Raises ConfigError where there is none. A name such as ``~draft.jsonl`` is a name.
    """
    given = os.fspath(path)
    found = os.path.expanduser(given)
    if given[:1] != "~" or os.path.isabs(found):
        return found
    user = re.split(r"[/\\]", given)[0][1:]
    if not user:
        raise ConfigError(
            f"{given!r} begins with ~, and there is no home folder: set HOME to a path from the "
            "root, or write the whole path"
        )
    if len(user) + 1 < len(given):
        raise ConfigError(
            f"{given!r} begins with the home folder of {user!r}, and there is no such user: write "
            "the whole path"
        )
    return found


def user_folder(kind: Literal["cache", "config"]) -> str:
    """The user's own folder for our files of a kind, which need not exist.

    Raises ConfigError where the system names none, to a user without a home say.
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
