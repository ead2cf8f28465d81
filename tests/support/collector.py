"""The garbage collector at its worst: it runs at any line, and drops what takes part there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

__all__ = ["LINES", "Collector"]

LINES = range(1, 60)
"""More lines than what is tested so runs through."""


class Collector:
    """Calls back before the ``number``-th line of a module that this thread runs.

    Attributes:
        called: Whether it came to that line.
    """

    def __init__(self, module: ModuleType, number: int, callback: Callable[[], object]) -> None:
        self.called = False
        self._file = module.__file__
        self._left = number
        self._callback = callback

    def __enter__(self) -> Collector:
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._step if frame.f_code.co_filename == self._file else None

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and not self.called:
            self._left -= 1
            if self._left == 0:
                self.called = True
                sys.settrace(None)
                self._callback()
        return self._step
