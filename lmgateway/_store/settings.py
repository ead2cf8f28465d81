"""The settings of the cache: its file, its size, the switch in the environment."""

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
    """Whether LMGATEWAY_CACHE turns the cache off.

    Args:
        value: The value of the variable.
        place: Where it was set, for the message.

    Raises:
        ConfigError: The value is neither a word for on nor one for off.
    """
    if not value:
        return False
    value = value.strip().lower()
    if value not in _OFF and value not in _ON:
        raise ConfigError(f"{place} is {excerpt(value, 20)!r}; set it to on or off")
    return value in _OFF


def warn(message: str) -> None:
    """Warn. Where warnings are errors, log instead: a warning must not cost an answer."""
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    except RuntimeWarning:
        import logging

        logging.getLogger("lmgateway.cache").warning(message)


class CacheSettings(NamedTuple):
    """The table ``[cache]`` of a configuration file.

    Attributes:
        path: Folder of the cache; None for the user's cache directory. The environment's
            LMGATEWAY_CACHE_DIR comes first.
        enabled: False stores no answers, whatever a call says; recordings still answer.
        size_mb: Mebibytes the cache may take; beyond it the entries unused longest are deleted.
        recordings: Files of recorded exchanges that answer every LM.
    """

    path: str | None = None
    enabled: bool = True
    size_mb: int = 1024
    recordings: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The database file, which may not exist yet. Raises ConfigError if no folder is known."""
        folder = os.environ.get("LMGATEWAY_CACHE_DIR") or self.path or user_folder("cache")
        return Path(absolute(folder)) / FILE_NAME
