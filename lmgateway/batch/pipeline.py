"""The pipeline: rows from a reader, through workers, to one writer, with memory bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import copy_context
from threading import Condition, Thread
from typing import Any, Protocol, TypeAlias

from .._drive.gather import Reply, in_tasks
from .adaptive_limit import AdaptiveLimit
from .answers import output_row
from .progress import Counts
from .rows import Row
from .verdicts import Waiting

__all__ = ["Pipeline", "ReaderThread", "Runner", "Write", "run_rows"]

#: How many further workers may take rows while all rows in hand fail.
MOST_SPARES = 256

Kept: TypeAlias = "Mapping[str, Any] | None"

Write: TypeAlias = "Callable[..., Awaitable[None] | None]"
"""Writes what became of the row with this id: ``(name, reply)``, and ``kept`` as a third argument
if columns of the row stand beside it. Raises OSError."""


class Runner(Protocol):
    """Who asks rows: a RowRunner in this process, or actors elsewhere."""

    @property
    def limit(self) -> AdaptiveLimit | None:
        """How many calls may be in flight, for the figures; None where there are several limits."""

    async def run_row(self, row: Row) -> Reply | None:
        """See ``RowRunner.run_row``."""

    def waiting(self) -> Waiting | None:
        """What is waited for while no row is answered, for whoever watches; None else."""

    def rows_follow(self, bring: Callable[[int], None]) -> None:
        """Rows will come that are not in hand yet.

        Args:
            bring: Brings so many more of them at once. Is called when all rows in hand fail.
        """

    def none_follow(self, bring: Callable[[int], None]) -> None:
        """No further row will come; ``bring`` is what ``rows_follow`` was given."""

    def drain(self) -> None:
        """Begin no further call."""

    def close(self) -> None:
        """Let go of everything."""


class Reader(Protocol):
    """Where rows come from."""

    async def get(self) -> Row | None:
        """The next row; None at the end, or once stopped."""

    def stop(self) -> None:
        """Give out no further row."""


class Pipeline:
    """Workers that take rows, have each of them asked, and write what became of it.

    Args:
        reader: Where the rows come from.
        runner: Who asks a row.
        write: Is told the replies in the order in which they come, or of the rows.
        counts: Where rows are counted.
        workers: Rows in hand at the same time.
        window: To keep the order of the rows: how many rows the last one may be ahead of the
            first without a reply; None writes each reply as it comes.
    """

    def __init__(
        self,
        reader: Reader,
        runner: Runner,
        write: Write,
        counts: Counts,
        *,
        workers: int,
        window: int | None,
    ) -> None:
        self._reader = reader
        self._runner = runner
        self._write = write
        self._counts = counts
        self._workers = workers
        self._order = _Order(window) if window else None
        self._taken = 0
        self._all_read = False
        self._spares: list[asyncio.Task[None]] = []
        self._drain = True

    def interrupt(self) -> None:
        """Begin no further row; those whose call is in flight are still written."""
        self._counts.interrupted = True
        self._stop()

    async def run(self, *, drain: bool = True) -> None:
        """Work until there is no further row, or until interrupted.

        Args:
            drain: Whether calls in flight are still awaited and written after a failure.

        Raises StopError, OSError or what the reader raised.
        """
        # Calls that are cancelled need no word to the runner, which others may share.
        stop = self._stop if drain else self._reader.stop
        self._drain = drain
        self._runner.rows_follow(self._bring)
        try:
            await in_tasks(self._workers, self._work, stop, drain=drain)
            await asyncio.gather(*self._spares)
        except BaseException as error:
            if not (drain and isinstance(error, Exception)):
                for spare in self._spares:
                    spare.cancel()
            stop()
            await asyncio.gather(*self._spares, return_exceptions=True)
            raise
        finally:
            self._note_end()

    def _bring(self, count: int) -> None:
        """Have more workers take rows: all those in hand fail, and others may be answered."""
        for _ in range(min(count, MOST_SPARES - len(self._spares))):
            self._spares.append(asyncio.ensure_future(self._work_as_spare()))

    async def _work_as_spare(self) -> None:
        try:
            await self._work()
        except Exception:  # is raised by run, which waits for the workers first
            if self._drain:
                self._stop()
            raise

    def _note_end(self) -> None:
        if not self._all_read:
            self._all_read = True
            self._runner.none_follow(self._bring)

    def _stop(self) -> None:
        self._runner.drain()
        self._reader.stop()
        if self._order is not None:
            self._order.stop()

    async def _work(self) -> None:
        while (row := await self._reader.get()) is not None:
            place, self._taken = self._taken, self._taken + 1
            if self._order is not None:
                await self._order.enter(place)
            reply = await self._runner.run_row(row)
            if reply is None:
                return
            if self._order is None:
                await self._put(row.id, reply, row.kept)
            else:
                self._order.keep(place, row.id, reply, row.kept)
                for kept in self._order.due():
                    await self._put(*kept)
        self._note_end()

    async def _put(self, name: str, reply: Reply, kept: Kept) -> None:
        written = self._write(name, reply) if kept is None else self._write(name, reply, kept)
        if written is not None:
            await written
        self._counts.add(reply)


class _Order:
    """Replies that wait for those of the rows before them, within a window."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._next = 0
        self._kept: dict[int, tuple[str, Reply, Kept]] = {}
        self._moved = asyncio.Event()
        self._stopped = False

    async def enter(self, place: int) -> None:
        """Wait until a row is within the window."""
        while place >= self._next + self._window and not self._stopped:
            self._moved.clear()
            await self._moved.wait()

    def keep(self, place: int, name: str, reply: Reply, kept: Kept) -> None:
        """Keep a reply until its turn."""
        self._kept[place] = name, reply, kept

    def due(self) -> Iterator[tuple[str, Reply, Kept]]:
        """Take the replies whose turn it is, in their order.

        The turn passes on when a reply has been written, so only one worker finds any.
        """
        while self._next in self._kept:
            yield self._kept.pop(self._next)
            self._next += 1
            self._moved.set()

    def stop(self) -> None:
        """Let all rows in that wait: the job is stopping, and they are not asked."""
        self._stopped = True
        self._moved.set()


# -- rows from a list --------------------------------------------------------------------------


async def run_rows(runner: Runner, rows: list[Row], workers: int) -> list[dict[str, Any]]:
    """The rows of the output for some rows, in their order.

    Raises StopError, the calls in flight cancelled.
    """
    results: list[dict[str, Any]] = []
    pipeline = Pipeline(
        _Listed(rows),
        runner,
        lambda *row: results.append(output_row(*row)),
        Counts(),
        workers=min(workers, len(rows)),
        window=len(rows),
    )
    await pipeline.run(drain=False)
    return results


class _Listed:
    """A reader of rows that are there already."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = iter(rows)

    async def get(self) -> Row | None:
        return next(self._rows, None)

    def stop(self) -> None:
        self._rows = iter(())


# -- rows from an iterator that may block ------------------------------------------------------


class ReaderThread:
    """A reader whose rows come through a bounded queue, which a thread fills.

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
            target=copy_context().run, args=(self._read,), name="lmgateway-reader", daemon=True
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
                    self._wake_soon()
        except BaseException as error:
            failure = error
        with self._changed:
            self._failure, self._ended = failure, True
        if isinstance(self._rows, Iterator) and hasattr(self._rows, "close"):
            self._rows.close()
        self._wake_soon()

    def _has_room(self) -> bool:
        return self._stopped or len(self._ready) <= self._size // 2

    def _wake_soon(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        with self._changed:
            hungry, self._hungry = self._hungry, []
        for each in hungry:
            if not each.done():
                each.set_result(None)
