"""Threads of our own for work that blocks, and a pipe from such work to a flow."""

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
from ..types import (
    Blocking,
    Flow,
    HTTPResponse,
    Wait,
)
from .futures import Promise, start

__all__ = ["Pipe", "Workers", "run_blocking"]

T = TypeVar("T")
_Job: TypeAlias = tuple[Promise[Any], Callable[[], Any]]
_Inbox: TypeAlias = "SimpleQueue[_Job]"

IDLE_SECONDS = 5.0
PIPE_BYTES = 256 * 1024

# Work that hangs for good keeps its thread, which cannot be killed, so the bound for Blocking is
# far above what may sensibly run at once: it is there to stop a leak, not to share out a machine.
BLOCKING_LIMIT = 1000


class Workers:
    """At most ``limit`` daemon threads, started when needed and ended when idle.

    Unlike the threads of a ``ThreadPoolExecutor`` they do not hold up the exit of the
    interpreter, even when one hangs. A hung thread counts towards the bound; what is submitted
    beyond it waits its turn. After a fork the child begins with no threads.
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

        A future that is cancelled while its turn has not come never runs. It fails with
        RuntimeError where no thread can be started and there is none that could run it later.
        """
        future: Promise[T] = Promise()
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
        """Give it to an idle worker, or to the first that will be; for one who holds the lock."""
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
        outcome = fn()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(outcome)


_everyone: WeakSet[Workers] = WeakSet()


def _forget_all() -> None:
    for workers in _everyone:
        workers._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)

_blocking = Workers(BLOCKING_LIMIT)


class Pipe:
    """Bytes on their way from a worker to a flow; the flow's side is a ``types.Source``.

    It holds about ``limit`` bytes: a worker that is ahead of its reader waits.
    """

    def __init__(self, limit: int = PIPE_BYTES) -> None:
        self._limit = limit
        # Who calls takes the lock itself: a Condition takes it in Python's own code, where Ctrl-C
        # could leave it held.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._pieces: list[bytes] = []
        self._size = 0
        self._reader: Promise[None] | None = None
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
        with self._lock:
            self._changed.wait_for(lambda: self._size < self._limit or self._closed)
            if self._closed:
                return False
            if piece := bytes(piece):  # an empty one would read as the end
                self._pieces.append(piece)
                self._size += len(piece)
                self._wake()
        return True

    def end(self, work: Future[Any]) -> None:
        """End as the work that pushed has ended; a done-callback of its future."""
        with self._lock:
            self._ended, self._error = True, work.exception()
            self._wake()

    def read(self) -> Flow[bytes]:
        """The bytes pushed since the last read, b"" at the end; raises what the worker raised."""
        while True:
            with self._lock:
                if self._pieces:
                    return self._drain()
                if self._ended or self._closed:
                    break
                self._reader = Promise()
                wait = Wait(self._reader)
            yield wait
        error, self._error = self._error, None
        if error is not None:
            raise error
        return b""

    def close(self) -> None:
        """Tell the worker that nobody listens any more."""
        with self._lock:
            self._closed = True
            self._drain()
            self._wake()

    def _drain(self) -> bytes:
        pieces, self._pieces, self._size = self._pieces, [], 0
        self._changed.notify_all()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.set_result(None)


def run_blocking(exchange: Blocking, workers: Workers = _blocking) -> Flow[Any]:
    """Run it in a worker and wait for it; the deadline is the driver's to keep.

    A flow that stops waiting abandons the worker: work that has not begun never does, a stream
    is told by ``push`` that nobody listens, and the outcome of anything else is dropped.
    """
    if exchange.stream:
        pipe = Pipe()
        workers.submit(partial(exchange.fn, pipe.push)).add_done_callback(pipe.end)
        return HTTPResponse(200, source=pipe)
    future = workers.submit(exchange.fn)
    try:
        done = yield Wait(future)
    except BaseException:
        future.cancel()
        raise
    if not done:
        future.cancel()
        raise RequestTimeoutError("the work in the worker thread did not end in time")
    return future.result()
