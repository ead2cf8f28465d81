"""What may happen at any line: the garbage collector runs, or Ctrl-C strikes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container
from types import FrameType, ModuleType
from typing import Any, Self

__all__ = ["LINES", "Collector", "Tracer"]

LINES = range(1, 60)
"""More lines than what is tested so runs through."""


class Tracer:
    """Calls back before the ``number``-th line of some files that this thread runs.

    Args:
        files: Their names.
        number: Of the line; 0 for none.
        callback: It may raise what is to be raised there.
        each: What is counted: "line", or "opcode" for each instruction.

    Attributes:
        count: How many lines ran until then.
        called: Whether it came to that line.
    """

    def __init__(
        self,
        files: Container[str],
        number: int,
        callback: Callable[[], object],
        each: str = "line",
    ) -> None:
        self.count = 0
        self.called = False
        self._files = files
        self._number = number
        self._callback = callback
        self._each = each

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace_opcodes = self._each == "opcode"
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == self._each and not self.called:
            self.count += 1
            if self.count == self._number:
                self.called = True
                sys.settrace(None)
                self._callback()
        return self._step


class Collector(Tracer):
    """The garbage collector at its worst: it drops what takes part in a module, at any line."""

    def __init__(self, module: ModuleType, number: int, callback: Callable[[], object]) -> None:
        super().__init__({str(module.__file__)}, number, callback)
