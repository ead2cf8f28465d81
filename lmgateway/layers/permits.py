"""Permits: paces that spread requests over time, and gates that let so many in at once.

Both are shared by threads and event loops. What gives back never blocks, since a dropped stream
may be closed by the garbage collector, in the midst of anything else.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from math import inf
from threading import Lock, get_ident
from time import monotonic

__all__ = ["Gate", "Pace", "Place", "Slot"]


# -- pace --------------------------------------------------------------------------------------


class Pace:
    """A generic cell rate algorithm: each unit moves the time at which the next one is due.

    Attributes:
        interval: Seconds between two units.
    """

    __slots__ = ("_due", "_lock", "_slack", "interval")

    def __init__(self, interval: float, burst: float) -> None:
        self.interval = interval
        self._slack = interval * burst
        self._due = -inf
        self._lock = Lock()

    def reserve(self, units: float, patience: float) -> Slot | float:
        """Reserve units, or say in how many seconds they would be due if that is too late."""
        now = monotonic()
        with self._lock:
            start = max(now, self._due - self._slack)
            if start - now > patience:
                return start - now
            before = self._due
            self._due = max(now, before) + units * self.interval
            return Slot(self, start - now, before, self._due)

    def correct(self, units: float) -> None:
        """Count units that were not reserved, or take back (less than 0) some that were."""
        with self._lock:
            self._due += units * self.interval

    def cancel(self, slot: Slot) -> None:
        """Give a slot back where that can be done; never blocks, as in ``Gate.leave``."""
        if self._lock.acquire(blocking=False):
            if self._due == slot.after:  # later ones have been told their times already
                self._due = slot.before
            self._lock.release()


@dataclass(slots=True)
class Slot:
    """Units that have been reserved and are due in so many seconds."""

    pace: Pace
    seconds: float
    before: float
    after: float

    def cancel(self) -> None:
        """Give it back, as long as nobody has reserved after it."""
        self.pace.cancel(self)


# -- places in flight --------------------------------------------------------------------------


class Place:
    """A place in flight, or in the queue for one.

    Attributes:
        granted: Done once the place is in flight.
        thread: The thread that must go on for the place to come free; None for a worker's.
        owner: For ``Wait``: this very thread, if nobody else's going on could end the wait.
    """

    __slots__ = ("_left", "gate", "granted", "owner", "thread")

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.thread: int | None = get_ident()
        self.granted: Future[None] | None = None
        self.owner: int | None = None
        self._left = [True]

    def claim(self) -> bool:
        """Take over the duty to leave; only one ever gets it."""
        try:
            return self._left.pop()
        except IndexError:
            return False

    def leave(self) -> None:
        """Go, from the queue or from flight; the second time does nothing."""
        if self.claim():
            self.gate.leave(self)


class Gate:
    """So many places in flight, and a queue.

    A place that comes free is handed to the first in the queue and is never free in between, so
    nobody can overtake.
    """

    __slots__ = ("_flying", "_leaving", "_lock", "_queue", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._flying: set[Place] = set()
        self._queue: dict[Place, None] = {}  # ordered, and quick to leave from the middle
        self._leaving: list[Place] = []
        self._lock = Lock()

    def enter(self) -> Place:
        """Take a place, or join the queue for one: then ``granted`` is a future."""
        place = Place(self)
        with self._lock:
            if len(self._flying) < self.size:
                self._flying.add(place)
            else:
                place.granted = Future()
                place.owner = self._stuck(place.thread)
                self._queue[place] = None
        self._settle()
        return place

    def leave(self, place: Place) -> None:
        """Take a place out. Never blocks: it may run in a finalizer, in the midst of anything."""
        self._leaving.append(place)
        self._settle()

    def _settle(self) -> None:
        # Whoever fails to get the lock may go: its holder looks again after letting go of it.
        while self._leaving and self._lock.acquire(blocking=False):
            granted: list[Future[None]] = []
            try:
                self._hand_over(granted)
            finally:
                self._lock.release()
                for future in granted:  # after the release, since it runs others' callbacks
                    future.set_result(None)

    def _hand_over(self, granted: list[Future[None]]) -> None:
        while self._leaving:
            place = self._leaving.pop()
            if place in self._flying:
                self._flying.remove(place)
            else:
                del self._queue[place]
        while self._queue and len(self._flying) < self.size:
            place = next(iter(self._queue))
            del self._queue[place]
            self._flying.add(place)
            if place.granted is not None:
                granted.append(place.granted)

    def _stuck(self, thread: int | None) -> int | None:
        """The thread, if it would wait for itself: its own places suffice to fill the gate.

        What stands in the queue before it counts as well, for it will be in flight first.
        """
        own = 0
        for places in (self._flying, self._queue):
            for place in places:
                own += place.thread == thread
                if own >= self.size:
                    return thread
        return None
