"""The limits of a blocking request, and the thread that cuts its connection when one runs out.

A timeout on a socket begins anew with each byte, so that a server that sends one byte a second
holds a reader for ever. So a guard shuts the socket down when the time is up, whatever arrives.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from heapq import heappop, heappush
from itertools import count
from math import inf
from time import monotonic
from typing import Protocol

from .._drive.cancel import Deadline
from .._drive.futures import start
from ..errors import LMGatewayError
from . import errors

__all__ = [
    "CONNECT",
    "IDLE",
    "LONGEST_WAIT",
    "Connection",
    "Guard",
    "InFlight",
    "current",
    "set_current",
]

#: Seconds. Sockets and locks refuse to wait for centuries, which a user may well ask for.
LONGEST_WAIT = 3600.0


CONNECT, DEADLINE, IDLE = "connect", "deadline", "idle"


class Connection(Protocol):
    """What carries a request, and can be cut under it.

    Attributes:
        guard: Cuts it when the time of the request is up.
        in_flight: The request that it carries now.
        spoilt: Something came on it that no request had asked for.
    """

    guard: Guard
    in_flight: InFlight | None
    spoilt: bool

    def cut(self) -> None:
        """Shut it down; a thread that reads from it wakes up."""

    def unwaiting(self) -> AbstractContextManager[None]:
        """Within this, a read fails instead of waiting for bytes."""


class InFlight:
    """One blocking request on its way: the time it has, and the connection that carries it.

    Attributes:
        deadline: Of the whole call.
        connect_timeout: Seconds to make a connection.
        fresh: It needs a new connection, which has carried no other request.
        reused: The connection has carried another request before.
        began: A byte of the response has arrived.
        expired: The limit that ran out: "connect", "deadline" or "idle"; None if none did.
        aborted: It was given up by ``abort``.
        connection: The one that carries it; None before and after.
        line: What its request line asks for, byte for byte; "" for what urllib3 is told.
    """

    __slots__ = (
        "_limit",
        "_lock",
        "aborted",
        "began",
        "connect_timeout",
        "connection",
        "deadline",
        "expired",
        "fresh",
        "line",
        "reused",
    )

    def __init__(
        self, deadline: Deadline, connect_timeout: float, *, fresh: bool = False, line: str = ""
    ) -> None:
        self.deadline = deadline
        self.line = line
        self.connect_timeout = connect_timeout
        self.fresh = fresh
        self.reused = False
        self.began = False
        self.expired: str | None = None
        self.aborted = False
        self._limit = DEADLINE
        self.connection: Connection | None = None
        self._lock = threading.Lock()  # held to let go of a connection, and to abort

    def take(self, connection: Connection) -> None:
        """Use this connection from now on."""
        self.connection = connection
        connection.in_flight = self

    def watch(self, limit: str = DEADLINE, seconds: float | None = None) -> float:
        """Have the connection cut at the deadline, or after so many seconds if that is sooner.

        Returns the ``time.monotonic()`` at which it is cut.
        """
        expires_at = self.deadline.expires_at
        self._limit = DEADLINE
        if seconds is not None and (sooner := monotonic() + seconds) < expires_at:
            expires_at = sooner
            self._limit = limit
        if self.connection is not None:
            self.connection.guard.arm(expires_at)
        return expires_at

    def unwatch(self) -> None:
        """Have the connection not cut any more, and note if it was cut already."""
        if self.connection is not None and not self.connection.guard.disarm():
            self.expire()

    def expire(self) -> None:
        """Note that the limit that is watched has run out."""
        self.expired = self.expired or self._limit

    def let_go(self) -> None:
        """Let go of the connection; another request may use it."""
        with self._lock:
            self.unwatch()
            if self.connection is not None:
                self.connection.in_flight = None
                self.connection = None

    def overdue(self, idle_timeout: float | None = None) -> LMGatewayError:
        """The error for the limit that has run out."""
        if self.expired == CONNECT:
            return errors.slow_to_connect(self.connect_timeout)
        if self.expired == IDLE:
            return errors.stalled(idle_timeout or 0.0)
        return errors.timed_out(self.deadline)

    def abort(self) -> None:
        """Give the request up, and cut its connection; from any thread."""
        with self._lock:
            self.aborted = True
            if self.connection is not None:
                self.connection.cut()


class _Current(threading.local):
    in_flight: InFlight | None = None


current = _Current()


def set_current(in_flight: InFlight | None) -> None:
    """Say for which request this thread is about to use a connection.

    urllib3 chooses the connection inside its own code and hands nothing through to it.
    """
    current.in_flight = in_flight


class Guard:
    """Calls ``shut`` unless it is disarmed in time; it can be armed again and again.

    ``shut`` runs in the watchdog's thread. It must not block, and may not arm or disarm a guard.
    """

    __slots__ = ("_expires_at", "_fired", "_lock", "_scheduled_at", "_shut")

    def __init__(self, shut: Callable[[], None]) -> None:
        self._shut = shut
        # Reentrant: a body that is dropped may disarm it in the garbage collector, which may run
        # in the watchdog's thread, in the midst of a check.
        self._lock = threading.RLock()
        self._expires_at = inf
        self._scheduled_at = inf  # the watchdog looks at this guard no later than then
        self._fired = False

    def arm(self, expires_at: float) -> None:
        """Call ``shut`` at that ``time.monotonic()``, and not at the one that was given before."""
        try:
            with self._lock:
                self._fired = False
                self._expires_at = expires_at
                # A guard that is scheduled for an earlier time is looked at then, and moved: so
                # the usual case, to arm it later than before, costs no more than this.
                if expires_at >= self._scheduled_at:
                    return
                self._scheduled_at = expires_at
            _watchdog.schedule(self, expires_at)
        except BaseException:
            self._scheduled_at = inf  # Ctrl-C: the next to arm it must not rely on this one
            raise

    def disarm(self) -> bool:
        """Do not call ``shut`` any more; False if that was done since the guard was armed."""
        with self._lock:
            self._expires_at = inf
            return not self._fired

    def check(self, now: float) -> None:
        """Call ``shut`` if the time is up; if not, have the watchdog look again when it will be."""
        with self._lock:
            expires_at = self._scheduled_at = self._expires_at
            if expires_at <= now:
                self._expires_at = self._scheduled_at = inf
                self._fired = True
                self._shut()
                return
        if expires_at < inf:
            _watchdog.schedule(self, expires_at)


class _Watchdog:
    """One heap of guards and the daemon thread that waits for the first of them."""

    def __init__(self) -> None:
        # Who calls takes the lock itself: a Condition takes it in Python's own code, and a Ctrl-C
        # there would leave it held, so that no guard would ever fire again.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._heap: list[tuple[float, int, Guard]] = []
        self._order = count()  # two guards of one time are not compared
        self._wakes_at = -inf  # before the thread waits, it looks at the heap anyway
        self._thread: threading.Thread | None = None

    def schedule(self, guard: Guard, at: float) -> None:
        with self._lock:
            heappush(self._heap, (at, next(self._order), guard))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="lmgateway-watchdog", daemon=True)
                start(thread)  # if it cannot, the next to come tries again
                self._thread = thread
            elif at < self._wakes_at:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            # A guard is checked without our lock held: it takes its own, and its own first.
            for guard in self._next_due():
                guard.check(monotonic())

    def _next_due(self) -> list[Guard]:
        with self._changed:
            while not self._heap or self._heap[0][0] > monotonic():
                self._wakes_at = self._heap[0][0] if self._heap else inf
                self._changed.wait(min(max(self._wakes_at - monotonic(), 0.0), LONGEST_WAIT))
                self._wakes_at = -inf
            due, now = [], monotonic()
            while self._heap and self._heap[0][0] <= now:
                due.append(heappop(self._heap)[2])
            return due


_watchdog = _Watchdog()


def _renew() -> None:
    """A forked child does not have the thread, and the lock may be taken: it begins anew."""
    global _watchdog
    _watchdog = _Watchdog()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
