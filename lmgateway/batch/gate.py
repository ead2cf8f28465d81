"""The gate: how many calls may be in flight, found out by additive increase and cuts (AIMD)."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from time import monotonic

__all__ = ["Gate", "rest"]

FIRST = 8  # so that a wrong key or model costs a few calls, not hundreds
OVERSHOT, CUT = 0.5, 0.75
#: With few in flight, one more for each success would knock at the limit all the time.
SLOWEST = 24


class Gate:
    """Lets calls in while there is room; the room follows what the service takes.

    It about doubles from 8 with every round of successes until the service refuses for the
    first time, and is halved then; from there it grows by about one a round, and is cut by a
    quarter with each refusal. Refusals of calls that began before the last cut count no more.

    Args:
        ceiling: The most there may ever be.
        stopping: Ends a pause when it is set.

    Attributes:
        ceiling: The most there may be.
        room: How many there may be now.
        flying: How many there are.
    """

    def __init__(self, ceiling: int, stopping: asyncio.Event | None = None) -> None:
        self.ceiling = ceiling
        self._stopping = stopping or asyncio.Event()
        self.room = float(min(FIRST, ceiling))
        self.flying = 0
        self._doubling = True
        self._cut_at = 0.0
        self._opens_at = 0.0
        self._queue: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for room, first come, first served; while paused, for the end of the pause."""
        while (seconds := self._opens_at - monotonic()) > 0 and not self._stopping.is_set():
            await rest(self._stopping, seconds)
        if self.flying < int(self.room) and not self._queue:
            self.flying += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn  # who wakes it has counted it
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Make room for the next."""
        self.flying -= 1
        while self._queue and self.flying < int(self.room):
            turn = self._queue.popleft()
            if not turn.done():
                self.flying += 1
                turn.set_result(None)

    def succeed(self) -> None:
        """A call in flight was answered: there may be room for more."""
        if self.flying * 3 >= self.room:  # room that nobody uses proves nothing
            step = 1.0 if self._doubling else 1.0 / max(self.room, SLOWEST)
            self.room = min(self.ceiling, self.room + step)

    def refuse(self, began: float) -> None:
        """The service refused a call, or was too slow for it, that began at ``monotonic()``."""
        if began > self._cut_at:
            self.room = max(1.0, self.room * (OVERSHOT if self._doubling else CUT))
            self._doubling = False
            self._cut_at = monotonic()

    def pause(self, seconds: float) -> None:
        """Let nobody in for a while, as the service asked."""
        self._opens_at = max(self._opens_at, monotonic() + seconds)


async def rest(stopping: asyncio.Event, seconds: float) -> None:
    """Do nothing for so many seconds, or until a job is stopping."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
