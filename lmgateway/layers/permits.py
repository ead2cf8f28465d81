"""Permits: paces that spread requests over time, and gates that let so many in at once.

Both are shared by threads and event loops. What gives back never blocks, since a dropped stream
may be closed by the garbage collector, in the midst of anything else; and it may be done twice,
since Ctrl-C may cut it short at any instruction: then it is done again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from math import inf
from threading import Lock, get_ident
from time import monotonic

from ..promises import Promise
from ..waiters import waiters

__all__ = ["Gate", "Pace", "Place", "Slot"]


# -- pace --------------------------------------------------------------------------------------


class Pace:
    """A generic cell rate algorithm: each unit moves the time at which the next one is due.

    Attributes:
        interval: Seconds between two units.
    """

    __slots__ = ("_due", "_lock", "_returned", "_slack", "interval")

    def __init__(self, interval: float, burst: float) -> None:
        self.interval = interval
        self._slack = interval * burst
        self._due = -inf
        self._returned: deque[Slot] = deque()
        self._lock = Lock()

    def reserve(
        self, units: float, patience: float, kept: list[Slot] | None = None
    ) -> Slot | float:
        """Reserve units, or say in how many seconds they would be due if that is too late.

        Args:
            units: How many.
            patience: Seconds.
            kept: Where the slot is put before it counts: whatever happens then, it can be given
                back.
        """
        now = monotonic()
        with self._lock:
            self._take_back()
            start = max(now, self._due - self._slack)
            if start - now > patience:
                return start - now
            after = max(now, self._due) + units * self.interval
            slot = Slot(self, start - now, self._due, after)
            if kept is not None:
                kept.append(slot)
            self._due = after
            return slot

    def correct(self, units: float) -> None:
        """Count units that were not reserved, or take back (less than 0) some that were."""
        with self._lock:
            self._take_back()
            self._due += units * self.interval

    def cancel(self, slot: Slot) -> None:
        """Give a slot back where that can be done; never blocks, as in ``Gate.leave``."""
        self._returned.append(slot)  # it is of no concern before the next one is reserved

    def _take_back(self) -> None:
        while self._returned:
            slot = self._returned.pop()
            if self._due == slot.after:  # later ones have been told their times already
                self._due = slot.before


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

    Who makes it sees to it first that it is left, on whatever path, and enters then.

    Attributes:
        granted: Done once the place is in flight; None if it is at once.
        thread: The thread that must go on for the place to come free.
        owner: For ``Wait``: a thread that would wait for itself, if that is what waiting came to.
    """

    __slots__ = ("_claims", "gate", "granted", "owner", "thread")

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.thread = get_ident()
        self.granted: Promise[None] | None = None
        self.owner: int | None = None
        self._claims: list[object] = []

    def enter(self) -> None:
        """Take the place, or join the queue for it: then ``granted`` is a promise."""
        self.gate._admit(self)

    def claim(self) -> bool:
        """Take over the duty to leave, from the call; only one ever gets it."""
        mine = object()
        self._claims.append(mine)
        return self._claims[0] is mine

    def leave(self) -> None:
        """Go, from the queue or from flight, unless another has that duty; again does nothing."""
        self._claims.append(None)
        if self._claims[0] is None:
            self.gate.leave(self)


class Gate:
    """So many places in flight, and a queue.

    All who have entered stand in one row, and the first of them are in flight. So a place that
    comes free belongs to the first who waits in that very moment, and nobody can overtake. To
    enter and to leave are one operation of a dict each, so that there is neither a lock nor a
    half-way state in which Ctrl-C or the garbage collector could leave it.
    """

    __slots__ = ("_row", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._row: dict[Place, None] = {}  # ordered, and quick to leave from the middle

    def enter(self) -> Place:
        """Take a place, or join the queue for one: then ``granted`` is a promise."""
        place = Place(self)
        place.enter()
        return place

    def leave(self, place: Place) -> None:
        """Take a place out. Never blocks: it may run in a finalizer, in the midst of anything."""
        self._row.pop(place, None)
        if len(self._row) >= self.size:
            self._tell()

    @property
    def _flying(self) -> list[Place]:
        """Those in flight."""
        while True:
            try:
                return list(islice(self._row, self.size))
            except RuntimeError:  # the collector came in between, and dropped somebody
                continue

    @property
    def _queue(self) -> list[Place]:
        """Those that wait."""
        return list(self._row)[self.size :]

    def stuck(self) -> bool:
        """Whether it is full, or will be, of calls of threads that wait for this very code."""
        held_up = waiters()
        return (
            bool(held_up) and sum(each.thread in held_up for each in list(self._row)) >= self.size
        )

    def _admit(self, place: Place) -> None:
        self._row[place] = None
        if len(self._row) <= self.size or place in self._flying:
            return
        place.owner = self._owner_of(place)
        place.granted = Promise()
        self._tell()  # it may have moved up meanwhile, which nobody could tell it

    def _tell(self) -> None:
        """Tell whoever is in flight and does not know yet."""
        for place in self._flying:
            if (granted := place.granted) is not None and not granted.done():
                granted.set_result(None)

    def _owner_of(self, place: Place) -> int | None:
        """A waiter of this thread, or the thread itself, if what they hold fills the gate.

        What stands in the queue before it counts as well, for it will be in flight first. The
        two are told apart, since a task that waits is in the way of no other task of its loop.
        """
        held_up = waiters()
        if not held_up and all(each.thread == place.thread for each in self._flying):
            return place.thread  # nearly always, in an event loop, and the queue may be long
        mine = theirs = 0
        for each in list(self._row):
            if each is place:
                break
            theirs += each.thread in held_up
            mine += each.thread == place.thread
        if theirs >= self.size:
            return held_up[0]
        return place.thread if mine + theirs >= self.size else None
