"""Futures that Ctrl-C cannot break, and the only places where a thread or a task waits for one.

The standard library's Future, Event and Condition take their locks in Python's own code. If a
KeyboardInterrupt comes between the taking and the ``try``, the lock stays taken, and the next
thread that needs it waits for ever. So where the main thread may wait, it waits by what is here.

A thread that waits for threads of ours, as ``LM.batch`` does, gives them a context that says so
(``waiting``). Code that runs there must not wait for what only the waiting thread could bring
(``would_deadlock``), because the two would wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX, Thread, get_ident
from typing import Any, TypeVar

__all__ = [
    "LockFreeFuture",
    "await_",
    "result_of",
    "start",
    "wait",
    "wait_for_item",
    "waiters",
    "waiting",
    "would_deadlock",
]

T = TypeVar("T")

_BEGUN, _CANCELLED = object(), object()


class LockFreeFuture(Future[T]):
    """A Future whose steps each are one operation of a list, without a lock.

    Such a step is done or not, and it may be done again: a thread that Ctrl-C interrupted in
    ``set_result`` calls it once more, and then nobody is left to wait. Only the first result or
    exception counts.
    """

    _done_callbacks: list[Callable[[Future[T]], object]]

    def __init__(self) -> None:  # nothing of a Future's own state, which is guarded by its lock
        self._claims: list[object] = []
        self._results: list[tuple[Any, BaseException | None]] = []
        self._done_callbacks = []

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "open"
        return f"<{type(self).__name__}, {state}>"

    def set_running_or_notify_cancel(self) -> bool:
        """Whether the work for it may begin: it may not after a ``cancel``."""
        self._claims.append(_BEGUN)
        return self._claims[0] is _BEGUN

    def running(self) -> bool:
        """Whether the work for it has begun and has not ended."""
        return self._claims[:1] == [_BEGUN] and not self.done()

    def cancel(self) -> bool:
        """Whether the work for it has not begun, and now never will."""
        if self._results:
            return self.cancelled()
        self._claims.append(_CANCELLED)
        if self._claims[0] is _CANCELLED:
            self.set_exception(CancelledError())
        return self.cancelled()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._claims[:1] == [_CANCELLED]

    def done(self) -> bool:
        """Whether there is a result or an exception."""
        return bool(self._results)

    def set_result(self, result: T) -> None:
        """Keep the result if it is the first, and wake everybody who waits; never blocks."""
        self._finish(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """As ``set_result``, for what went wrong."""
        self._finish(None, exception)

    def _finish(self, result: Any, error: BaseException | None) -> None:
        self._results.append((result, error))
        for callback in tuple(self._done_callbacks):
            callback(self)
        self._done_callbacks.clear()

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Have ``fn`` called in some thread when the future is done; perhaps more than once."""
        self._done_callbacks.append(fn)
        if self._results:  # whoever has set it may have looked before
            fn(self)

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result and return it; raises TimeoutError after so many seconds."""
        error = self.exception(timeout)
        if error is None:
            return self._results[0][0]  # type: ignore[no-any-return]
        try:
            raise error
        finally:
            del self, error  # its traceback holds this frame: leave no cycle behind

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As ``result``, for what went wrong; None if nothing did."""
        if not wait(self, timeout):
            raise TimeoutError
        return self._results[0][1]


# -- waiting -----------------------------------------------------------------------------------


def wait(
    future: Future[Any],
    seconds: float | None = None,
    on_cancel: Callable[[Callable[[], None]], None] = lambda wake: None,
) -> bool:
    """Block until a future is done; whether it is done.

    Args:
        future: Any thread may complete it.
        seconds: The longest wait; None for no end.
        on_cancel: Is told what ends the wait at once, whether the future is done or not.
    """
    if future.done():
        return True
    woken: SimpleQueue[object] = SimpleQueue()
    future.add_done_callback(woken.put)
    on_cancel(lambda: woken.put(None))
    wait_for_item(woken, seconds)
    return future.done()


async def await_(future: Future[Any], seconds: float | None = None) -> bool:
    """As ``wait``, for a task, which can be cancelled; the future itself is not cancelled then.

    This is not ``asyncio.wrap_future``. That one would cancel the future for all who wait for
    it, and logs an error when the loop is closed before the future is done.
    """
    if future.done():
        return True
    import asyncio

    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    def wake_from_elsewhere(_: object) -> None:
        with suppress(RuntimeError):  # that loop was closed, and nobody waits there any more
            loop.call_soon_threadsafe(wake)

    timer = None if seconds is None else loop.call_later(seconds, wake)
    future.add_done_callback(wake_from_elsewhere)
    try:
        await woken
    finally:
        if timer is not None:
            timer.cancel()
    return future.done()


async def result_of(future: Future[T], seconds: float | None = None) -> T:
    """Await the result of a future that another thread completes.

    If it is cancelled, or raises TimeoutError after so many seconds, the future is cancelled too,
    unless the work for it has begun.
    """
    done = False
    try:
        done = await await_(future, seconds)
    finally:
        if not done:
            future.cancel()
    if not done:
        raise TimeoutError
    return future.result()


def wait_for_item(woken: SimpleQueue[object], seconds: float | None) -> bool:
    """Wait until something is put there, or so many seconds; whether something was."""
    try:
        woken.get(timeout=None if seconds is None else min(seconds, TIMEOUT_MAX))
    except Empty:
        return False
    return True


# -- threads -----------------------------------------------------------------------------------


def start(thread: Thread) -> None:
    """Start a thread.

    The thread's own method raises RuntimeError also where Ctrl-C has broken the Event by which
    it waits for the thread to begin; this function raises KeyboardInterrupt there.

    Raises:
        RuntimeError: The system gives no thread.
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


class _Waiter:
    """A thread that waits, until it says that it no longer does.

    The context may outlive the wait, in a thread or a task that was begun there.
    """

    __slots__ = ("thread", "waits")

    def __init__(self) -> None:
        self.thread = get_ident()
        self.waits = True


_chain: ContextVar[tuple[_Waiter, ...]] = ContextVar("lmgateway_waiters", default=())


def waiters() -> tuple[int, ...]:
    """``get_ident()`` of the threads that wait for the running code, directly or through others."""
    return tuple(each.thread for each in _chain.get() if each.waits)


def would_deadlock(thread: int | None, *, blocking: bool) -> bool:
    """Whether a thread could do nothing while the running code waits.

    Args:
        thread: Its ``get_ident()``; None for an unknown thread, which can.
        blocking: The running code is going to block its own thread.
    """
    return thread is not None and (thread in waiters() or (blocking and thread == get_ident()))


@contextmanager
def waiting() -> Iterator[Callable[[], Context]]:
    """While the caller waits for threads: makes the context in which one of them is to run."""
    waiter = _Waiter()
    chain = (*_chain.get(), waiter)

    def context() -> Context:
        made = copy_context()
        made.run(_chain.set, chain)
        return made

    try:
        yield context
    finally:
        waiter.waits = False
