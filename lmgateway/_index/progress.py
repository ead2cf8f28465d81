"""Progress: how far a run is, as a bar on a terminal, and elsewhere as a line a minute."""

from __future__ import annotations

import sys
from time import monotonic
from types import TracebackType
from typing import Any

from ..batch.progress import say

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
            self._bar = _bar(self._total, self._done)
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


def _bar(total: int, done: int) -> Any:
    """A bar of rich; None where it is not installed."""
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        return None
    bar = Progress(
        BarColumn(30),
        MofNCompleteColumn(),
        TextColumn("texts, {task.fields[tokens]} tokens,"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    bar.add_task("", total=total, completed=done, tokens="0")
    bar.start()
    return bar
