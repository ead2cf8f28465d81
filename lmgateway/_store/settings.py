"""Where answers are kept: the cache's database, and the recordings that a project commits."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import NamedTuple

from .._guard.paths import absolute, user_folder
from ..errors import ConfigError, excerpt

__all__ = ["SWITCH", "CacheSettings", "says_off", "warn"]

FILE_NAME = "answers.sqlite3"
SWITCH = "LMGATEWAY_CACHE"
_ON = frozenset({"", "on", "1", "true", "yes"})
_OFF = frozenset({"off", "0", "false", "no"})


def says_off(value: str | None, place: str) -> bool:
    """Whether LMGATEWAY_CACHE turns the cache off; ConfigError for a word that it does not know.

    Args:
        value: What the variable says.
        place: Where it says so, for the message.
    """
    if not value:
        return False
    value = value.strip().lower()
    if value not in _OFF and value not in _ON:
        raise ConfigError(f"{place} is {excerpt(value, 20)!r}; set it to on or off")
    return value in _OFF


def warn(message: str) -> None:
    """Warn; where warnings are errors, log: an answer must not become one."""
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    except RuntimeWarning:
        import logging

        logging.getLogger("lmgateway.cache").warning(message)


class CacheSettings(NamedTuple):
    """The table ``[cache]`` of a configuration file.

    Attributes:
        path: Folder of the cache; None for the user's cache directory. The environment's
            LMGATEWAY_CACHE_DIR goes before it.
        enabled: False keeps no answers, whatever a call says; recordings still answer.
        size_mb: Mebibytes the cache may take; past them the answers unused longest go.
        recordings: Files of recorded exchanges that answer every LM.
    """

    path: str | None = None
    enabled: bool = True
    size_mb: int = 1024
    recordings: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The database; it may not exist yet. Raises ConfigError where no place is known for it."""
        folder = os.environ.get("LMGATEWAY_CACHE_DIR") or self.path or user_folder("cache")
        return Path(absolute(folder)) / FILE_NAME
