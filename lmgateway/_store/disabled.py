"""The store for a Python that was built without SQLite: it keeps nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .settings import warn

if TYPE_CHECKING:
    from .serialization import Key

__all__ = ["DisabledStore", "disabled_store"]


class DisabledStore:
    """A ``Store`` that holds nothing."""

    file = Path("answers")

    def get(self, key: Key) -> None:
        """None: there is never an entry."""

    def put(self, key: Key, value: bytes) -> bool:
        """False: nothing is written."""
        return False

    def invalidate(self, key: Key) -> None:
        """Nothing to do: it was never found."""

    report_foreign = invalidate


@cache
def disabled_store() -> DisabledStore:
    """The one of this process; the first call warns."""
    warn("the cache is not used: this Python was built without SQLite (import sqlite3 fails)")
    return DisabledStore()
