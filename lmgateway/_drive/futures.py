"""Promises: outcomes that one thread leaves for others, without a lock that Ctrl-C could break.

The standard library's Future, Event and Condition take their locks in Python's own code: a
KeyboardInterrupt that comes between the taking and the ``try`` leaves the lock taken, and the
next thread that looks waits for ever. So where the main thread waits, it waits by what is here.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX, Thread
from typing import Any, TypeVar

__all__ = ["Promise", "pause", "start"]

T = TypeVar("T")

_BEGUN, _CANCELLED = object(), object()


class Promise(Future[T]):
    """A Future for threads that Ctrl-C may strike.

    Each step is one operation of a list, which is done or not, and may be done again: who was
    interrupted in ``set_result`` calls it once more, and nobody is left to wait. Only the first
    outcome counts.
    """

    _done_callbacks: list[Callable[[Future[T]], object]]

    def __init__(self) -> None:  # nothing of a Future's own state, which is guarded by its lock
        self._claims: list[object] = []
        self._outcomes: list[tuple[Any, BaseException | None]] = []
        self._done_callbacks = []

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "open"
        return f"<{type(self).__name__}, {state}>"

    def set_running_or_notify_cancel(self) -> bool:
        """Whether the work for it may begin: it may not once it was cancelled."""
        self._claims.append(_BEGUN)
        return self._claims[0] is _BEGUN

    def running(self) -> bool:
        """Whether the work for it has begun, and not ended."""
        return self._claims[:1] == [_BEGUN] and not self.done()

    def cancel(self) -> bool:
        """Whether the work for it had not begun, and never will."""
        if self._outcomes:
            return self.cancelled()
        self._claims.append(_CANCELLED)
        if self._claims[0] is _CANCELLED:
            self.set_exception(CancelledError())
        return self.cancelled()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._claims[:1] == [_CANCELLED]

    def done(self) -> bool:
        """Whether there is an outcome."""
        return bool(self._outcomes)

    def set_result(self, result: T) -> None:
        """Keep it, if it is the first outcome, and call whoever waits; never blocks."""
        self._settle((result, None))

    def set_exception(self, exception: BaseException | None) -> None:
        """As ``set_result``, for what went wrong."""
        self._settle((None, exception))

    def _settle(self, outcome: tuple[Any, BaseException | None]) -> None:
        self._outcomes.append(outcome)
        for callback in tuple(self._done_callbacks):
            callback(self)
        self._done_callbacks.clear()

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Have it called once there is an outcome, in whatever thread; perhaps more than once."""
        self._done_callbacks.append(fn)
        if self._outcomes:  # whoever has set it may have looked before
            fn(self)

    def result(self, timeout: float | None = None) -> T:
        """The result, which is waited for; raises TimeoutError after so many seconds."""
        result, error = self._outcome(timeout)
        if error is None:
            return result  # type: ignore[no-any-return]
        try:
            raise error
        finally:
            del self, error  # its traceback holds this frame: leave no cycle behind

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What went wrong, None if nothing did; waited for as in ``result``."""
        return self._outcome(timeout)[1]

    def _outcome(self, timeout: float | None) -> tuple[Any, BaseException | None]:
        if not self._outcomes:
            woken: SimpleQueue[object] = SimpleQueue()
            self.add_done_callback(woken.put)
            pause(woken, timeout)
        if not self._outcomes:
            raise TimeoutError
        return self._outcomes[0]


def pause(woken: SimpleQueue[object], seconds: float | None) -> bool:
    """Wait until something is put there, or so many seconds; whether something was."""
    try:
        woken.get(timeout=None if seconds is None else min(seconds, TIMEOUT_MAX))
    except Empty:
        return False
    return True


def start(thread: Thread) -> None:
    """Start a thread.

    Raises RuntimeError where the system gives none; not, as the thread's own method may, where
    Ctrl-C has broken the Event by which it waits for the thread to begin.
    """
    try:
        thread.start()
    except RuntimeError as error:
        cause = error.__context__
        if cause is None or isinstance(cause, Exception):
            raise
        interrupt = cause
    else:
        return
    raise interrupt
