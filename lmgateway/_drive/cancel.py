"""The time a call may take, counted while it is inside the gateway."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import monotonic

__all__ = ["Deadline"]


class Deadline:
    """A total in seconds that everything in one call shares; None means without end.

    The clock stands between ``pause()`` and ``resume()``: while a user looks at a piece of a
    stream, the gateway is not spending their time.

    A call may also be given up before its time, by who closes a stream that another thread reads.
    """

    __slots__ = ("_paused_at", "_wake", "cancelled", "expires_at", "timeout")

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        #: On the clock of ``time.monotonic()``; infinity without a timeout.
        self.expires_at: float = inf if timeout is None else monotonic() + timeout
        self._paused_at: float | None = None
        #: Whether the call was given up.
        self.cancelled = False
        self._wake: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Give the call up, and wake the thread that works for it; from any thread."""
        self.cancelled = True
        if self._wake is not None:
            self._wake()

    def on_cancel(self, wake: Callable[[], None] | None) -> None:
        """Say what wakes the thread that works for the call, in place of what was said before."""
        self._wake = wake
        if self.cancelled and wake is not None:
            wake()

    def remaining(self) -> float:
        """Seconds left, never negative; infinity without a timeout."""
        now = self._paused_at if self._paused_at is not None else monotonic()
        return max(0.0, self.expires_at - now)

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
        return self.remaining() <= 0.0

    def pause(self) -> None:
        """Stop the clock."""
        if self._paused_at is None:
            self._paused_at = monotonic()

    def resume(self) -> None:
        """Let the clock go on where it stood."""
        if self._paused_at is not None:
            self.expires_at += monotonic() - self._paused_at
            self._paused_at = None
