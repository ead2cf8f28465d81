"""Interrupts: the first Ctrl-C lets the calls of a run in flight end, the second stops the run."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from .._drive.gather import in_threads

__all__ = ["Interrupts", "drive", "listening"]

T = TypeVar("T")


class Interrupts:
    """What Ctrl-C does to a run.

    Args:
        on_first: Is called at the first Ctrl-C.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self._on_first = on_first
        self._drain: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Future[Any] | None = None
        self.count = 0

    @contextmanager
    def draining(self, drain: Callable[[], None]) -> Iterator[None]:
        """Within the block, the first Ctrl-C calls ``drain``; outside, it stops the run."""
        self._drain = drain
        if self.count:
            drain()
        try:
            yield
        finally:
            self._drain = None

    def add(self, *_: object) -> None:
        """Ctrl-C came; from any thread, and from a signal's handler."""
        self.count += 1
        action = self._begin_to_end if self.count == 1 else self._end
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(action)

    async def attend(self, work: Coroutine[Any, Any, T]) -> T:
        """Await a run, which Ctrl-C may interrupt meanwhile."""
        self._loop = asyncio.get_running_loop()
        self._task = task = asyncio.ensure_future(work)
        try:
            return await task
        finally:
            self._loop = None

    def _begin_to_end(self) -> None:
        if self._drain is None:
            self._end()
        else:
            self._on_first()
            self._drain()

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()


def drive(begin: Callable[[], Coroutine[Any, Any, T]], interrupts: Interrupts) -> T:
    """Run a coroutine to its end, in a thread of its own where an event loop runs already.

    Raises KeyboardInterrupt if it was cancelled by Ctrl-C.
    """
    results: list[T] = []

    def work() -> None:
        results.append(asyncio.run(interrupts.attend(begin())))

    with listening(interrupts.add):
        try:
            if asyncio._get_running_loop() is None:
                work()
            else:
                in_threads(1, work, name="lmgateway-run")
        except asyncio.CancelledError:
            if interrupts.count:
                raise KeyboardInterrupt from None
            raise
    return results[0]


@contextmanager
def listening(handler: Callable[..., object]) -> Iterator[None]:
    """Take Ctrl-C, where this thread may, unless the program has a handler of its own."""
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
