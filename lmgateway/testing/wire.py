"""The wire: in a test, it stands in place of the network and gives prepared answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._layers.context import Attempt, Send
from .._transports.leases import HasOptions, Leases
from ..types import Blocking, Exchange, Flow, HTTPRequest, HTTPResponse

if TYPE_CHECKING:
    from .._drive.cancel import Deadline
    from .._transports.protocols import AsyncTransport, Transport

__all__ = ["NoAnswerError", "Pieces", "Wire"]


class NoAnswerError(AssertionError):
    """The provider asked for more exchanges than there are answers."""


class Pieces:
    """The source of a response. It returns pieces, and raises those that are errors."""

    def __init__(self, pieces: Iterable[bytes | BaseException]) -> None:
        self.left = deque(pieces)
        self.closed = False

    def read(self) -> Flow[bytes]:
        """The next piece, b"" at the end."""
        yield from ()  # what makes it a flow; it has nothing to wait for
        piece = self.left.popleft() if self.left else b""
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self) -> None:
        """Remember that the reader has left."""
        self.closed = True


class Wire(Leases):
    """Gives each exchange its answer: an HTTPResponse, what a Blocking returns, or an error.

    Attributes:
        asked: The exchanges as the provider yielded them, without credentials.
        sent: The requests as they would have been sent, with credentials.
    """

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self._answers = deque(answers)
        self.asked: list[Exchange] = []
        self.sent: list[HTTPRequest] = []

    def layer(self, send: Send, attempt: Attempt) -> Send:
        """The innermost effect layer: it keeps each exchange, and does not run any Blocking."""

        def answer(exchange: Exchange) -> Flow[Any]:
            self.asked.append(exchange)
            if not isinstance(exchange, Blocking):
                return (yield from send(exchange))
            returned = self._next()
            if isinstance(source := getattr(returned, "source", None), Pieces):
                attempt.on_exit(source.close)
            return returned

        return answer

    def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        """Give the next answer to a request, as Transport.send does."""
        self.sent.append(request)
        answer: HTTPResponse = self._next()
        return answer

    def _next(self) -> Any:
        if not self._answers:
            number = len(self.asked)
            raise NoAnswerError(
                f"the provider asked for exchange number {number}, and none is recorded for it"
            )
        answer = self._answers.popleft()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def peek(self) -> Any:
        """The next answer; None if there is none left."""
        return self._answers[0] if self._answers else None

    # -- in place of an LM's connections --------------------------------------------------------

    def blocking(self, call: HasOptions) -> Transport:
        """The wire itself, as a blocking transport."""
        return self

    def awaiting(self, call: HasOptions) -> AsyncTransport:
        """The wire as an awaited transport."""
        return _Awaited(self)

    def close(self) -> None:
        """Do nothing: no connection is open."""


class _Awaited:
    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        return self._wire.send(request, deadline)

    async def aclose(self) -> None:
        """Do nothing: no connection is open."""
