"""Interrupts: the first Ctrl-C asks a run to end well, the second ends it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from .._drive.futures import pause, start, waiting

__all__ = ["Control", "drive"]

T = TypeVar("T")

_LOOK = 0.5  # seconds between two looks for Ctrl-C, where signals do not wake a waiting thread


class Control:
    """What a signal can do to a run.

    Args:
        on_first: Told of the first Ctrl-C.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self._on_first = on_first
        self._drain: Callable[[], None] | None = None
        self._presses = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Future[Any] | None = None

    @property
    def pressed(self) -> bool:
        """Whether there has been a Ctrl-C."""
        return self._presses > 0

    @contextmanager
    def attached(self, drain: Callable[[], None]) -> Iterator[None]:
        """From here on a run can be drained."""
        self._drain = drain
        if self._presses:
            drain()
        try:
            yield
        finally:
            self._drain = None

    def press(self, *_: object) -> None:
        """Ctrl-C; from any thread, and from a signal's handler."""
        self._presses += 1
        action = self._begin_to_end if self._presses == 1 else self._end
        if self.loop is not None:
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(action)

    def _begin_to_end(self) -> None:
        if self._drain is None:
            self._end()
        else:
            self._on_first()
            self._drain()

    def _end(self) -> None:
        if self.task is not None:
            self.task.cancel()


def drive(begin: Callable[[], Coroutine[Any, Any, T]], control: Control) -> T:
    """Run a coroutine to its end, in a thread where an event loop is running already.

    Raises KeyboardInterrupt when it was cancelled by Ctrl-C.
    """
    with _listening(control):
        try:
            if asyncio._get_running_loop() is None:
                return asyncio.run(_attended(begin, control))
            return _in_thread(lambda: asyncio.run(_attended(begin, control)))
        except asyncio.CancelledError:
            if control.pressed:
                raise KeyboardInterrupt from None
            raise


async def _attended(begin: Callable[[], Coroutine[Any, Any, T]], control: Control) -> T:
    control.loop = asyncio.get_running_loop()
    control.task = task = asyncio.ensure_future(begin())
    try:
        return await task
    finally:
        control.loop = None


def _in_thread(work: Callable[[], T]) -> T:
    outcome: list[T] = []
    failure: list[BaseException] = []
    ended: SimpleQueue[object] = SimpleQueue()

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)
        ended.put(None)

    with waiting() as context:
        thread = threading.Thread(
            target=context().run, args=(run,), name="lmgateway-run", daemon=True
        )
        start(thread)
        while not pause(ended, _LOOK):
            continue
    if failure:
        raise failure[0]
    return outcome[0]


@contextmanager
def _listening(control: Control) -> Iterator[None]:
    """Take Ctrl-C, where this thread may, and it is not the program's own affair."""
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield
        return
    signal.signal(signal.SIGINT, control.press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
