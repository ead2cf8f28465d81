"""The feed: rows from an iterator that may block, in a thread of its own, to an event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from threading import Condition, Thread

from .rows import Row

__all__ = ["Feed"]


class Feed:
    """A bounded queue that a thread fills and an event loop empties.

    Args:
        rows: Read in the thread, no further ahead than ``size``.
        size: Rows in the queue at most.
    """

    def __init__(self, rows: Iterable[Row], size: int) -> None:
        self._rows = iter(rows)
        self._size = size
        self._ready: deque[Row] = deque()
        self._changed = Condition()
        self._ended = self._stopped = False
        self._failure: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._hungry: list[asyncio.Future[None]] = []
        # A daemon: a pipe that nobody writes to does not hold up the interpreter's exit. In the
        # context of the run: the rows may be made by calls of their own, which the run waits for.
        Thread(
            target=copy_context().run, args=(self._read,), name="lmgateway-feed", daemon=True
        ).start()

    async def get(self) -> Row | None:
        """The next row; None at the end, or once stopped. Raises what the iterator raised."""
        while True:
            with self._changed:
                if self._stopped:
                    return None
                if self._ready:
                    row = self._ready.popleft()
                    if len(self._ready) == self._size // 2:
                        self._changed.notify()
                    return row
                if self._ended:
                    if self._failure is not None:
                        raise self._failure
                    return None
                more = self._loop.create_future()
                self._hungry.append(more)
            await more

    def stop(self) -> None:
        """Give out no further row, and read none."""
        with self._changed:
            self._stopped = True
            self._ready.clear()
            self._changed.notify()
        self._wake()

    def _read(self) -> None:
        failure = None
        try:
            for row in self._rows:
                with self._changed:
                    if len(self._ready) >= self._size:
                        self._changed.wait_for(self._has_room)
                    if self._stopped:
                        break
                    self._ready.append(row)
                    hungry = bool(self._hungry)
                if hungry:
                    self._call(self._wake)
        except BaseException as error:
            failure = error
        with self._changed:
            self._failure, self._ended = failure, True
        if isinstance(self._rows, Iterator) and hasattr(self._rows, "close"):
            self._rows.close()
        self._call(self._wake)

    def _has_room(self) -> bool:
        return self._stopped or len(self._ready) <= self._size // 2

    def _call(self, wake: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        with self._changed:
            hungry, self._hungry = self._hungry, []
        for each in hungry:
            if not each.done():
                each.set_result(None)
