"""Worker threads for work that blocks, and a pipe from such work to a flow."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias, TypeVar
from weakref import WeakSet

from ..errors import PluginContractError, RequestTimeoutError
from ..types import Blocking, Flow, HTTPResponse, Wait
from .futures import LockFreeFuture, start, wait

__all__ = ["Pipe", "Workers", "run_blocking"]

T = TypeVar("T")
_Job: TypeAlias = tuple[LockFreeFuture[Any], Callable[[], Any]]
_Inbox: TypeAlias = "SimpleQueue[_Job]"

IDLE_SECONDS = 5.0
PIPE_BYTES = 256 * 1024

# Work that hangs for good keeps its thread, which cannot be killed. So the bound for Blocking is
# far above what may sensibly run at once: it stops a leak, and does not share out a machine.
BLOCKING_LIMIT = 1000


class Workers:
    """At most ``limit`` daemon threads, started when needed and ended when idle.

    Unlike the threads of a ``ThreadPoolExecutor`` they do not delay the exit of the interpreter,
    even when one hangs. A thread that hangs counts towards the bound; what is submitted beyond
    the bound waits its turn. After a fork the child begins with no threads.

    Args:
        limit: How many threads at most.
        idle_seconds: After how many seconds without work a thread ends.
    """

    def __init__(self, limit: int, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self.limit = limit
        self._idle_seconds = idle_seconds
        self._forget()
        _everyone.add(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._backlog: deque[_Job] = deque()
        self._idle: list[_Inbox] = []
        self._threads: set[_Inbox] = set()

    def __len__(self) -> int:
        return len(self._threads)

    def submit(self, fn: Callable[[], T]) -> Future[T]:
        """Run ``fn`` in a worker, with the caller's context variables.

        If the future is cancelled before its turn has come, ``fn`` never runs. The future fails
        with RuntimeError if no thread can be started and there is none that could run ``fn`` later.
        """
        future: LockFreeFuture[T] = LockFreeFuture()
        job: _Job = (future, partial(copy_context().run, fn))
        inbox: _Inbox | None = None
        try:
            with self._lock:
                if self._idle or len(self._threads) >= self.limit:
                    self._hand_over(job)
                    return future
                inbox = SimpleQueue()
                self._threads.add(inbox)
            # Without the lock: a worker that ends its job meanwhile must be able to fall idle.
            self._start(inbox, job)
        except BaseException:  # Ctrl-C: if the thread begins all the same, it counts itself
            if inbox is not None:
                self._threads.discard(inbox)
            raise
        return future

    def _hand_over(self, job: _Job) -> None:
        """Give a job to an idle worker, or to the next that will be; the caller holds the lock."""
        if self._idle:  # the last to fall idle, so that the others may time out
            inbox = self._idle[-1]
            del self._idle[-1]  # not pop(): from here to put() there is no step for Ctrl-C
            inbox.put(job)
        else:
            self._backlog.append(job)

    def _start(self, inbox: _Inbox, job: _Job) -> None:
        inbox.put(job)
        thread = threading.Thread(
            target=self._work, args=(inbox,), name="lmgateway-worker", daemon=True
        )
        try:
            start(thread)
        except RuntimeError as error:  # the system's own bound is lower than ours
            with self._lock:
                self._threads.discard(inbox)
                self._hand_over(job)
                if self._threads:
                    return
                stranded, self._backlog = self._backlog, deque()
            for future, _ in stranded:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)

    def _work(self, inbox: _Inbox) -> None:
        self._threads.add(inbox)
        while (job := self._take(inbox)) is not None:
            _run(job)
            del job  # an idle worker keeps nothing of the last job alive
            with self._lock:
                if self._backlog:
                    inbox.put(self._backlog.popleft())
                else:
                    self._idle.append(inbox)

    def _take(self, inbox: _Inbox) -> _Job | None:
        try:
            return inbox.get(timeout=self._idle_seconds)
        except Empty:
            pass
        with self._lock:
            if inbox in self._idle:
                self._idle.remove(inbox)
                self._threads.discard(inbox)
                return None
        return inbox.get()  # it was chosen while it gave up


def _run(job: _Job) -> None:
    future, fn = job
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn()
    except (Exception, KeyboardInterrupt) as error:
        future.set_exception(error)
    except BaseException as error:  # sys.exit() in a worker leaves no program, and ends no task
        told = RuntimeError(f"{type(error).__name__}: {error}")
        told.__cause__ = error
        future.set_exception(told)
    else:
        future.set_result(result)


_everyone: WeakSet[Workers] = WeakSet()


def _forget_all() -> None:
    for workers in _everyone:
        workers._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)

_blocking = Workers(BLOCKING_LIMIT)


class Pipe:
    """Bytes on their way from a worker to a flow; the flow's side is a ``types.Source``.

    It holds about ``limit`` bytes: a worker that is ahead of its reader waits. ``on_close`` is
    called each time that it is closed.
    """

    def __init__(self, limit: int = PIPE_BYTES, on_close: Callable[[], None] | None = None) -> None:
        self._limit = limit
        self._on_close = on_close
        self._lock = threading.RLock()  # reentrant: the collector may close it in the midst
        self._pieces: list[bytes] = []
        self._size = 0
        self._changed: LockFreeFuture[None] = LockFreeFuture()  # done at the next change
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None

    def push(self, piece: bytes) -> bool:
        """Hand a piece on, waiting while the reader is behind; False once nobody listens.

        Raises:
            PluginContractError: The piece is not bytes.
        """
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise PluginContractError(f"push() takes bytes, not {type(piece).__name__}")
        while True:
            changed = self._changed  # before the look, which a change may follow at once
            with self._lock:
                if self._closed:
                    return False
                if self._size < self._limit:
                    if piece := bytes(piece):  # an empty one would read as the end
                        self._pieces.append(piece)
                        self._size += len(piece)
                        self._tell()
                    return True
            wait(changed)

    def end(self, work: Future[Any]) -> None:
        """End as the work that pushed has ended; a done-callback of its future."""
        with self._lock:
            self._ended, self._error = True, work.exception()
            self._tell()

    def read(self) -> Flow[bytes]:
        """The bytes pushed since the last read, b"" at the end; raises what the worker raised."""
        while True:
            changed = self._changed
            with self._lock:
                if self._pieces:
                    return self._drain()
                if self._ended or self._closed:
                    break
            yield Wait(changed)
        error, self._error = self._error, None
        if error is not None:
            raise error
        return b""

    def close(self) -> None:
        """Tell the worker that nobody listens any more."""
        with self._lock:
            self._closed = True
            self._drain()
        if self._on_close is not None:
            self._on_close()

    def _drain(self) -> bytes:
        pieces, self._pieces, self._size = self._pieces, [], 0
        self._tell()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _tell(self) -> None:
        """Wake the worker or the reader that waits for a change."""
        changed, self._changed = self._changed, LockFreeFuture()
        changed.set_result(None)


class _Work:
    """Work that can be cancelled: once, and only before it has ended by itself."""

    __slots__ = ("_cancel", "_ends", "_fn")

    def __init__(self, fn: Callable[..., Any], cancel: Callable[[], None]) -> None:
        self._fn = fn
        self._cancel = cancel
        self._ends: list[object] = []  # the first to append has ended it; that takes no lock

    def __call__(self, *args: Any) -> Any:
        try:
            return self._fn(*args)
        finally:
            self._ends.append(self)

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        own = object()
        self._ends.append(own)
        if self._ends[0] is own:
            self._cancel()


def run_blocking(exchange: Blocking, workers: Workers = _blocking) -> Flow[Any]:
    """Run work in a worker and wait for it; the driver keeps the deadline.

    A flow that stops waiting abandons the worker. Then work that has not begun never does, a
    stream is told by ``push`` that nobody listens, and the result of anything else is dropped.
    ``exchange.cancel`` is called then, in whatever thread that happens; it must not raise.
    """
    fn = exchange.fn
    cancel = None
    if exchange.cancel is not None:
        fn = work = _Work(fn, exchange.cancel)
        cancel = work.cancel
    if exchange.stream:
        pipe = Pipe(on_close=cancel)
        workers.submit(partial(fn, pipe.push)).add_done_callback(pipe.end)
        return HTTPResponse(200, source=pipe)
    future = workers.submit(fn)
    done = False
    try:
        done = yield Wait(future)
    finally:
        if not done:
            future.cancel()
            if cancel is not None:
                cancel()
    if not done:
        raise RequestTimeoutError("the work in the worker thread did not end in time")
    return future.result()
