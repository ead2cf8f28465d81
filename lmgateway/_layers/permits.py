"""Permits: paces that spread requests over time, and gates that let so many in at once.

Both are shared by threads and event loops. What gives back never blocks, since a dropped stream
may be closed by the garbage collector, in the midst of anything else; and it may be done twice,
since Ctrl-C may cut it short at any instruction: then it is done again.
"""

from __future__ import annotations

from itertools import islice
from math import inf
from threading import get_ident
from time import monotonic

from .._drive.futures import Promise
from .._drive.waiters import waiters

__all__ = ["Gate", "Pace", "Place", "Slot"]


# -- pace --------------------------------------------------------------------------------------


class Pace:
    """A generic cell rate algorithm: each unit moves the time at which the next one is due.

    Each move follows the one it was reckoned from, and only one may follow each: who comes second
    reckons anew. So there is no lock that Ctrl-C could leave held.

    Attributes:
        interval: Seconds between two units.
    """

    __slots__ = ("_latest", "_slack", "interval")

    def __init__(self, interval: float, burst: float) -> None:
        self.interval = interval
        self._slack = interval * burst
        self._latest = Move(-inf)

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
        while True:
            latest = self._find_latest()
            start = max(now, latest.due - self._slack)
            if start - now > patience:
                return start - now
            due = max(now, latest.due) + units * self.interval
            slot = Slot(due, start - now, latest.due)
            if kept is not None:
                kept.append(slot)
            if latest.precede(slot):
                return slot
            if kept is not None:
                kept.pop()

    def correct(self, units: float) -> None:
        """Count units that were not reserved, or take back (less than 0) some that were."""
        while True:
            latest = self._find_latest()
            if latest.precede(Move(latest.due + units * self.interval)):
                return

    def _find_latest(self) -> Move:
        latest = self._latest
        while latest.followers:
            latest = latest.followers[0]
        self._latest = latest
        return latest


class Move:
    """A move of the time at which the next unit is due, to ``due``."""

    __slots__ = ("due", "followers")

    def __init__(self, due: float) -> None:
        self.due = due
        self.followers: list[Move] = []

    def precede(self, move: Move) -> bool:
        """Let a move follow, if it is the first that wants to."""
        self.followers.append(move)
        return self.followers[0] is move


class Slot(Move):
    """Units that have been reserved and are due in so many ``seconds``."""

    __slots__ = ("_before", "seconds")

    def __init__(self, due: float, seconds: float, before: float) -> None:
        super().__init__(due)
        self.seconds = seconds
        self._before = before

    def cancel(self) -> None:
        """Give it back, as long as nobody has reserved after it; never blocks."""
        self.precede(Move(self._before))


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
