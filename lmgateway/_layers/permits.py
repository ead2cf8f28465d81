"""Semaphores, which let so many in at once, and rate limiters, which spread units over time.

Threads and event loops share both. What gives back never blocks, because the garbage collector
may close a dropped stream in the midst of anything else. And it may be done twice: if Ctrl-C cuts
it short, it is done again.
"""

from __future__ import annotations

from itertools import islice
from math import inf
from threading import get_ident
from time import monotonic

from .._drive.futures import LockFreeFuture, waiters

__all__ = ["Permit", "RateLimiter", "Reservation", "Semaphore"]


# -- rates -------------------------------------------------------------------------------------


class RateLimiter:
    """A generic cell rate algorithm: each unit moves the time at which the next one is due.

    Each move follows the one that it was computed from, and only one move may follow each. Whoever
    comes second computes anew. So there is no lock that Ctrl-C could leave taken.

    Args:
        interval: Seconds between two units.
        burst: How many units may go at once, beyond the first.
    """

    __slots__ = ("_latest", "_slack", "interval")

    def __init__(self, interval: float, burst: float) -> None:
        self.interval = interval
        self._slack = interval * burst
        self._latest = Move(-inf)

    def reserve(
        self, units: float, longest: float, reserved: list[Reservation] | None = None
    ) -> Reservation | float:
        """Reserve units; or return in how many seconds they are due, if that is too late.

        Args:
            units: How many.
            longest: The longest wait in seconds.
            reserved: A list that gets the reservation before it counts, so that it can be given
                back whatever happens then.
        """
        now = monotonic()
        while True:
            latest = self._find_latest()
            start = max(now, latest.due - self._slack)
            if start - now > longest:
                return start - now
            due = max(now, latest.due) + units * self.interval
            reservation = Reservation(due, start - now, latest.due)
            if reserved is not None:
                reserved.append(reservation)
            if latest.precede(reservation):
                return reservation
            if reserved is not None:
                reserved.pop()

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
        """Let another move follow; False if one follows already."""
        self.followers.append(move)
        return self.followers[0] is move


class Reservation(Move):
    """Units that have been reserved and are due in so many ``seconds``."""

    __slots__ = ("_before", "seconds")

    def __init__(self, due: float, seconds: float, before: float) -> None:
        super().__init__(due)
        self.seconds = seconds
        self._before = before

    def cancel(self) -> None:
        """Give the units back, unless somebody has reserved after them; never blocks."""
        self.precede(Move(self._before))


# -- permits -----------------------------------------------------------------------------------


class Permit:
    """A permit of a semaphore, held or waited for.

    Whoever makes one first makes sure that it is released on every path, and then acquires it.

    Attributes:
        granted: Done when the permit is held; None if it was held at once.
        thread: The thread that must go on for the permit to be released.
        owner: For ``Wait``: a thread that would wait for itself, if the caller has to wait for one.
    """

    __slots__ = ("_claims", "granted", "owner", "semaphore", "thread")

    def __init__(self, semaphore: Semaphore) -> None:
        self.semaphore = semaphore
        self.thread = get_ident()
        self.granted: LockFreeFuture[None] | None = None
        self.owner: int | None = None
        self._claims: list[object] = []

    def acquire(self) -> None:
        """Hold the permit, or join the queue for it: then ``granted`` is a future."""
        self.semaphore._admit(self)

    def claim(self) -> bool:
        """Take the duty to release over from the call; only the first who claims gets it."""
        mine = object()
        self._claims.append(mine)
        return self._claims[0] is mine

    def release(self) -> None:
        """Give the permit back, or leave the queue, unless another has that duty.

        The second time it does nothing.
        """
        self._claims.append(None)
        if self._claims[0] is None:
            self.semaphore.release(self)


class Semaphore:
    """So many permits, and a queue for them.

    All permits that were asked for stand in one row, and the first of them are held. So a permit
    that comes free belongs in that very moment to the first who waits, and nobody can overtake.
    To acquire and to release are one operation of a dict each, so that there is neither a lock
    nor a half-way state in which Ctrl-C or the garbage collector could leave it.

    Args:
        size: How many permits there are.
    """

    __slots__ = ("_row", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._row: dict[Permit, None] = {}  # ordered, and quick to leave from the middle

    def acquire(self) -> Permit:
        """Take a permit, or join the queue for one: then its ``granted`` is a future."""
        permit = Permit(self)
        permit.acquire()
        return permit

    def release(self, permit: Permit) -> None:
        """Take a permit back. Never blocks: it may run in a finalizer, in the midst of anything."""
        self._row.pop(permit, None)
        if len(self._row) >= self.size:
            self._grant()

    @property
    def held(self) -> list[Permit]:
        """The permits that are held."""
        while True:
            try:
                return list(islice(self._row, self.size))
            except RuntimeError:  # the collector came in between, and dropped somebody
                continue

    @property
    def queued(self) -> list[Permit]:
        """The permits that are waited for, the next one first."""
        return list(self._row)[self.size :]

    def stuck(self) -> bool:
        """Whether all permits belong, or will belong, to threads that wait for the running code."""
        stopped = waiters()
        return (
            bool(stopped) and sum(each.thread in stopped for each in list(self._row)) >= self.size
        )

    def _admit(self, permit: Permit) -> None:
        self._row[permit] = None
        if len(self._row) <= self.size or permit in self.held:
            return
        permit.owner = self._owner_of(permit)
        permit.granted = LockFreeFuture()
        self._grant()  # it may have moved up meanwhile, which nobody could tell it

    def _grant(self) -> None:
        """Tell all who hold a permit and do not know it yet."""
        for permit in self.held:
            if (granted := permit.granted) is not None and not granted.done():
                granted.set_result(None)

    def _owner_of(self, permit: Permit) -> int | None:
        """The thread that a wait would wait for in vain: a waiter of this one, or this one.

        None if enough of the permits before it belong to other threads. Those before it in the
        queue count as well, since they will be held first. The two kinds are told apart because
        a task that waits is in the way of no other task of its loop.
        """
        stopped = waiters()
        if not stopped and all(each.thread == permit.thread for each in self.held):
            return permit.thread  # nearly always, in an event loop, and the queue may be long
        mine = theirs = 0
        for each in list(self._row):
            if each is permit:
                break
            theirs += each.thread in stopped
            mine += each.thread == permit.thread
        if theirs >= self.size:
            return stopped[0]
        return permit.thread if mine + theirs >= self.size else None
