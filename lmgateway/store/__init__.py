"""Where answers are kept: the cache's database, and the recordings that a project commits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["CacheSettings"]

FILE_NAME = "answers.sqlite3"


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
        """The database; it may not exist yet."""
        folder = os.environ.get("LMGATEWAY_CACHE_DIR") or self.path
        if not folder:
            from platformdirs import user_cache_dir

            folder = user_cache_dir("lmgateway", appauthor=False)
        return Path(os.path.abspath(os.path.expanduser(folder))) / FILE_NAME
