"""The thread that ends what blocks: it calls back when a guard's time is up.

A timeout on a socket begins anew with each byte, so a server that sends one a second holds a
reader for ever. A guard shuts the socket down under the reader instead, whatever arrives.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf
from time import monotonic

from .._drive.futures import start

__all__ = ["Guard"]

LONGEST_WAIT = (
    3600.0  # seconds; a lock refuses to wait for centuries, which a user may well ask for
)


class Guard:
    """Calls ``shut`` when it is not disarmed in time; made once, armed many times.

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
        """Fire at that ``time.monotonic()``; takes the place of the time armed before."""
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
        """Do not fire any more; False if it has fired since it was armed."""
        with self._lock:
            self._expires_at = inf
            return not self._fired

    def check(self, now: float) -> None:
        """Fire if the time is up, else be looked at again when it will be."""
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
    """A forked child has neither the thread nor, perhaps, a free lock: it begins anew."""
    global _watchdog
    _watchdog = _Watchdog()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
