"""The time that a call may take, and the one way to give a call up from elsewhere.

``deadline.cancel()`` gives a call up, from any thread, any task, and a signal's handler. Nobody
else has to be told. The driver that works for the call wakes up, closes the flow and raises
``Cancelled``, whether it blocks or awaits:

* A driver that blocks tells the deadline by ``on_cancel`` what wakes its thread.
* A driver that awaits does its work inside ``with deadline:``. Its task is cancelled once, and
  when the work has ended the deadline takes this one cancellation back.

``Cancelled`` means that *we* gave the call up. Whatever the user does remains what it is, even at
the same moment: ``task.cancel()`` and ``asyncio.timeout`` raise CancelledError, and Ctrl-C raises
KeyboardInterrupt.

Work inside a call can have a ``CancelScope`` of its own, for example one that a timer interrupts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import Task

__all__ = ["CancelScope", "Cancelled", "Deadline"]


class Cancelled(Exception):  # noqa: N818 - no error
    """The call was given up from elsewhere while a driver worked for it."""


def _current_task() -> Task[Any] | None:
    """The task that runs; asyncio is imported by the first who asks, and asked itself then."""
    global _current_task
    from asyncio import current_task

    _current_task = current_task
    return current_task()


class CancelScope:
    """A part of a task's work that can be given up while the task itself goes on.

    A context manager, to be used again but not twice at a time. If the work inside is given up,
    it ends with what ``error()`` returns.

    Attributes:
        cancelled: Whether the work was given up by ``cancel``.
    """

    __slots__ = ("_cancelling", "_interrupted", "_task", "cancelled")

    def __init__(self) -> None:
        self.cancelled = False
        self._interrupted = False
        self._task: Task[Any] | None = None

    def cancel(self) -> None:
        """Give the work up, now and whenever it is begun again; from any thread."""
        self.cancelled = True
        task = self._task
        if task is not None:
            with suppress(RuntimeError):  # that loop is closed, and nobody works there any more
                task.get_loop().call_soon_threadsafe(self.interrupt)

    def interrupt(self) -> None:
        """End the work that is under way, if there is any; on the thread of its loop."""
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._task.cancel()

    def error(self) -> Exception:
        """What the work ends with when it was given up."""
        return Cancelled()

    def __enter__(self) -> None:
        self._interrupted = False
        self._task = task = _current_task()
        self._cancelling = 0 if task is None else task.cancelling()
        if self.cancelled:
            self.cancel()  # again: there was nothing to interrupt yet

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        task, self._task = self._task, None
        if not self._interrupted or task is None:
            return
        from asyncio import CancelledError

        # As in asyncio.timeout: a cancellation from elsewhere, at the same moment, comes first.
        if task.uncancel() <= self._cancelling and kind is CancelledError:
            raise self.error() from None


class Deadline(CancelScope):
    """The cancel scope of a whole call, with the time that everything in the call shares.

    The clock stands still between ``stop_clock()`` and ``start_clock()``: while the user looks
    at a piece of a stream, the gateway does not spend the user's time.

    Args:
        timeout: Seconds; None for no end.
    """

    __slots__ = ("_stopped_at", "_wake", "expires_at", "timeout")

    def __init__(self, timeout: float | None) -> None:
        self.cancelled = self._interrupted = False  # as in a scope's own, which takes longer
        self._task = None
        self.timeout = timeout
        #: On the clock of ``time.monotonic()``; infinity without a timeout.
        self.expires_at: float = inf if timeout is None else monotonic() + timeout
        self._stopped_at: float | None = None
        self._wake: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Give the call up, and wake whoever works for it; from any thread."""
        super().cancel()
        if self._wake is not None:
            self._wake()

    def on_cancel(self, wake: Callable[[], None] | None) -> None:
        """Say what wakes the thread that works for the call, in place of what was said before."""
        self._wake = wake
        if self.cancelled and wake is not None:
            wake()

    def remaining(self) -> float:
        """Seconds left, never negative; infinity without a timeout."""
        now = self._stopped_at if self._stopped_at is not None else monotonic()
        return max(0.0, self.expires_at - now)

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
        return self.remaining() <= 0.0

    def stop_clock(self) -> None:
        """Stop the clock."""
        if self._stopped_at is None:
            self._stopped_at = monotonic()

    def start_clock(self) -> None:
        """Let the clock go on where it stood."""
        if self._stopped_at is not None:
            self.expires_at += monotonic() - self._stopped_at
            self._stopped_at = None
