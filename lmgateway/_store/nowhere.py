"""The store of a Python that was built without SQLite: it keeps nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .settings import warn

if TYPE_CHECKING:
    from .exchange import Key

__all__ = ["Nowhere", "nowhere"]


class Nowhere:
    """Looks like a ``Store`` in which nothing is found."""

    file = Path("answers")

    def get(self, key: Key) -> None:
        """Nothing."""

    def put(self, key: Key, value: bytes) -> bool:
        """False: it is not written."""
        return False

    def distrust(self, key: Key) -> None:
        """Nothing to do: it was never found."""

    doubt = distrust


@cache
def nowhere() -> Nowhere:
    """The one of this process; who asks first is warned."""
    warn("the cache is not used: this Python was built without SQLite (import sqlite3 fails)")
    return Nowhere()
