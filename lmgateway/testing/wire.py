"""The far end of a call, in place of the network: it answers what it was told to."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._layers.call import Attempt, Send
from ..types import (
    Blocking,
    Exchange,
    Flow,
    HTTPRequest,
    HTTPResponse,
)

if TYPE_CHECKING:
    from .._drive.cancel import Deadline
    from .._layers.call import Call
    from .._transports.protocols import AsyncTransport, Transport

__all__ = ["NoAnswerError", "Pieces", "Wire"]


class NoAnswerError(AssertionError):
    """The provider asked for more exchanges than there are answers."""


class Pieces:
    """The source of a response: hands out pieces, and raises those that are errors."""

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
        """Note that nobody listens any more."""
        self.closed = True


class Wire:
    """Answers exchanges in turn: an HTTPResponse, what a Blocking returns, or an error to raise.

    Attributes:
        asked: The exchanges as the provider yielded them, credentials unresolved.
        sent: The requests as they would have gone out.
    """

    def __init__(self, *answers: Any) -> None:
        self._answers = deque(answers)
        self.asked: list[Exchange] = []
        self.sent: list[HTTPRequest] = []

    def layer(self, send: Send, attempt: Attempt) -> Send:
        """The innermost effect layer: notes each exchange, and runs no Blocking."""

        def exchange(exchange: Exchange) -> Flow[Any]:
            self.asked.append(exchange)
            if not isinstance(exchange, Blocking):
                return (yield from send(exchange))
            answer = self._next()
            if isinstance(source := getattr(answer, "source", None), Pieces):
                attempt.on_exit(source.close)
            return answer

        return exchange

    def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        """The answer to a request that goes out; as Transport.send."""
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
        """The answer that comes next."""
        return self._answers[0] if self._answers else None

    # -- in place of an LM's connections --------------------------------------------------------

    def blocking(self, call: Call) -> Transport:
        """Itself."""
        return self

    def awaiting(self, call: Call) -> AsyncTransport:
        """Itself, awaited."""
        return _Awaited(self)

    def close(self) -> None:
        """Nothing is open."""


class _Awaited:
    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        return self._wire.send(request, deadline)

    async def aclose(self) -> None:
        """Nothing is open."""
