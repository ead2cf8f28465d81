"""Streams: an answer piece by piece, blocking or awaiting."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from .._guard.tracebacks import conceal
from ..types import (
    Completion,
    Delta,
    Emit,
    Flow,
    Parsed,
)
from .loops import (
    Cancelled,
    Done,
    aadvance,
    advance,
)

if TYPE_CHECKING:
    from asyncio import Task
    from types import TracebackType

    from .._layers.call import Call
    from .._transports.protocols import AsyncTransport, Transport

__all__ = ["AStream", "Stream", "show_delta", "show_text"]

Piece = TypeVar("Piece")


def show_text(emit: Emit) -> str:
    """The text of choice 0; the other choices are in the completion, and in events."""
    delta = emit.delta
    if isinstance(delta, str):
        return delta
    return delta.text if delta.index == 0 else ""


def show_delta(emit: Emit) -> Delta:
    """The delta itself."""
    delta = emit.delta
    return Delta(delta) if isinstance(delta, str) else delta


class _Reader(Generic[Piece, Parsed]):
    """What both colours share: one flow with one reader, and a close from anywhere."""

    def __init__(self, flow: Flow[Completion], call: Call, view: Callable[[Emit], Piece]) -> None:
        self._flow = flow
        self._call = call
        self._view = view
        self._closed = False
        #: The whole answer, once the stream has come to its end.
        self.completion: Completion[Parsed] | None = None
        call.deadline.pause()  # the clock runs while somebody waits for a piece

    def _left(self) -> bool:
        """Whether somebody closed it before its end, perhaps while it was being read."""
        return self._closed and self.completion is None

    def _accept(self, event: Emit | Done[Completion]) -> Piece | None:
        if type(event) is Done:
            self.completion = event.value
            self._closed = True
            return None
        return self._view(cast(Emit, event))

    def _end(self) -> None:
        try:
            with suppress(ValueError):  # a reader in another thread is just about to do it
                self._flow.close()
        except BaseException as error:
            conceal(error)
            raise

    def _hang_up(self) -> None:
        if self._call.source is not None:
            self._call.source.close()

    def __repr__(self) -> str:
        state = "ended" if self.completion else "closed" if self._closed else "open"
        return f"<{type(self).__name__} of {self._call.provider}, {state}>"


class Stream(_Reader[Piece, Parsed]):
    """An iterator over the pieces of an answer; a context manager that closes its connection.

    With n > 1 the pieces are those of choice 0; ``events=True`` gives the deltas of all. After
    the last piece ``completion`` is the whole answer.
    """

    def __init__(
        self,
        flow: Flow[Completion],
        transport: Transport,
        call: Call,
        view: Callable[[Emit], Piece],
    ) -> None:
        super().__init__(flow, call, view)
        self._transport = transport
        self._reader: int | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Piece:
        deadline = self._call.deadline
        try:
            self._reader = get_ident()
            while not self._closed:
                deadline.resume()
                try:
                    event = advance(self._flow, self._transport, deadline)
                finally:
                    deadline.pause()
                piece = self._accept(event)
                if piece:
                    return piece
        except BaseException as error:
            left = self._left()  # closed from elsewhere: the end, and no error of the reader's
            self._closed = True
            if not (left and isinstance(error, Exception)):
                conceal(error)
                raise
        finally:
            self._reader = None
            if self._closed:
                self._end()
        raise StopIteration

    def close(self) -> None:
        """Close the connection; may be called from another thread, and twice.

        A reader in another thread comes to the end of the stream, whatever it waits for.
        """
        self._closed = True
        reader = self._reader
        if reader is not None:
            self._call.deadline.cancel()
            self._hang_up()
        if reader is None or reader == get_ident():  # a reader that Ctrl-C has struck, perhaps
            self._end()
        # Else what the flow holds is let go when its reader has left the wire.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AStream(_Reader[Piece, Parsed]):
    """An asynchronous iterator over the pieces of an answer; otherwise as Stream."""

    def __init__(
        self,
        flow: Flow[Completion],
        transport: AsyncTransport,
        call: Call,
        view: Callable[[Emit], Piece],
    ) -> None:
        super().__init__(flow, call, view)
        self._transport = transport
        self._reader: Task[Any] | None = None
        self._woken = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        deadline = self._call.deadline
        try:
            while not self._closed:
                deadline.resume()
                try:
                    event = await self._advance()
                except BaseException as error:
                    if self._left() and isinstance(error, Exception):
                        break
                    self._closed = True
                    raise
                finally:
                    deadline.pause()
                piece = self._accept(event)
                if piece:
                    return piece
        except BaseException as error:
            conceal(error)
            raise
        finally:
            if self._closed:
                self._end()
        raise StopAsyncIteration

    async def _advance(self) -> Emit | Done[Completion]:
        """The next event; raises Cancelled when aclose woke this task, and nobody cancelled it."""
        from asyncio import CancelledError, current_task

        reader = self._reader = current_task()
        before = reader.cancelling() if reader is not None else 0
        try:
            return await aadvance(self._flow, self._transport, self._call.deadline)
        except CancelledError:
            if reader is None or not self._woken or reader.cancelling() > before + 1:
                raise
        finally:
            self._reader = None
            if self._woken and reader is not None:
                reader.uncancel()
        raise Cancelled

    async def aclose(self) -> None:
        """Close the connection; may be called twice.

        A reader in another task comes to the end of the stream, whatever it waits for.
        """
        from asyncio import get_running_loop

        self._closed = True
        if self._reader is None:
            self._end()
        elif self._reader.get_loop() is not get_running_loop():
            self._hang_up()
        elif not self._woken:
            self._woken = True
            self._reader.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
