"""Speed: how many rows a second a run does now, from which follows how much time is left."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import NamedTuple

__all__ = ["LOOKS", "Speed"]

LONGEST_LOOK = 30.0  # seconds
LOOKS = 0.25  # seconds from one look to the next, at least
MANY = 10  # calls in flight, from which on their number says more than chance


class _Look(NamedTuple):
    """What a run has done at a moment; see ``Speed.look``."""

    now: float
    asked: int
    cached: int
    in_flight: int
    seconds: float


class Speed:
    """How many rows a second are done now: over half of the run so far, or the last half minute.

    So neither a slow start counts for long, nor a burst at the beginning: rows that the cache
    answers, or those that a limit by rate lets through at once.
    """

    def __init__(self, now: float) -> None:
        self._began = now
        self._looks = deque([_Look(now, 0, 0, 0, 0.0)])

    def look(
        self, now: float, asked: int, cached: int, in_flight: int = 0, seconds: float = 0.0
    ) -> None:
        """So many rows are done now: those that a service was asked for, and the others.

        Args:
            now: The moment.
            asked: Rows that a service was asked for.
            cached: The others.
            in_flight: Calls in flight.
            seconds: What the calls that were answered took, in sum.
        """
        if now - self._looks[-1].now >= LOOKS:
            self._looks.append(_Look(now, asked, cached, in_flight, seconds))
            span = min(LONGEST_LOOK, (now - self._began) / 2)
            while len(self._looks) > 2 and self._looks[1].now <= now - span:
                self._looks.popleft()

    @property
    def rate(self) -> float:
        """Rows a second; 0 while nothing is known.

        A rush of rows from the cache says nothing about the next ones, so of these the median of
        ten parts of the time is taken.
        """
        first, last = self._looks[0], self._looks[-1]
        seconds = last.now - first.now
        if seconds <= 0:
            return 0.0
        step = max(1, (len(self._looks) - 1) // 10)
        looks = list(self._looks)[::step]
        cached = sorted(
            (after.cached - before.cached) / (after.now - before.now)
            for before, after in pairwise(looks)
        )
        asked = max((last.asked - first.asked) / seconds, self._rate_of_more())
        middle = cached[len(cached) // 2] if cached else 0.0
        return asked + min(middle, (last.cached - first.cached) / seconds)

    def _rate_of_more(self) -> float:
        """The rate by the calls in flight, where those are more than before; else 0.

        A run begins with few calls at a time. With calls of a second, it takes several seconds to
        have all in flight, and what was done until then says too little.
        """
        first, last = self._looks[0], self._looks[-1]
        flights = [look.in_flight for look in self._looks]
        now, seconds = min(flights[-3:]), last.seconds - first.seconds
        if now < MANY or now < 1.1 * sum(flights) / len(flights) or seconds <= 0:
            return 0.0
        return now * (last.asked - first.asked) / seconds
