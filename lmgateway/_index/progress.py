"""Progress: how far a run is, as a bar on a terminal, and elsewhere as a line a minute."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from time import monotonic
from types import TracebackType
from typing import Any

from ..batch.progress import open_bar, say

__all__ = ["Shown", "say"]

_SECONDS = 60.0


class Shown:
    """Shows it on stderr; a context manager.

    Args:
        total: Texts of the file.
        done: Those that were embedded before.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total = total
        self._done = done
        self._bar: Any = None
        self._next = monotonic() + _SECONDS

    def __enter__(self) -> Shown:
        if sys.stderr is not None and sys.stderr.isatty():
            self._bar = open_bar(_columns, total=self._total, completed=self._done, tokens="0")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, tokens: int) -> None:
        """So many texts are embedded now, with so many tokens in this run."""
        if self._bar is not None:
            self._bar.update(self._bar.tasks[0].id, completed=done, tokens=f"{tokens:,}")
        elif monotonic() >= self._next:
            self._next = monotonic() + _SECONDS
            say(f"{done:,} / {self._total:,} texts, {tokens:,} tokens")


def _columns(rich: Any) -> Iterable[Any]:
    return (
        rich.BarColumn(30),
        rich.MofNCompleteColumn(),
        rich.TextColumn("texts, {task.fields[tokens]} tokens,"),
        rich.TimeRemainingColumn(),
    )
