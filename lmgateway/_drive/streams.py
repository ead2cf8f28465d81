"""Streams: an answer piece by piece, blocking or awaiting."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from .._guard.tracebacks import conceal
from ..types import Completion, Delta, Emit, Flow, Parsed
from .loops import Done, aadvance, advance

if TYPE_CHECKING:
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
    """What both kinds of stream share: one flow, one reader, and a close from anywhere."""

    def __init__(
        self, flow: Flow[Completion], transport: Any, call: Call, view: Callable[[Emit], Piece]
    ) -> None:
        self._flow = flow
        self._transport = transport
        self._call = call
        self._view = view
        self._closed = False
        self._reader: int | None = None  # the thread that waits for a piece
        #: The whole answer, once the stream has come to its end.
        self.completion: Completion[Parsed] | None = None
        call.deadline.pause()  # the clock runs while somebody waits for a piece

    def __repr__(self) -> str:
        state = "ended" if self.completion else "closed" if self._closed else "open"
        return f"<{type(self).__name__} of {self._call.provider}, {state}>"

    def _accept(self, event: Emit | Done[Completion]) -> Piece | None:
        if type(event) is Done:
            self.completion = event.value
            self._closed = True
            return None
        return self._view(cast(Emit, event))

    def _close(self) -> None:
        self._closed = True
        reader = self._reader
        if reader is not None:
            self._call.deadline.cancel()
        if reader is None or self._is_struck(reader):
            self._end()
        # Else the reader lets go of what the flow holds, when the driver has woken it.

    def _is_struck(self, reader: int) -> bool:
        """Whether the reader is the thread that closes: Ctrl-C may have struck it in a read."""
        return reader == get_ident()

    def _end(self) -> None:
        try:
            with suppress(ValueError):  # a reader in another thread is just about to do it
                self._flow.close()
        except BaseException as error:
            conceal(error)
            raise

    def _left(self, error: BaseException) -> bool:
        """Whether an error only says that the stream was closed from elsewhere before its end."""
        left = self._closed and self.completion is None and isinstance(error, Exception)
        self._closed = True
        if not left:
            conceal(error)
        return left


class Stream(_Reader[Piece, Parsed]):
    """An iterator over the pieces of an answer; a context manager that closes its connection.

    With n > 1 the pieces are those of choice 0; ``events=True`` gives the deltas of all choices.
    After the last piece ``completion`` is the whole answer.
    """

    _transport: Transport

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
            if not self._left(error):
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
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AStream(_Reader[Piece, Parsed]):
    """An asynchronous iterator over the pieces of an answer; otherwise as Stream."""

    _transport: AsyncTransport

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        deadline = self._call.deadline
        try:
            self._reader = get_ident()
            while not self._closed:
                deadline.resume()
                try:
                    event = await aadvance(self._flow, self._transport, deadline)
                finally:
                    deadline.pause()
                piece = self._accept(event)
                if piece:
                    return piece
        except BaseException as error:
            if not self._left(error):
                raise
        finally:
            self._reader = None
            if self._closed:
                self._end()
        raise StopAsyncIteration

    def _is_struck(self, reader: int) -> bool:
        return False  # a reader of the same thread is another task

    async def aclose(self) -> None:
        """Close the connection; may be called from another event loop, and twice.

        A reader in another task comes to the end of the stream, whatever it waits for.
        """
        self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
