"""An adaptive limit: how many calls may be in flight, as the service shows how many it takes."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from time import monotonic

__all__ = ["AdaptiveLimit", "rest"]

FIRST = 8  # so that a wrong key or model costs a few calls, not hundreds
FIRST_CUT, CUT = 0.5, 0.75
#: With few calls in flight, one more for each success would meet the service's limit all the time.
SLOWEST = 24


class AdaptiveLimit:
    """Lets calls begin while fewer are in flight than the limit allows.

    The limit grows additively and is cut multiplicatively (AIMD). From 8 it about doubles with
    every round of successes until the service is overloaded for the first time, and is halved
    then. From there it grows by about one a round, and each overload cuts it by a quarter.
    Overloads of calls that began before the last cut do not count.

    Args:
        maximum: The most that the limit may ever be.
        stopping: Ends what holds calls back when it is set.

    Attributes:
        limit: How many calls may be in flight now.
        in_flight: How many calls are in flight.
    """

    def __init__(self, maximum: int, stopping: asyncio.Event | None = None) -> None:
        self.limit = float(min(FIRST, maximum))
        self.in_flight = 0
        self._maximum = maximum
        self._stopping = stopping or asyncio.Event()
        self._doubling = True
        self._cut_at = 0.0
        self._held_back_until = 0.0
        self._queue: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Wait until one more call may begin, first come, first served, and none is held back."""
        while (seconds := self._held_back_until - monotonic()) > 0 and not self._stopping.is_set():
            await rest(self._stopping, seconds)
        if self.in_flight < int(self.limit) and not self._queue:
            self.in_flight += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn  # who sets its result has counted the call
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """A call has ended: let the next ones begin."""
        self.in_flight -= 1
        while self._queue and self.in_flight < int(self.limit):
            turn = self._queue.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)

    def grow(self) -> None:
        """A call was answered: raise the limit, if it was made use of."""
        if self.in_flight * 3 >= self.limit:
            step = 1.0 if self._doubling else 1.0 / max(self.limit, SLOWEST)
            self.limit = min(self._maximum, self.limit + step)

    def cut(self, began: float) -> None:
        """The service was overloaded, or too slow, for a call that began at ``monotonic()``."""
        if began > self._cut_at:
            self.limit = max(1.0, self.limit * (FIRST_CUT if self._doubling else CUT))
            self._doubling = False
            self._cut_at = monotonic()

    def hold_back(self, seconds: float) -> None:
        """Let no call begin for so many seconds, as the service asked."""
        self._held_back_until = max(self._held_back_until, monotonic() + seconds)


async def rest(stopping: asyncio.Event, seconds: float) -> None:
    """Wait for so many seconds, or until a job is stopping."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
