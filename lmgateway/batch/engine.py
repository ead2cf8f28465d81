"""The engine: feed > workers > one writer, with what is in memory bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Protocol

from ..errors import LMGatewayError
from ..types import Completion
from .answers import answer_row, error_row, line
from .asker import Outcome
from .feed import Feed
from .gate import Gate
from .rows import Row
from .tally import Tally

__all__ = ["Engine", "Settler", "Sink", "as_row"]


class Sink(Protocol):
    """Where lines go."""

    def __call__(self, text: bytes) -> Awaitable[None] | None:
        """Write a line; raises OSError."""


class Settler(Protocol):
    """Who settles rows: an Asker, or actors elsewhere."""

    @property
    def gate(self) -> Gate | None:
        """The gate, for its figures; None where there are several."""

    async def settle(self, row: Row) -> Outcome | None:
        """See ``Asker.settle``."""

    def drain(self) -> None:
        """Begin no further call."""

    @property
    def stopping(self) -> asyncio.Event:
        """Set once no further call is begun."""

    def close(self) -> None:
        """Let go of everything."""


class Engine:
    """Workers that take rows from a feed, have them settled, and write what became of them.

    Args:
        asker: Who settles a row.
        write: Takes a line, in the order in which rows are settled.
        tally: Where rows are counted.
        workers: Rows in hand at the same time.
        window: With ``ordered``, how many rows the last may be ahead of the first that is not
            settled; None writes each as it comes.
    """

    def __init__(
        self, asker: Settler, write: Sink, tally: Tally, *, workers: int, window: int | None
    ) -> None:
        self._asker = asker
        self._write = write
        self._tally = tally
        self._workers = workers
        self._order = _Order(window) if window else None
        self._taken = 0
        self._feed: Feed | None = None

    def drain(self) -> None:
        """Begin no further row; those whose call is in flight are still written."""
        self._tally.interrupted = True
        self._stop()

    async def run(self, feed: Feed) -> None:
        """Work until the feed ends or the engine is drained.

        Raises StopError, OSError or what the feed's iterator raised; calls that are in flight
        then are still awaited and written.
        """
        self._feed = feed
        if self._asker.stopping.is_set():
            feed.stop()
        workers = [asyncio.ensure_future(self._work(feed)) for _ in range(self._workers)]
        try:
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            self._stop()
            outcomes = await asyncio.gather(*workers, return_exceptions=True)
        except asyncio.CancelledError:
            self._stop()
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            raise
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _stop(self) -> None:
        self._asker.drain()
        if self._feed is not None:
            self._feed.stop()
        if self._order is not None:
            self._order.stop()

    async def _work(self, feed: Feed) -> None:
        while (row := await feed.get()) is not None:
            place, self._taken = self._taken, self._taken + 1
            if self._order is not None:
                await self._order.enter(place)
            outcome = await self._asker.settle(row)
            if outcome is None:
                return
            text = line(as_row(row.id, outcome))
            if self._order is None:
                await self._put(text, outcome)
            else:
                self._order.keep(place, text, outcome)
                for kept in self._order.due():
                    await self._put(*kept)

    async def _put(self, text: bytes, outcome: Outcome) -> None:
        written = self._write(text)
        if written is not None:
            await written
        if isinstance(outcome, LMGatewayError):
            self._tally.fail(outcome)
        else:
            self._tally.answer(outcome)


def as_row(name: str, outcome: Completion | LMGatewayError) -> dict[str, object]:
    """The row of the output for an outcome."""
    if isinstance(outcome, LMGatewayError):
        return error_row(name, outcome)
    return answer_row(name, outcome)


class _Order:
    """Lines that wait for those before them, within a window."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._next = 0
        self._kept: dict[int, tuple[bytes, Outcome]] = {}
        self._moved = asyncio.Event()
        self._stopped = False

    async def enter(self, place: int) -> None:
        """Wait until a row is within the window."""
        while place >= self._next + self._window and not self._stopped:
            self._moved.clear()
            await self._moved.wait()

    def keep(self, place: int, text: bytes, outcome: Outcome) -> None:
        """Keep a line until its turn."""
        self._kept[place] = text, outcome

    def due(self) -> Iterator[tuple[bytes, Outcome]]:
        """Take the lines whose turn it is, in their order.

        The turn passes on when a line has been written, so only one worker finds any.
        """
        while self._next in self._kept:
            yield self._kept.pop(self._next)
            self._next += 1
            self._moved.set()

    def stop(self) -> None:
        """Let everybody in who waits: they find the work stopped."""
        self._stopped = True
        self._moved.set()
